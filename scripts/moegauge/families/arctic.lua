--- Snowflake Arctic (Snowflake 2024): a dense feed-forward with a norm of its own beside the mixture.

local common = require "moegauge.families.common"

return {
  name = "arctic", types = { "arctic" }, runs = false, paper = "Snowflake 2024, Arctic",
  ignored = [[moe_eval_capacity_factor moe_min_capacity moe_token_dropping moe_train_capacity_factor enable_expert_tensor_parallelism
    enc_index max_sequence_length quantization use_residual_norm]],
  spec = function(c)
    local spec = common.decoder(c, false, 1e-5)
    local experts = c:integer("num_local_experts", "experts")
    local width, every = c:integer("intermediate_size", "hidden"), c:integer("moe_layer_frequency", "layers", 1)
    local beside = c:flag("use_residual", true)
    c:flag("parallel_attn_mlp_res", true)
    spec.attention.window = c:integer("sliding_window", "window", false)
    spec.attention.rope = common.rope(c, spec.attention.head_width)
    local activation = c:choice("hidden_act", "silu", common.activations)
    local moe = {
      kind = "moe", experts = experts, width = width, activation = activation,
      router = { name = "topk", k = c:chosen("num_experts_per_tok", experts), order = "after" },
      parallel = beside and { width = spec.width, norm = true } or nil,
    }
    local dense = { kind = "dense", width = width, activation = activation }
    spec.feed_forward = common.each(spec.layers, function(i) return (i + 1) % every == 0 and moe or dense end)
    return spec
  end,
}
