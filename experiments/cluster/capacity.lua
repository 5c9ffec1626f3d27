-- A capacity factor drops what overloads an expert: how many assignments does it cost, and how much sooner are the
-- stragglers done? Mixtral-shaped layers on 8 ranks, one expert each, where nobody can be moved. With a recorded trace
-- (--set trace=results/traces/mixtral_8x7b, which record_traces.lua writes) it stands beside the generated loads.

local mg <const> = require "moegauge"

local loads <const> = { { name = "random", exponent = 0 }, { name = "Zipf 0.25", exponent = 0.25 }, { name = "Zipf 0.5", exponent = 0.5 }, { name = "Zipf 1", exponent = 1 },
  { name = "recorded" } }

return mg.experiment {
  title = "Capacity factors against stragglers",
  sweep = { capacity = { 0, 1.0, 1.25, 1.5, 2.0 }, load = loads, seed = { 1, 2, 3 } },
  options = { tokens = 4096, ranks = 8, trace = "" },
  filter = function(case) return case.load.exponent ~= nil or case.trace ~= "" end,
  run = function(case)
    return mg.cluster { step = "prefill", model = "mixtral_8x7b", accelerator = "h100", ranks = case.ranks, tokens = case.tokens, context = 4096, element_bytes = 2, kernels = "normal",
      capacity = case.capacity, extrapolate = true, offset = case.load.exponent and 0 or (case.seed - 1) * case.tokens * case.ranks,
      trace = case.load.exponent and { kind = "zipf", exponent = case.load.exponent, layers = 4, seed = case.seed } or case.trace }
  end,
  report = function(r)
    return {
      r:text "Capacity 0 is no limit. Zipf's exponent 1 gives the first expert 1 / H(8) = 37 % of the choices.",
      r:table(nil, { "step_ms", "imbalance_ms", "dropped_assignments", "rank_max_over_mean", "max_over_mean" }),
      r:pareto("dropped_assignments", "step_ms"),
    }
  end,
}
