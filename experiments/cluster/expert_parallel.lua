-- How wide should experts be spread? DeepSeek-V3's decode step on 8 to 256 accelerators for one skewed trace, generated or
-- recorded (--set trace=results/traces/deepseek_v3, which record_traces.lua writes).
--
-- More ranks hold fewer experts each: less weight to read, more keys and values in memory, and a larger share of the
-- messages over the network. On 8 H800 the experts do not fit; such a specification is refused with what takes the memory.

local mg <const> = require "moegauge"

return mg.experiment {
  title = "Expert parallelism from 8 to 256 ranks",
  sweep = { ranks = { 8, 16, 32, 64, 128, 256 }, accelerator = { "h200", "h800" } },
  options = { tokens = 64, context = 2048, exponent = 0.5, trace = "" },
  filter = function(case) return case.accelerator == "h200" or case.ranks > 8 end,
  run = function(case)
    return mg.cluster { step = "decode", model = "deepseek_v3", accelerator = case.accelerator, ranks = case.ranks, slots = 256 + 32 * (case.ranks // 32),
      tokens = case.tokens, context = case.context, overlap = "two_batch", placement = "eplb", extrapolate = true, seed = case.seed,
      trace = case.trace ~= "" and case.trace or { kind = "zipf", exponent = case.exponent, layers = 8, seed = case.seed } }
  end,
  report = function(r)
    return {
      r:text "One step is one token of every sequence. `balanced` is the same step with perfect balance, `roofline` at the hardware's peak; the CV of the experts' loads stands beside what random routing of as many tokens shows.",
      r:table(nil, { "step_ms", "balanced_step_ms", "roofline_step_ms", "exposed_network_ms", "node_tokens_per_second", "dollars_per_million_tokens" }),
      r:table(nil, { "cv", "rank_max_over_mean", "near_bytes_per_rank", "far_bytes_per_rank", "memory_bytes", "extrapolated" }),
    }
  end,
}
