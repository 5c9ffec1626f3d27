--- What `require "moegauge"` returns: the words of an experiment. Everything here is a value or makes one; nothing runs
--- until a case does.

local core = require "moegauge.core"
local experiment = require "moegauge.experiment"
local lazy = require "moegauge.lazy"
local sorted = require "moegauge.sorted"
local specification = require "moegauge.specification"
local strict = require "moegauge.strict"

local inspect, released, serving, tuning = lazy "moegauge.inspect", lazy "moegauge.released", lazy "moegauge.serving", lazy "moegauge.tuning"

local mg = {
  core = core,
  version = core.version,
  experiment = experiment.new,
  dense = specification.dense,
  moe = specification.moe,
  model = specification.model,
  corpus = specification.corpus,
  router = specification.router,
  train = specification.train,
  cluster = lazy "moegauge.cluster",
}

--- What a released model costs, from its config.json alone: parameters by part, FLOPs per token at `context` tokens, bytes.
--- @param path string
--- @param context? integer
function mg.inspect(path, context) return inspect.run(path, context) end

--- A released model that runs, from the folder of its checkpoint: model:perplexity, model:multiple_choice, model:trace,
--- model:with_router.
--- @param path string
--- @param options? { backend?: string, precision?: string, threads?: integer, options?: table<string, any> }
function mg.load(path, options) return released.load(path, options) end

--- A model of random weights in the shape of a released one.
--- @param t { config: table, data?: table, seed?: integer, precision?: string, backend?: string }
function mg.draw(t) return released.draw(t) end

--- A released model measured on a segment of a corpus's validation split -> { metrics =, series =, tables = }.
--- @param t table  { model =, data =, tokens =, segment =, batch =, sequence =, ... } (core/train/README.md)
function mg.evaluate(t) return tuning.evaluate(t) end

--- A serving cluster under a stream of requests, simulated, and what its steps cost (moegauge/serving.lua).
function mg.serving(t) return serving.run(t) end
function mg.step_cost(t) return serving.step_cost(t) end

--- Ends the running case as skipped, with a reason that stands in its row.
--- @param reason string
function mg.skip(reason) core.fail("nothing", reason) end

--- What uniform random routing of `tokens` tokens with k distinct experts each shows on average: no router can be shown
--- better balanced on so few.
--- @param t { experts: integer, k: integer, tokens: integer }
--- @return { cv: number, max_over_mean: number, max_violation: number }
function mg.random_floor(t)
  strict.keys(t, { "experts", "k", "tokens" }, "mg.random_floor")
  for _, key in ipairs { "experts", "k", "tokens" } do strict.field(t, key, "number", "mg.random_floor") end
  local cv, violation = core.random_floor(t.experts, t.k, t.tokens)
  return { cv = cv, max_over_mean = 1 + violation, max_violation = violation }
end

--- Like pairs, but in order of the keys, which is the same in every run.
--- @generic V
--- @param t table<any, V>
--- @return fun(): any, V
function mg.sorted_pairs(t)
  return sorted.pairs(t)
end

-- What a script gets is an empty table in front of this one, so that nothing can be replaced.
return setmetatable({}, {
  __index = function(_, key)
    if mg[key] ~= nil then return mg[key] end
    local names = sorted.keys(mg)
    local nearest = core.nearest(tostring(key), names)
    core.fail("usage", ("there is no mg.%s; %s"):format(key, nearest and "did you mean mg." .. nearest .. "?" or "there are: " .. table.concat(names, ", ")))
  end,
  __newindex = function(_, key) core.fail("usage", ("mg.%s cannot be set: the library is shared by all scripts"):format(key)) end,
})
