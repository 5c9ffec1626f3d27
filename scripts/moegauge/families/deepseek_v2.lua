--- DeepSeek-V2 (arXiv 2405.04434): latent attention; softmax affinities, in the large model within the best groups.

local common = require "moegauge.families.common"
local deepseek = require "moegauge.families.deepseek_common"

local function router(c)
  local experts = c:integer("n_routed_experts", "experts")
  local method = c:choice("topk_method", "greedy", { greedy = "greedy", group_limited_greedy = "grouped" })
  local groups, kept = deepseek.groups(c, experts)
  local grouped = method == "grouped"
  c:choice("scoring_func", "softmax", { softmax = true })
  local renormalise = c:flag("norm_topk_prob", false)
  local scale = c:number("routed_scaling_factor", 1, 1e-6, 1e6)
  return {
    name = "deepseek", k = c:chosen("num_experts_per_tok", experts), score = "softmax", bias = "none",
    groups = grouped and groups or 1, groups_kept = grouped and kept or 1, group_score = "max",
    renormalise = renormalise, scale = renormalise and 1 or scale, -- the model's code scales only what it does not renormalise
  }
end

return {
  name = "deepseek_v2", types = { "deepseek_v2" }, runs = true, paper = "arXiv 2405.04434",
  ignored = "mlp_bias",
  spec = function(c)
    local spec = deepseek.decoder(c)
    spec.attention = deepseek.latent(c)
    spec.feed_forward = common.dense_first(c, spec.layers, deepseek.dense(c), deepseek.mixture(c, router(c)))
    return spec
  end,
  tensors = common.append(common.decoder_tensors(deepseek.latent_tensors), deepseek.feed_tensors()),
}
