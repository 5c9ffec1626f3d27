--- DeepSeek-V3 (arXiv 2412.19437): latent attention, sigmoid affinities with a balancing bias within the best groups, and
--- modules that predict a further token.

local common = require "moegauge.families.common"
local deepseek = require "moegauge.families.deepseek_common"

return {
  name = "deepseek_v3", types = { "deepseek_v3", "kimi_k2" }, runs = true, paper = "arXiv 2412.19437",
  ignored = "",
  spec = function(c)
    local spec = deepseek.decoder(c)
    spec.attention = deepseek.latent(c)
    spec.feed_forward = common.dense_first(c, spec.layers, deepseek.dense(c), deepseek.mixture(c, deepseek.biased_router(c)))
    spec.prediction = common.prediction(c, "num_nextn_predict_layers")
    return spec
  end,
  config = function(spec)
    local c, moe, dense = common.config(spec, "DeepseekV3ForCausalLM")
    if not c then return c, moe end
    if spec.attention[1].kind ~= "latent" then return nil, "its attention is not over a latent" end
    return deepseek.config(deepseek.latent_config(c, spec), spec, moe, dense)
  end,
  module_copies_ends = true, -- the checkpoint repeats embedding and head in every module
  tensors = common.append(common.decoder_tensors(deepseek.latent_tensors), deepseek.feed_tensors()),
  scaled = deepseek.scaled,
  ignored_tensors = { "model.layers.{module}.*", "*.rotary_emb.inv_freq" },
}
