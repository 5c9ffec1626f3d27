-- A day of demand at the size of DeepSeek's online service: how many nodes does a scaling policy pay for, and what do users
-- get for it?
--
-- What a step costs is simulated (mg.cluster.step_cost) for H800: prefill instances of 4 nodes with EP32 and 16,384 tokens per
-- GPU in a full step, decode instances of 18 nodes with EP144 and at most 128 sequences per GPU. That simulation is calibrated
-- on measurements of single kernels (scripts/moegauge/cluster/README.md), never on a serving system, and routes at random, or as
-- recorded (--set trace=results/traces/deepseek_v3, which record_traces.lua writes).
--
-- What is put in of the day to be predicted: its totals, 608 G input tokens, 342 G of them cached, and 168 G output tokens; and
-- what users got, 20 to 22 tokens a second. Its nodes are not: 226.75 on average, 278 at most. Nor are its 73.7k and 14.8k
-- tokens per second and node, which are the totals over the nodes.
--
-- An instance is full, for the policies, where
--   decode   its step takes 1/21 s at the mean length of the sequences: the published speed
--   prefill  it is at 70 % of the throughput of full steps; no waiting time was published, and 70 % is the default of Knative's
--            autoscaler (container-concurrency-target-percentage)
-- The rows at 70 and 80 % take such a share of full steps for both pools instead, and show what hangs on that choice.
--
-- Assumed, for no source gives them: prompts of 4096 tokens on average, the length at which rates of prefill are published;
-- lengths scattered as much as their mean; the shape of the day; five minutes to start an instance.

local mg <const> = require "moegauge"

local day <const> = { input = 608e9, cached = 342e9, output = 168e9 }
local prompt <const>, scatter <const> = 4096, 1
local output <const>, cached_share <const> = day.output * prompt / day.input, day.cached / day.input
local longest <const> = { prompt = 32768, output = 16384 }
local gpus <const>, node_dollars <const> = 8, 8 * 2
local start_up <const>, interval <const> = 300, 60
local speed <const> = 21 -- tokens per second of a user
-- Published rates per node at full load, for the baseline alone: SGLang's prefill and DeepSeek's decode profile.
local published <const> = { prefill = 50302, decode = 18598 }

-- The rate by the hour from midnight, as shares: a night at a third of the day.
local curve <const> = { 0.62, 0.48, 0.40, 0.36, 0.36, 0.40, 0.52, 0.72, 0.98, 1.22, 1.36, 1.38, 1.28, 1.30, 1.40, 1.44, 1.42, 1.34, 1.24, 1.22, 1.26, 1.24, 1.08, 0.84 }

local function peak_share()
  local sum, most = 0, 0
  for _, share in ipairs(curve) do sum, most = sum + share, math.max(most, share) end
  return most * #curve / sum
end

-- Where tokens are, lengths count by their tokens: a mean of squares over a mean.
local weighed <const> = 1 + scatter ^ 2
local prefill <const> = { nodes = 4, full = 16384 * 4 * gpus, context = prompt * weighed * (1 + cached_share) / 2, tokens = day.input - day.cached }
local decode <const> = { nodes = 18, full = 128 * 18 * gpus, context = prompt + output * weighed / 2, tokens = day.output }

-- ---- the cost of steps -------------------------------------------------------------------------------------------

-- An H800 whose memory does not end: the KV limit of the pool keeps to it, and a table is a rectangle.
local function accelerator()
  local h800 = {}
  for key, value in pairs(mg.cluster.accelerators.h800) do h800[key] = value end
  h800.memory_gb = 1e4
  return h800
end

local function simulated(step, pool, more, per_gpu, contexts)
  local tokens = {}
  for i, count in ipairs(per_gpu) do tokens[i] = count * pool.nodes * gpus end
  local spec = { step = step, model = "deepseek_v3", accelerator = accelerator(), calibration = "hopper", ranks = pool.nodes * gpus, slots = 288, placement = "eplb",
    overlap = "two_batch", compare = false, extrapolate = true }
  for key, value in pairs(more) do spec[key] = value end
  local grid = mg.cluster.step_cost(spec, { tokens = tokens, context = contexts })
  table.insert(tokens, 1, 0) -- a smaller step takes no less than the smallest that can be simulated
  local seconds = { grid.seconds[1], table.unpack(grid.seconds) }
  return mg.step_cost { tokens = tokens, context = contexts, seconds = seconds }
end

local function prefill_cost(trace)
  return simulated("prefill", prefill, { kernels = "normal", comm_sms = 24, trace = trace or { kind = "uniform", tokens = 16384, layers = 2 } }, { 16, 512, 2048, 8192, 16384 },
    { 1, prefill.context, 32768 })
end

local function decode_cost(trace)
  return simulated("decode", decode, { kernels = "low_latency", trace = trace or { kind = "uniform", tokens = 18432, layers = 4 } }, { 2, 8, 32, 64, 96, 128 },
    { 1, decode.context, 49152 })
end

-- Tokens of GPU memory for keys and values in an instance: nine tenths of the memory less 24.1 GB of weights.
local kv_tokens <const> = math.floor((0.9 * 84.94e9 - 24.1e9) / 70272) * decode.nodes * gpus

-- Tokens per second in full steps at the mean context, the second column of the table.
local function full_rate(cost) return cost.tokens[#cost.tokens] / cost.seconds[#cost.seconds][2] end

-- Sequences at which a step takes so many seconds at the mean context, between the points of the table.
local function sequences_at(cost, seconds)
  for i = 2, #cost.tokens do
    local before, after = cost.seconds[i - 1][2], cost.seconds[i][2]
    if before < seconds and seconds <= after then return cost.tokens[i - 1] + (cost.tokens[i] - cost.tokens[i - 1]) * (seconds - before) / (after - before) end
  end
  return cost.tokens[#cost.tokens]
end

-- ---- policies ----------------------------------------------------------------------------------------------------

local function needed(tokens_per_second, rate) return math.ceil(tokens_per_second / rate) end

-- Options of a policy for a pool whose instance is full at `rate` tokens per second and a share `use` of its capacity.
local policies <const> = {
  fixed = function(pool, rate) return { instances = needed(peak_share() * pool.tokens / 86400, rate) } end,
  reactive = function(_, rate) return { decide = function(state) return state.tokens_per_second / rate end } end,
  utilisation = function(_, _, use) return { policy = "target", target = use } end,
  predictive = function(_, rate) return { policy = "predictive", target = 1, tokens_per_second = rate, lead_seconds = start_up + interval } end,
}

local function scaling(policy, pool, rate, use)
  local options = policies[policy](pool, rate, use)
  options.instances = options.instances or needed(curve[1] / curve[16] * peak_share() * pool.tokens / 86400, rate)
  options.interval_seconds = interval
  return options
end

-- What each row is: a policy, and the share of full steps that counts as full where it is not the speed.
local rows <const> = { fixed = { "fixed" }, reactive = { "reactive" }, utilisation = { "utilisation" }, predictive = { "predictive" },
  ["predictive 70 %"] = { "predictive", 0.7 }, ["predictive 80 %"] = { "predictive", 0.8 } }

return mg.experiment {
  title = "A day of demand: what do scaling policies pay, and what do users get?",
  sweep = { policy = { "fixed", "reactive", "utilisation", "predictive", "predictive 70 %", "predictive 80 %" }, seed = { 1, 2, 3 } },
  options = { hours = 24, group = 8, trace = "" },
  run = function(case)
    local policy, share = table.unpack(rows[case.policy])
    local trace = case.trace ~= "" and case.trace or nil
    local prefill_step, decode_step = prefill_cost(trace), decode_cost(trace)
    local sequences = sequences_at(decode_step, 1 / speed)
    local prefill_rate, prefill_use = (share or 0.7) * full_rate(prefill_step), share or 0.7
    local decode_rate, decode_use = share and share * full_rate(decode_step) or sequences * speed, sequences / decode.full
    local result = mg.serving {
      hours = case.hours, seed = case.seed, group = case.group, dollars_per_node_hour = node_dollars, ttft_seconds = 2, tpot_seconds = 0.05,
      arrivals = { requests_per_second = day.input / prompt / 86400, curve = curve, cached_share = cached_share, prompt_tokens = prompt, prompt_cv = scatter,
        prompt_most = longest.prompt, output_tokens = output, output_cv = scatter, output_most = longest.output },
      prefill = { nodes = prefill.nodes, step_tokens = prefill.full, sequences = 65536, start_up_seconds = start_up, prefill_step = prefill_step,
        scaling = scaling(policy, prefill, prefill_rate, prefill_use) },
      decode = { nodes = decode.nodes, sequences = decode.full, kv_tokens = kv_tokens, start_up_seconds = start_up, decode_step = decode_step,
        scaling = scaling(policy, decode, decode_rate, decode_use) },
    }
    local m = result.metrics
    m.nodes_at_published_rates = (prefill.tokens / published.prefill + decode.tokens / published.decode) / 86400
    m.full_prefill_per_node, m.full_decode_per_node = full_rate(prefill_step) / prefill.nodes, full_rate(decode_step) / decode.nodes
    return result
  end,
  report = function(r)
    return {
      r:paper { source = "DeepSeek-V3/R1 inference system overview, 2025", table = "24 hours online", sourcing = "S", axis = "policy",
        columns = { "node_hours", "nodes", "nodes_at_published_rates", "nodes_peak", "dollars", "tpot_seconds_mean", "input_tokens", "cached_tokens", "output_tokens" },
        rows = { { "predictive", node_hours = 5442, nodes = 226.75, nodes_peak = 278, dollars = 87072, tpot_seconds_mean = 1 / speed, input_tokens = 608e9, cached_tokens = 342e9, output_tokens = 168e9 },
          { "predictive 70 %" }, { "predictive 80 %" } },
        note = "Totals of tokens and the speed of decoding are put in. The peak hangs on the assumed shape of the day." },
      r:expect { axis = "policy",
        { "Predicted node-hours are within 10 % of those published", function(at) return 0.1 - math.abs(at("predictive", "node_hours") / 5442 - 1) end },
        { "Scaling saves more than a fifth of what the peak would cost all day", function(at) return 0.8 - at("predictive", "node_hours") / at("fixed", "node_hours") end },
        { "Looking ahead by the start-up delay gives at least the goodput of reacting", "goodput_share", "predictive", ">=", "reactive", within = 0.001 },
      },
      r:text [[Reading. That the predicted node-hours meet the published ones so closely says less than it seems: they hang on what counts as a full instance. Sized for the published speed of 20 to 22 tokens a second in decoding, and for 70 % of full steps in prefill, where nothing is published, they are 0.2 % below; at 70 % of full steps in both pools they are 15 % above, at 80 % 1 % above. The longest prompts are cut, so that half a percent of the input is missing. Scattered lengths are assumed, and the peak of 316 nodes follows from the assumed shape of the day: DeepSeek had 278. Knowing the curve saves less than half a percent against following the demand of the last minute, because the day changes slowly beside five minutes of start-up. Aiming at the occupancy of decoding fails: near the wanted speed a little more demand fills many more places, instances come five minutes late, and the pool swings between too few and far too many.]],
      r:table("policy", { "node_hours", "nodes_peak", "dollars_per_million_output_tokens", "goodput_share", "ttft_seconds_p50", "ttft_seconds_p99", "tpot_seconds_p50", "tpot_seconds_p99" }),
      r:table("policy", { "nodes_prefill", "nodes_decode", "utilisation_prefill", "utilisation_decode", "prefill_tokens_per_second_per_node", "output_tokens_per_second_per_node" }),
      r:differences("policy", "dollars_per_million_output_tokens"),
      r:chart("nodes", "hours", { axis = "policy" }),
      r:chart("requests_per_second", "hours", { axis = "policy" }),
      r:chart("utilisation_decode", "hours", { axis = "policy" }),
      r:chart("queued_decode", "hours", { axis = "policy" }),
    }
  end,
}
