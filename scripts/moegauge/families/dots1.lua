--- dots.llm1 (Huo et al. 2025, arXiv 2506.05767): grouped heads with norms, routing as DeepSeek-V3.

local common = require "moegauge.families.common"
local deepseek = require "moegauge.families.deepseek_common"

return {
  name = "dots1", types = { "dots1" }, runs = false, paper = "arXiv 2506.05767",
  ignored = "sliding_window max_window_layers use_sliding_window layer_types",
  spec = function(c)
    local spec = common.decoder(c, false, 1e-5)
    spec.attention.qk_norm = "head"
    spec.attention.biases = c:flag("attention_bias", false) and "qkv" or "none"
    spec.attention.rope = common.rope(c, common.rotated(c, spec.attention.head_width), 1e7)
    spec.feed_forward = common.dense_first(c, spec.layers, deepseek.dense(c), deepseek.mixture(c, deepseek.biased_router(c)))
    return spec
  end,
}
