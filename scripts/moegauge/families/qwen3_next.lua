--- Qwen3-Next (Qwen 2025): three layers of gated delta rule (Yang et al. 2024, arXiv 2412.06464) for one of gated attention.

local common = require "moegauge.families.common"
local qwen = require "moegauge.families.qwen"

-- Projections of q, k, v and the output gate, of beta and decay, a short convolution, and a state of key by value columns.
local function delta(c, width)
  local key_heads, value_heads = c:integer("linear_num_key_heads", "heads"), c:integer("linear_num_value_heads", "heads")
  local key, value = c:integer("linear_key_head_dim", "width"), c:integer("linear_value_head_dim", "width")
  local keys, values, kernel = key_heads * key, value_heads * value, c:integer("linear_conv_kernel_dim", "count")
  local matrices = width * (2 * keys + 2 * values + 2 * value_heads) + (2 * keys + values) * kernel + values * width
  return {
    kind = "counted", work = 3 * value_heads * key * value,
    counted = { { parameters = matrices }, { parameters = 2 * value_heads + value, products = false } },
  }
end

return {
  name = "qwen3_next", types = { "qwen3_next" }, runs = false, paper = "Qwen 2025, Qwen3-Next",
  ignored = "attention_bias",
  spec = function(c)
    local experts, width = c:integer("num_experts", "experts"), c:integer("hidden_size", "width")
    local shared = c:integer("shared_expert_intermediate_size", "hidden_or_none")
    local spec = qwen.spec(c, { qk_norm = "head", biases = "none" }, {
      kind = "moe", experts = experts, width = c:integer("moe_intermediate_size", "hidden"),
      router = { name = "topk", k = c:chosen("num_experts_per_tok", experts), renormalise = c:flag("norm_topk_prob", true) },
      shared = shared > 0 and { experts = 1, width = shared, gate = "sigmoid" } or nil,
    })
    local every, full, linear = c:integer("full_attention_interval", "layers", 4), spec.attention, delta(c, width)
    full.gated = true
    full.rope.columns = common.rotated(c, full.head_width, 0.25)
    spec.attention = common.each(spec.layers, function(i) return (i + 1) % every == 0 and full or linear end)
    spec.prediction = { modules = 1 }
    return spec
  end,
  unnamed_module = true, -- the configuration does not name it; the release holds it, without ends of its own
}
