--- What a released model costs, from its configuration alone: parameters by part and by each convention of active ones,
--- FLOPs per token at a context, the key-value cache, weights and memory.

local core = require "moegauge.core"
local families = require "moegauge.families"
local strict = require "moegauge.strict"

local inspect = {}

--- The parts of parameters in the order they are shown.
inspect.parts = { "embedding", "attention", "router", "router_bias", "routed", "shared", "dense", "norm", "head", "other" }
--- What the three numbers of active parameters leave out.
inspect.conventions = {
  { "active", "all that one token uses, embedding and head included" },
  { "active_without_input_embedding", "without the embedding table, unless it is the head as well" },
  { "active_without_embedding_and_head", "without embedding table and head" },
}
--- Bytes of one weight. mxfp4 holds 32 weights of 4 bits with one byte of scale, in the experts alone.
local weight_bytes <const> = { f32 = 4, bf16 = 2, fp8 = 1, mxfp4 = 17 / 32 }

local function describe(read, context)
  local described, reason = core.describe(read.spec, context, true)
  if not described then core.fail_plain("file", ("%s: the model that this configuration describes is refused: %s"):format(read.file, reason)) end
  return described
end

local function round_up(a, b) return (a + b - 1) // b end

-- Scales of matrices stored in blocks: of attention and feed-forwards, not of routers, embedding or head.
local function block_scales(parameters, block)
  local count = 0
  for _, parameter in ipairs(parameters) do
    local shape, name = parameter.shape, parameter.name
    local scaled = (name:find("attention.", 1, true) or name:find("feed_forward.", 1, true)) and not name:find(".router.", 1, true)
    if scaled and #shape > 1 then
      local stack = #shape == 3 and shape[1] or 1
      count = count + stack * round_up(shape[#shape - 1], block[1]) * round_up(shape[#shape], block[2])
    end
  end
  return count
end

-- What a release holds beside the model itself.
local function beside(read, described, parts)
  local family, rows = read.family, {}
  local function add(what, parameters)
    if parameters > 0 then rows[#rows + 1] = { what = what, parameters = parameters } end
  end
  local modules = read.spec.prediction and read.spec.prediction.modules or 0
  add("modules that predict further tokens", parts.prediction)
  if family.module_copies_ends then add("copies of embedding and head in the modules", modules * (parts.embedding + parts.head)) end
  if family.module_copies_embedding then add("copies of the embedding in the modules", modules * parts.embedding) end
  if read.quantisation and read.quantisation.block then
    add("scales of weight blocks", block_scales(described.parameters, read.quantisation.block))
  end
  for _, row in ipairs(family.beside and family.beside(read.spec) or {}) do add(row.what, row.parameters) end
  return rows
end

local function sum(rows)
  local total = 0
  for _, row in ipairs(rows) do total = total + row.parameters end
  return total
end

local function breakdown(read, described)
  local parts, size = described.size.parts, described.size
  local shown = {}
  for _, part in ipairs(inspect.parts) do shown[part] = parts[part] end
  shown.router_bias = shown.router_bias + size.buffers
  shown.routed_active = size.routed_most
  shown.multi_token_prediction = read.family.unnamed_module and 0 or parts.prediction
  return shown
end

local function total_of(flops)
  local total = 0
  for _, value in pairs(flops) do total = total + value end
  return total
end

-- The loss is no part of a forward pass that answers a question; the backward pass is twice the forward.
function inspect.flops(described)
  local flops = { conventions = {
    causal = "a query is charged with the keys that it sees", full = "a query is charged with all keys of the context",
    by_parameters = "two for each active parameter without the input embedding, scores and sums over values left out",
    training = "three times the forward pass",
  } }
  for _, name in ipairs { "causal", "full" } do
    local parts = described[name]
    parts.loss, parts.optimiser = nil, nil
    flops[name] = { forward = total_of(parts), training = 3 * total_of(parts), parts = parts }
  end
  return flops
end

local function bytes_of(total, routed, dtype)
  if dtype == "mxfp4" then return math.ceil(routed * weight_bytes.mxfp4 + (total - routed) * weight_bytes.bf16) end
  return total * weight_bytes[dtype]
end

-- bf16 weights and cache; what a training in f32 with AdamW holds (weights, gradients, two moments).
local function memory_of(result, elements, context)
  local cache = elements * weight_bytes.bf16 * context
  return { inference_bf16 = result.weight_bytes.bf16 + cache, cache_bf16 = cache, training_f32 = 16 * result.total }
end

--- The costs of a configuration, `source` being what families.open gives.
function inspect.of(source, context)
  local read = families.read(source)
  local described = describe(read, context)
  local size, parts = described.size, breakdown(read, described)
  local active = size.total - size.parts.routed + size.routed_most + size.buffers
  local tied = described.spec.tie_embeddings
  local rows = beside(read, described, size.parts)
  local result = {
    file = read.file, model_type = read.model_type, family = read.family.name, context = context,
    runs = read.family.runs and described.cannot_run == nil, cannot_run = read.family.runs and described.cannot_run or nil,
    total = size.total + size.buffers, active = active,
    active_without_input_embedding = tied and active or active - parts.embedding,
    active_without_embedding_and_head = active - parts.embedding - parts.head,
    breakdown = parts, fields = read.fields, flops_per_token = inspect.flops(described), spec = described.spec,
    parameters = described.parameters, quantisation = read.quantisation,
  }
  if size.routed_most ~= size.routed_active then result.active_on_average = active - size.routed_most + size.routed_active end
  result.flops_per_token.by_parameters = 2 * result.active_without_input_embedding
  result.checkpoint = { parameters = result.total + sum(rows), beside = core.list(rows) }
  result.weight_bytes = {}
  for dtype in pairs(weight_bytes) do result.weight_bytes[dtype] = bytes_of(result.total, parts.routed, dtype) end
  result.kv_cache = { elements_per_token = described.cache.own, elements_per_source_token = described.cache.cross }
  -- One number has no meaning where source and target tokens keep different ones.
  if described.cache.cross == 0 then result.kv_cache_bytes_per_token = described.cache.own * weight_bytes.bf16 end
  result.memory_bytes = memory_of(result, described.cache.own + described.cache.cross, context)
  return result
end

--- @param path string   config.json, a GGUF file, or a folder that holds one
--- @param context? integer  tokens of the context that FLOPs and memory are for
function inspect.run(path, context)
  if type(path) ~= "string" then core.fail("usage", "mg.inspect: the path of a configuration was expected") end
  context = context or 4096
  if math.type(context) ~= "integer" or context < 1 or context > 1 << 30 then
    core.fail("usage", "mg.inspect: 'context' must be an integer from 1 to 1073741824")
  end
  return inspect.of(families.open(path), context)
end

-- ---- as text -----------------------------------------------------------------------------------------------------

local function count_text(value) return ("%20s"):format(inspect.grouped(value)) end

--- 12345678 -> "12 345 678".
function inspect.grouped(value)
  local digits = ("%.0f"):format(value)
  local text = digits:reverse():gsub("(%d%d%d)", "%1 "):reverse()
  return (text:gsub("^ ", ""))
end

local function row(lines, name, value, note) lines[#lines + 1] = (("  %-36s%s  %s"):format(name, value, note or ""):gsub("%s+$", "")) end

local function billions(value)
  if value >= 1e9 then return ("%.2f billion"):format(value / 1e9) end
  return ("%.1f million"):format(value / 1e6)
end

local function add_parameters(lines, r)
  lines[#lines + 1] = "parameters"
  row(lines, "total", count_text(r.total), billions(r.total))
  for _, convention in ipairs(inspect.conventions) do row(lines, convention[1], count_text(r[convention[1]]), convention[2]) end
  if r.active_on_average then row(lines, "active_on_average", count_text(r.active_on_average), "choices that fall on experts that compute nothing left out") end
  lines[#lines + 1] = "by part"
  for _, part in ipairs(inspect.parts) do
    if r.breakdown[part] > 0 then row(lines, part, count_text(r.breakdown[part])) end
    if part == "routed" then row(lines, "routed_active", count_text(r.breakdown.routed_active)) end
  end
  if r.breakdown.multi_token_prediction > 0 then row(lines, "multi_token_prediction", count_text(r.breakdown.multi_token_prediction), "not in the total") end
  lines[#lines + 1] = "in the checkpoint"
  for _, one in ipairs(r.checkpoint.beside) do row(lines, one.what, count_text(one.parameters)) end
  row(lines, "all", count_text(r.checkpoint.parameters))
end

local function sorted(t)
  local names = {}
  for name, value in pairs(t) do
    if value > 0 then names[#names + 1] = name end
  end
  table.sort(names, function(a, b) return t[a] > t[b] or (t[a] == t[b] and a < b) end)
  return names
end

local function add_flops(lines, r)
  local causal, full = r.flops_per_token.causal, r.flops_per_token.full
  lines[#lines + 1] = ("FLOPs per token at a context of %d"):format(r.context)
  lines[#lines + 1] = ("  %-36s%20s  %20s"):format("", "causal", "full")
  for _, name in ipairs { "forward", "training" } do row(lines, name, count_text(causal[name]), count_text(full[name])) end
  for _, name in ipairs(sorted(causal.parts)) do row(lines, "forward, " .. name, count_text(causal.parts[name]), count_text(full.parts[name])) end
  row(lines, "by_parameters", count_text(r.flops_per_token.by_parameters), "two for each active parameter without the input embedding")
end

local function add_bytes(lines, r)
  lines[#lines + 1] = "bytes"
  if r.kv_cache_bytes_per_token then
    row(lines, "key-value cache per token, bf16", count_text(r.kv_cache_bytes_per_token))
  else
    row(lines, "cache per target token, bf16", count_text(2 * r.kv_cache.elements_per_token))
    row(lines, "cache per source token, bf16", count_text(2 * r.kv_cache.elements_per_source_token))
  end
  for _, dtype in ipairs { "f32", "bf16", "fp8" } do row(lines, "weights in " .. dtype, count_text(r.weight_bytes[dtype])) end
  row(lines, "weights, experts in mxfp4", count_text(r.weight_bytes.mxfp4), "the rest in bf16")
  row(lines, "memory to run in bf16", count_text(r.memory_bytes.inference_bf16), "weights and the context's cache")
  row(lines, "memory to train in f32", count_text(r.memory_bytes.training_f32), "weights, gradients and AdamW's moments, without activations")
end

local function add_fields(lines, r)
  for _, kind in ipairs { "used", "ignored", "unknown" } do
    local names = strict.printable(table.concat(r.fields[kind], " "))
    lines[#lines + 1] = ("fields %s: %s"):format(kind, names == "" and "none" or names)
  end
end

--- The result as lines for a terminal.
function inspect.text(r)
  local state = r.runs and "a family that runs" or r.cannot_run or "a family for accounting only"
  local lines = { ("%s: %s (%s), %s"):format(r.file, r.family, r.model_type, state) }
  add_parameters(lines, r)
  add_flops(lines, r)
  add_bytes(lines, r)
  add_fields(lines, r)
  return table.concat(lines, "\n") .. "\n"
end

--- For `moegauge model inspect`: the result without what is long, and its text.
function inspect.command(path, context)
  local result = inspect.run(path, context)
  result.spec, result.parameters = nil, nil
  return { result = result, text = inspect.text(result) }
end

--- For `moegauge list families`.
function inspect.families()
  local rows = {}
  for i, family in ipairs(families.all()) do
    rows[i] = { name = family.name, model_types = family.types, runs = family.runs, paper = family.paper }
  end
  return rows
end

return inspect
