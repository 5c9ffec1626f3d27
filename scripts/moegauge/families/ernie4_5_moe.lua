--- ERNIE 4.5 (Baidu 2025): softmax scores plus a balancing bias, shared experts, mixtures in a range of layers.

local common = require "moegauge.families.common"

return {
  name = "ernie4_5_moe", types = { "ernie4_5_moe" }, runs = false, paper = "Baidu 2025, ERNIE 4.5 Technical Report",
  ignored = "moe_capacity moe_gate moe_use_aux_free moe_norm_min compression_ratio use_rmsnorm",
  spec = function(c)
    local spec = common.decoder(c, true, 1e-5)
    local experts, width = c:integer("moe_num_experts", "experts"), c:integer("moe_intermediate_size", "hidden")
    local first, last = c:integer("moe_layer_start_index", "count", 1), c:integer("moe_layer_end_index", "count", spec.layers - 1)
    local every, activation = c:integer("moe_layer_interval", "layers", 1), c:choice("hidden_act", "silu", common.activations)
    local biased = c:flag("use_bias", false)
    spec.attention.biases = biased and "all" or "none"
    spec.attention.rope = common.rope(c, spec.attention.head_width, 500000)
    spec.attention.rope.interleaved = true
    local dense = { kind = "dense", width = c:integer("intermediate_size", "hidden"), activation = activation, biases = biased }
    local moe = {
      kind = "moe", experts = experts, width = width, activation = activation, shared = common.shared(c, "moe_num_shared_experts", width),
      router = { name = "deepseek", k = c:chosen("moe_k", experts), score = "softmax", bias = "sign", rate = 0, renormalise = true },
    }
    spec.feed_forward = common.each(spec.layers, function(i)
      return (i >= first and i <= last and (i + 1) % every == 0) and moe or dense
    end)
    return spec
  end,
}
