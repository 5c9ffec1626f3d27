--- Accelerators with the nodes and networks they come in, and models, for the cluster simulator. Each number's source
--- stands beside it; a source holds for its row unless another is named.
---
---   A  aiconfigurator, systems/*.yaml (ai-dynamo, Apache-2.0)
---   B  stas00/ml-engineering, tables of accelerators and networks (2026-08)
---   C  jax-ml/scaling-book
---   G  Google Cloud's documentation of TPUs; its bandwidth between chips is that of all ports in both directions together, and
---      its bisection of a pod holds the two apart (v5e: 32 links of 50 make 1.6 TB/s)
---   I  DeepSeek-V3 at ISCA 2025 (arXiv 2505.09343), DeepEP's README
---   P  the maker's data sheet, recalled and not checked
---   $  a round price of an hour: 2 is what DeepSeek calculates an H800 with; others are left out
---
--- Dense peaks in 1e12 FLOPs a second; bytes in 1e9; links one way, of one accelerator. An accelerator of one's own is a
--- table with these keys: mg.cluster { accelerator = { name = "mine", bf16_tflops = 500, ... } }.

local catalogue = {}

--- An all-to-all on a torus of `sides` with links of `link` each way: a message takes on average a quarter of each side
--- in hops (of a ring), each of which uses a link, so that 2 * dimensions links carry one accelerator's messages.
local function torus(link, sides)
  local hops = 0
  for _, side in ipairs(sides) do hops = hops + side / 4 end
  return math.min(2 * #sides, 2 * #sides / hops) * link
end

--- @type table<string, table>
catalogue.accelerators = {
  -- A, B
  a100 = { name = "A100 SXM 80", bf16_tflops = 312, memory_gb = 80, memory_gb_s = 2039, sms = 108, near_gb_s = 300, far_gb_s = 25, power_w = 400 },
  -- A, B; 132 SMs and 700 W: P
  h100 = { name = "H100 SXM", bf16_tflops = 989, fp8_tflops = 1979, memory_gb = 80, memory_gb_s = 3350, sms = 132, near_gb_s = 450, far_gb_s = 50, power_w = 700, dollars_per_hour = 2 },
  -- I; memory 84.94e9 bytes as reported, 3.35 TB/s recalled; $
  h800 = { name = "H800 SXM", bf16_tflops = 989, fp8_tflops = 1979, memory_gb = 84.94, memory_gb_s = 3350, sms = 132, near_gb_s = 200, far_gb_s = 50, power_w = 700, dollars_per_hour = 2 },
  -- A, B
  h200 = { name = "H200 SXM", bf16_tflops = 989, fp8_tflops = 1979, memory_gb = 141, memory_gb_s = 4800, sms = 132, near_gb_s = 450, far_gb_s = 50, power_w = 700 },
  -- A; B gives 8.0 TB/s and, with CX7, 50 GB/s of network
  b200 = { name = "B200 SXM", bf16_tflops = 2250, fp8_tflops = 4500, memory_gb = 180, memory_gb_s = 7700, sms = 148, near_gb_s = 900, far_gb_s = 100, power_w = 1000 },
  -- A: 72 accelerators in one domain
  gb200 = { name = "GB200 NVL72", bf16_tflops = 2500, fp8_tflops = 5000, memory_gb = 186, memory_gb_s = 8000, sms = 148, node_ranks = 72, near_gb_s = 900, far_gb_s = 100, power_w = 1200 },
  -- B; A: 7.75 TB/s
  b300 = { name = "B300 SXM", bf16_tflops = 2250, fp8_tflops = 4500, memory_gb = 288, memory_gb_s = 8000, sms = 148, near_gb_s = 900, far_gb_s = 100, power_w = 1100 },
  -- A, B
  gb300 = { name = "GB300 NVL72", bf16_tflops = 2500, fp8_tflops = 5000, memory_gb = 288, memory_gb_s = 8000, sms = 148, node_ranks = 72, near_gb_s = 900, far_gb_s = 100, power_w = 1400 },
  -- B; full mesh: an all-to-all uses all links, a single pair one of them (50 GB/s); network P
  mi250x = { name = "MI250X", bf16_tflops = 383, memory_gb = 128, memory_gb_s = 3280, sms = 220, near_gb_s = 350, far_gb_s = 25, power_w = 560 },
  -- B; a pair has 64 GB/s; network recalled
  mi300x = { name = "MI300X", bf16_tflops = 1300, fp8_tflops = 2610, memory_gb = 192, memory_gb_s = 5300, sms = 304, near_gb_s = 448, far_gb_s = 50, power_w = 750 },
  -- B; network P
  mi325x = { name = "MI325X", bf16_tflops = 1300, fp8_tflops = 2610, memory_gb = 256, memory_gb_s = 6000, sms = 304, near_gb_s = 448, far_gb_s = 50, power_w = 1000 },
  -- B; a pair has 76.5 GB/s; network P
  mi355x = { name = "MI355X", bf16_tflops = 2500, fp8_tflops = 5000, memory_gb = 288, memory_gb_s = 8000, sms = 256, near_gb_s = 535.5, far_gb_s = 50, power_w = 1400 },
  -- C; a torus of 4 x 4 x 4 is the node; two TensorCores; data-centre network of 25 GB/s for a host of 4
  tpu_v4 = { name = "TPU v4", bf16_tflops = 275, memory_gb = 32, memory_gb_s = 1200, sms = 2, node_ranks = 64, near_gb_s = torus(45, { 4, 4, 4 }), far_gb_s = 6.25 },
  -- G; 16 x 16; one TensorCore; 400 GB/s of 4 ports; 2 x 100 Gb/s for a host of 8
  tpu_v5e = { name = "TPU v5e", bf16_tflops = 197, memory_gb = 16, memory_gb_s = 819, sms = 1, node_ranks = 256, near_gb_s = torus(50, { 16, 16 }), far_gb_s = 3.125 },
  -- G; 4 x 4 x 4 of the torus; 1200 GB/s of 6 ports; 50 Gb/s of network for a chip
  tpu_v5p = { name = "TPU v5p", bf16_tflops = 459, memory_gb = 95, memory_gb_s = 2765, sms = 2, node_ranks = 64, near_gb_s = torus(100, { 4, 4, 4 }), far_gb_s = 6.25 },
  -- G; fp8 B; 16 x 16; 800 GB/s of 4 ports; 4 x 200 Gb/s for a host of 8
  tpu_v6e = { name = "TPU v6e", bf16_tflops = 918, fp8_tflops = 918, memory_gb = 32, memory_gb_s = 1638, sms = 1, node_ranks = 256, near_gb_s = torus(100, { 16, 16 }), far_gb_s = 12.5 },
}

--- Which calibration an accelerator is predicted with: coefficients are relative to the peaks, so that an H800 takes the
--- H100's. The others have none; costs = "roofline" works for all.
catalogue.calibration_of = { h100 = "hopper", h800 = "hopper", h200 = "hopper" }

--- Sizes of released models, from their config.json.
--- @type table<string, table>
catalogue.models = {
  deepseek_v3 = { layers = 61, dense_layers = 3, width = 7168, heads = 128, attention = "mla", query_rank = 1536, latent = 512, plain_width = 128, rope_width = 64, value_width = 128,
    experts = 256, choices = 8, expert_hidden = 2048, shared_hidden = 2048, dense_hidden = 18432, vocabulary = 129280 },
  qwen3_235b = { layers = 94, width = 4096, heads = 64, attention = "gqa", kv_heads = 4, head_width = 128, experts = 128, choices = 8, expert_hidden = 1536, vocabulary = 151936 },
  mixtral_8x7b = { layers = 32, width = 4096, heads = 32, attention = "gqa", kv_heads = 8, head_width = 128, experts = 8, choices = 2, expert_hidden = 14336, vocabulary = 32000 },
  olmoe_1b_7b = { layers = 16, width = 2048, heads = 16, attention = "gqa", kv_heads = 16, head_width = 128, experts = 64, choices = 8, expert_hidden = 1024, vocabulary = 50304 },
}

return catalogue
