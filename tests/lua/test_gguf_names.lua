-- GGUF metadata and names in the words of Hugging Face, for each architecture by hand.
local names = require "moegauge.gguf_names"

local function never() return false end
local function always() return true end

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
  local good, reason = pcall(names.config, given, never)
  assert(not good and reason:find(words, 1, true), ("%s is not in: %s"):format(words, tostring(reason)))
end

-- Which model, and what every one of them has.
local types = {
  llama = "mixtral", olmoe = "olmoe", qwen2moe = "qwen2_moe", qwen3moe = "qwen3_moe", deepseek = "deepseek", deepseek2 = "deepseek_v2",
  ["gpt-oss"] = "gpt_oss", granitemoe = "granitemoe", phimoe = "phimoe", glm4moe = "glm4_moe",
}
for architecture, model_type in pairs(types) do
  local config = names.config(metadata(architecture), never)
  assert(config.model_type == model_type, architecture)
  assert(config.num_hidden_layers == 4 and config.hidden_size == 64 and config.num_experts_per_tok == 2 and config.vocab_size == 3, architecture)
  assert((config.num_experts or config.num_local_experts or config.n_routed_experts) == 16, architecture)
  assert(config.tie_word_embeddings == true and config.rope_scaling == nil, architecture)
  assert(names.config(metadata(architecture), always).tie_word_embeddings == false, architecture)
end

local counted = metadata "olmoe"
counted["tokenizer.ggml.tokens"] = 50304
assert(names.config(counted, never).vocab_size == 50304)
assert(names.config(metadata("olmoe", { vocab_size = 50280 }), never).vocab_size == 50280)

-- What the format leaves out decides the weights of the experts.
assert(names.config(metadata "olmoe", never).norm_topk_prob == false)
assert(names.config(metadata "qwen3moe", never).norm_topk_prob == true)
assert(names.config(metadata("glm4moe", { expert_weights_norm = true }), never).norm_topk_prob == true)

-- Latent attention: widths of a head from both ways of writing them.
local old = names.config(metadata("deepseek2", { ["rope.dimension_count"] = 64, ["attention.key_length"] = 192, ["attention.value_length"] = 128 }), never)
assert(old.qk_nope_head_dim == 128 and old.v_head_dim == 128 and old.head_dim == nil and old.model_type == "deepseek_v2")
local new = names.config(metadata("deepseek2", {
  ["rope.dimension_count"] = 64, ["attention.key_length"] = 576, ["attention.value_length"] = 512, ["attention.key_length_mla"] = 192,
  ["attention.value_length_mla"] = 128, ["attention.head_count_kv"] = 1, expert_gating_func = 2, ["rope.scaling.type"] = "yarn",
  ["rope.scaling.factor"] = 40.0, ["rope.scaling.original_context_length"] = 4096, ["rope.scaling.yarn_log_multiplier"] = 0.1,
}), never)
assert(new.qk_nope_head_dim == 128 and new.v_head_dim == 128 and new.num_key_value_heads == 8)
assert(new.model_type == "deepseek_v3" and new.scoring_func == "sigmoid" and new.topk_method == "noaux_tc")
assert(new.rope_scaling.rope_type == "yarn" and new.rope_scaling.factor == 40 and math.abs(new.rope_scaling.mscale_all_dim - 1) < 1e-12)

-- Modules of multi-token prediction are no blocks.
local glm = names.config(metadata("glm4moe", { nextn_predict_layers = 1, ["attention.key_length"] = 128, ["rope.dimension_count"] = 64 }), never)
assert(glm.num_hidden_layers == 3 and glm.partial_rotary_factor == 0.5 and glm.use_qk_norm == false)
assert(names.config(metadata("dbrx", { ["attention.clamp_kqv"] = 8.0 }), never).attn_config.clip_qkv == 8)

refused("general.architecture is gemma", { ["general.architecture"] = "gemma" })
refused("general.architecture is nil", {})
refused("llama.expert_count must be 1 to 65536, not 0", metadata("llama", { expert_count = 0 }))
refused("not 65537", metadata("olmoe", { expert_count = 65537 }))
refused("not 16.0", metadata("olmoe", { expert_count = 16.0 }))
refused("not 17", metadata("olmoe", { expert_used_count = 17 }))
refused("olmoe.expert_used_count must be 1 to the 16 experts, not 0", metadata("olmoe", { expert_used_count = 0 }))
refused("olmoe.block_count", metadata("olmoe", { block_count = "4" }))

-- Tensors.
local function source(architecture, name, expected, expert, way, has)
  local found = names.source(architecture, name, has)
  assert(found, name)
  assert(table.concat(found.tensors, " ") == expected, table.concat(found.tensors, " "))
  assert(found.expert == expert and found.way == way, name)
end
source("llama", "model.layers.12.block_sparse_moe.experts.7.w2.weight", "blk.12.ffn_down_exps.weight", 7)
source("llama", "model.layers.0.block_sparse_moe.gate.weight", "blk.0.ffn_gate_inp.weight")
source("llama", "model.layers.3.self_attn.k_proj.weight", "blk.3.attn_k.weight", nil, "unpermute")
source("olmoe", "model.layers.3.self_attn.k_proj.weight", "blk.3.attn_k.weight")
source("olmoe", "model.layers.3.mlp.experts.63.gate_proj.weight", "blk.3.ffn_gate_exps.weight", 63)
source("qwen2moe", "model.layers.3.mlp.shared_expert_gate.weight", "blk.3.ffn_gate_inp_shexp.weight")
source("deepseek2", "model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight")
source("deepseek2", "model.layers.1.mlp.shared_experts.up_proj.weight", "blk.1.ffn_up_shexp.weight")
source("deepseek2", "model.layers.1.mlp.gate.e_score_correction_bias", "blk.1.exp_probs_b.bias")
source("deepseek2", "model.layers.1.self_attn.kv_b_proj.weight", "blk.1.attn_kv_b.weight", nil, nil, always)
source("deepseek2", "model.layers.1.self_attn.kv_b_proj.weight", "blk.1.attn_k_b.weight blk.1.attn_v_b.weight", nil, "latent_heads",
  function(name) return name ~= "blk.1.attn_kv_b.weight" end)
source("gpt-oss", "model.layers.1.mlp.experts.gate_up_proj", "blk.1.ffn_gate_exps.weight blk.1.ffn_up_exps.weight", nil, "interleave")
source("gpt-oss", "model.layers.1.mlp.experts.gate_up_proj_bias", "blk.1.ffn_gate_exps.bias blk.1.ffn_up_exps.bias", nil, "interleave")
source("gpt-oss", "model.layers.1.post_attention_layernorm.weight", "blk.1.post_attention_norm.weight")
source("granitemoe", "model.layers.1.block_sparse_moe.input_linear.weight", "blk.1.ffn_gate_exps.weight blk.1.ffn_up_exps.weight", nil, "stack")
source("phimoe", "lm_head.bias", "output.bias")
source("glm4moe", "model.layers.1.post_attention_layernorm.weight", "blk.1.post_attention_norm.weight")
source("dbrx", "transformer.blocks.5.ffn.experts.mlp.w2", "blk.5.ffn_down_exps.weight", nil, "transpose")
assert(names.source("olmoe", "model.layers.x.mlp.gate.weight") == nil)
assert(names.source("olmoe", "model.layers.1.mlp.gate.weight.more") == nil)
assert(names.source("gemma", "model.embed_tokens.weight") == nil)
