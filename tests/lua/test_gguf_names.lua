-- GGUF metadata and names in the words of Hugging Face, for each architecture by hand.
local names = require "moegauge.gguf_names"

local function never() return false end
local function always() return true end

local function config(given, has, vectors)
  return (names.config { file = "x.gguf", metadata = given, has = has, values = function(name) return vectors and vectors[name] end })
end

local function metadata(architecture, more)
  local all = {
    ["general.architecture"] = architecture, ["tokenizer.ggml.tokens"] = { "a", "b", "c" },
    [architecture .. ".block_count"] = 4, [architecture .. ".embedding_length"] = 64, [architecture .. ".attention.head_count"] = 8,
    [architecture .. ".attention.head_count_kv"] = 2, [architecture .. ".expert_count"] = 16, [architecture .. ".expert_used_count"] = 2,
    [architecture .. ".feed_forward_length"] = 96,
  }
  for key, value in pairs(more or {}) do all[architecture .. "." .. key] = value end
  return all
end

local function refused(words, given)
  local good, reason = pcall(config, given, never)
  reason = tostring(reason)
  assert(not good and reason:find(words, 1, true) and reason:find("x.gguf: key '", 1, true), ("%s is not in: %s"):format(words, reason))
end

-- Which model, and what every one of them has.
local types = {
  llama = "mixtral", olmoe = "olmoe", qwen2moe = "qwen2_moe", qwen3moe = "qwen3_moe", deepseek = "deepseek", deepseek2 = "deepseek_v2",
  ["gpt-oss"] = "gpt_oss", granitemoe = "granitemoe", phimoe = "phimoe", glm4moe = "glm4_moe",
}
for architecture, model_type in pairs(types) do
  local c = config(metadata(architecture), never)
  assert(c.model_type == model_type, architecture)
  assert(c.num_hidden_layers == 4 and c.hidden_size == 64 and c.num_experts_per_tok == 2 and c.vocab_size == 3, architecture)
  assert((c.num_experts or c.num_local_experts or c.n_routed_experts) == 16, architecture)
  assert(c.tie_word_embeddings == true and c.rope_scaling == nil and c.rope_theta == 10000, architecture)
  assert(config(metadata(architecture), always).tie_word_embeddings == false, architecture)
end

local counted = metadata "olmoe"
counted["tokenizer.ggml.tokens"] = 50304
assert(config(counted, never).vocab_size == 50304)
assert(config(metadata("olmoe", { vocab_size = 50280 }), never).vocab_size == 50280)

-- What the format leaves out decides the weights of the experts.
assert(config(metadata "olmoe", never).norm_topk_prob == false)
assert(config(metadata "qwen3moe", never).norm_topk_prob == true)
assert(config(metadata("glm4moe", { expert_weights_norm = true }), never).norm_topk_prob == true)

-- Latent attention: widths of a head from both ways of writing them.
local old = config(metadata("deepseek2", { ["rope.dimension_count"] = 64, ["attention.key_length"] = 192, ["attention.value_length"] = 128 }), never)
assert(old.qk_nope_head_dim == 128 and old.v_head_dim == 128 and old.head_dim == nil and old.model_type == "deepseek_v2")
local new = config(metadata("deepseek2", {
  ["rope.dimension_count"] = 64, ["attention.key_length"] = 576, ["attention.value_length"] = 512, ["attention.key_length_mla"] = 192,
  ["attention.value_length_mla"] = 128, ["attention.head_count_kv"] = 1, expert_gating_func = 2, ["rope.scaling.type"] = "yarn",
  ["rope.scaling.factor"] = 40.0, ["rope.scaling.original_context_length"] = 4096, ["rope.scaling.yarn_log_multiplier"] = 0.1,
}), never)
assert(new.qk_nope_head_dim == 128 and new.v_head_dim == 128 and new.num_key_value_heads == 8)
assert(new.model_type == "deepseek_v3" and new.scoring_func == "sigmoid" and new.topk_method == "noaux_tc")
assert(new.rope_scaling.rope_type == "yarn" and new.rope_scaling.factor == 40 and math.abs(new.rope_scaling.mscale_all_dim - 1) < 1e-12)

-- Modules of multi-token prediction are no blocks.
local glm = config(metadata("glm4moe", { nextn_predict_layers = 1, ["attention.key_length"] = 128, ["rope.dimension_count"] = 64 }), never)
assert(glm.num_hidden_layers == 3 and glm.partial_rotary_factor == 0.5 and glm.use_qk_norm == false)
assert(config(metadata("dbrx", { ["attention.clamp_kqv"] = 8.0 }), never).attn_config.clip_qkv == 8)

-- What a file does not say is not the family's default but llama.cpp's.
assert(config(metadata "deepseek2", never).norm_topk_prob == false and config(metadata "glm4moe", never).norm_topk_prob == false)
assert(config(metadata("granitemoe", { ["attention.scale"] = 0 }), never).attention_multiplier == (64 / 8) ^ -0.5)
assert(config(metadata("qwen2moe", { expert_shared_feed_forward_length = 32 }), never).moe_intermediate_size == 96 // 2)

-- Factors of each rotary pair that stand in tensors; columns that rotate give their number back.
local factors = { 1.0, 2.0, 3.0, 4.0 }
local scaled = config(metadata("llama", { context_length = 4096 }), never, { ["rope_freqs.weight"] = factors }).rope_scaling
assert(scaled.rope_type == "longrope" and scaled.short_factor == factors and scaled.long_factor == factors and scaled.short_mscale == 1)
local phi = config(metadata("phimoe", { ["rope.scaling.attn_factor"] = 1.25, ["rope.scaling.original_context_length"] = 64 }), never,
  { ["rope_factors_short.weight"] = factors, ["rope_factors_long.weight"] = { 2, 2, 2, 2 } }).rope_scaling
assert(phi.short_factor == factors and phi.long_mscale == 1.25 and phi.original_max_position_embeddings == 64)
for width = 2, 256, 2 do
  for columns = 2, width - 2, 2 do
    local share = config(metadata("glm4moe", { ["attention.key_length"] = width, ["rope.dimension_count"] = columns }), never).partial_rotary_factor
    assert(math.floor(width * share) == columns, "columns that rotate")
  end
end

-- Dense blocks are those without a router; keys that nobody knows are listed, and those that say nothing are left out.
local some = config(metadata "qwen3moe", function(name) return name:find "ffn_gate_inp" and not name:find "^blk.2" end)
assert(#some.mlp_only_layers == 1 and some.mlp_only_layers[1] == 2)
local odd = config(metadata("olmoe", { expert_weights_scale = 1.0, expert_gating_func = 1, ["attention.foo"] = 7 }), never)
assert(odd.expert_weights_scale == nil and odd.expert_gating_func == nil and odd["attention.foo"] == 7)
assert(config(metadata("olmoe", { expert_gating_func = 2 }), never).expert_gating_func == 2)

refused("'general.architecture': must be one of dbrx, deepseek", { ["general.architecture"] = "gemma" })
refused("not nothing", {})
refused("'llama.expert_count': must be 1 to 65536, not 0", metadata("llama", { expert_count = 0 }))
refused("not 65537", metadata("olmoe", { expert_count = 65537 }))
refused("not 16.0", metadata("olmoe", { expert_count = 16.0 }))
refused("'olmoe.rope.freq_base': must be a finite number", metadata("olmoe", { ["rope.freq_base"] = require "moegauge.core".null }))
refused("not 17", metadata("olmoe", { expert_used_count = 17 }))
refused("'olmoe.expert_used_count': must be 1 to the 16 experts, not 0", metadata("olmoe", { expert_used_count = 0 }))
refused("'llama.rope.dimension_count': must be a number, not a table", metadata("llama", { ["rope.dimension_count"] = { 8 } }))
refused("'olmoe.attention.value_length': must be key_length = 8, not 16", metadata("olmoe", { ["attention.value_length"] = 16 }))
refused("'deepseek2.attention.temperature_scale': must be 0", metadata("deepseek2", { ["attention.temperature_scale"] = 0.1 }))
refused("'glm4moe.expert_gating_func': must be 2", metadata("glm4moe", { expert_gating_func = 1 }))
refused("'olmoe.attention.head_count': must be a whole number of at least 1, not a list", metadata("olmoe", { ["attention.head_count"] = { 8, 8 } }))
refused("olmoe.block_count", metadata("olmoe", { block_count = "4" }))

-- Tensors: rows for parameters that a model lacks are nobody's, so that one list serves all architectures.
local function rows_for(architecture, parameter)
  local found = {}
  for _, row in ipairs(names.tensors(architecture)) do
    for _, ours in ipairs(type(row[2]) == "table" and row[2] or { row[2] }) do
      if ours == parameter then found[#found + 1] = row end
    end
  end
  return found
end
local key = rows_for("llama", "layers.{layer}.attention.key.weight")
assert(key[1][1] == "blk.{layer}.attn_k.weight" and key[1][3] == "unpermute" and #key == 1)
assert(rows_for("llama", "layers.{layer}.attention.value.weight")[1][3] == nil)
assert(rows_for("olmoe", "layers.{layer}.attention.key.weight")[1][3] == nil)
assert(rows_for("dbrx", "layers.{layer}.attention.key.weight")[2][3] == "split_rows")
assert(rows_for("granitemoe", "layers.{layer}.attention.query.weight")[1][3] == "unpermute")
assert(#rows_for("gpt-oss", "layers.{layer}.feed_norm.scale") == 3)
assert(rows_for("deepseek2", "layers.{layer}.attention.kv_up.weight")[2][3] == "latent_heads")
assert(rows_for("phimoe", "head.bias")[1][1] == "output.bias")
