--- NLLB-MoE (NLLB Team 2022, arXiv 2207.04672): encoder and decoder with sinusoidal positions, two biased experts per token.

local common = require "moegauge.families.common"

-- Every step-th layer is sparse.
local function stack(layers, step, dense, moe)
  return common.each(layers, function(i) return (step > 0 and (i + 1) % step == 0) and moe or dense end)
end

local projections <const> = { q_proj = "query", k_proj = "key", v_proj = "value", out_proj = "output" }

local function pair(list, from, to)
  list[#list + 1] = { from .. ".weight", to .. ".weight" }
  list[#list + 1] = { from .. ".bias", to .. ".bias" }
end

local function norm(list, from, to)
  list[#list + 1] = { from .. ".weight", to .. ".scale" }
  list[#list + 1] = { from .. ".bias", to .. ".shift" }
end

local function stack_tensors(name, to)
  local from, layer, list = "model." .. name .. ".layers.{layer}.", to .. "layers.{layer}.", {}
  norm(list, "model." .. name .. ".layer_norm", to .. "final_norm")
  norm(list, from .. "self_attn_layer_norm", layer .. "attention_norm")
  norm(list, from .. "ff_layer_norm", layer .. "feed_norm")
  norm(list, from .. "cross_attention_layer_norm", layer .. "cross_norm")
  for theirs, ours in pairs(projections) do
    pair(list, from .. "self_attn." .. theirs, layer .. "attention." .. ours)
    pair(list, from .. "cross_attention." .. theirs, layer .. "cross_attention." .. ours)
  end
  pair(list, from .. "ffn.fc1", layer .. "feed_forward.up")
  pair(list, from .. "ffn.fc2", layer .. "feed_forward.down")
  return common.append(list, {
    { from .. "ffn.router.classifier.weight", layer .. "feed_forward.router.gate" },
    { from .. "ffn.experts.expert_{expert}.fc1.weight", layer .. "feed_forward.experts.up" },
    { from .. "ffn.experts.expert_{expert}.fc1.bias", layer .. "feed_forward.experts.up_bias" },
    { from .. "ffn.experts.expert_{expert}.fc2.weight", layer .. "feed_forward.experts.down" },
    { from .. "ffn.experts.expert_{expert}.fc2.bias", layer .. "feed_forward.experts.down_bias" },
  })
end

local function attention(c, side)
  return { heads = c:integer(side .. "_attention_heads", "heads"), biases = "all", rope = { columns = 0 } }
end

return {
  name = "nllb-moe", types = { "nllb-moe" }, runs = true, paper = "arXiv 2207.04672",
  ignored = [[encoder_layerdrop decoder_layerdrop num_hidden_layers router_dtype
    router_ignore_padding_tokens expert_capacity normalize_router_prob_before_dropping batch_prioritized_routing
    moe_eval_capacity_token_fraction max_length]],
  spec = function(c)
    local width, layers, encoder_layers = c:integer("d_model", "width"), c:integer("decoder_layers", "layers"), c:integer("encoder_layers", "layers")
    local experts = c:integer("num_experts", "experts")
    local activation = c:choice("activation_function", "relu", common.activations)
    if c:flag("router_bias", false) then c:refuse("router_bias", "must be false: this family's router has no bias") end
    c:choice("second_expert_policy", "all", { all = true, sampling = true, random = true })
    local kept = 1 - c:number("moe_token_dropout", 0.2, 0, 0.99) -- tokens are dropped in training, and scaled otherwise
    local function feeds(side, count, default)
      local hidden = c:integer(side .. "_ffn_dim", "hidden")
      return stack(count, c:integer(side .. "_sparse_step", "count", default),
        { kind = "dense", width = hidden, activation = activation, gated = false, biases = true },
        { kind = "moe", experts = experts, width = hidden, activation = activation, gated = false, biases = true,
          router = { name = "topk", k = 2, scale = kept } })
    end
    return {
      layers = layers, width = width, vocabulary = c:integer("vocab_size", "vocabulary"), norm = "layer", norm_epsilon = 1e-5,
      tie_embeddings = c:flag("tie_word_embeddings", true), positions = "sinusoidal", positions_first = 2, -- behind the padding token's
      embedding_scale = c:flag("scale_embedding", true) and width ^ 0.5 or 1,
      attention = attention(c, "decoder"), feed_forward = feeds("decoder", layers, 4),
      encoder = { layers = encoder_layers, attention = attention(c, "encoder"), feed_forward = feeds("encoder", encoder_layers, 4) },
    }
  end,
  tensors = common.append(common.append({
    { "model.shared.weight", "embedding.weight" },
    { "lm_head.weight", "head.weight" },
  }, stack_tensors("encoder", "encoder.")), stack_tensors("decoder", "")),
  ignored_tensors = { "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "*.embed_positions.weights" },
}
