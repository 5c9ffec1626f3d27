--- Solar Open (Upstage 2026): grouped heads, a mixture in every layer, routing as DeepSeek-V3.

local common = require "moegauge.families.common"
local deepseek = require "moegauge.families.deepseek_common"

return {
  name = "solar_open", types = { "solar_open" }, runs = true, paper = "Upstage 2026, Solar Open",
  ignored = "intermediate_size", -- of dense layers, of which there are none
  spec = function(c)
    local spec = common.decoder(c, false, 1e-5)
    spec.attention.head_width = c:integer("head_dim", "width", 128)
    spec.attention.biases = c:flag("attention_bias", false) and "qkv" or "none"
    spec.attention.rope = common.rope(c, spec.attention.head_width, 1e6)
    c:number("partial_rotary_factor", 1, 1, 1)
    if c:flag("use_qk_norm", false) then c:refuse("use_qk_norm", "must be false: the model has no such norms") end
    if c:integer("first_k_dense_replace", "count", 0) > 0 then c:refuse("first_k_dense_replace", "must be 0: every layer is a mixture") end
    local mixture = deepseek.mixture(c, deepseek.biased_router(c))
    spec.feed_forward = common.each(spec.layers, function() return mixture end)
    return spec
  end,
  tensors = common.append(common.decoder_tensors(common.attention_tensors()), deepseek.feed_tensors()),
}
