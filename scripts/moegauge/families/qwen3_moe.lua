--- Qwen3-MoE (Yang et al. 2025, arXiv 2505.09388): norms of query and key heads, renormalised softmax weights.

local qwen = require "moegauge.families.qwen"

return {
  name = "qwen3_moe", types = { "qwen3_moe" }, runs = true, paper = "arXiv 2505.09388",
  ignored = "",
  spec = function(c)
    local experts = c:integer("num_experts", "experts")
    local shared = c:integer("shared_expert_intermediate_size", "hidden_or_none", 0)
    if shared > 0 then c:refuse("shared_expert_intermediate_size", "must be 0: this family has no shared experts") end
    if not c:flag("use_qk_norm", true) then c:refuse("use_qk_norm", "must be true: this family always has the norms") end
    local biased = c:flag("attention_bias", false) or c:flag("qkv_bias", false)
    return qwen.spec(c, { qk_norm = "head", biases = biased and "all" or "none" }, {
      kind = "moe", experts = experts, width = c:integer("moe_intermediate_size", "hidden"),
      router = { name = "topk", k = c:chosen("num_experts_per_tok", experts), renormalise = c:flag("norm_topk_prob", false) },
    })
  end,
  config = function(spec)
    local c, moe = qwen.config(spec, "Qwen3MoeForCausalLM")
    if not c then return c, moe end
    c.attention_bias = spec.attention[1].biases == "all"
    return c
  end,
  tensors = qwen.tensors,
}
