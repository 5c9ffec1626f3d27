--- Qwen2-MoE (Yang et al. 2024, arXiv 2407.10671): biased queries, keys and values; shared experts weighed by a sigmoid.

local qwen = require "moegauge.families.qwen"

return {
  name = "qwen2_moe", types = { "qwen2_moe" }, runs = true, paper = "arXiv 2407.10671",
  ignored = "",
  spec = function(c)
    local experts = c:integer("num_experts", "experts")
    local shared = c:integer("shared_expert_intermediate_size", "hidden_or_none")
    local biased = c:flag("qkv_bias", true)
    return qwen.spec(c, { qk_norm = "none", biases = biased and "qkv" or "none" }, {
      kind = "moe", experts = experts, width = c:integer("moe_intermediate_size", "hidden"),
      router = { name = "topk", k = c:chosen("num_experts_per_tok", experts), renormalise = c:flag("norm_topk_prob", false) },
      shared = shared > 0 and { experts = 1, width = shared, gate = "sigmoid" } or nil,
    })
  end,
  config = function(spec)
    local c, moe = qwen.config(spec, "Qwen2MoeForCausalLM")
    if not c then return c, moe end
    c.qkv_bias, c.head_dim = spec.attention[1].biases == "qkv", nil
    c.shared_expert_intermediate_size = moe.shared.experts * moe.shared.width
    return c
  end,
  tensors = qwen.tensors,
}
