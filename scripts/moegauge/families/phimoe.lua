--- Phi-3.5-MoE (Abdin et al. 2024, arXiv 2404.14219): layer norms with a shift, biased attention and head, two experts
--- chosen one after the other (sparse_mixer).

local common = require "moegauge.families.common"

local here <const> = "model.layers.{layer}.block_sparse_moe"
local experts <const> = "layers.{layer}.feed_forward.experts"

return {
  name = "phimoe", types = { "phimoe" }, runs = true, paper = "arXiv 2404.14219",
  ignored = "input_jitter_noise",
  spec = function(c)
    local spec = common.decoder(c, false, 1e-5)
    local experts_count = c:integer("num_local_experts", "experts")
    spec.norm, spec.head_bias = "layer", c:flag("lm_head_bias", false)
    spec.attention.window = c:integer("sliding_window", "window", false)
    spec.attention.biases = c:flag("attention_bias", false) and "all" or "none"
    c:any "original_max_position_embeddings"
    spec.attention.rope = common.rope(c, common.rotated(c, spec.attention.head_width), 1e6)
    spec.feed_forward = {
      kind = "moe", experts = experts_count, width = c:integer("intermediate_size", "hidden"),
      activation = c:choice("hidden_act", "silu", common.activations),
      router = {
        name = "sparse_mixer", k = c:chosen("num_experts_per_tok", experts_count),
        jitter = c:number("router_jitter_noise", 0.01, 0, 1),
      },
    }
    return spec
  end,
  tensors = common.append(common.decoder_tensors(common.attention_tensors()), {
    { "model.norm.bias", "final_norm.shift" },
    { "lm_head.bias", "head.bias" },
    { "model.layers.{layer}.input_layernorm.bias", "layers.{layer}.attention_norm.shift" },
    { "model.layers.{layer}.post_attention_layernorm.bias", "layers.{layer}.feed_norm.shift" },
    { here .. ".gate.weight", "layers.{layer}.feed_forward.router.gate" },
    { here .. ".experts.{expert}.w1.weight", experts .. ".gate" },
    { here .. ".experts.{expert}.w3.weight", experts .. ".up" },
    { here .. ".experts.{expert}.w2.weight", experts .. ".down" },
  }),
}
