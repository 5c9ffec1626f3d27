--- gpt-oss (arXiv 2508.10925): learned sinks, windows in every other layer, a biased router over clamped, biased experts,
--- whose weights are released in 4 bits.

local common = require "moegauge.families.common"

local mlp <const> = "model.layers.{layer}.mlp"
local experts <const> = "layers.{layer}.feed_forward.experts"

local function types_of(c, layers)
  local kinds <const> = { sliding_attention = true, full_attention = true }
  local types = c:list("layer_types", false, "'sliding_attention' or 'full_attention'", layers, function(value) return kinds[value] end)
  return types or common.each(layers, function(i) return i % 2 == 0 and "sliding_attention" or "full_attention" end)
end

return {
  name = "gpt_oss", types = { "gpt_oss" }, runs = true, paper = "arXiv 2508.10925",
  ignored = "",
  spec = function(c)
    local spec = common.decoder(c, false, 1e-5)
    local experts_count = c:integer("num_local_experts", "experts")
    local window = c:integer("sliding_window", "window", 128)
    local types = types_of(c, spec.layers)
    c:choice("hidden_act", "silu", { silu = true })
    spec.attention.sinks = true
    spec.attention.biases = c:flag("attention_bias", true) and "all" or "none"
    spec.attention.rope = common.rope(c, common.rotated(c, spec.attention.head_width), 150000)
    spec.window = common.each(spec.layers, function(i) return types[i + 1] == "sliding_attention" and window or 0 end)
    spec.feed_forward = {
      kind = "moe", experts = experts_count, width = c:integer("intermediate_size", "hidden"), biases = true,
      activation = "clamped_silu", alpha = c:number("swiglu_alpha", 1.702, 0, 1e3), limit = c:number("swiglu_limit", 7, 0, 1e6),
      router = { name = "topk", k = c:chosen("num_experts_per_tok", experts_count), order = "after", bias = true },
    }
    return spec
  end,
  tensors = common.append(common.decoder_tensors(common.attention_tensors()), {
    { "model.layers.{layer}.self_attn.sinks", "layers.{layer}.attention.sinks" },
    { mlp .. ".router.weight", "layers.{layer}.feed_forward.router.gate" },
    { mlp .. ".router.bias", "layers.{layer}.feed_forward.router.bias" },
    { { mlp .. ".experts.gate_up_proj_blocks", mlp .. ".experts.gate_up_proj_scales" }, { experts .. ".gate", experts .. ".up" }, "mxfp4", "deinterleave_rows" },
    { mlp .. ".experts.gate_up_proj", { experts .. ".gate", experts .. ".up" }, "transpose", "deinterleave_rows" },
    { mlp .. ".experts.gate_up_proj_bias", { experts .. ".gate_bias", experts .. ".up_bias" }, "deinterleave_columns" },
    { { mlp .. ".experts.down_proj_blocks", mlp .. ".experts.down_proj_scales" }, experts .. ".down", "mxfp4" },
    { mlp .. ".experts.down_proj", experts .. ".down", "transpose" },
    { mlp .. ".experts.down_proj_bias", experts .. ".down_bias" },
  }),
}
