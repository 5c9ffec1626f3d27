--- Ling (Ling Team 2025, arXiv 2503.05139): fine-grained and shared experts; from version 2 norms of query and key heads, and
--- sigmoid scores with a balancing bias in groups.

local common = require "moegauge.families.common"
local deepseek = require "moegauge.families.deepseek_common"

local function softmax(c, experts)
  return { name = "topk", k = c:chosen("num_experts_per_tok", experts), renormalise = c:flag("norm_topk_prob", true) }
end

local function sigmoid(c, experts)
  local groups, kept = deepseek.groups(c, experts)
  c:choice("score_function", "sigmoid", { sigmoid = true })
  return {
    name = "deepseek", k = c:chosen("num_experts_per_tok", experts), score = "sigmoid", rate = 0, groups = groups, groups_kept = kept,
    bias = c:flag("moe_router_enable_expert_bias", true) and "sign" or "none", renormalise = c:flag("norm_topk_prob", true),
    scale = c:number("routed_scaling_factor", 1, 1e-6, 1e6),
  }
end

local family
function family(name, qk_norm, router)
  return {
    name = name, types = { name }, runs = false, paper = "arXiv 2503.05139",
    ignored = "norm_head norm_softmax output_dropout router_dtype moe_router_topk_scaling_factor sliding_window max_window_layers use_sliding_window rotary_dim use_rmsnorm mtp_loss_scaling_factor",
    spec = function(c)
      local spec = common.decoder(c, false, 1e-6)
      local experts, width = c:integer("num_experts", "experts"), c:integer("moe_intermediate_size", "hidden")
      local activation = c:choice("hidden_act", "silu", common.activations)
      local norms = c:flag("use_qk_norm", qk_norm)
      local all, qkv = c:flag("use_bias", false), c:flag("use_qkv_bias", false)
      spec.attention.qk_norm = norms and "head" or "none"
      spec.attention.biases = all and "all" or qkv and "qkv" or "none"
      spec.attention.rope = common.rope(c, common.rotated(c, spec.attention.head_width))
      local moe = {
        kind = "moe", experts = experts, width = width, activation = activation, router = router(c, experts),
        shared = common.shared(c, "num_shared_experts", c:integer("moe_shared_expert_intermediate_size", "hidden", width)),
      }
      spec.feed_forward = common.dense_first(c, spec.layers,
        { kind = "dense", width = c:integer("intermediate_size", "hidden"), activation = activation }, moe)
      spec.prediction = common.prediction(c, "num_nextn_predict_layers")
      return spec
    end,
    sibling = function() return family("bailing_moe_v2", true, sigmoid) end,
  }
end

return family("bailing_moe", false, softmax)
