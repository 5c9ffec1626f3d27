--- Nemotron-H and Nemotron 3 (NVIDIA 2025, arXiv 2504.03624): a pattern of letters names each layer's one branch: M Mamba-2,
--- E experts, - dense feed-forward, * attention.

local common = require "moegauge.families.common"
local deepseek = require "moegauge.families.deepseek_common"

-- Dao and Gu 2024, arXiv 2405.21060.
local function mamba2(c, width)
  local heads, columns = c:integer("mamba_num_heads", "heads"), c:integer("mamba_head_dim", "width")
  local state, groups, kernel = c:integer("ssm_state_size", "width"), c:integer("n_groups", "heads"), c:integer("conv_kernel", "count")
  local inner = heads * columns
  local mixed = inner + 2 * groups * state
  local bias = c:flag("use_conv_bias", true) and mixed or 0
  local matrices = width * (inner + mixed + heads) + mixed * kernel + inner * width
  return { kind = "counted", work = 3 * inner * state, counted = { { parameters = matrices }, { parameters = bias + 3 * heads + inner, products = false } } }
end

return {
  name = "nemotron_h", types = { "nemotron_h" }, runs = false, paper = "arXiv 2504.03624",
  ignored = [[expand mamba_hidden_act mamba_proj_bias mamba_ssm_cache_dtype chunk_size layer_norm_epsilon mlp_bias attention_bias
    partial_rotary_factor rope_theta residual_in_fp32 sliding_window time_step_floor time_step_max time_step_min time_step_limit
    use_bias use_mamba_kernels mamba_dt_min mamba_dt_max mamba_dt_limit mamba_dt_init_floor]],
  spec = function(c)
    local layers, width = c:integer("num_hidden_layers", "layers"), c:integer("hidden_size", "width")
    local pattern = c:want("hybrid_override_pattern", nil, ("a text of %d letters of M, E, - and *"):format(layers), function(value)
      return type(value) == "string" and #value == layers and not value:find "[^ME%-*]"
    end)
    local activation = c:choice("mlp_hidden_act", "relu2", common.activations)
    local experts, shared = c:integer("n_routed_experts", "experts"), c:integer("n_shared_experts", "count", 0)
    local shared_width = c:integer("moe_shared_expert_intermediate_size", "hidden", c:integer("moe_intermediate_size", "hidden"))
    local none = { kind = "none" }
    local full = common.copy(common.attention(c), { rope = { columns = 0 } })
    local moe = {
      kind = "moe", experts = experts, width = c:integer("moe_intermediate_size", "hidden"), gated = false, activation = activation,
      router = deepseek.biased_router(c), shared = shared > 0 and { experts = shared, width = shared_width } or nil,
    }
    local dense = { kind = "dense", width = c:integer("intermediate_size", "hidden"), gated = false, activation = activation }
    local attentions, feeds = { M = mamba2(c, width), ["*"] = full }, { E = moe, ["-"] = dense }
    return {
      layers = layers, width = width, vocabulary = c:integer("vocab_size", "vocabulary"), norm_epsilon = c:number("norm_eps", 1e-5, 0, 1),
      tie_embeddings = c:flag("tie_word_embeddings", false),
      attention = common.each(layers, function(i) return attentions[pattern:sub(i + 1, i + 1)] or none end),
      feed_forward = common.each(layers, function(i) return feeds[pattern:sub(i + 1, i + 1)] or none end),
    }
  end,
}
