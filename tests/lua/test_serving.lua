-- The serving simulation from Lua: step costs from functions and rows, policies that are functions, results like those of
-- training, and mistakes with one message each.
local mg = require "moegauge"

local function fails(f, words)
  local done, problem = pcall(f)
  assert(not done, "nothing was refused; expected: " .. words)
  assert(tostring(problem):find(words, 1, true), ("'%s' is not in '%s'"):format(words, tostring(problem)))
end

local function near(a, b, tolerance, what) assert(math.abs(a - b) <= tolerance, ("%s: %.10g is not %.10g"):format(what, a, b)) end

-- A function and its values make the same table; without a context the rows may be numbers.
local made = mg.step_cost { tokens = { 0, 10 }, context = { 0, 100 }, seconds = function(tokens, context) return tokens + context / 100 end }
assert(made.seconds[1][1] == 0 and made.seconds[1][2] == 1 and made.seconds[2][1] == 10 and made.seconds[2][2] == 11)
assert(mg.step_cost { tokens = { 0, 10 }, seconds = { 1, 2 } }.seconds[2][1] == 2)
assert(mg.step_cost { tokens = { 5 }, seconds = function() return 3 end }.context[1] == 0)
fails(function() mg.step_cost { tokens = { 0, 10 }, seconds = { 1 } } end, "'seconds' has 1 rows for 2 values of 'tokens'")
fails(function() mg.step_cost { tokens = { 0, 10 }, second = { 1 } } end, "did you mean 'seconds'?")
fails(function() mg.step_cost { tokens = { 10, 0 }, seconds = { 1, 2 } } end, "'tokens' must ascend")
fails(function() mg.step_cost { tokens = { 0, 1 }, seconds = function() return -1 end } end, "'seconds' must be 0 or more")
fails(function() mg.step_cost { tokens = { 0, 1 }, seconds = function() return 0 / 0 end } end, "NaN")

local second = mg.step_cost { tokens = { 0 }, seconds = { 1 } }
local function simulate(scaling, more)
  local spec = { hours = 1, seed = 2, drain = true, arrivals = { requests_per_second = 0.5, prompt_tokens = 10, output_tokens = 3 },
    mixed = { sequences = 4, prefill_step = second, decode_step = second, scaling = scaling } }
  for key, value in pairs(more or {}) do spec[key] = value end
  return mg.serving(spec)
end

local one = simulate(nil)
assert(one.metrics.requests == one.metrics.finished and one.metrics.output_tokens == 3 * one.metrics.requests)
assert(#one.series.nodes == 288 and one.series.nodes_mixed and one.tables.instance_seconds.mixed.busy > 0)
near(one.metrics.node_hours, one.metrics.seconds_simulated / 3600, 1e-9, "one node all the time")

-- A function is asked with the state, and its answer rounded up and kept.
local seen = {}
local two = simulate(function(state)
  seen[#seen + 1] = state
  return 1.5
end)
assert(two.metrics.nodes_peak == 2 and #seen == 60, #seen)
assert(seen[1].instances == 1 and seen[2].instances == 2 and seen[1].hours == 1 / 60)
assert(seen[1].utilisation > 0 and seen[1].utilisation <= 1 and seen[1].forecast_tokens_per_second == 0.5 * 13)
assert(two.metrics.latency_seconds_mean < one.metrics.latency_seconds_mean)
assert(simulate({ decide = function() return 2 end, interval_seconds = 600 }).metrics.nodes_peak == 2)

fails(function() simulate(function() return "two" end) end, "mixed.scaling: the policy must return a number of instances, not a string")
fails(function() simulate(function() return 0 / 0 end) end, "not a NaN or an infinity")
fails(function() simulate(function(state) return state.instances.more end) end, "attempt to index")
fails(function() simulate(7) end, "mixed.scaling must be a table or a function, not 7")
fails(function() simulate { policy = "custom" } end, "a custom policy needs 'decide'")
fails(function() simulate { policy = "targt" } end, "mixed.scaling")
fails(function() simulate(nil, { hour = 1 }) end, "did you mean 'hours'?")
fails(function() simulate(nil, { arrivals = { replay = "no/such/file.csv" } }) end, "no/such/file.csv")
fails(function() mg.serving { arrivals = {} } end, "pools are needed")
fails(function() mg.serving(3) end, "a table was expected, not 3")

-- Metrics have names for people, also those of a pool.
local metrics = require "moegauge.metrics"
assert(metrics.of("nodes_decode").title == "nodes, decode" and metrics.of("ttft_seconds_p99").title == "first token, 99 %")
for name in pairs(one.metrics) do assert(metrics.known[name], name .. " is not described") end
