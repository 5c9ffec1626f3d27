--- Llama 4 (Meta 2025): one routed and one shared expert, attention within chunks in three layers of four.

local common = require "moegauge.families.common"

-- The tower and projector beside the text model, as released with Scout and Maverick.
local vision <const> = { width = 1408, layers = 34, hidden = 5632, image = 336, patch = 14, channels = 3, adapter = 4096 }

local function vision_parameters(width)
  local v = vision
  local attention, mlp, norms = 4 * (v.width + 1) * v.width, 2 * v.width * v.hidden + v.hidden + v.width, 4 * v.width
  local patches = (v.image // v.patch) ^ 2 + 1
  local ends = v.channels * v.patch ^ 2 * v.width + v.width + patches * v.width + 4 * v.width
  local adapter = v.hidden * v.adapter + v.adapter * v.adapter + v.adapter * width
  return math.tointeger(v.layers * (attention + mlp + norms) + ends + adapter)
end

return {
  name = "llama4", types = { "llama4", "llama4_text" }, runs = false, paper = "Meta 2025, Llama 4", inside = "text_config",
  ignored = [[attention_bias for_llm_compressor attn_scale attn_temperature_tuning floor_scale no_rope_layer_interval
    layer_types moe_layers vision_config boi_token_index eoi_token_index image_token_index]],
  spec = function(c)
    local spec = common.decoder(c, false, 1e-5)
    local experts, step = c:integer("num_local_experts", "experts"), c:integer("interleave_moe_layer_step", "layers", 1)
    local width = c:integer("intermediate_size", "hidden")
    local activation = c:choice("hidden_act", "silu", common.activations)
    local unrotated = c:list("no_rope_layers", false, "0 or 1", nil, function(value) return value == 0 or value == 1 end)
    local chunk = c:integer("attention_chunk_size", "positions", 8192)
    c:flag("use_qk_norm", true) -- without parameters
    local rotated = common.copy(spec.attention, { rope = common.rope(c, spec.attention.head_width, 500000), chunk = chunk })
    local whole = common.copy(spec.attention, { rope = { columns = 0 } })
    local k = c:chosen("num_experts_per_tok", experts)
    local moe = {
      kind = "moe", experts = experts, width = width, activation = activation, scale_inputs = true,
      router = { name = "topk", k = k, score = "sigmoid", renormalise = false }, shared = { experts = 1, width = width },
    }
    local dense = { kind = "dense", width = c:integer("intermediate_size_mlp", "hidden"), activation = activation }
    spec.attention = common.each(spec.layers, function(i)
      local rotates = (i + 1) % 4 ~= 0
      if unrotated and #unrotated > 0 then rotates = unrotated[i + 1] == 1 end
      return rotates and rotated or whole
    end)
    spec.feed_forward = common.each(spec.layers, function(i) return (i + 1) % step == 0 and moe or dense end)
    return spec
  end,
  beside = function(spec) return { { what = "vision tower and projector", parameters = vision_parameters(spec.width) } } end,
}
