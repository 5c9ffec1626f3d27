--- GGUF files in the words of Hugging Face: the config.json that a file's metadata amounts to, and the tensors of the file
--- that make a tensor of the Hugging Face checkpoint. So a family needs one table for both formats.
---
--- Names of GGUF keys and tensors, and which an architecture has, are those of llama.cpp's gguf package 0.19
--- (constants.py, tensor_mapping.py). What the format leaves out is a constant of the architecture, as llama.cpp's graphs
--- have it: `fixed` below.

local gguf_names <const> = {}

--- ---- metadata to config.json ---------------------------------------------------------------------------------------

--- config.json key -> GGUF key without "ARCHITECTURE.", for all architectures but dbrx.
local usual <const> = {
  num_hidden_layers = "block_count", hidden_size = "embedding_length", max_position_embeddings = "context_length",
  intermediate_size = "feed_forward_length", num_attention_heads = "attention.head_count",
  num_key_value_heads = "attention.head_count_kv", head_dim = "attention.key_length",
  rms_norm_eps = "attention.layer_norm_rms_epsilon", rope_theta = "rope.freq_base", num_experts_per_tok = "expert_used_count",
}

local shared_experts <const> = {
  n_routed_experts = "expert_count", n_shared_experts = "expert_shared_count", moe_intermediate_size = "expert_feed_forward_length",
  first_k_dense_replace = "leading_dense_block_count", routed_scaling_factor = "expert_weights_scale", norm_topk_prob = "expert_weights_norm",
}

--- "yarn" and "linear" scaling of rotary positions.
local function rope_scaling(get)
  local kind = get "rope.scaling.type"
  if kind == nil or kind == "none" then return nil end
  local multiplier = get "rope.scaling.yarn_log_multiplier" -- llama.cpp keeps 0.1 mscale_all_dim
  return {
    rope_type = kind, factor = get "rope.scaling.factor", original_max_position_embeddings = get "rope.scaling.original_context_length",
    beta_fast = get "rope.scaling.yarn_beta_fast", beta_slow = get "rope.scaling.yarn_beta_slow",
    mscale = multiplier and multiplier * 10, mscale_all_dim = multiplier and multiplier * 10,
  }
end

local function merged(...)
  local all = {}
  for _, part in ipairs { ... } do
    for key, value in pairs(part) do all[key] = value end
  end
  return all
end

local function latent(config, get)
  local rotated = get "rope.dimension_count"
  local key, value = get "attention.key_length_mla" or get "attention.key_length", get "attention.value_length_mla" or get "attention.value_length"
  config.head_dim = nil
  config.num_key_value_heads = config.num_attention_heads -- files that absorb kv_b say 1: one latent for all heads
  config.qk_rope_head_dim, config.qk_nope_head_dim, config.v_head_dim = rotated, key and rotated and key - rotated, value
  config.model_type = get "expert_gating_func" == 2 and "deepseek_v3" or "deepseek_v2" -- 2 = sigmoid
  config.scoring_func = config.model_type == "deepseek_v3" and "sigmoid" or "softmax"
  config.topk_method = config.model_type == "deepseek_v3" and "noaux_tc" or (config.n_group or 1) > 1 and "group_limited_greedy" or "greedy"
end

local function glm4(config, get, has)
  local modules = get "nextn_predict_layers" or 0
  local rotated = get "rope.dimension_count"
  config.num_hidden_layers = config.num_hidden_layers - modules
  config.num_nextn_predict_layers = modules
  config.partial_rotary_factor = rotated and config.head_dim and rotated / config.head_dim
  config.use_qk_norm = has "blk.0.attn_q_norm.weight"
  config.attention_bias = has "blk.0.attn_q.bias"
end

--- `keys` are added to `usual`, then `fixed`; `finish` sees the config, the metadata without their prefix, and which tensors are there.
local architectures <const> = {
  llama = { model_type = "mixtral", keys = { num_local_experts = "expert_count", sliding_window = "attention.sliding_window" }, fixed = { hidden_act = "silu" } },
  olmoe = { model_type = "olmoe", keys = { num_experts = "expert_count", clip_qkv = "attention.clamp_kqv" }, fixed = { hidden_act = "silu", norm_topk_prob = false } },
  qwen2moe = {
    model_type = "qwen2_moe",
    keys = { num_experts = "expert_count", moe_intermediate_size = "expert_feed_forward_length", shared_expert_intermediate_size = "expert_shared_feed_forward_length" },
    fixed = { hidden_act = "silu", norm_topk_prob = false, decoder_sparse_step = 1, qkv_bias = true },
  },
  qwen3moe = {
    model_type = "qwen3_moe", keys = { num_experts = "expert_count", moe_intermediate_size = "expert_feed_forward_length" },
    fixed = { hidden_act = "silu", norm_topk_prob = true, decoder_sparse_step = 1 },
  },
  deepseek = { model_type = "deepseek", keys = shared_experts, fixed = { hidden_act = "silu", norm_topk_prob = false, scoring_func = "softmax" } },
  deepseek2 = {
    model_type = "deepseek_v2",
    keys = merged(shared_experts, { q_lora_rank = "attention.q_lora_rank", kv_lora_rank = "attention.kv_lora_rank", n_group = "expert_group_count", topk_group = "expert_group_used_count" }),
    fixed = { hidden_act = "silu" }, finish = latent,
  },
  ["gpt-oss"] = {
    model_type = "gpt_oss",
    keys = { num_local_experts = "expert_count", intermediate_size = "expert_feed_forward_length", sliding_window = "attention.sliding_window" },
    fixed = { hidden_act = "silu", attention_bias = true },
  },
  granitemoe = {
    model_type = "granitemoe",
    keys = {
      num_local_experts = "expert_count", embedding_multiplier = "embedding_scale", residual_multiplier = "residual_scale",
      attention_multiplier = "attention.scale", logits_scaling = "logit_scale", shared_intermediate_size = "expert_shared_feed_forward_length",
    },
    fixed = { hidden_act = "silu" },
  },
  phimoe = {
    model_type = "phimoe", keys = { num_local_experts = "expert_count", sliding_window = "attention.sliding_window" },
    fixed = { hidden_act = "silu" },
    finish = function(config, get, has)
      config.rms_norm_eps = config.rms_norm_eps or get "attention.layer_norm_epsilon"
      config.attention_bias, config.lm_head_bias = has "blk.0.attn_q.bias", has "output.bias"
    end,
  },
  glm4moe = { model_type = "glm4_moe", keys = shared_experts, fixed = { hidden_act = "silu", n_group = 1, topk_group = 1 }, finish = glm4 },
  dbrx = { model_type = "dbrx" },
}

local function dbrx(get)
  return {
    model_type = "dbrx", d_model = get "embedding_length", n_layers = get "block_count", n_heads = get "attention.head_count",
    max_seq_len = get "context_length", vocab_size = get "vocab_size",
    attn_config = { kv_n_heads = get "attention.head_count_kv", clip_qkv = get "attention.clamp_kqv", rope_theta = get "rope.freq_base" },
    ffn_config = {
      ffn_hidden_size = get "feed_forward_length", moe_num_experts = get "expert_count", moe_top_k = get "expert_used_count",
      moe_normalize_expert_weights = 1, ffn_act_fn = { name = "silu" },
    },
  }
end

local function integer_within(value, most) return math.type(value) == "integer" and value >= 1 and value <= most end

--- What no mixture can do without, checked before anything is computed from it.
local function check(architecture, get)
  local experts, used = get "expert_count", get "expert_used_count"
  if not integer_within(experts, 65536) then
    error(("%s.expert_count must be 1 to 65536, not %s: only mixtures of experts are read"):format(architecture, tostring(experts)), 0)
  end
  if not integer_within(used, experts) then
    error(("%s.expert_used_count must be 1 to the %d experts, not %s"):format(architecture, experts, tostring(used)), 0)
  end
  for _, key in ipairs { "block_count", "embedding_length", "attention.head_count" } do
    local value = get(key)
    if not integer_within(value, 1 << 31) then error(("%s.%s must be a whole number of at least 1, not %s"):format(architecture, key, tostring(value)), 0) end
  end
end

--- The config.json that a file amounts to. `metadata` maps GGUF keys to values, as mg_checkpoint_metadata gives them (lists
--- as tables, long ones as their length); `has` tells whether the file holds a tensor. Raises an error that names the key. Keys that the file lacks are left out, for the family's defaults.
function gguf_names.config(metadata, has)
  local architecture = metadata["general.architecture"]
  local known = architectures[architecture]
  if not known then
    local names = {}
    for name in pairs(architectures) do names[#names + 1] = name end
    table.sort(names)
    error(("general.architecture is %s; %s are read"):format(tostring(architecture), table.concat(names, ", ")), 0)
  end
  local tokens = metadata["tokenizer.ggml.tokens"]
  local function get(key)
    local value = metadata[architecture .. "." .. key]
    if value == nil and key == "vocab_size" then return type(tokens) == "table" and #tokens or tokens end
    return value
  end
  check(architecture, get)
  local config
  if architecture == "dbrx" then
    config = dbrx(get)
  else
    config = { model_type = known.model_type, vocab_size = get "vocab_size", rope_scaling = rope_scaling(get) }
    for key, value in pairs(known.fixed) do config[key] = value end
    for key, from in pairs(merged(usual, known.keys)) do
      local value = get(from)
      if value ~= nil then config[key] = value end
    end
    if known.finish then known.finish(config, get, has) end
  end
  config.tie_word_embeddings = not has "output.weight"
  return config
end

--- ---- tensors ---------------------------------------------------------------------------------------------------------
---
--- A row: the Hugging Face name; the GGUF tensor or tensors; how they are made into it. A tensor of the file that stacks all
--- experts stands for one of them where the Hugging Face name has {expert}. The ways:
---   unpermute      rows of each head stand in rotary pairs (2i, 2i + 1); Hugging Face has the halves (i, i + head / 2)
---   stack          one after the other along the rows, expert by expert
---   interleave     their rows in turn, expert by expert
---   transpose      the last two dimensions exchanged
---   latent_heads   of k_b [heads, rank, nope] and v_b [heads, value, rank]: head by head the rows of k_b transposed, then v_b

local function gguf_rows(block, attention, norms)
  return {
    { "model.embed_tokens.weight", "token_embd.weight" },
    { "model.norm.weight", "output_norm.weight" }, { "model.norm.bias", "output_norm.bias" },
    { "lm_head.weight", "output.weight" }, { "lm_head.bias", "output.bias" },
    { block .. ".input_layernorm.weight", "blk.{layer}.attn_norm.weight" }, { block .. ".input_layernorm.bias", "blk.{layer}.attn_norm.bias" },
    { block .. ".post_attention_layernorm.weight", ("blk.{layer}.%s.weight"):format(norms) },
    { block .. ".post_attention_layernorm.bias", ("blk.{layer}.%s.bias"):format(norms) },
    { attention .. ".o_proj.weight", "blk.{layer}.attn_output.weight" }, { attention .. ".o_proj.bias", "blk.{layer}.attn_output.bias" },
  }
end

local function append(list, more)
  table.move(more, 1, #more, #list + 1, list)
  return list
end

local block <const> = "model.layers.{layer}"
local attention <const> = block .. ".self_attn"

--- Separate query, key and value; `way` for query and key.
local function separate(way)
  local rows = {}
  for _, kind in ipairs { "weight", "bias" } do
    rows[#rows + 1] = { ("%s.q_proj.%s"):format(attention, kind), "blk.{layer}.attn_q." .. kind, way }
    rows[#rows + 1] = { ("%s.k_proj.%s"):format(attention, kind), "blk.{layer}.attn_k." .. kind, way }
    rows[#rows + 1] = { ("%s.v_proj.%s"):format(attention, kind), "blk.{layer}.attn_v." .. kind }
  end
  return rows
end

local query_key_norms <const> = {
  { attention .. ".q_norm.weight", "blk.{layer}.attn_q_norm.weight" }, { attention .. ".k_norm.weight", "blk.{layer}.attn_k_norm.weight" },
}

--- A gated feed-forward under three names; `suffix` "" (dense), "_exps" or "_shexp".
local function gated(from, names, suffix)
  local rows = {}
  for i, part in ipairs { "gate", "up", "down" } do
    rows[i] = { ("%s.%s.weight"):format(from, names[i]), ("blk.{layer}.ffn_%s%s.weight"):format(part, suffix) }
  end
  return rows
end

local proj <const> = { "gate_proj", "up_proj", "down_proj" }
local numbered <const> = { "w1", "w3", "w2" }
local mlp <const> = block .. ".mlp"
local sparse <const> = block .. ".block_sparse_moe"

local function decoder(...)
  local rows = gguf_rows(block, attention, "ffn_norm")
  for _, part in ipairs { ... } do append(rows, part) end
  return rows
end

local function router(name) return { { name .. ".weight", "blk.{layer}.ffn_gate_inp.weight" }, { name .. ".bias", "blk.{layer}.ffn_gate_inp.bias" } } end
local score_bias <const> = { { mlp .. ".gate.e_score_correction_bias", "blk.{layer}.exp_probs_b.bias" } }
local mlp_experts <const> = append(router(mlp .. ".gate"), gated(mlp .. ".experts.{expert}", proj, "_exps"))
local with_shared <const> = append(append(gated(mlp, proj, ""), gated(mlp .. ".shared_experts", proj, "_shexp")), mlp_experts)

local latent_rows <const> = {
  { attention .. ".q_proj.weight", "blk.{layer}.attn_q.weight" },
  { attention .. ".q_a_proj.weight", "blk.{layer}.attn_q_a.weight" }, { attention .. ".q_a_layernorm.weight", "blk.{layer}.attn_q_a_norm.weight" },
  { attention .. ".q_b_proj.weight", "blk.{layer}.attn_q_b.weight" },
  { attention .. ".kv_a_proj_with_mqa.weight", "blk.{layer}.attn_kv_a_mqa.weight" }, { attention .. ".kv_a_layernorm.weight", "blk.{layer}.attn_kv_a_norm.weight" },
  { attention .. ".kv_b_proj.weight", "blk.{layer}.attn_kv_b.weight" },
  { attention .. ".kv_b_proj.weight", { "blk.{layer}.attn_k_b.weight", "blk.{layer}.attn_v_b.weight" }, "latent_heads" },
}

local function gpt_oss()
  local rows = append(gguf_rows(block, attention, "post_attention_norm"), separate())
  append(rows, router(mlp .. ".router"))
  append(rows, { { attention .. ".sinks", "blk.{layer}.attn_sinks.weight" } })
  for _, kind in ipairs { { "", "weight" }, { "_bias", "bias" } } do
    append(rows, {
      { mlp .. ".experts.gate_up_proj" .. kind[1], { "blk.{layer}.ffn_gate_exps." .. kind[2], "blk.{layer}.ffn_up_exps." .. kind[2] }, "interleave" },
      { mlp .. ".experts.down_proj" .. kind[1], "blk.{layer}.ffn_down_exps." .. kind[2] },
    })
  end
  return rows
end

local function granite_rows()
  local shared <const> = block .. ".shared_mlp"
  return decoder(separate "unpermute", {
    { sparse .. ".router.layer.weight", "blk.{layer}.ffn_gate_inp.weight" },
    { sparse .. ".input_linear.weight", { "blk.{layer}.ffn_gate_exps.weight", "blk.{layer}.ffn_up_exps.weight" }, "stack" },
    { sparse .. ".output_linear.weight", "blk.{layer}.ffn_down_exps.weight" },
    { shared .. ".input_linear.weight", { "blk.{layer}.ffn_gate_shexp.weight", "blk.{layer}.ffn_up_shexp.weight" }, "stack" },
    { shared .. ".output_linear.weight", "blk.{layer}.ffn_down_shexp.weight" },
  })
end

local function dbrx_rows()
  local from <const> = "transformer.blocks.{layer}"
  return {
    { "transformer.wte.weight", "token_embd.weight" }, { "transformer.norm_f.weight", "output_norm.weight" }, { "lm_head.weight", "output.weight" },
    { from .. ".norm_attn_norm.norm_1.weight", "blk.{layer}.attn_norm.weight" }, { from .. ".norm_attn_norm.norm_2.weight", "blk.{layer}.attn_output_norm.weight" },
    { from .. ".norm_attn_norm.attn.Wqkv.weight", "blk.{layer}.attn_qkv.weight" }, { from .. ".norm_attn_norm.attn.out_proj.weight", "blk.{layer}.attn_output.weight" },
    { from .. ".ffn.router.layer.weight", "blk.{layer}.ffn_gate_inp.weight" },
    { from .. ".ffn.experts.mlp.w1", "blk.{layer}.ffn_gate_exps.weight" }, { from .. ".ffn.experts.mlp.v1", "blk.{layer}.ffn_up_exps.weight" },
    { from .. ".ffn.experts.mlp.w2", "blk.{layer}.ffn_down_exps.weight", "transpose" },
  }
end

local function glm4_rows()
  local rows = append(gguf_rows(block, attention, "post_attention_norm"), separate())
  return append(append(append(rows, query_key_norms), with_shared), score_bias)
end

local tensors <const> = {
  llama = decoder(separate "unpermute", router(sparse .. ".gate"), gated(sparse .. ".experts.{expert}", numbered, "_exps")),
  olmoe = decoder(separate(), query_key_norms, mlp_experts),
  qwen2moe = decoder(separate(), mlp_experts, gated(mlp .. ".shared_expert", proj, "_shexp"), { { mlp .. ".shared_expert_gate.weight", "blk.{layer}.ffn_gate_inp_shexp.weight" } }),
  qwen3moe = decoder(separate(), query_key_norms, mlp_experts),
  deepseek = decoder(separate "unpermute", with_shared),
  deepseek2 = decoder(latent_rows, with_shared, score_bias),
  ["gpt-oss"] = gpt_oss(),
  granitemoe = granite_rows(),
  phimoe = decoder(separate(), router(sparse .. ".gate"), gated(sparse .. ".experts.{expert}", numbered, "_exps")),
  glm4moe = glm4_rows(),
  dbrx = dbrx_rows(),
}

--- "a.{layer}.b" as a Lua pattern with captures, and the words captured.
local function pattern_of(name)
  local words = {}
  local escaped = name:gsub("[%.%-]", "%%%0"):gsub("{(%a+)}", function(word)
    words[#words + 1] = word
    return "(%d+)"
  end)
  return "^" .. escaped .. "$", words
end

local function filled(name, numbers)
  return (name:gsub("{(%a+)}", function(word) return numbers[word] end))
end

--- What makes the Hugging Face tensor `name`: { tensors = { GGUF name, ... }, expert = number from 0 or nil, way = word or nil },
--- or nil. `has` picks where files differ; without it the first row that fits is taken.
function gguf_names.source(architecture, name, has)
  for _, row in ipairs(tensors[architecture] or {}) do
    local pattern, words = pattern_of(row[1])
    local found = { name:match(pattern) }
    if found[1] then
      local numbers, list, complete = {}, {}, true
      for i, word in ipairs(words) do numbers[word] = found[i] end
      for i, from in ipairs(type(row[2]) == "table" and row[2] or { row[2] }) do
        list[i] = filled(from, numbers)
        complete = complete and (not has or has(list[i]))
      end
      if complete then return { tensors = list, expert = numbers.expert and math.tointeger(tonumber(numbers.expert)), way = row[3] } end
    end
  end
  return nil
end

--- Every GGUF tensor that an architecture's rows speak of, as patterns with {layer}, each once.
function gguf_names.patterns(architecture)
  local seen, list = {}, {}
  for _, row in ipairs(tensors[architecture] or {}) do
    for _, from in ipairs(type(row[2]) == "table" and row[2] or { row[2] }) do
      if not seen[from] then
        seen[from] = true
        list[#list + 1] = from
      end
    end
  end
  return list
end

return gguf_names
