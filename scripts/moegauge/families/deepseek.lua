--- DeepSeekMoE 16B (Dai et al. 2024, arXiv 2401.06066): plain attention, fine-grained and shared experts.

local common = require "moegauge.families.common"
local deepseek = require "moegauge.families.deepseek_common"

return {
  name = "deepseek", types = { "deepseek" }, runs = true, paper = "arXiv 2401.06066",
  ignored = "",
  spec = function(c)
    local spec = common.decoder(c, false, 1e-6)
    spec.attention.biases = c:flag("attention_bias", false) and "all" or "none"
    spec.attention.rope = common.rope(c, common.rotated(c, spec.attention.head_width))
    local score = c:choice("scoring_func", "softmax", { softmax = "softmax" })
    local moe = deepseek.mixture(c, {
      name = "topk", k = c:chosen("num_experts_per_tok", c:integer("n_routed_experts", "experts")), score = score,
      renormalise = c:flag("norm_topk_prob", false),
    })
    spec.feed_forward = common.dense_first(c, spec.layers, deepseek.dense(c), moe)
    return spec
  end,
  tensors = common.append(common.decoder_tensors(common.attention_tensors()), deepseek.feed_tensors()),
}
