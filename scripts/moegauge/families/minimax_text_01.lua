--- MiniMax-Text-01 (MiniMax 2025, arXiv 2501.08313): seven layers of linear attention for one of softmax attention.

local common = require "moegauge.families.common"

local function binary(value) return value == 0 or value == 1 end

return {
  name = "minimax_text_01", types = { "minimax_text_01", "minimax" }, runs = false, paper = "arXiv 2501.08313",
  ignored = [[postnorm attn_window_size layernorm_full_attention_alpha layernorm_full_attention_beta layernorm_linear_attention_alpha
    layernorm_linear_attention_beta layernorm_mlp_alpha layernorm_mlp_beta shared_moe_mode layer_types block_size
    full_attn_alpha_factor full_attn_beta_factor linear_attn_alpha_factor linear_attn_beta_factor mlp_alpha_factor mlp_beta_factor]],
  spec = function(c)
    local spec = common.decoder(c, false, 1e-5)
    local experts, full = c:integer("num_local_experts", "experts"), spec.attention
    local shared = c:integer("shared_intermediate_size", "hidden_or_none", 0)
    local types = c:list("attn_type_list", nil, "0 or 1", spec.layers, binary)
    local columns = c:integer("rotary_dim", "width", full.head_width)
    local inner = full.heads * full.head_width
    full.rope = common.rope(c, columns)
    c:any "sliding_window"
    local linear = {
      kind = "counted", work = 2 * inner * full.head_width,
      counted = { { parameters = spec.width * 3 * inner + 2 * spec.width * inner }, { parameters = inner, products = false } },
    }
    spec.attention = common.each(spec.layers, function(i) return types[i + 1] == 1 and full or linear end)
    spec.feed_forward = {
      kind = "moe", experts = experts, width = c:integer("intermediate_size", "hidden"), activation = c:choice("hidden_act", "silu", common.activations),
      router = { name = "topk", k = c:chosen("num_experts_per_tok", experts), order = "after" },
      shared = shared > 0 and { experts = 1, width = shared } or nil,
    }
    return spec
  end,
}
