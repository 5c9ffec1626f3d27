--- mg.cluster: what a routing costs on many accelerators. A specification in, metrics out, as from mg.train, so that
--- sweeps and reports work; core/cluster/README.md lists what is modelled.

local calibration = require "moegauge.cluster.calibration"
local catalogue = require "moegauge.cluster.catalogue"
local core = require "moegauge.core"
local sorted = require "moegauge.sorted"
local specification = require "moegauge.specification"
local strict = require "moegauge.strict"

local cluster = { accelerators = catalogue.accelerators, models = catalogue.models }

-- A name as its entry of a table, a table as itself.
local function named(value, known, key)
  if type(value) == "table" then return value end
  if type(value) == "string" and known[value] then return known[value] end
  local nearest = type(value) == "string" and core.nearest(value, sorted.keys(known))
  core.fail("usage", ("mg.cluster: '%s' must be a table or one of the known names, not %s; %s"):format(key, strict.describe(value),
    nearest and "did you mean '" .. nearest .. "'?" or "there are: " .. table.concat(sorted.keys(known), ", ")))
end

local function calibration_of(t)
  if t.costs == "roofline" then return nil end
  local name = t.calibration
  if name == nil and type(t.accelerator) == "string" then name = catalogue.calibration_of[t.accelerator] end
  if name == nil or type(name) == "table" then return name end
  return named(name, calibration.known, "calibration")()
end

-- Asks a placement written in Lua layer by layer.
local function assignment_of(spec, place)
  local layers = {}
  for i, request in ipairs(core.placement_requests(spec)) do
    layers[i] = place(request)
    if type(layers[i]) ~= "table" then core.fail("usage", ("mg.cluster: placement must return a list of experts, one for each slot, not %s"):format(strict.describe(layers[i]))) end
  end
  return layers
end

-- The specification for C, without a placement in Lua.
local function plain(t)
  if type(t) ~= "table" then core.fail("usage", ("mg.cluster: a table was expected, not %s"):format(strict.describe(t))) end
  local spec = {}
  for key, value in pairs(t) do spec[key] = value end
  spec.model = named(t.model, catalogue.models, "model")
  spec.accelerator = named(t.accelerator, catalogue.accelerators, "accelerator")
  spec.calibration = calibration_of(t)
  if type(t.trace) == "string" then spec.trace = { path = t.trace } end
  local path = type(spec.trace) == "table" and spec.trace.path
  if type(path) == "string" and core.probing() then specification.used_files[path] = core.stamp(path) end
  spec.placement = type(t.placement) == "string" and t.placement or nil
  return spec
end

-- One layer and few tokens: enough to run every line of a case once.
local function shrink(spec)
  local path = type(spec.trace) == "table" and spec.trace.path
  if not path then
    local trace = {}
    for key, value in pairs(spec.trace or {}) do trace[key] = value end
    trace.layers, trace.tokens, spec.trace = 1, 1024, trace
  end
end

local function prepare(t)
  local spec, place = plain(t), type(t.placement)
  if place ~= "nil" and place ~= "string" and place ~= "function" then
    core.fail("usage", ("mg.cluster: 'placement' must be a policy's name or a function, not %s"):format(strict.describe(t.placement)))
  end
  core.check_cluster(spec)
  if core.probing() then core.fail("nothing", "the probe ends where the simulation begins") end
  if core.smoke then shrink(spec) end
  if type(t.placement) == "function" then spec.assignment = assignment_of(spec, t.placement) end
  return spec
end

--- Simulates a step: { step = "decode", model = "deepseek_v3", accelerator = "h800", ranks = 128, trace = {...}, placement =
--- "eplb" or function(request) -> experts of the slots, ... } -> { metrics =, series =, tables = }.
--- @param t table
function cluster.run(t)
  local result = core.simulate(prepare(t))
  return { metrics = result.metrics, series = {}, tables = { ranks = result.ranks, extrapolated = core.list(result.extrapolated) } }
end

--- What mg.serving's steps cost: the same specification, simulated at each of `grid.tokens` (of the whole instance) and
--- `grid.context`; the value of mg.step_cost.
--- @param t table
--- @param grid { tokens: number[], context: number[] }
function cluster.step_cost(t, grid)
  strict.keys(grid, { "tokens", "context" }, "mg.cluster.step_cost")
  for _, key in ipairs { "tokens", "context" } do strict.field(grid, key, "table", "mg.cluster.step_cost") end
  return core.simulate_grid(prepare(t), grid)
end

--- What a recorded trace holds: { tokens =, texts =, layers =, experts =, choices = }.
--- @param path string
function cluster.trace(path)
  if type(path) ~= "string" then core.fail("usage", ("mg.cluster.trace: the path of a trace was expected, not %s"):format(strict.describe(path))) end
  return core.describe_trace(path)
end

--- Writes the trace of a specification to a file, in the format of `moegauge model trace`.
--- @param t table
--- @param path string
function cluster.write_trace(t, path) core.write_trace(plain(t), path) end

return setmetatable(cluster, { __call = function(_, t) return cluster.run(t) end })
