--- GLM-4.7-Flash (Z.ai 2026): the latent attention of DeepSeek-V3 in GLM-4.5. For accounting only: the norms of its latents
--- have an epsilon of their own, which core/model has no word for.

local common = require "moegauge.families.common"
local deepseek = require "moegauge.families.deepseek_common"

local kinds <const> = { dense = true, sparse = true }

--- transformers reads mlp_layer_types alone, whose default is one dense layer first.
local function feeds(c, layers, dense, moe)
  local types = c:list("mlp_layer_types", false, "of 'dense' and 'sparse'", layers, function(kind) return kinds[kind] end)
  local first = c:integer("first_k_dense_replace", "count", 1)
  return common.each(layers, function(i)
    if types then return types[i + 1] == "dense" and dense or moe end
    return i < first and dense or moe
  end)
end

return {
  name = "glm4_moe_lite", types = { "glm4_moe_lite" }, runs = false, paper = "Z.ai 2026, GLM-4.7-Flash",
  ignored = "",
  spec = function(c)
    local spec = deepseek.decoder(c)
    spec.norm_epsilon = c:number("rms_norm_eps", 1e-5, 0, 1)
    spec.attention = deepseek.latent(c, 1e6)
    c:number("partial_rotary_factor", 1, 1, 1)
    spec.feed_forward = feeds(c, spec.layers, deepseek.dense(c), deepseek.mixture(c, deepseek.biased_router(c)))
    spec.prediction = common.prediction(c, "num_nextn_predict_layers")
    return spec
  end,
  module_copies_ends = true,
}
