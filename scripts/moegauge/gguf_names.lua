--- GGUF files in the words of config.json and of core/model: the configuration that a file's metadata amounts to, so that its
--- family is the same as that of the Hugging Face checkpoint, and which tensors make which parameters.
---
--- Keys, tensors and what an architecture has are those that llama.cpp's converter writes and its graphs read (gguf package
--- 0.19: constants.py; conversion/*.py; src/models/*.cpp). What the format leaves out is a constant of the architecture:
--- `fixed` below.

local core = require "moegauge.core"
local sorted = require "moegauge.sorted"
local strict = require "moegauge.strict"

local gguf_names <const> = {}

--- ---- metadata to config.json ---------------------------------------------------------------------------------------

--- config.json key -> GGUF key without "ARCHITECTURE.", for all architectures but dbrx.
local usual <const> = {
  num_hidden_layers = "block_count", hidden_size = "embedding_length", max_position_embeddings = "context_length",
  intermediate_size = "feed_forward_length", num_attention_heads = "attention.head_count",
  num_key_value_heads = "attention.head_count_kv", head_dim = "attention.key_length", vocab_size = "vocab_size",
  rms_norm_eps = "attention.layer_norm_rms_epsilon", rope_theta = "rope.freq_base", num_experts_per_tok = "expert_used_count",
}

local shared_experts <const> = {
  n_routed_experts = "expert_count", n_shared_experts = "expert_shared_count", moe_intermediate_size = "expert_feed_forward_length",
  first_k_dense_replace = "leading_dense_block_count",
}

--- What a router does with the weights of the experts that it chose, where a file says so.
local weighed <const> = { routed_scaling_factor = "expert_weights_scale", norm_topk_prob = "expert_weights_norm" }
local grouped <const> = { n_group = "expert_group_count", topk_group = "expert_group_used_count" }

--- Values by which a key says that there is no such thing; such keys need no place in the configuration.
local neutral <const> = {
  expert_weights_scale = { [0] = true, [1] = true }, expert_weights_norm = { [false] = true }, expert_gating_func = { [0] = true, [1] = true },
  expert_group_count = { [0] = true, [1] = true }, expert_group_used_count = { [0] = true, [1] = true }, expert_shared_count = { [0] = true },
  expert_shared_feed_forward_length = { [0] = true },
}
--- expert_gating_func of files whose experts are weighed by a sigmoid; 0 and 1 are the softmax.
local sigmoid <const> = 2

local function merged(...)
  local all = {}
  for _, part in ipairs { ... } do
    for key, value in pairs(part) do all[key] = value end
  end
  return all
end

--- Scaled rotary positions: by factors of each pair that the file holds as tensors, or by name.
local function rope_scaling(r)
  local one = r.values "rope_freqs.weight"
  local long, short = one or r.values "rope_factors_long.weight", one or r.values "rope_factors_short.weight"
  if long and short then
    local weight = not one and r.get "rope.scaling.attn_factor" or 1
    return {
      rope_type = "longrope", long_factor = long, short_factor = short, long_mscale = weight, short_mscale = weight,
      original_max_position_embeddings = r.get "rope.scaling.original_context_length" or r.get "context_length",
    }
  end
  local kind = r.get "rope.scaling.type"
  if kind == nil or kind == "none" then return nil end
  local multiplier = r.number "rope.scaling.yarn_log_multiplier" -- llama.cpp keeps 0.1 mscale_all_dim, and nothing of an mscale that differs
  return {
    rope_type = kind, factor = r.get "rope.scaling.factor", original_max_position_embeddings = r.get "rope.scaling.original_context_length",
    beta_fast = r.get "rope.scaling.yarn_beta_fast", beta_slow = r.get "rope.scaling.yarn_beta_slow",
    attention_factor = r.get "rope.scaling.yarn_attn_factor",
    mscale = multiplier and multiplier * 10, mscale_all_dim = multiplier and multiplier * 10,
  }
end

--- Blocks after the model's own predict further tokens.
local function drop_modules(config, r)
  local modules = r.number "nextn_predict_layers" or 0
  config.num_hidden_layers = config.num_hidden_layers - modules
  config.num_nextn_predict_layers = modules > 0 and modules or nil
end

local function biases_of_tensors(config, r) config.attention_bias = r.has "blk.0.attn_q.bias" or r.has "blk.0.attn_qkv.bias" end

--- Blocks whose feed-forward is dense.
local function dense_blocks(config, r)
  config.mlp_only_layers = core.list {}
  for i = 0, math.min(config.num_hidden_layers, 1024) - 1 do
    if not r.has(("blk.%d.ffn_gate_inp.weight"):format(i)) then config.mlp_only_layers[#config.mlp_only_layers + 1] = i end
  end
  config.moe_intermediate_size = config.moe_intermediate_size or (r.number "feed_forward_length" or 0) // config.num_experts_per_tok
end

local function latent(config, r)
  local rotated = r.number "rope.dimension_count"
  local key = r.number "attention.key_length_mla" or r.number "attention.key_length"
  config.head_dim, config.partial_rotary_factor = nil, nil
  config.q_lora_rank = config.q_lora_rank or core.null
  config.num_key_value_heads = config.num_attention_heads -- files that absorb kv_b say 1: one latent for all heads
  config.qk_rope_head_dim, config.qk_nope_head_dim = rotated, key and rotated and key - rotated
  config.v_head_dim = r.get "attention.value_length_mla" or r.get "attention.value_length"
  r.told.qk_rope_head_dim, r.told.qk_nope_head_dim = r.full "rope.dimension_count", r.full "attention.key_length_mla"
  r.told.v_head_dim = r.full "attention.value_length_mla"
  if (r.get "attention.temperature_scale" or 0) ~= 0 then r.refuse("attention.temperature_scale", "must be 0: scores that depend on where a query stands are not computed") end
  local biased = r.get "expert_gating_func" == sigmoid
  config.model_type = biased and "deepseek_v3" or "deepseek_v2"
  config.scoring_func = biased and "sigmoid" or "softmax"
  config.topk_method = biased and "noaux_tc" or (config.n_group or 1) > 1 and "group_limited_greedy" or "greedy"
  drop_modules(config, r)
end

local function glm4(config, r)
  local gate = r.get "expert_gating_func"
  if gate ~= nil and gate ~= 0 and gate ~= sigmoid then r.refuse("expert_gating_func", ("must be %d, a sigmoid, not %s"):format(sigmoid, tostring(gate))) end
  config.use_qk_norm = r.has "blk.0.attn_q_norm.weight"
  biases_of_tensors(config, r)
  drop_modules(config, r)
end

--- `keys` are added to `usual`; `fixed` says what no key does and the default of keys that a file may lack; `finish` sees the
--- configuration and the file.
local architectures <const> = {
  llama = { model_type = "mixtral", keys = { num_local_experts = "expert_count", sliding_window = "attention.sliding_window" } },
  olmoe = { model_type = "olmoe", keys = { num_experts = "expert_count", clip_qkv = "attention.clamp_kqv" }, fixed = { norm_topk_prob = false } },
  qwen2moe = {
    model_type = "qwen2_moe",
    keys = { num_experts = "expert_count", moe_intermediate_size = "expert_feed_forward_length", shared_expert_intermediate_size = "expert_shared_feed_forward_length" },
    fixed = { norm_topk_prob = false, decoder_sparse_step = 1 },
    finish = function(config, r)
      dense_blocks(config, r)
      biases_of_tensors(config, r)
      config.qkv_bias, config.attention_bias = config.attention_bias, nil
      config.shared_expert_intermediate_size = config.shared_expert_intermediate_size or config.intermediate_size
    end,
  },
  qwen3moe = {
    model_type = "qwen3_moe", keys = { num_experts = "expert_count", moe_intermediate_size = "expert_feed_forward_length" },
    fixed = { norm_topk_prob = true, decoder_sparse_step = 1 }, finish = dense_blocks,
  },
  deepseek = { model_type = "deepseek", keys = shared_experts, fixed = { norm_topk_prob = false, scoring_func = "softmax" } },
  deepseek2 = {
    model_type = "deepseek_v2",
    keys = merged(shared_experts, weighed, grouped, { q_lora_rank = "attention.q_lora_rank", kv_lora_rank = "attention.kv_lora_rank" }),
    fixed = { norm_topk_prob = false }, finish = latent,
  },
  ["gpt-oss"] = {
    model_type = "gpt_oss",
    keys = { num_local_experts = "expert_count", intermediate_size = "expert_feed_forward_length", sliding_window = "attention.sliding_window" },
    fixed = { attention_bias = true },
    finish = function(config, r)
      r.get "feed_forward_length" -- that of an expert, once more
      if config.rope_scaling then config.rope_scaling.truncate = false end
    end,
  },
  granitemoe = {
    model_type = "granitemoe",
    keys = {
      num_local_experts = "expert_count", embedding_multiplier = "embedding_scale", residual_multiplier = "residual_scale",
      attention_multiplier = "attention.scale", logits_scaling = "logit_scale", shared_intermediate_size = "expert_shared_feed_forward_length",
    },
    finish = function(config, r)
      local scale = r.number "attention.scale" or 0 -- 0 = the usual one
      config.attention_multiplier = scale ~= 0 and scale or (config.hidden_size / config.num_attention_heads) ^ -0.5
    end,
  },
  phimoe = {
    model_type = "phimoe", keys = { num_local_experts = "expert_count", sliding_window = "attention.sliding_window" },
    finish = function(config, r)
      config.rms_norm_eps = config.rms_norm_eps or r.get "attention.layer_norm_epsilon"
      config.lm_head_bias = r.has "output.bias"
      biases_of_tensors(config, r)
    end,
  },
  glm4moe = {
    model_type = "glm4_moe", keys = merged(shared_experts, weighed, grouped),
    fixed = { n_group = 1, topk_group = 1, norm_topk_prob = false }, finish = glm4,
  },
  dbrx = { model_type = "dbrx" },
}

local function dbrx(r)
  local get = r.get
  get "attention.layer_norm_epsilon" -- the family's
  return {
    model_type = "dbrx", d_model = get "embedding_length", n_layers = get "block_count", n_heads = get "attention.head_count",
    max_seq_len = get "context_length", vocab_size = get "vocab_size",
    attn_config = { kv_n_heads = get "attention.head_count_kv", clip_qkv = get "attention.clamp_kqv", rope_theta = get "rope.freq_base" },
    rope_parameters = { rope_type = "default", rope_theta = get "rope.freq_base" }, -- transformers 5 looks here alone
    ffn_config = {
      ffn_hidden_size = get "feed_forward_length", moe_num_experts = get "expert_count", moe_top_k = get "expert_used_count",
      moe_normalize_expert_weights = 1.0, ffn_act_fn = { name = "silu" },
    },
  }
end

--- Columns of a head that rotate as a share of all, which gives the number back when it is rounded down.
local function share_of(rotated, width)
  local share = rotated / width
  return math.floor(width * share) == rotated and share or (rotated + 0.25) / width
end

local function plain(r, known)
  local config = merged({ model_type = known.model_type, hidden_act = "silu", rope_theta = 10000.0 }, known.fixed or {})
  for key, from in pairs(merged(usual, known.keys)) do
    local value = r.get(from)
    if value ~= nil then config[key] = value end
    r.told[key] = r.full(from)
  end
  config.rope_scaling = rope_scaling(r)
  local rotated = r.number "rope.dimension_count"
  local width = r.number "attention.key_length" or config.hidden_size // config.num_attention_heads
  local value_width = r.number "attention.value_length" or width
  if rotated and rotated < width then config.partial_rotary_factor = share_of(rotated, width) end
  if known.finish then known.finish(config, r) end
  if not config.v_head_dim and value_width ~= width then r.refuse("attention.value_length", ("must be key_length = %s, not %s"):format(width, value_width)) end
  return config
end

local function integer_within(value, most) return math.type(value) == "integer" and value >= 1 and value <= most end

local function shown(value) return type(value) == "table" and "a list" or strict.describe(value) end

--- What no mixture can do without, checked before anything is computed from it.
local function check(r)
  local experts, used = r.get "expert_count", r.get "expert_used_count"
  if not integer_within(experts, 65536) then r.refuse("expert_count", ("must be 1 to 65536, not %s: only mixtures of experts are read"):format(shown(experts))) end
  if not integer_within(used, experts) then r.refuse("expert_used_count", ("must be 1 to the %d experts, not %s"):format(experts, shown(used))) end
  for _, key in ipairs { "block_count", "embedding_length", "attention.head_count" } do
    local value = r.get(key)
    if not integer_within(value, 1 << 31) then r.refuse(key, ("must be a whole number of at least 1, not %s"):format(shown(value))) end
  end
end

--- Access to the keys of one architecture, which remembers what was asked for.
local function reader(file, architecture)
  local r = { has = file.has, values = file.values, told = {}, asked = {} }
  function r.full(key) return architecture .. "." .. key end
  function r.get(key)
    local value = file.metadata[r.full(key)]
    r.asked[r.full(key)] = true
    local tokens = file.metadata["tokenizer.ggml.tokens"]
    if value == core.null then r.refuse(key, "must be a finite number") end
    if value == nil and key == "vocab_size" then return type(tokens) == "table" and #tokens or tokens end
    return value
  end
  function r.refuse(key, rule) core.fail_plain("file", ("%s: key '%s': %s"):format(file.file, r.full(key), rule)) end
  function r.number(key)
    local value = r.get(key)
    if value ~= nil and type(value) ~= "number" then r.refuse(key, "must be a number, not a " .. type(value)) end
    return value
  end
  return r
end

--- Keys of the architecture that nobody asked for come along under their own names without the prefix, and so are listed, or
--- refused if they speak of experts.
local function add_rest(config, r, metadata, architecture)
  local prefix = architecture .. "."
  for key, value in pairs(metadata) do
    local short = key:sub(#prefix + 1)
    local no_more = neutral[short] and neutral[short][value]
    if key:sub(1, #prefix) == prefix and not r.asked[key] and not no_more then config[short], r.told[short] = value, key end
  end
end

--- The config.json that a file amounts to, and the GGUF key of each of its fields. `file` is what core.read_gguf gives. Fails
--- with the file and the key. Keys that the file lacks are left out, for the family's defaults.
function gguf_names.config(file)
  local architecture = file.metadata["general.architecture"]
  local known = architectures[architecture]
  if not known then
    core.fail_plain("file", ("%s: key 'general.architecture': must be one of %s, not %s"):format(file.file, table.concat(sorted.keys(architectures), ", "), strict.describe(architecture)))
  end
  local r = reader(file, architecture)
  check(r)
  local config = architecture == "dbrx" and dbrx(r) or plain(r, known)
  add_rest(config, r, file.metadata, architecture)
  config.tie_word_embeddings = not file.has "output.weight"
  return config, r.told
end

--- ---- tensors ---------------------------------------------------------------------------------------------------------

local block <const> = "blk.{layer}."
local layer <const> = "layers.{layer}."
local attention <const> = layer .. "attention."
local feed <const> = layer .. "feed_forward."

local function append(list, more) return table.move(more, 1, #more, #list + 1, list) end

--- Tensors and parameters that come as weight and bias; `ours` names the two.
local function pair(theirs, ours, weight, bias, ...)
  return { { theirs .. ".weight", ours .. weight, ... }, { theirs .. ".bias", ours .. bias, ... } }
end

local function attention_rows(turned)
  local rows = {}
  for _, name in ipairs { "query", "key" } do append(rows, pair(block .. "attn_" .. name:sub(1, 1), attention .. name, ".weight", ".bias", turned)) end
  append(rows, pair(block .. "attn_v", attention .. "value", ".weight", ".bias"))
  append(rows, pair(block .. "attn_output", attention .. "output", ".weight", ".bias"))
  for _, kind in ipairs(turned and {} or { ".weight", ".bias" }) do -- nobody fuses what is turned
    local shares = { attention .. "query" .. kind, attention .. "key" .. kind, attention .. "value" .. kind }
    rows[#rows + 1] = { block .. "attn_qkv" .. kind, shares, "split_rows" }
  end
  return append(rows, {
    { block .. "attn_q_norm.weight", attention .. "query_norm.scale" }, { block .. "attn_k_norm.weight", attention .. "key_norm.scale" },
    { block .. "attn_sinks.weight", attention .. "sinks" },
    { block .. "attn_q_a.weight", attention .. "query_down.weight" }, { block .. "attn_q_a_norm.weight", attention .. "query_norm.scale" },
    { block .. "attn_q_b.weight", attention .. "query_up.weight" },
    { block .. "attn_kv_a_mqa.weight", attention .. "kv_down.weight" }, { block .. "attn_kv_a_norm.weight", attention .. "kv_norm.scale" },
    { block .. "attn_kv_b.weight", attention .. "kv_up.weight" },
    { { block .. "attn_k_b.weight", block .. "attn_v_b.weight" }, attention .. "kv_up.weight", "latent_heads" },
  })
end

local function feed_rows()
  local rows = {
    { block .. "ffn_gate_up_exps.weight", { feed .. "experts.gate", feed .. "experts.up" }, "split_rows" },
    { block .. "ffn_gate_inp.weight", feed .. "router.gate" }, { block .. "ffn_gate_inp.bias", feed .. "router.bias" },
    { block .. "exp_probs_b.bias", feed .. "router.bias" }, { block .. "ffn_gate_inp_shexp.weight", feed .. "shared.mix" },
  }
  for _, name in ipairs { "gate", "up", "down" } do
    append(rows, pair(block .. "ffn_" .. name .. "_exps", feed .. "experts." .. name, "", "_bias"))
    append(rows, {
      { block .. "ffn_" .. name .. ".{expert}.weight", feed .. "experts." .. name }, -- files before April 2024
      { block .. "ffn_" .. name .. ".weight", feed .. name .. ".weight" },
      { block .. "ffn_" .. name .. "_shexp.weight", feed .. "shared." .. name },
    })
  end
  return rows
end

--- Architectures whose rows of query and key stand in rotary pairs (2i, 2i + 1), where Hugging Face has halves.
local in_pairs <const> = { llama = true, deepseek = true, granitemoe = true }

--- The rows of a family's `tensors` (README.md), for a GGUF file of this architecture.
function gguf_names.tensors(architecture)
  local rows = { { "token_embd.weight", "embedding.weight" } }
  append(rows, pair("output", "head", ".weight", ".bias"))
  append(rows, pair("output_norm", "final_norm", ".scale", ".shift"))
  append(rows, pair(block .. "attn_norm", layer .. "attention_norm", ".scale", ".shift"))
  for _, name in ipairs { "ffn_norm", "post_attention_norm", "attn_output_norm" } do
    append(rows, pair(block .. name, layer .. "feed_norm", ".scale", ".shift"))
  end
  append(rows, attention_rows(in_pairs[architecture] and "unpermute" or nil))
  return append(rows, feed_rows())
end

--- Tensors that the configuration was made from, and blocks that predict further tokens.
gguf_names.ignored_tensors = { "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight", "blk.{module}.*" }

return gguf_names
