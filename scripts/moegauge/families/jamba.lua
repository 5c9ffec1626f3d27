--- Jamba (Lieber et al. 2024, arXiv 2403.19887): one attention layer in eight, Mamba in the others, experts in every second.

local common = require "moegauge.families.common"

-- Gu and Dao 2023, arXiv 2312.00752, with norms of dt, B and C.
local function mamba(c, width)
  local state, kernel = c:integer("mamba_d_state", "width", 16), c:integer("mamba_d_conv", "count", 4)
  local inner, rank = c:integer("mamba_expand", "count", 2) * width, c:integer("mamba_dt_rank", "width")
  local biases = (c:flag("mamba_conv_bias", true) and inner or 0) + (c:flag("mamba_proj_bias", false) and 2 * inner + width or 0)
  local matrices = width * 2 * inner + inner * kernel + inner * (rank + 2 * state) + rank * inner + inner * width
  local vectors = biases + inner + inner * state + inner + rank + 2 * state
  return { kind = "counted", work = 3 * inner * state, counted = { { parameters = matrices }, { parameters = vectors, products = false } } }
end

return {
  name = "jamba", types = { "jamba" }, runs = false, paper = "arXiv 2403.19887",
  ignored = "use_mamba_kernels",
  spec = function(c)
    local spec = common.decoder(c, false, 1e-6)
    local experts = c:integer("num_experts", "experts")
    local width, activation = c:integer("intermediate_size", "hidden"), c:choice("hidden_act", "silu", common.activations)
    local attention_period, attention_offset = c:integer("attn_layer_period", "layers", 8), c:integer("attn_layer_offset", "count", 4)
    local period, offset = c:integer("expert_layer_period", "layers", 2), c:integer("expert_layer_offset", "count", 1)
    local full = common.copy(spec.attention, { rope = { columns = 0 }, window = c:integer("sliding_window", "window", false) })
    local recurrent = mamba(c, spec.width)
    local moe = {
      kind = "moe", experts = experts, width = width, activation = activation,
      router = { name = "topk", k = c:chosen("num_experts_per_tok", experts), renormalise = false },
    }
    local dense = { kind = "dense", width = width, activation = activation }
    spec.attention = common.each(spec.layers, function(i) return i % attention_period == attention_offset and full or recurrent end)
    spec.feed_forward = common.each(spec.layers, function(i) return i % period == offset and moe or dense end)
    return spec
  end,
}
