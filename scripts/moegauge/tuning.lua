--- A released model on a corpus: measured on its validation split, its routers fitted to its training split, and trained.
--- The corpus is encoded with the model's own tokenizer.

local core = require "moegauge.core"
local lazy = require "moegauge.lazy"
local specification = require "moegauge.specification"
local strict = require "moegauge.strict"

local released, swap = lazy "moegauge.released", lazy "moegauge.swap"

local tuning = {}

local function fail(where, message, ...) core.fail("usage", (where .. ": " .. message):format(...)) end

--- The corpus as core opens it, and its filter: a copy that is tokenized as `model` does (nil: as the corpus says).
function tuning.corpus(model, data, where)
  if type(data) ~= "table" or type(data.corpus) ~= "string" then fail(where or "mg.draw", "'data' must be made with mg.corpus") end
  local spec = {}
  for key, value in pairs(data) do spec[key] = value end
  local filter = specification.filter_of(data)
  if model and model.path then
    for _, stage in ipairs(type(spec.stages) == "table" and spec.stages or {}) do
      if type(stage) == "table" and stage.stage == "tokenize" then fail(where, "the corpus is encoded with the model's tokenizer; leave the options of the stage 'tokenize' out") end
    end
    spec.tokenizer, spec.vocabulary = nil, nil
    spec.tokenize = { kind = "file", path = model.path }
  end
  return spec, filter
end

-- The options among the keys of t, checked; `others` are keys that are none.
local function options_of(t, kind, others, precision)
  local options = {}
  for key, value in pairs(t) do
    if not others[key] then options[key] = value end
  end
  core.check(kind, options)
  options.precision = options.precision or precision
  return options
end

local function need_model(model, where)
  if not released.is(model) then fail(where, "'model' must be made with mg.load or mg.draw") end
  if model.has_encoder then fail(where, "%s has an encoder; corpora are read by decoders alone", model.family) end
end

local function stop_if_probing(what)
  if core.probing() then core.fail("nothing", "the probe ends where " .. what .. " begins") end
end

local function shrink(options, tokens)
  if not core.smoke then return end
  options.tokens, options.batch, options.sequence = tokens, 2, 32
  if options.timing_passes then options.timing_passes = 1 end
end

--- mg.evaluate{ model =, data =, tokens =, segment =, ... }: a released model measured on a segment of the validation split.
function tuning.evaluate(t)
  local where <const> = "mg.evaluate"
  if type(t) ~= "table" then fail(where, "a table was expected, not %s", strict.describe(t)) end
  need_model(t.model, where)
  local data, filter = tuning.corpus(t.model, t.data, where)
  local options = options_of(t, "evaluate", { model = true, data = true }, t.model.precision)
  stop_if_probing "evaluation"
  shrink(options, 64)
  return t.model.model:evaluate(data, options, filter)
end

--- model:compare_routing{ with =, data =, ... }: how often the other model chooses other experts for the same tokens.
function tuning.compare_routing(model, t)
  local where <const> = "model:compare_routing"
  if type(t) ~= "table" then fail(where, "a table was expected, not %s", strict.describe(t)) end
  need_model(model, where)
  need_model(t.with, where)
  local data, filter = tuning.corpus(model, t.data, where)
  local options = options_of(t, "evaluate", { with = true, data = true }, model.precision)
  stop_if_probing "evaluation"
  shrink(options, 64)
  return model.model:compare_routing(data, options, filter, t.with.model)
end

function tuning.calibrate(model, t)
  local where <const> = "model:calibrate"
  need_model(model, where)
  local data, filter = tuning.corpus(model, t.data, where)
  local options = options_of(t, "calibrate", { data = true }, model.precision)
  stop_if_probing "calibration"
  shrink(options, 64)
  return model.model:calibrate(data, options, filter)
end

function tuning.distil(model, t)
  local where <const> = "model:distil"
  strict.keys(t, { "data", "teacher", "experts", "options" }, where)
  need_model(model, where)
  need_model(t.teacher, where)
  local data, filter = tuning.corpus(model, t.data, where)
  local options = options_of(t.options or {}, "distil", {}, model.precision)
  stop_if_probing "distillation"
  shrink(options, 128)
  return model.model:distil(data, options, filter, t.teacher.model, t.experts)
end

-- ---- training ----------------------------------------------------------------------------------------------------

local short <const> = { router = { "*.router.*" }, all = { "*" } }

local function patterns_of(trainable, where)
  local patterns = short[trainable or "router"]
  if patterns then return patterns end
  if type(trainable) ~= "table" or #trainable == 0 then
    fail(where, "'trainable' must be \"router\", \"all\" or a list of patterns of names such as { \"layers.3.*\" }, not %s", strict.describe(trainable))
  end
  for _, pattern in ipairs(trainable) do
    if type(pattern) ~= "string" then fail(where, "'trainable' must be a list of texts") end
  end
  return trainable
end

local function matches(patterns, name)
  for _, pattern in ipairs(patterns) do
    local lua = "^" .. pattern:gsub("[%^%$%(%)%%%.%[%]%+%-]", "%%%0"):gsub("%*", ".*"):gsub("%?", ".") .. "$"
    if name:find(lua) then return true end
  end
  return false
end

-- Notes in the model where its routers' parameters now come from.
local function mark(model, patterns)
  local chosen = {}
  for _, parameter in ipairs(core.describe(model.spec, 1, true).parameters) do
    local name = parameter.name:match "^layers%..+%.router%.([^.]+)$"
    if name then
      model.sources[name] = model.sources[name] or "released"
      chosen[name] = chosen[name] or matches(patterns, parameter.name) and not parameter.fixed
    end
  end
  swap.mark(model.sources, "fine-tuned", function(name) return chosen[name] end)
end

--- mg.train of a released model: the parameters that `trainable` names learn, all others stay as they are and take neither
--- gradients nor moments. `spec` holds the other keys of a training.
function tuning.train(model, data, spec)
  local where <const> = "mg.train"
  need_model(model, where)
  local patterns = patterns_of(spec.trainable, where)
  spec.trainable = nil
  if spec.checkpoint ~= nil then fail(where, "a released model is not checkpointed; save it with model:save") end
  if spec.evaluations ~= nil then fail(where, "'evaluations' are for models made with mg.model; use model:with_router and mg.evaluate") end
  spec.precision = spec.precision or model.precision
  core.check("train", spec)
  local encoded, filter = tuning.corpus(model, data, where)
  stop_if_probing "training"
  specification.shrink(spec)
  local result = model.model:train(encoded, spec, filter, patterns)
  mark(model, patterns)
  return result
end

return tuning
