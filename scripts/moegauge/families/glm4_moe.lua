--- GLM-4.5 (arXiv 2508.06471): grouped heads with biases and norms, half of each head rotated, routing as DeepSeek-V3.

local common = require "moegauge.families.common"
local deepseek = require "moegauge.families.deepseek_common"

return {
  name = "glm4_moe", types = { "glm4_moe" }, runs = true, paper = "arXiv 2508.06471",
  ignored = "",
  spec = function(c)
    local spec = common.decoder(c, false, 1e-5)
    spec.attention.biases = c:flag("attention_bias", false) and "qkv" or "none"
    spec.attention.qk_norm = c:flag("use_qk_norm", false) and "head" or "none"
    spec.attention.rope = common.rope(c, common.rotated(c, spec.attention.head_width, 0.5))
    spec.feed_forward = common.dense_first(c, spec.layers, deepseek.dense(c), deepseek.mixture(c, deepseek.biased_router(c)))
    spec.prediction = common.prediction(c, "num_nextn_predict_layers")
    return spec
  end,
  config = function(spec)
    local c, moe, dense = common.config(spec, "Glm4MoeForCausalLM")
    if not c then return c, moe end
    local a = spec.attention[1]
    c.attention_bias, c.use_qk_norm, c.partial_rotary_factor = a.biases == "qkv", a.qk_norm == "head", a.rope.columns / a.head_width
    return deepseek.config(c, spec, moe, dense)
  end,
  module_copies_ends = true,
  tensors = common.append(common.decoder_tensors(common.attention_tensors()), deepseek.feed_tensors()),
  ignored_tensors = { "model.layers.{module}.*" },
}
