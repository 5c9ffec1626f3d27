-- A day of demand at the size of DeepSeek's online service: how many nodes does a scaling policy pay for, and what do users
-- get for it?
--
-- What calibrates the simulation, and nothing else does:
--   prefill  50,302 prompt tokens per second and node (SGLang, 4 nodes of 8 H100, EP32, 16,384 tokens per GPU)
--   decode   18,598 output tokens per second and node (DeepSeek's profile, 16 nodes of 8 H800, EP128, 128 sequences per GPU
--            of 4096 tokens)
--   demand   the day's totals: 608 G input tokens, of which 342 G were cached, and 168 G output tokens
-- Between an empty step and those points a step's time is a straight line from the time that an instance takes to read its
-- weights once at 3.35 TB/s; of the decode step, the part that reads the cache grows with the sequences' length.
--
-- Assumed, for no source gives them: prompts of 4096 tokens; the shape of the day; five minutes to start an instance. What
-- nodes are kept free for is a target: instances are wanted so that demand is 70 % of what they can do, the default of
-- Knative's autoscaler (container-concurrency-target-percentage). The rows at 60 and 80 % show what hangs on it.
--
-- What DeepSeek paid for that day, 226.75 nodes on average, is not used anywhere; the row `predictive` predicts it. Its 73.7k
-- and 14.8k tokens per second and node are not used either: they are the day's totals over the day's nodes.

local mg <const> = require "moegauge"

local day <const> = { input = 608e9, cached = 342e9, output = 168e9 }
local prompt <const> = 4096
local gpus <const>, node_dollars <const> = 8, 8 * 2
local start_up <const>, interval <const> = 300, 60

-- Shares of the mean by the hour, from midnight: a night at a third of the day's plateau.
local curve <const> = { 0.62, 0.48, 0.40, 0.36, 0.36, 0.40, 0.52, 0.72, 0.98, 1.22, 1.36, 1.38, 1.28, 1.30, 1.40, 1.44, 1.42, 1.34, 1.24, 1.22, 1.26, 1.24, 1.08, 0.84 }

-- DeepSeek-V3 in FP8, bytes that one GPU reads in a step: `experts` of 3 x 7168 x 2048 in each of 58 layers, the attention
-- of 61 (187 M each), and the head; and per token of context 576 numbers of bf16 in each layer.
local memory <const>, head <const> = 3.35e12, 0.93e9
local function weights_seconds(experts) return (58 * experts * 3 * 7168 * 2048 + 61 * 187e6 + head) / memory end
local cache_bytes <const> = 70272

local prefill <const> = { nodes = 4, tokens = 16384 * 4 * gpus, rate = 4 * 50302 }
local decode <const> = { nodes = 18, sequences = 128 * 18 * gpus, rate = 18 * 18598, context = 4096 }

local function prefill_step()
  local empty = weights_seconds(10)
  return mg.step_cost { tokens = { 0, prefill.tokens }, seconds = { empty, prefill.tokens / prefill.rate } }
end

local function decode_step()
  local empty, full = weights_seconds(3), decode.sequences / decode.rate
  local reading = decode.sequences / (decode.nodes * gpus) * decode.context * cache_bytes / memory
  return mg.step_cost { tokens = { 0, decode.sequences }, context = { 0, 65536 },
    seconds = function(sequences, context)
      return empty + sequences / decode.sequences * (full - empty + reading * (context / decode.context - 1))
    end }
end

-- Tokens per second that come on average, and at the highest point of the curve.
local function demand_of(tokens) return tokens / 86400 end
local function peak_share()
  local sum, most = 0, 0
  for _, share in ipairs(curve) do sum, most = sum + share, math.max(most, share) end
  return most * #curve / sum
end

local function needed(tokens_per_second, rate, target) return math.ceil(tokens_per_second / (rate * target)) end

-- A policy for a pool that can do `rate` tokens per second and instance, and has `tokens` to do in the day.
local policies <const> = {
  fixed = function(rate, tokens) return { instances = needed(peak_share() * demand_of(tokens), rate, 0.7) } end,
  reactive = function(rate, tokens)
    return { decide = function(state) return state.tokens_per_second / (rate * 0.7) end, instances = needed(demand_of(tokens), rate, 0.7), interval_seconds = interval }
  end,
  utilisation = function(rate, tokens)
    return { policy = "target", target = 0.7, instances = needed(demand_of(tokens), rate, 0.7), interval_seconds = interval }
  end,
}
for name, target in pairs { predictive = 0.7, ["predictive 60 %"] = 0.6, ["predictive 80 %"] = 0.8 } do
  policies[name] = function(rate, tokens)
    return { policy = "predictive", target = target, tokens_per_second = rate, lead_seconds = start_up + interval, instances = needed(demand_of(tokens), rate, target), interval_seconds = interval }
  end
end

return mg.experiment {
  title = "A day of demand: what do scaling policies pay, and what do users get?",
  sweep = { policy = { "fixed", "reactive", "utilisation", "predictive", "predictive 60 %", "predictive 80 %" }, seed = { 1, 2, 3 } },
  options = { hours = 24, group = 4 },
  run = function(case)
    local policy, computed = policies[case.policy], day.input - day.cached
    local result = mg.serving {
      hours = case.hours, seed = case.seed, group = case.group, dollars_per_node_hour = node_dollars, ttft_seconds = 2, tpot_seconds = 0.05,
      arrivals = { requests_per_second = day.input / prompt / 86400, curve = curve, cached_share = day.cached / day.input,
        prompt_tokens = prompt, prompt_cv = 1, prompt_most = 32768, output_tokens = day.output * prompt / day.input, output_cv = 1, output_most = 16384 },
      prefill = { nodes = prefill.nodes, step_tokens = prefill.tokens, sequences = 65536, start_up_seconds = start_up, prefill_step = prefill_step(),
        scaling = policy(prefill.rate, computed) },
      decode = { nodes = decode.nodes, sequences = decode.sequences, start_up_seconds = start_up, decode_step = decode_step(),
        scaling = policy(decode.rate, day.output) },
    }
    result.metrics.nodes_at_full_rates = demand_of(computed) / prefill.rate * prefill.nodes + demand_of(day.output) / decode.rate * decode.nodes
    return result
  end,
  report = function(r)
    return {
      r:paper { source = "DeepSeek-V3/R1 inference system overview, 2025", table = "24 hours online", sourcing = "S", axis = "policy",
        columns = { "node_hours", "nodes", "nodes_at_full_rates", "nodes_peak", "dollars", "input_tokens", "cached_tokens", "output_tokens" },
        rows = { { "predictive", node_hours = 5442, nodes = 226.75, nodes_peak = 278, dollars = 87072, input_tokens = 608e9, cached_tokens = 342e9, output_tokens = 168e9 },
          { "predictive 60 %" }, { "predictive 80 %" } },
        note = "Only the totals of tokens are put in. The peak hangs on the assumed shape of the day." },
      r:expect { axis = "policy",
        { "Predicted node-hours are within 10 % of those published", function(at) return 0.1 - math.abs(at("predictive", "node_hours") / 5442 - 1) end },
        { "Scaling saves more than a fifth of what the peak would cost all day", function(at) return 0.8 - at("predictive", "node_hours") / at("fixed", "node_hours") end },
        { "Looking ahead by the start-up delay gives at least the goodput of reacting", "goodput_share", "predictive", ">=", "reactive", within = 0.001 },
      },
      r:table("policy", { "node_hours", "nodes_peak", "dollars_per_million_output_tokens", "goodput_share", "ttft_seconds_p50", "ttft_seconds_p99", "tpot_seconds_p50", "tpot_seconds_p99" }),
      r:table("policy", { "nodes_prefill", "nodes_decode", "utilisation_prefill", "utilisation_decode", "prefill_tokens_per_second_per_node", "output_tokens_per_second_per_node" }),
      r:differences("policy", "dollars_per_million_output_tokens"),
      r:chart("nodes", "hours", { axis = "policy" }),
      r:chart("requests_per_second", "hours", { axis = "policy" }),
      r:chart("utilisation_prefill", "hours", { axis = "policy" }),
      r:chart("queued_prefill", "hours", { axis = "policy" }),
    }
  end,
}
