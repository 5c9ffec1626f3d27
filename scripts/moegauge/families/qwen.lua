--- What Qwen2-MoE and Qwen3-MoE share: which layers are mixtures, which have windows, and their tensors.

local core = require "moegauge.core"
local common = require "moegauge.families.common"

local qwen = {}
local mlp <const> = "model.layers.{layer}.mlp"

local function whole(value) return math.type(value) == "integer" and value >= 0 end

-- A window in layers from max_window_layers on, or where layer_types says so; none without use_sliding_window.
local function windows(c, layers)
  local use = c:flag("use_sliding_window", false)
  local window = c:integer("sliding_window", "window", false)
  local from = c:integer("max_window_layers", "count", layers)
  local types = c:list("layer_types", false, "texts", layers, function(value) return type(value) == "string" end)
  if not use or not window or window == 0 then return nil end
  return common.each(layers, function(i)
    local slides = i >= from
    if types then slides = types[i + 1] == "sliding_attention" end
    return slides and window or 0
  end)
end

--- The decoder with `moe` in every decoder_sparse_step-th layer that mlp_only_layers does not name.
function qwen.spec(c, attention, moe)
  local spec = common.decoder(c, false, 1e-6)
  spec.attention.qk_norm, spec.attention.biases = attention.qk_norm, attention.biases
  spec.attention.rope = common.rope(c, common.rotated(c, spec.attention.head_width))
  local dense = { kind = "dense", width = c:integer("intermediate_size", "hidden"), activation = c:choice("hidden_act", "silu", common.activations) }
  local step = c:integer("decoder_sparse_step", "layers", 1)
  local only = {}
  for _, layer in ipairs(c:list("mlp_only_layers", false, "layer numbers", nil, whole) or {}) do only[layer] = true end
  spec.window = windows(c, spec.layers)
  moe.activation = dense.activation
  spec.feed_forward = common.each(spec.layers, function(i)
    return (not only[i] and (i + 1) % step == 0) and moe or dense
  end)
  return spec
end

--- The way back for both: layers that are dense, widths, and whether weights are renormalised.
function qwen.config(spec, architecture)
  local c, moe, dense = common.config(spec, architecture)
  if not c then return c, moe end
  c.num_experts, c.moe_intermediate_size, c.norm_topk_prob = moe.experts, moe.width, moe.router.renormalise
  c.intermediate_size, c.decoder_sparse_step = dense and dense.width or 4 * spec.width, 1
  c.mlp_only_layers = core.list(common.dense_layers(spec))
  return c, moe
end

qwen.tensors = common.append(common.append(common.decoder_tensors(common.attention_tensors()), common.expert_tensors(mlp)), {
  { mlp .. ".gate.weight", "layers.{layer}.feed_forward.router.gate" },
  { mlp .. ".shared_expert_gate.weight", "layers.{layer}.feed_forward.shared.mix" },
})
common.append(qwen.tensors, common.gated_tensors(mlp, "layers.{layer}.feed_forward", ".weight"))
common.append(qwen.tensors, common.gated_tensors(mlp .. ".shared_expert", "layers.{layer}.feed_forward.shared", ""))

return qwen
