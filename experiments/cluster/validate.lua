-- How far can the cluster simulator be trusted? Published systems predicted, none of which took part in any calibration.
--
-- Calibration set: expert feed-forward, DeepEP and NCCL on H100 (aiconfigurator), DeepGEMM's and DeepEP's own tables on H800,
-- and published efficiencies of attention (scripts/moegauge/cluster). Beside each prediction stands the roofline, the same step
-- at the hardware's peak.
--
-- Loads are as the sources say. DeepSeek's profiles "simulate an absolutely balanced MoE routing strategy", so that perfect
-- balance is predicted for them. SGLang measured prefill with real prompts, and with experts drawn at random within the model's
-- group-limited routing ("simulated perfect EPLB"); the latter is what is simulated, for both, as the imbalance of the former is
-- not published. Figures of SGLang beyond the list that this simulator was to predict stand in a tier of their own.
--
-- Training: backward work is not measured in the calibration set. It is taken as forward work twice (gradients of inputs and of
-- weights), with the turned operands and f32 sums that the paper describes; the published time of weight gradients alone is
-- half as long again as what DeepGEMM's forward speed makes of them.
--
-- With --set trace=results/traces/deepseek_v3 (record_traces.lua) the systems are predicted under the imbalance that a model
-- trained here has on real text instead of random routing. That is no validation: the published systems saw other loads.

local mg <const> = require "moegauge"

local deepseek <const> = mg.cluster.models.deepseek_v3

local function with(base, more)
  local t = {}
  for key, value in pairs(base) do t[key] = value end
  for key, value in pairs(more) do t[key] = value end
  return t
end

-- ---- what is simulated -------------------------------------------------------------------------------------------

local function decode_profile()
  return { step = "decode", model = deepseek, accelerator = "h800", ranks = 128, tokens = 128, context = 4096, kernels = "low_latency", overlap = "two_batch", trace = { kind = "uniform", layers = 8 } }
end

local limited <const> = { kind = "group_limited", groups = 8, groups_kept = 4, layers = 2 }

local function prefill()
  return { step = "prefill", model = deepseek, accelerator = "h100", ranks = 32, slots = 288, tokens = 16384, context = 4096, kernels = "normal", comm_sms = 24, overlap = "two_batch",
    placement = "eplb", trace = limited }
end

local function prefill_random() return prefill() end
local function prefill_profile() return with(prefill(), { accelerator = "h800" }) end
local function half_prefill() return with(prefill(), { tokens = 8192 }) end
local function half_prefill_alone() return with(half_prefill(), { overlap = "none" }) end

local function sglang_decode()
  return { step = "decode", model = deepseek, accelerator = "h100", ranks = 72, slots = 288, tokens = 256, context = 2000, kernels = "low_latency", overlap = "two_batch", placement = "eplb",
    trace = with(limited, { layers = 8 }) }
end

local function training()
  return { step = "training", model = with(deepseek, { prediction_layers = 1 }), accelerator = "h800", ranks = 64, tokens = 4096, context = 4096, kernels = "normal", comm_sms = 20,
    stages = 16, replicas = 2, micro_batches = 120, schedule = "dualpipe", trace = limited }
end

-- The published bound counts 32 tokens of two batches that go to 9 experts, a width of 7000, and nothing but the link: 288
-- accelerators with one expert each, links alone, computing free.
local function bound(link)
  return { step = "decode", costs = "roofline", ranks = 288, tokens = 64, context = 1, kernels = "low_latency", overlap = "two_batch",
    model = { layers = 61, width = 7000, heads = 1, kv_heads = 1, head_width = 1, experts = 288, choices = 9, expert_hidden = 1, vocabulary = 1 },
    accelerator = { name = "links", bf16_tflops = 1e9, fp8_tflops = 1e9, memory_gb = 1e6, memory_gb_s = 1e9, near_gb_s = link, far_gb_s = link, node_ranks = 1 },
    trace = { kind = "uniform", layers = 2 } }
end

local function cache(layers, attention)
  return { step = "decode", costs = "roofline", ranks = 1, tokens = 1, context = 1, model = with(attention, { layers = layers, experts = 1, choices = 1 }), accelerator = with(mg.cluster.accelerators.h200, { memory_gb = 1e4 }) }
end

local function metric(name, factor) return function(m) return m[name] * (factor or 1) end end
-- Throughput of a node with perfect balance, and at the hardware's peak.
local function balanced(m) return m.node_tokens_per_second * m.step_ms / m.balanced_step_ms end
local function peak(m) return m.node_tokens_per_second * m.step_ms / m.roofline_step_ms end
local function backward(m) return ((m.backward_ms or 0) + (m.inputs_ms or 0)) / 1e3 end

local h800_training <const> = "DeepSeek-V3, arXiv 2505.09343"
local systems <const> = {
  { name = "decode, 16 nodes, EP128", tier = "serving", unit = "tokens/s/node", published = 18598, spec = decode_profile, of = balanced, base = peak, source = "DeepSeek profile-data" },
  { name = "prefill, 4 nodes, EP32", tier = "serving", unit = "tokens/s/node", published = 50302, spec = prefill, of = metric "node_tokens_per_second", base = peak, source = "SGLang, 2025-05-05" },
  { name = "prefill, random experts", tier = "serving, further", unit = "tokens/s/node", published = 59337, spec = prefill_random, of = metric "node_tokens_per_second", base = peak, source = "SGLang, 2025-05-05" },
  { name = "prefill profile of DeepSeek", tier = "serving, further", unit = "tokens/s/node", published = 62713, spec = prefill_profile, of = balanced, base = peak, source = "DeepSeek profile-data, read by SGLang" },
  { name = "two batches over one, at most", tier = "serving, further", unit = "", published = 1.35, spec = half_prefill, beside = half_prefill_alone, of = function(m, alone) return alone.step_ms / m.step_ms end, source = "SGLang, 2025-05-05" },
  { name = "decode, 9 nodes, EP72", tier = "serving, further", unit = "tokens/s/node", published = 22282, spec = sglang_decode, of = metric "node_tokens_per_second", base = peak, source = "SGLang, 2025-05-05" },
  { name = "training step", tier = "training", unit = "s", published = 19.926, spec = training, of = metric("step_ms", 1e-3), base = metric("roofline_step_ms", 1e-3), source = h800_training },
  { name = "MFU, all keys", tier = "training", unit = "", published = 0.4373, spec = training, of = metric "mfu", base = function(m) return m.mfu * m.step_ms / m.roofline_step_ms end, source = h800_training },
  { name = "MFU, causal", tier = "training", unit = "", published = 0.3894, spec = training, of = metric "mfu_causal", base = function(m) return m.mfu_causal * m.step_ms / m.roofline_step_ms end, source = h800_training },
  { name = "GPU hours per 1e12 tokens", tier = "training", unit = "h", published = 180000, spec = training, of = metric "gpu_hours_per_trillion_tokens", base = function(m) return m.gpu_hours_per_trillion_tokens * m.roofline_step_ms / m.step_ms end, source = "arXiv 2412.19437" },
  { name = "forward alone", tier = "part of training", unit = "s", published = 1.13, spec = training, of = metric("forward_ms", 1e-3), source = h800_training },
  { name = "bubble", tier = "part of training", unit = "s", published = 2.06, spec = training, of = metric("bubble_ms", 1e-3), source = h800_training },
  { name = "backward alone", tier = "part of training", unit = "s", published = 1.99, spec = training, of = backward, source = h800_training },
  { name = "weight gradients alone", tier = "part of training", unit = "s", published = 0.48, spec = training, of = metric("weights_ms", 1e-3), source = h800_training },
  { name = "forward beside backward", tier = "part of training", unit = "s", published = 13.95, spec = training, of = metric("pair_ms", 1e-3), source = h800_training },
  { name = "optimiser", tier = "part of training", unit = "s", published = 0.29, spec = training, of = metric("optimiser_ms", 1e-3), source = h800_training },
  { name = "decode bound at 50 GB/s", tier = "bound", unit = "ms", published = 14.76, spec = function() return bound(50) end, of = metric "balanced_step_ms", source = "arXiv 2505.09343" },
  { name = "decode bound at 900 GB/s", tier = "bound", unit = "ms", published = 0.82, spec = function() return bound(900) end, of = metric "balanced_step_ms", source = "arXiv 2505.09343" },
  { name = "cache of DeepSeek-V3", tier = "size", unit = "bytes/token", published = 70272, spec = function() return cache(61, { width = 7168, heads = 128, attention = "mla", latent = 512, rope_width = 64 }) end, of = metric "memory_cache_bytes", source = "arXiv 2505.09343" },
  { name = "cache of Qwen2.5-72B", tier = "size", unit = "bytes/token", published = 327680, spec = function() return cache(80, { width = 8192, heads = 64, kv_heads = 8, head_width = 128 }) end, of = metric "memory_cache_bytes", source = "arXiv 2505.09343" },
  { name = "cache of LLaMA-3.1-405B", tier = "size", unit = "bytes/token", published = 516096, spec = function() return cache(126, { width = 16384, heads = 128, kv_heads = 8, head_width = 128 }) end, of = metric "memory_cache_bytes", source = "arXiv 2505.09343" },
}

-- A sweep's values are data: the functions are found again by name.
local routed <const> = { [decode_profile] = true, [prefill] = true, [sglang_decode] = true, [training] = true }
local by_name, names = {}, {}
for i, system in ipairs(systems) do by_name[system.name], names[i] = system, system.name end

return mg.experiment {
  title = "Published systems predicted",
  sweep = { system = names },
  options = { seed_of_trace = 1, trace = "" },
  run = function(case)
    local system = by_name[case.system]
    local function simulate(spec)
      spec.extrapolate = true
      spec.trace = spec.trace and with(spec.trace, { seed = case.seed_of_trace })
      if case.trace ~= "" and routed[system.spec] then spec.trace = case.trace end
      return mg.cluster(spec)
    end
    local result, beside = simulate(system.spec()), system.beside and simulate(system.beside()).metrics
    local m = result.metrics
    local own = { published = system.published, predicted = system.of(m, beside), extrapolated = m.extrapolated }
    own.prediction_error = own.predicted / own.published - 1
    if system.base then
      own.roofline = system.base(m)
      own.roofline_error = own.roofline / own.published - 1
    end
    return { metrics = own, tables = result.tables }
  end,
  report = function(r)
    local blocks = { r:text "The error is predicted over published less one. `extrapolated` counts the variables of a cost that lay outside the range they were calibrated in; results keep which and how far (table `extrapolated`).",
      r:table("system", { "published", "predicted", "prediction_error", "roofline", "roofline_error", "extrapolated" }) }
    local tiers, order = {}, {}
    for _, case in ipairs(r.cases) do
      local tier = by_name[case.params.system].tier
      if not tiers[tier] then order[#order + 1], tiers[tier] = tier, {} end
      table.insert(tiers[tier], { case.params.system, case.result.metrics.prediction_error })
    end
    for _, tier in ipairs(order) do
      local errors, worst = {}, tiers[tier][1]
      for i, row in ipairs(tiers[tier]) do
        errors[i] = math.abs(row[2])
        if math.abs(row[2]) > math.abs(worst[2]) then worst = row end
      end
      table.sort(errors)
      blocks[#blocks + 1] = r:text(("%s: %d figures, median error %.1f %%, at worst %.1f %% (%s)."):format(tier, #errors, 50 * (errors[(#errors + 1) // 2] + errors[#errors // 2 + 1]), 100 * worst[2], worst[1]))
    end
    blocks[#blocks + 1] = r:text "Where it misses. Prefill: SGLang measured 18 % more with experts drawn at random than with real prompts, so that about half of the difference is imbalance, which the prediction leaves out. The other half is theirs in decoding too, while DeepSeek's own profiles of such steps are met within 9 %: the prediction is what the calibrated kernels allow. SGLang writes that communication beside computing was slower than in unit tests of the same kernels, which are what is calibrated on, and gained 27 to 35 % from two batches where more is predicted; how much slower is not published."
    blocks[#blocks + 1] = r:text "Training: forward and bubble come out within 12 %, but what holds gradients of weights does not: alone they took 0.48 s where 0.31 s are predicted, so the products of the backward pass ran slower than DeepGEMM's forward ones, for which alone there are measurements; they are also most of the difference in `forward beside backward`. The optimiser comes out longer than published: all gradients, in f32, and all weights are taken to cross the NICs at their peak after the last backward pass, and how much of that was hidden or sent in fewer bytes is not published. Recomputed norms and projections, turned and quantised operands, bf16 in attention, gate and head, the prediction block and the units that copy are counted; the imbalance of the real batches is not published and not counted. Utilisation and GPU hours repeat the error of the step."
    return blocks
  end,
}
