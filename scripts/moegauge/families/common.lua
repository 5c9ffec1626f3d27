--- What many families share: keys that mean the same everywhere, rotary positions, layers in turn, and the tensors of a
--- decoder as transformers names them.

local common = {}

common.activations = {
  silu = "silu", swish = "silu", gelu = "gelu", gelu_new = "gelu_tanh", gelu_pytorch_tanh = "gelu_tanh", relu = "relu",
  relu2 = "relu_squared", sigmoid = "sigmoid",
}

--- The keys of a decoder as most configurations have them. `tied` is the family's default.
function common.decoder(c, tied, epsilon)
  return {
    layers = c:integer("num_hidden_layers", "layers"),
    width = c:integer("hidden_size", "width"),
    vocabulary = c:integer("vocab_size", "vocabulary"),
    norm_epsilon = c:number("rms_norm_eps", epsilon or 1e-6, 0, 1),
    tie_embeddings = c:flag("tie_word_embeddings", tied or false),
    attention = common.attention(c),
  }
end

--- Grouped heads; the biases, norms and windows are the family's.
function common.attention(c)
  local heads = c:integer("num_attention_heads", "heads")
  local kv_heads = c:integer("num_key_value_heads", "heads", heads)
  if heads % kv_heads ~= 0 then c:refuse("num_key_value_heads", ("must divide the %d heads, not be %d"):format(heads, kv_heads)) end
  local width = c:integer("hidden_size", "width")
  local head_width = c:integer("head_dim", "width", false)
  if not head_width then
    if width % heads ~= 0 then c:refuse("num_attention_heads", ("must divide hidden_size = %d, not be %d; or give head_dim"):format(width, heads)) end
    head_width = width // heads
  end
  return { heads = heads, kv_heads = kv_heads, head_width = head_width }
end

-- ---- rotary positions --------------------------------------------------------------------------------------------

local kinds <const> = { default = "none", linear = "linear", yarn = "yarn", llama3 = "llama3", longrope = "longrope", su = "longrope", dynamic = "dynamic" }

local function positive(value) return type(value) == "number" and value > 0 end

local readers = {}

function readers.none() return nil end

-- A base that grows with the length of the text: nothing to count, and nothing that runs.
function readers.dynamic(c)
  c:any "alpha"
  c:any "factor"
  return nil
end

function readers.linear(c) return { kind = "linear", factor = c:number("factor", nil, 1e-6, 1e6) } end

function readers.yarn(c, top)
  return {
    kind = "yarn",
    factor = c:number("factor", nil, 1e-6, 1e6),
    original_positions = c:integer("original_max_position_embeddings", "positions", false) or top:integer("max_position_embeddings", "positions"),
    beta_fast = c:number("beta_fast", 32, 0, 1e6),
    beta_slow = c:number("beta_slow", 1, 0, 1e6),
    mscale = c:number("mscale", 0, 0, 1e3),
    mscale_all_dim = c:number("mscale_all_dim", 0, 0, 1e3),
    attention_factor = c:number("attention_factor", 0, 0, 1e3),
    truncate = c:flag("truncate", true),
  }
end

function readers.llama3(c)
  return {
    kind = "llama3",
    factor = c:number("factor", nil, 1e-6, 1e6),
    original_positions = c:integer("original_max_position_embeddings", "positions"),
    low_frequency = c:number("low_freq_factor", 1, 1e-6, 1e6),
    high_frequency = c:number("high_freq_factor", 4, 1e-6, 1e6),
  }
end

function readers.longrope(c, top, columns)
  return {
    kind = "longrope",
    short_factors = c:list("short_factor", nil, "numbers above 0", columns // 2, positive),
    long_factors = c:list("long_factor", nil, "numbers above 0", columns // 2, positive),
    original_positions = c:integer("original_max_position_embeddings", "positions", false)
      or top:integer("original_max_position_embeddings", "positions"),
    factor = c:number("factor", 1, 1e-6, 1e6),
    attention_factor = c:number("short_mscale", 0, 0, 1e3),
    long_attention_factor = c:number("long_mscale", 0, 0, 1e3),
  }
end

--- `rope_theta` and `rope_scaling`, or both inside `rope_parameters` (transformers 5), for heads of `columns` rotated columns. A
--- base inside the table goes before one beside it, as there.
function common.rope(c, columns, base)
  local parameters = c:table "rope_parameters"
  local scaling = c:table "rope_scaling"
  local source = parameters or scaling
  local rope = { base = c:number("rope_theta", false, 1, 1e12), columns = columns }
  if source then rope.base = source:number("rope_theta", false, 1, 1e12) or rope.base end
  rope.base = rope.base or base or 10000
  if not source then return rope end
  local name = source:has "rope_type" and "rope_type" or "type"
  local kind = source:choice(name, "default", kinds)
  source:any "type"
  source:any "partial_rotary_factor" -- common.rotated took it
  rope.scaling = (readers[kind])(source, c, columns)
  return rope
end

--- Columns of a head that rotate.
function common.rotated(c, head_width, default)
  local parameters = c:table "rope_parameters"
  local share = c:number("partial_rotary_factor", false, 0, 1)
    or parameters and parameters:number("partial_rotary_factor", false, 0, 1) or default or 1
  local columns = math.floor(head_width * share)
  return columns - columns % 2
end

-- ---- layers ------------------------------------------------------------------------------------------------------

--- One entry per layer, counted from 0.
function common.each(layers, entry)
  local list = {}
  for i = 0, layers - 1 do list[i + 1] = entry(i) end
  return list
end

function common.copy(t, changes)
  local new = {}
  for key, value in pairs(t) do new[key] = value end
  for key, value in pairs(changes or {}) do new[key] = value end
  return new
end

--- Dense layers first, then mixtures.
function common.dense_first(c, layers, dense, moe)
  local first = c:integer("first_k_dense_replace", "count", 0)
  if first > layers then c:refuse("first_k_dense_replace", ("must be at most the %d layers, not %d"):format(layers, first)) end
  local every = c:integer("moe_layer_freq", "layers", 1)
  return common.each(layers, function(i) return (i >= first and i % every == 0) and moe or dense end)
end

--- Shared experts that are stored as one feed-forward of their total width.
function common.shared(c, key, width)
  local count = c:integer(key, "count", 0)
  if count == 0 then return nil end
  return { experts = count, width = width }
end

--- Modules that predict further tokens, where the configuration names any.
function common.prediction(c, key)
  local modules = c:integer(key, "count", 0)
  if modules == 0 then return nil end
  return { modules = modules }
end

-- ---- the way back -------------------------------------------------------------------------------------------------

--- The first mixture and the first dense feed-forward of a resolved specification; nil for what it has none of.
function common.feeds(spec)
  local found = {}
  for _, feed in ipairs(spec.feed_forward) do found[feed.kind] = found[feed.kind] or feed end
  return found.moe, found.dense
end

--- What most configurations say of a resolved specification; `architecture` is the class of transformers. A family adds its
--- own keys. form.lua tells whether it was all that there is to say.
function common.config(spec, architecture)
  local a = spec.attention[1]
  local moe, dense = common.feeds(spec)
  if not moe then return nil, "it has no mixture" end
  if not moe.router.k then return nil, ("its router is %s"):format(moe.router.name) end
  local activation = "silu"
  for name, ours in pairs(common.activations) do
    if ours == moe.activation and name ~= "swish" and name ~= "gelu_new" then activation = name end
  end
  return {
    architectures = { architecture }, num_hidden_layers = spec.layers, hidden_size = spec.width, vocab_size = spec.vocabulary,
    num_attention_heads = a.heads, num_key_value_heads = a.kv_heads, head_dim = a.head_width, rms_norm_eps = spec.norm_epsilon,
    tie_word_embeddings = spec.tie_embeddings, rope_theta = a.rope.base, hidden_act = activation, num_experts_per_tok = moe.router.k,
  }, moe, dense
end

--- Numbers, from 0, of the layers whose feed-forward is dense.
function common.dense_layers(spec)
  local list = {}
  for i, feed in ipairs(spec.feed_forward) do
    if feed.kind ~= "moe" then list[#list + 1] = i - 1 end
  end
  return list
end

-- ---- tensors -----------------------------------------------------------------------------------------------------

--- The ends, norms and grouped attention of a decoder. `{layer}` stands for the layer's number, `{expert}` for that of an
--- expert: such tensors are slices of one parameter.
function common.decoder_tensors(more)
  local list = {
    { "model.embed_tokens.weight", "embedding.weight" },
    { "model.norm.weight", "final_norm.scale" },
    { "lm_head.weight", "head.weight" },
    { "model.layers.{layer}.input_layernorm.weight", "layers.{layer}.attention_norm.scale" },
    { "model.layers.{layer}.post_attention_layernorm.weight", "layers.{layer}.feed_norm.scale" },
  }
  for _, row in ipairs(more) do list[#list + 1] = row end
  return list
end

local grouped <const> = { q = "query", k = "key", v = "value", o = "output" }

--- q_proj, k_proj, v_proj and o_proj with biases, and q_norm and k_norm; those that a model lacks do not match.
function common.attention_tensors()
  local list = {}
  for _, letter in ipairs { "q", "k", "v", "o" } do
    for _, kind in ipairs { "weight", "bias" } do
      list[#list + 1] = { ("model.layers.{layer}.self_attn.%s_proj.%s"):format(letter, kind), ("layers.{layer}.attention.%s.%s"):format(grouped[letter], kind) }
    end
  end
  list[#list + 1] = { "model.layers.{layer}.self_attn.q_norm.weight", "layers.{layer}.attention.query_norm.scale" }
  list[#list + 1] = { "model.layers.{layer}.self_attn.k_norm.weight", "layers.{layer}.attention.key_norm.scale" }
  return list
end

--- gate_proj, up_proj and down_proj below `from`, into gate, up and down below `to` with `suffix`.
function common.gated_tensors(from, to, suffix)
  local list = {}
  for _, name in ipairs { "gate", "up", "down" } do
    list[#list + 1] = { ("%s.%s_proj.weight"):format(from, name), ("%s.%s%s"):format(to, name, suffix) }
  end
  return list
end

local function append(list, more)
  for _, row in ipairs(more) do list[#list + 1] = row end
  return list
end
common.append = append

--- One tensor for each expert, or all stacked in two, gate above up.
function common.expert_tensors(mlp)
  local list = common.gated_tensors(mlp .. ".experts.{expert}", "layers.{layer}.feed_forward.experts", "")
  list[#list + 1] = { mlp .. ".experts.gate_up_proj", { "layers.{layer}.feed_forward.experts.gate", "layers.{layer}.feed_forward.experts.up" }, "split_rows" }
  list[#list + 1] = { mlp .. ".experts.down_proj", "layers.{layer}.feed_forward.experts.down" }
  return list
end

return common
