--- The configuration of a released model while it is read: every key that a family asks for is checked and noted as used.
--- What nobody asked for is ignored by name, listed as unknown, or, where its name speaks of experts, an error.

local core = require "moegauge.core"
local sorted = require "moegauge.sorted"
local strict = require "moegauge.strict"

local config = {}

local Config = { __name = "moegauge.config" }
Config.__index = Config

--- What integers may be: least, most.
local ranges <const> = {
  layers = { 1, 1024 }, width = { 1, 65536 }, heads = { 1, 4096 }, experts = { 1, 65536 }, hidden = { 1, 1 << 24 },
  vocabulary = { 1, 1 << 24 }, positions = { 1, 1 << 30 }, window = { 0, 1 << 30 }, count = { 0, 65536 }, hidden_or_none = { 0, 1 << 24 },
}
--- Words in the name of a field that decides how a mixture works.
local telling <const> = { "expert", "router", "topk", "top_k", "moe", "gate", "gating", "group", "mixture", "sparse", "capacity", "shared" }
--- Fields of every configuration that decide nothing here: bookkeeping, training, generation.
local common_ignored <const> = [[
  _name_or_path architectures auto_map model_type torch_dtype dtype transformers_version use_cache is_decoder is_encoder_decoder
  bos_token_id eos_token_id pad_token_id decoder_start_token_id sep_token_id unk_token_id forced_bos_token_id forced_eos_token_id
  attention_dropout hidden_dropout residual_dropout resid_pdrop emb_pdrop dropout dropout_rate activation_dropout embd_pdrop
  embedding_dropout classifier_dropout initializer_range initializer_factor init_std init_method rescale_prenorm_residual
  output_attentions output_hidden_states return_dict output_router_logits router_aux_loss_coef aux_loss_alpha seq_aux
  router_z_loss_coef z_loss_coeff router_jitter_noise input_jitter_noise ep_size pretraining_tp tp_size tie_encoder_decoder
  max_position_embeddings max_seq_len seq_length initial_context_length num_logits_to_keep keys_to_ignore_at_inference
  top_k top_p temperature do_sample repetition_penalty num_beams num_beam_groups diversity_penalty length_penalty max_length
  min_length no_repeat_ngram_size early_stopping typical_p encoder_no_repeat_ngram_size bad_words_ids num_return_sequences
  chunk_size_feed_forward remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens
  task_specific_params problem_type id2label label2id finetuning_task pruned_heads prefix tokenizer_class cross_attention_hidden_size
  add_cross_attention torchscript use_bfloat16 tf_legacy_loss attn_implementation _attn_implementation _attn_implementation_autoset
  use_flash_attn unsloth_version unsloth_fixed
]]

--- Names of one thing: a field stands for any other of its row.
local same <const> = {
  { "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts" },
  { "num_experts_per_tok", "experts_per_token", "moe_top_k" },
  { "num_nextn_predict_layers", "num_mtp_layers" },
}
local others <const> = {}
for _, row in ipairs(same) do
  for _, name in ipairs(row) do others[name] = row end
end

local function set_of(words)
  local set = {}
  for word in words:gmatch "%S+" do set[word] = true end
  return set
end
local ignored_everywhere <const> = set_of(common_ignored)

local function range_text(range) return ("an integer from %d to %d"):format(range[1], range[2]) end

--- Opens what core.read_config gave. `told` has the keys of the file where those of `config` are not its own.
function config.open(read)
  return setmetatable({ file = read.file, values = read.config, names = read.names, told = read.told or {}, path = "", used = {}, parts = {}, kinds = {} }, Config)
end

--- Fails, naming the file, the key and the rule.
function Config:refuse(key, rule)
  core.fail_plain("file", ("%s: key '%s': %s"):format(self.file, strict.printable(self.told[self.path .. key] or self.path .. key), rule))
end

local function describe(value)
  if type(value) == "table" then return "a " .. (#value > 0 and "list" or "table") end
  return strict.describe(value)
end

-- The value of a key; nil where it is missing or null.
function Config:raw(key)
  local value = self.values[key]
  if value == core.null then return nil end
  return value
end

--- The value of a key, or of another name of it, which counts as used; nil where it is missing or null.
function Config:any(key)
  local value = self:raw(key)
  for _, other in ipairs(others[key] or {}) do
    local said = self:raw(other)
    self.used[other] = true
    if value == nil then
      value = said
    elseif said ~= nil and said ~= value and type(said) ~= "table" then
      self:refuse(other, ("says %s, but '%s' says %s"):format(tostring(said), key, tostring(value)))
    end
  end
  self.used[key] = true
  return value
end

function Config:has(key) return self:raw(key) ~= nil end

-- `default` nil: the key must be there; false: it may be missing, and nil is returned.
function Config:want(key, default, allowed, good)
  local value = self:any(key)
  if value == nil and default == nil then self:refuse(key, ("is missing; %s is needed"):format(allowed)) end
  if value == nil then return default or nil end
  if not good(value) then self:refuse(key, ("must be %s, not %s"):format(allowed, describe(value))) end
  return value
end

--- Notes what a key, or another name of it, counts: `kinds` tells which key says how many experts there are.
function Config:note(key, kind)
  for _, name in ipairs(others[key] or { key }) do self.kinds[name] = kind end
end

--- An integer of a kind of `ranges`.
function Config:integer(key, kind, default)
  local range = ranges[kind]
  self:note(key, kind)
  return self:want(key, default, range_text(range), function(value)
    return math.type(value) == "integer" and value >= range[1] and value <= range[2]
  end)
end

--- A number from `least` to `most`.
function Config:number(key, default, least, most)
  return self:want(key, default, ("a number from %g to %g"):format(least, most), function(value)
    return type(value) == "number" and value >= least and value <= most
  end)
end

--- A boolean; a missing one is `default`.
function Config:flag(key, default)
  local value = self:any(key)
  if value == nil then return default end
  if type(value) ~= "boolean" then self:refuse(key, ("must be true or false, not %s"):format(describe(value))) end
  return value
end

--- One of the keys of `choices`, as its value there.
function Config:choice(key, default, choices)
  local value = self:want(key, default, "one of " .. table.concat(sorted.keys(choices), ", "), function(value) return choices[value] ~= nil end)
  return choices[value]
end

--- A list of `count` numbers (nil: any count) for which `good` holds.
function Config:list(key, default, what, count, good)
  local allowed = count and ("a list of %d %s"):format(count, what) or ("a list of %s"):format(what)
  return self:want(key, default, allowed, function(value)
    if type(value) ~= "table" or (count and #value ~= count) or (#value == 0 and next(value) ~= nil) then return false end
    for _, entry in ipairs(value) do
      if not good(entry) then return false end
    end
    return true
  end)
end

--- A table of its own as a configuration; nil where it is missing.
function Config:table(key)
  local value = self:any(key)
  if value == nil then return nil end
  if type(value) ~= "table" or #value > 0 then self:refuse(key, ("must be a table, not %s"):format(describe(value))) end
  if self.parts[key] then return self.parts[key] end
  self.parts[key] = setmetatable({ file = self.file, values = value, names = sorted.keys(value), told = self.told, path = self.path .. key .. ".", used = {}, parts = {}, kinds = {} }, Config)
  return self.parts[key]
end

--- k of E experts.
function Config:chosen(key, experts, default)
  local k = self:integer(key, "experts", default)
  self:note(key, "chosen")
  if k > experts then self:refuse(key, ("must be at most the %d experts, not %d"):format(experts, k)) end
  return k
end

-- ---- what was not asked for --------------------------------------------------------------------------------------

local function speaks_of_experts(name)
  local lower = name:lower()
  for _, word in ipairs(telling) do
    if lower:find(word, 1, true) then return true end
  end
  return false
end

function Config:refuse_telling(name, ignored)
  local known = {}
  for key in pairs(self.used) do known[#known + 1] = key end
  for key in pairs(ignored) do known[#known + 1] = key end
  table.sort(known)
  local nearest = core.nearest(name, known)
  self:refuse(name, ("is unknown, and its name says that it changes the mixture of experts%s"):format(
    nearest and "; the nearest known key is '" .. nearest .. "'" or ""))
end

--- Sorts the fields into used, ignored and unknown (lists of paths); `words` are those that the family ignores.
function Config:finish(words, into)
  local ignored = set_of(words)
  into = into or { used = core.list {}, ignored = core.list {}, unknown = core.list {} }
  table.sort(self.names)
  for _, name in ipairs(self.names) do
    local path = self.path .. name
    if self.used[name] then
      into.used[#into.used + 1] = path
      if self.parts[name] then self.parts[name]:finish(words, into) end
    elseif ignored_everywhere[name] or ignored[name] then
      into.ignored[#into.ignored + 1] = path
    elseif speaks_of_experts(name) then
      self:refuse_telling(name, ignored)
    else
      into.unknown[#into.unknown + 1] = path
    end
  end
  return into
end

return config
