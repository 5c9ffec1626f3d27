--- Switch Transformers (Fedus et al. 2021, arXiv 2101.03961) on T5's encoder and decoder (arXiv 1910.10683): one expert per
--- token, a capacity in tokens, a relative bias, scores without a scale.

local common = require "moegauge.families.common"

-- Every step-th layer of a stack is sparse: the second of each run, or all.
local function stack(c, layers, sparse_key, sparse_default, dense, moe)
  local sparse = c:integer(sparse_key, "count", sparse_default)
  local step = sparse > 0 and layers // sparse or 0
  if sparse > layers then c:refuse(sparse_key, ("must be at most the %d layers, not %d"):format(layers, sparse)) end
  return common.each(layers, function(i)
    return (step == 1 or (step > 1 and i % step == 1)) and moe or dense
  end)
end

local projections <const> = { q = "query", k = "key", v = "value", o = "output" }

-- One stack's tensors; `at` is the place of the feed-forward among a block's layers.
local function stack_tensors(name, to, at)
  local block, layer = name .. ".block.{layer}.layer.", to .. "layers.{layer}."
  local feed, mlp = layer .. "feed_forward.", block .. at .. ".mlp."
  local list = {
    { name .. ".final_layer_norm.weight", to .. "final_norm.scale" },
    { name .. ".block.0.layer.0.SelfAttention.relative_attention_bias.weight", to .. "relative_bias.weight" },
    { block .. "0.layer_norm.weight", layer .. "attention_norm.scale" },
    { block .. at .. ".layer_norm.weight", layer .. "feed_norm.scale" },
    { mlp .. "wi.weight", feed .. "up.weight" },
    { mlp .. "wo.weight", feed .. "down.weight" },
    { mlp .. "router.classifier.weight", feed .. "router.gate" },
    { mlp .. "router.classifier.bias", feed .. "router.bias" },
    { mlp .. "experts.expert_{expert}.wi.weight", feed .. "experts.up" },
    { mlp .. "experts.expert_{expert}.wo.weight", feed .. "experts.down" },
  }
  for letter, projection in pairs(projections) do
    list[#list + 1] = { ("%s0.SelfAttention.%s.weight"):format(block, letter), ("%sattention.%s.weight"):format(layer, projection) }
  end
  return list
end

local function cross_tensors()
  local list = { { "decoder.block.{layer}.layer.1.layer_norm.weight", "layers.{layer}.cross_norm.scale" } }
  for letter, projection in pairs(projections) do
    list[#list + 1] = { ("decoder.block.{layer}.layer.1.EncDecAttention.%s.weight"):format(letter), ("layers.{layer}.cross_attention.%s.weight"):format(projection) }
  end
  return list
end

return {
  name = "switch_transformers", types = { "switch_transformers" }, runs = true, paper = "arXiv 2101.03961",
  ignored = [[router_dtype router_ignore_padding_tokens router_type add_router_probs feed_forward_proj n_positions
    is_gated_act encoder_sparse_step decoder_sparse_step batch_prioritized_routing num_partitions]],
  spec = function(c)
    local width, layers = c:integer("d_model", "width"), c:integer("num_layers", "layers")
    local decoder_layers = c:integer("num_decoder_layers", "layers", layers)
    local experts, tied = c:integer("num_experts", "experts"), c:flag("tie_word_embeddings", true)
    local hidden = c:integer("d_ff", "hidden")
    local activation = c:choice("dense_act_fn", "relu", common.activations)
    c:integer("num_selected_experts", "experts", 1)
    if c.values.num_selected_experts and c.values.num_selected_experts ~= 1 then c:refuse("num_selected_experts", "must be 1: this family chooses one expert") end
    local dense = { kind = "dense", width = hidden, activation = activation, gated = false }
    local moe = {
      kind = "moe", experts = experts, width = hidden, activation = activation, gated = false,
      capacity = { policy = "drop", tokens = c:integer("expert_capacity", "hidden", 64) },
      router = { name = "topk", k = 1, renormalise = false, bias = c:flag("router_bias", false) },
    }
    return {
      layers = decoder_layers, width = width, vocabulary = c:integer("vocab_size", "vocabulary"), tie_embeddings = tied,
      norm_epsilon = c:number("layer_norm_epsilon", 1e-6, 0, 1), logit_scale = tied and width ^ -0.5 or 1,
      relative_buckets = c:integer("relative_attention_num_buckets", "heads", 32),
      relative_distance = c:integer("relative_attention_max_distance", "positions", 128),
      attention = { heads = c:integer("num_heads", "heads"), head_width = c:integer("d_kv", "width"), scale = 1, rope = { columns = 0 } },
      feed_forward = stack(c, decoder_layers, "num_sparse_decoder_layers", 3, dense, moe),
      encoder = {
        layers = layers,
        attention = { heads = c:integer("num_heads", "heads"), head_width = c:integer("d_kv", "width"), scale = 1, rope = { columns = 0 } },
        feed_forward = stack(c, layers, "num_sparse_encoder_layers", 3, dense, moe),
      },
    }
  end,
  tensors = common.append(common.append(common.append({
    { "shared.weight", "embedding.weight" },
    { "lm_head.weight", "head.weight" },
  }, stack_tensors("encoder", "encoder.", 1)), stack_tensors("decoder", "", 2)), cross_tensors()),
  ignored_tensors = { "encoder.embed_tokens.weight", "decoder.embed_tokens.weight" },
}
