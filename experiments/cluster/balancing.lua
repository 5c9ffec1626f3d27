-- What is a load balancer worth, and how soon does its plan grow old? EPLB off and on, with spare slots, for loads that stay
-- and loads that shift between the tokens that were planned on and those that are served.
--
-- `replanned` may then move 8 experts of a layer for the new loads; what the moving costs stands beside what it gains.
--
-- With a recorded trace of a model of 256 experts and 8 choices (--set trace=results/traces/deepseek_v3, which
-- record_traces.lua writes) two further loads stand beside the generated ones: `recorded` serves later tokens of the same mix
-- of texts, `recorded, moves on` another domain than was planned on; a seed is another window of the trace.

local mg <const> = require "moegauge"

local placements <const> = {
  { name = "contiguous", policy = "contiguous", spare = 0 }, { name = "round_robin", policy = "round_robin", spare = 0 }, { name = "greedy", policy = "greedy", spare = 0 },
  { name = "eplb", policy = "eplb", spare = 0 }, { name = "eplb + 32", policy = "eplb", spare = 32 }, { name = "distinct + 32", policy = "eplb_distinct", spare = 32 },
  { name = "eplb + 32, replanned", policy = "eplb", spare = 32, moves = 8 },
}
local loads <const> = { { name = "stays", kind = "zipf" }, { name = "shifts", kind = "shift" }, { name = "bursts", kind = "bursty" },
  { name = "recorded", order = "recorded" }, { name = "recorded, moves on", order = "domains" } }

-- The trace of a load whose first `served` tokens are planned on, and the token with which the step begins.
local function trace_of(case, served)
  local load = case.load
  if load.kind then
    return { kind = load.kind, exponent = case.exponent, period = served // 2, hot_experts = 16, tokens = 2 * served, layers = 8, seed = case.seed }, served
  end
  local half = load.order == "domains" and mg.cluster.trace(case.trace).tokens // 2 or 0
  return { path = case.trace, order = load.order }, half + case.seed * served
end

return mg.experiment {
  title = "Placements under loads that stay and loads that move",
  sweep = { placement = placements, load = loads, seed = { 1, 2, 3 } },
  options = { ranks = 32, tokens = 128, exponent = 0.6, trace = "" },
  filter = function(case) return case.load.kind ~= nil or case.trace ~= "" end,
  run = function(case)
    local served = case.ranks * case.tokens
    local trace, offset = trace_of(case, served)
    return mg.cluster { step = "decode", model = "deepseek_v3", accelerator = "h200", ranks = case.ranks, slots = 256 + case.placement.spare, tokens = case.tokens, context = 2048,
      overlap = "two_batch", placement = case.placement.policy, replan_moves = case.placement.moves or 0, plan_tokens = served, offset = offset, seed = case.seed, extrapolate = true,
      trace = trace }
  end,
  report = function(r)
    local over_loads = r:fold("load", function(cases)
      local sum = 0
      for _, case in ipairs(cases) do sum = sum + case.result.metrics.rank_max_over_mean / #cases end
      return { rank_max_over_mean = sum }
    end)
    return {
      r:text "An imbalance a little below 0 is no error: two batches that take turns can end sooner when an operation takes longer.",
      r:table(nil, { "step_ms", "balanced_step_ms", "imbalance_ms", "rank_max_over_mean", "moved_experts", "move_ms" }),
      r:text "How uneven the loads are by themselves, and what random routing of as many tokens shows:",
      r:table("load", { "cv", "max_over_mean" }),
      r:text "Mean over the loads:",
      over_loads:table("placement", { "rank_max_over_mean" }),
      over_loads:expect { axis = "placement",
        { "EPLB without spare slots balances better than experts in their order", "rank_max_over_mean", "contiguous", ">", "eplb" },
        { "Spare slots balance better still", "rank_max_over_mean", "eplb", ">", "eplb + 32" },
        { "Re-planning for the present load is better than the old plan", "rank_max_over_mean", "eplb + 32", ">", "eplb + 32, replanned" } },
    }
  end,
}
