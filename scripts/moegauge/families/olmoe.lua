--- OLMoE (Muennighoff et al. 2024, arXiv 2409.02060): softmax over all experts, weights as they are; norms of the whole
--- query and key projections.

local common = require "moegauge.families.common"

local mlp <const> = "model.layers.{layer}.mlp"

return {
  name = "olmoe", types = { "olmoe" }, runs = true, paper = "arXiv 2409.02060",
  ignored = "",
  spec = function(c)
    local spec = common.decoder(c, false, 1e-5)
    local experts = c:integer("num_experts", "experts")
    spec.attention.qk_norm = "whole"
    spec.attention.biases = c:flag("attention_bias", false) and "all" or "none"
    spec.attention.clip = c:number("clip_qkv", 0, 0, 1e6)
    spec.attention.rope = common.rope(c, common.rotated(c, spec.attention.head_width))
    spec.feed_forward = {
      kind = "moe", experts = experts, width = c:integer("intermediate_size", "hidden"),
      activation = c:choice("hidden_act", "silu", common.activations),
      router = { name = "topk", k = c:chosen("num_experts_per_tok", experts), renormalise = c:flag("norm_topk_prob", false) },
    }
    return spec
  end,
  config = function(spec)
    local c, moe = common.config(spec, "OlmoeForCausalLM")
    if not c then return c, moe end
    c.num_experts, c.intermediate_size, c.norm_topk_prob = moe.experts, moe.width, moe.router.renormalise
    c.attention_bias, c.head_dim = spec.attention[1].biases == "all", nil
    if spec.attention[1].clip > 0 then c.clip_qkv = spec.attention[1].clip end
    return c
  end,
  tensors = common.append(common.append(common.decoder_tensors(common.attention_tensors()), common.expert_tensors(mlp)), {
    { mlp .. ".gate.weight", "layers.{layer}.feed_forward.router.gate" },
  }),
}
