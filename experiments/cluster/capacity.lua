-- A capacity factor drops what overloads an expert: how many assignments does it cost, and how much sooner are the
-- stragglers done? Mixtral-shaped layers on 8 ranks, one expert each, where nobody can be moved.

local mg <const> = require "moegauge"

return mg.experiment {
  title = "Capacity factors against stragglers",
  sweep = { capacity = { 0, 1.0, 1.25, 1.5, 2.0 }, exponent = { 0, 0.25, 0.5, 1.0 }, seed = { 1, 2, 3 } },
  options = { tokens = 4096, ranks = 8 },
  run = function(case)
    return mg.cluster { step = "prefill", model = "mixtral_8x7b", accelerator = "h100", ranks = case.ranks, tokens = case.tokens, context = 4096, element_bytes = 2, kernels = "normal",
      capacity = case.capacity, extrapolate = true, trace = { kind = "zipf", exponent = case.exponent, layers = 4, seed = case.seed } }
  end,
  report = function(r)
    return {
      r:text "Capacity 0 is no limit. The exponent is Zipf's: 0 is random routing, 1 gives the first expert 1 / H(8) = 37 % of the choices.",
      r:table(nil, { "step_ms", "imbalance_ms", "dropped_assignments", "rank_max_over_mean", "max_over_mean" }),
      r:pareto("dropped_assignments", "step_ms"),
    }
  end,
}
