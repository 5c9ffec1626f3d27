--- LongCat-Flash (Meituan 2025, arXiv 2509.01322): a layer is two blocks of latent attention and dense feed-forward, and one
--- mixture beside the first; a third of its experts give their input back.

local common = require "moegauge.families.common"
local deepseek = require "moegauge.families.deepseek_common"

return {
  name = "longcat_flash", types = { "longcat_flash" }, runs = false, paper = "arXiv 2509.01322",
  ignored = "attention_method mla_scale_q_lora mla_scale_kv_lora zero_expert_type router_bias norm_topk_prob",
  spec = function(c)
    local spec = deepseek.decoder(c)
    local experts, zero = c:integer("n_routed_experts", "experts"), c:integer("zero_expert_num", "count", 0)
    local dense = { kind = "dense", width = c:integer("ffn_hidden_size", "hidden"), activation = c:choice("hidden_act", "silu", common.activations) }
    local moe = {
      kind = "moe", experts = experts + zero, width = c:integer("expert_ffn_hidden_size", "hidden"), activation = dense.activation,
      parallel = { width = dense.width }, null = { zero = 0, copy = zero, constant = 0, tau = 1 },
      router = {
        name = "deepseek", k = c:chosen("moe_topk", experts + zero), score = "softmax", bias = "sign", rate = 0,
        renormalise = false, scale = c:number("routed_scaling_factor", 1, 1e-6, 1e6),
      },
    }
    if zero == 0 then moe.null = nil end
    spec.layers = 2 * c:integer("num_layers", "layers")
    spec.attention = deepseek.latent(c, 1e7)
    spec.feed_forward = common.each(spec.layers, function(i) return i % 2 == 0 and moe or dense end)
    spec.prediction = { modules = 1, feed_forward = dense }
    return spec
  end,
  unnamed_module = true, module_copies_embedding = true,
}
