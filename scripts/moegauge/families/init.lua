--- The families of released models: which one a configuration belongs to, and its block specification.
---
--- A family is one Lua table in a file of its own:
---   name, types   the family, and the values of `model_type` that are it (aliases included)
---   runs          whether the blocks can run, or are only counted
---   paper         where the architecture is written down
---   spec(c)       reads the configuration `c` (config.lua) and returns a specification of core/model
---   ignored       fields with a meaning that decide nothing here, as one text
---   config(spec)  the way back, for models trained here: proposes a configuration, or nil and a reason (form.lua)
---   tensors       rows { theirs, ours, transform, ... }: names in the files, names of core/model (README.md)
---   beside(spec)  what a release holds beside the model, as { what =, parameters = } rows

local config = require "moegauge.config"
local core = require "moegauge.core"
local gguf_names = require "moegauge.gguf_names"
local sorted = require "moegauge.sorted"
local strict = require "moegauge.strict"
local swapped = require "moegauge.swapped"

local families = {}

local files <const> = {
  "arctic", "bailing_moe", "bailing_moe_v2", "dbrx", "deepseek", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1",
  "ernie4_5_moe", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "gpt_oss", "granitemoe", "grok", "hunyuan", "jamba", "jetmoe", "llama4",
  "longcat_flash", "mimo_v2_flash", "minimax_m2", "minimax_text_01", "mixtral", "nemotron_h", "nllb_moe", "olmoe", "phimoe",
  "qwen2_moe", "qwen3_moe", "qwen3_next", "solar_open", "switch_transformers",
}

--- All families, sorted by name.
function families.all()
  local list = {}
  for i, file in ipairs(files) do list[i] = require("moegauge.families." .. file) end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

--- The family of a model type, or nil and all known types.
function families.of(model_type)
  local known = {}
  for _, family in ipairs(families.all()) do
    for _, name in ipairs(family.types) do
      if name == model_type then return family end
      known[#known + 1] = name
    end
  end
  return nil, known
end

local function find(c)
  local model_type = c:any "model_type"
  if type(model_type) ~= "string" then
    c:refuse("model_type", model_type == nil and "is missing; it names the family" or "must be a text that names the family")
  end
  local family, known = families.of(model_type)
  if family then return family end
  local nearest = core.nearest(model_type, known)
  c:refuse("model_type", ("there is no family '%s'%s; `moegauge list families` shows all"):format(strict.printable(model_type:sub(1, 60)), nearest and ", the nearest is '" .. nearest .. "'" or ""))
end

-- Which way weights are stored; the sub-keys belong to the tool that made them.
local function quantisation(c)
  local stored = c:any "quantization_config"
  if stored == nil then return nil end
  if type(stored) ~= "table" then c:refuse("quantization_config", "must be a table") end
  local block = stored.weight_block_size
  if block ~= nil and not (type(block) == "table" and #block == 2 and math.type(block[1]) == "integer" and math.type(block[2]) == "integer"
    and block[1] > 0 and block[2] > 0) then
    c:refuse("quantization_config", "'weight_block_size' must be a list of two integers above 0")
  end
  return { method = tostring(stored.quant_method or stored.quant_type or "unknown"), block = block }
end

-- The metadata of a GGUF file as a configuration.
local function read_gguf(gguf)
  local described, told = gguf_names.config(gguf)
  return { file = gguf.file, config = described, names = sorted.keys(described), told = told, architecture = gguf.metadata["general.architecture"] }
end

--- The configuration of a model at a path, as families.read takes it: config.json or a folder that holds it, or a GGUF file or
--- a folder whose weights are one, which then also says the `architecture` that its tensors are named for.
function families.open(path)
  local gguf = core.read_gguf(path)
  return gguf and read_gguf(gguf) or core.read_config(path)
end

--- What a configuration says -> { file, family, model_type, spec, fields, quantisation, tensors, ignored_tensors, config, made =
--- the configuration, where it is no file's own, kinds = what its keys count }; `source` is a path for families.open, or what it
--- gives. Fails with file, key and rule.
function families.read(source)
  source = type(source) == "string" and families.open(source) or source
  if source.config.model_type == swapped.model_type then return swapped.read(source) end
  local root = config.open(source)
  local family, c = find(root), root
  local model_type = root.values.model_type
  if family.inside and root:has(family.inside) then
    c = root:table(family.inside)
    c:any "model_type"
  end
  local stored = quantisation(root)
  local spec = family.spec(c)
  local gguf = source.architecture
  return {
    file = root.file, family = family, model_type = model_type, spec = spec, fields = root:finish(family.ignored), quantisation = stored,
    made = gguf and source.config or nil, tensors = gguf and gguf_names.tensors(gguf) or family.tensors,
    ignored_tensors = gguf and gguf_names.ignored_tensors or family.ignored_tensors or core.list {},
    config = root.values, kinds = c == root and root.kinds or {},
  }
end

-- ---- tensors -----------------------------------------------------------------------------------------------------

local function fill(name, values)
  return (name:gsub("{(%a+)}", function(key) return tostring(values[key]) end))
end

local function as_list(value) return type(value) == "table" and value or { value } end

-- Layers of the stack that a name belongs to, and the experts of each.
local function layers_of(ours, spec) return ours:find("^encoder%.") and spec.encoder.layers or spec.layers end

local function row_of(row, values, expert)
  local from, to = {}, {}
  for i, name in ipairs(as_list(row[1])) do from[i] = fill(name, values) end
  for i, name in ipairs(as_list(row[2])) do to[i] = fill(name, values) end
  return { from = from, to = to, expert = expert, transforms = table.move(row, 3, #row, 1, {}) }
end

--- Which tensors of the files make which parameters: rows { from = {names}, to = {names}, expert =, transforms = {...} } for
--- every layer and expert of a described model. A row whose parameters the model lacks is left out; rows with the same
--- parameters are alternatives. `parameters` is what core.describe lists.
function families.tensors(family, spec, parameters)
  local shapes, rows = {}, {}
  for _, parameter in ipairs(parameters) do shapes[parameter.name] = parameter.shape end
  local function add(row, values)
    local filled = row_of(row, values)
    for _, name in ipairs(filled.to) do
      if not shapes[name] then return end
    end
    if not as_list(row[1])[1]:find("{expert}", 1, true) then
      rows[#rows + 1] = filled
      return
    end
    for expert = 0, shapes[filled.to[1]][1] - 1 do
      values.expert = expert
      rows[#rows + 1] = row_of(row, values, expert)
    end
  end
  for _, row in ipairs(family.tensors) do
    local ours = as_list(row[2])[1]
    if ours:find("{layer}", 1, true) then
      if not (ours:find "^encoder%." and not spec.encoder) then
        for layer = 0, layers_of(ours, spec) - 1 do add(row, { layer = layer }) end
      end
    else
      add(row, {})
    end
  end
  return rows
end

return families
