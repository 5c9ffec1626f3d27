--- A serving cluster under a stream of requests, simulated event by event: mg.serving, and mg.step_cost, what its steps
--- cost. core/cluster/README.md says what is modelled, and lists every option and metric.

local core = require "moegauge.core"
local strict = require "moegauge.strict"

local serving = {}

local pools <const> = { "mixed", "prefill", "decode" }
-- What a smoke run simulates of every case.
local smoke_hours <const> = 0.02

-- One row of seconds: a function's values, a list, or a number where there is one context.
local function row_of(seconds, tokens, contexts, i)
  if type(seconds) ~= "function" then return type(seconds[i]) == "number" and { seconds[i] } or seconds[i] end
  local row = {}
  for c, context in ipairs(contexts) do row[c] = seconds(tokens, context) end
  return row
end

--- Seconds of a step by its tokens and their mean context, between the values given: { tokens = { 1, 64, 128 },
--- context = { 0, 8192 }, seconds = function(tokens, context) ... end or a list of rows, one for each value of tokens }.
--- Without `context`, or with one value, the cost does not depend on it.
--- @param t { tokens: number[], context?: number[], seconds: number[]|number[][]|fun(tokens: number, context: number): number }
function serving.step_cost(t)
  strict.keys(t, { "tokens", "context", "seconds" }, "mg.step_cost")
  strict.field(t, "tokens", "table", "mg.step_cost")
  if type(t.seconds) ~= "function" then strict.field(t, "seconds", "table", "mg.step_cost") end
  local cost = { tokens = t.tokens, context = t.context or { 0 }, seconds = {} }
  if type(t.seconds) == "table" and #t.seconds ~= #t.tokens then
    core.fail("usage", ("mg.step_cost: 'seconds' has %d rows for %d values of 'tokens'"):format(#t.seconds, #t.tokens))
  end
  for i, tokens in ipairs(t.tokens) do cost.seconds[i] = row_of(t.seconds, tokens, cost.context, i) end
  core.check_step_cost(cost)
  return cost
end

-- A copy of a pool whose policy, if it is a function, has gone to `policies`.
local function plain_pool(pool, name, policies)
  if type(pool) ~= "table" or pool.scaling == nil then return pool end
  local copy, scaling = {}, {}
  for key, value in pairs(pool) do copy[key] = value end
  if type(pool.scaling) == "function" then
    scaling.decide = pool.scaling
  elseif type(pool.scaling) == "table" then
    for key, value in pairs(pool.scaling) do scaling[key] = value end
  else
    core.fail("usage", ("mg.serving: %s.scaling must be a table or a function, not %s"):format(name, strict.describe(pool.scaling)))
  end
  if scaling.decide ~= nil then
    strict.field(scaling, "decide", "function", ("mg.serving: %s.scaling"):format(name))
    policies[name], scaling.decide, scaling.policy = scaling.decide, nil, "custom"
  elseif scaling.policy == "custom" then
    core.fail("usage", ("mg.serving: %s.scaling: a custom policy needs 'decide', a function(state) that returns a number of instances"):format(name))
  end
  copy.scaling = scaling
  return copy
end

--- Simulates requests on pools of instances: { hours = 24, arrivals = { requests_per_second = 100 }, prefill = { nodes = 4,
--- prefill_step = mg.step_cost {...} }, decode = {...} }, or `mixed` in place of the two. A pool's `scaling` is a table of
--- a policy's options, or a function(state) that returns the wanted number of instances.
--- @param t table
--- @return { metrics: table<string, number>, series: table, tables: table }
function serving.run(t)
  if type(t) ~= "table" then core.fail("usage", ("mg.serving: a table was expected, not %s"):format(strict.describe(t))) end
  local spec, policies = {}, {}
  for key, value in pairs(t) do spec[key] = value end
  for _, name in ipairs(pools) do spec[name] = plain_pool(t[name], name, policies) end
  if core.smoke then spec.hours = smoke_hours end
  core.check_serving(spec)
  if core.probing() then core.fail("nothing", "the probe ends where the simulation begins") end
  return core.serve(spec, policies)
end

return serving
