--- MiniMax-M2 (MiniMax 2025): norms of the whole query and key projections, sigmoid scores with a balancing bias.

local common = require "moegauge.families.common"

return {
  name = "minimax_m2", types = { "minimax_m2" }, runs = false, paper = "MiniMax 2025, MiniMax-M2",
  ignored = [[use_mtp num_mtp_modules mtp_transformer_layers attn_type_list attn_window_size layernorm_full_attention_beta
    layernorm_linear_attention_beta layernorm_mlp_beta shared_moe_mode quantization_config sliding_window]],
  spec = function(c)
    local spec = common.decoder(c, false, 1e-6)
    local experts = c:integer("num_local_experts", "experts")
    local shared = c:integer("shared_intermediate_size", "hidden_or_none", 0)
    c:choice("qk_norm_type", "per_layer", { per_layer = true })
    c:choice("scoring_func", "sigmoid", { sigmoid = true })
    spec.attention.qk_norm = c:flag("use_qk_norm", true) and "whole" or "none"
    spec.attention.rope = common.rope(c, c:integer("rotary_dim", "width", spec.attention.head_width), 5e6)
    spec.feed_forward = {
      kind = "moe", experts = experts, width = c:integer("intermediate_size", "hidden"), activation = c:choice("hidden_act", "silu", common.activations),
      router = {
        name = "deepseek", k = c:chosen("num_experts_per_tok", experts), score = "sigmoid", renormalise = true, rate = 0,
        bias = c:flag("use_routing_bias", true) and "sign" or "none",
      },
      shared = shared > 0 and { experts = 1, width = shared } or nil,
    }
    return spec
  end,
}
