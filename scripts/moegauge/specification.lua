--- The values an experiment is made of: feed-forwards, routers, models, corpora, and training, which is the one thing
--- that runs. A value is a plain table with the fields of the specification it stands for; C checks it when it is made,
--- so that a mistake names the line that made it.

local core = require "moegauge.core"
local label = require "moegauge.label"
local lazy = require "moegauge.lazy"
local strict = require "moegauge.strict"

local form, released, tuning = lazy "moegauge.form", lazy "moegauge.released", lazy "moegauge.tuning"

local specification = {}

--- Names of the routers that the script used, the functions of those it defined, and what the checkpoints and traces that it
--- looked at were then: part of what decides a result.
specification.used_routers, specification.defined_routers, specification.used_files = {}, {}, {}

local Value = { __name = "moegauge.value" }

local function text_of(value)
  local word = label.of({ value })[1]
  local keys, parts = {}, {}
  for key, item in pairs(value) do
    if type(item) ~= "table" and key ~= "name" and key ~= "kind" then keys[#keys + 1] = key end
  end
  table.sort(keys)
  for i, key in ipairs(keys) do parts[i] = key .. "=" .. tostring(value[key]) end
  return word .. "(" .. table.concat(parts, ", ") .. ")"
end
Value.__tostring = text_of

local function copy(t, where)
  if type(t) ~= "table" then core.fail("usage", ("%s: a table was expected, not %s"):format(where, strict.describe(t))) end
  local new = {}
  for key, value in pairs(t) do new[key] = value end
  return setmetatable(new, Value)
end

--- A dense feed-forward: { width = 512 }.
function specification.dense(t)
  local spec = copy(t, "mg.dense")
  spec.kind = "dense"
  core.check("dense", spec)
  return spec
end

-- capacity = 1.25 is short for { policy = "drop", factor = 1.25 }.
local function capacity_of(value)
  if type(value) == "number" then return { policy = "drop", factor = value } end
  return value
end

--- A mixture of experts: { experts = 16, width = 256, router = mg.router.topk{ k = 2 }, capacity = 1.25 }.
function specification.moe(t)
  local spec = copy(t, "mg.moe")
  spec.kind = "moe"
  if type(spec.router) ~= "table" then
    core.fail("usage", ("mg.moe: 'router' must be made with mg.router.NAME{...}, such as mg.router.topk { k = 2 }, not %s"):format(strict.describe(spec.router)))
  end
  spec.capacity = capacity_of(spec.capacity)
  if type(spec.losses) == "table" and next(spec.losses) == nil then spec.losses = core.list {} end
  core.check("moe", spec)
  return spec
end

--- A decoder: { layers = 4, width = 128, heads = 4, feed_forward = ..., seed = 1 }. The vocabulary is the corpus's.
function specification.model(t)
  local spec = copy(t, "mg.model")
  core.check("model", spec)
  return spec
end

--- Stands in for the corpus's vocabulary until that is known.
local nominal_vocabulary <const> = 1024

-- The filter functions of corpora; the specification holds their fingerprints.
local filters <const> = setmetatable({}, { __mode = "k" })

--- Text to train on: a name ("manpages", "synthetic"), a folder, or a table with the pipeline's keys. `filter`, a
--- function(text, domain), returns true to keep a document, another text, or false and a reason to drop it.
function specification.corpus(t)
  local spec = copy(type(t) == "string" and { corpus = t } or t, "mg.corpus")
  local filter = spec.filter
  if filter ~= nil then
    strict.field(spec, "filter", "function", "mg.corpus")
    filters[spec], spec.filter = filter, core.hash_value(filter)
  end
  core.check("corpus", spec)
  return spec
end

--- The filter function of a corpus, or nil.
function specification.filter_of(data) return filters[data] end

local function constructor(name)
  return function(options)
    if options ~= nil then strict.keys(options, core.router_options(name), "mg.router." .. name) end
    local spec = copy(options or {}, "mg.router." .. name)
    spec.name = name
    core.check("router", spec)
    return spec
  end
end

--- mg.router.NAME{ options } for every router found, and mg.router.define for one in Lua.
specification.router = setmetatable({
  --- A router written in Lua: { name =, summary =, options = {}, params = {}, route = function(r, x, ids) ... end }.
  --- Returns its constructor.
  define = function(t)
    strict.keys(t, { "name", "summary", "paper", "options", "params", "choices", "mean_choices", "slots", "selection", "promises", "route", "after_step" }, "mg.router.define")
    for name, option in pairs(t.options or {}) do
      if type(option) == "table" then strict.keys(option, { "default", "min", "max", "choices", "float", "help" }, "mg.router.define: option " .. name) end
    end
    for name, param in pairs(t.params or {}) do strict.keys(param, { "shape", "init", "scale", "fixed" }, "mg.router.define: parameter " .. name) end
    strict.field(t, "name", "string", "mg.router.define")
    strict.field(t, "route", "function", "mg.router.define")
    if t.after_step ~= nil then strict.field(t, "after_step", "function", "mg.router.define") end
    core.define_router(t)
    specification.defined_routers[t.name] = t
    specification.used_routers[t.name] = true
    return constructor(t.name)
  end,
}, {
  __index = function(_, name)
    core.router(name)
    specification.used_routers[name] = true
    return constructor(name)
  end,
  __newindex = function(_, name) core.fail("usage", ("mg.router.%s cannot be set; use mg.router.define"):format(name)) end,
})

local function check_evaluations(models)
  if models == nil then return end
  if type(models) ~= "table" or #models > 0 then core.fail("usage", "mg.train: 'evaluations' must be a table of models by name, { NAME = mg.model{...} }") end
  for name, model in pairs(models) do
    if getmetatable(model) ~= Value then core.fail("usage", ("mg.train: evaluations.%s must be made with mg.model{...}"):format(tostring(name))) end
    core.check("model", model)
  end
end

--- In a smoke run two steps of a few short sequences: enough to run every line of a case once.
function specification.shrink(spec)
  if not core.smoke then return end
  spec.batch, spec.sequence, spec.accumulate, spec.timing_steps = 2, 32, 1, 1
  spec.tokens, spec.evaluate_tokens, spec.final_tokens = 128, 64, 64
end

-- What a trained model is written as: the family that can say all of its specification, found before anything is trained.
local function saving(folder, model)
  if type(folder) ~= "string" or folder == "" then core.fail("usage", "mg.train: 'save' must be the path of a folder") end
  local spec = {}
  for key, value in pairs(model) do spec[key] = value end
  spec.seed, spec.vocabulary = nil, spec.vocabulary or nominal_vocabulary
  local found, reason = form.of(spec)
  if not found then core.fail("usage", ("mg.train: save: no family that others load computes what this model does (%s)"):format(reason)) end
  return { folder = folder, config = found.config, tensors = found.tensors }
end

--- What `trace` of mg.train and model:trace stand for: a table of mg__trace_options, few tokens in a smoke run.
--- @param wanted string|table|nil  the file, or { path =, tokens =, sequence = }
--- @param sequence integer|nil     tokens per sequence where that does not say it
function specification.trace(wanted, sequence, where)
  if wanted == nil then return nil end
  local spec = type(wanted) == "string" and { path = wanted } or wanted
  if type(spec) ~= "table" then core.fail("usage", ("%s: 'trace' must be the path of a file or { path =, tokens =, sequence = }, not %s"):format(where, strict.describe(wanted))) end
  local full = { sequence = sequence }
  for key, value in pairs(spec) do full[key] = value end
  strict.field(full, "path", "string", where)
  core.check("trace", full)
  if core.smoke then full.tokens, full.sequence = 64, 32 end
  return full
end

--- Trains a model on a corpus: { model =, data =, tokens = 1e6, ... } -> { metrics =, series =, tables = }.
--- `save` = FOLDER then writes the trained model as others load it: model.safetensors, config.json, tokenizer.json.
--- `trace` = FILE, or { path = FILE, tokens = 65536, sequence = that of the training }, then writes where the tokens of the
--- validation split were routed (core/measure/trace.h).
--- `evaluations` = { NAME = mg.model{...} } then evaluates the trained weights in other models, as metrics "NAME.loss"
--- and so on; `specialisation` = true and `snapshots` = { 0.01, 0.1 } look at the routing (core/train/README.md).
function specification.train(t)
  local spec = copy(t, "mg.train")
  local model, data = spec.model, spec.data
  if type(model) ~= "table" then core.fail("usage", "mg.train: 'model' must be made with mg.model{...}, mg.load or mg.draw") end
  if type(data) ~= "table" then core.fail("usage", "mg.train: 'data' must be made with mg.corpus") end
  spec.model, spec.data = nil, nil
  spec = setmetatable(spec, nil)
  for key, value in pairs(core.run_settings()) do
    if key == "precision" then spec[key] = value end
  end
  if released.is(model) then return tuning.train(model, data, spec) end
  if spec.trainable ~= nil then core.fail("usage", "mg.train: 'trainable' chooses among the parameters of a model that mg.load or mg.draw gave; a model of mg.model is trained whole") end
  local folder, trace = spec.save, specification.trace(spec.trace, spec.sequence, "mg.train")
  spec.save, spec.trace = nil, nil
  if spec.seed == nil then spec.seed = model.seed end
  check_evaluations(spec.evaluations)
  core.check("train", spec)
  local save = folder ~= nil and saving(folder, model) or nil
  if core.probing() then core.fail("nothing", "the probe ends where training begins") end
  specification.shrink(spec)
  return core.train(model, data, spec, filters[data], save, trace)
end

return specification
