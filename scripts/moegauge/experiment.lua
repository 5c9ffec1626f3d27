--- Experiments as values: strict keys, the sweep as a cartesian product in a fixed order, labels, settings from the
--- command line, and the one call that runs a case.
---
--- Order of cases: the axes of the sweep by name, the last name changing fastest, and `seed` after all others, so that
--- the repeats of one point stand together.

local core = require "moegauge.core"
local label = require "moegauge.label"
local lazy = require "moegauge.lazy"
local sorted = require "moegauge.sorted"
local specification = require "moegauge.specification"
local strict = require "moegauge.strict"

local report = lazy "moegauge.report"

local experiment = {}

local Experiment = { __name = "moegauge.experiment" }
Experiment.__index = Experiment

local keys <const> = { "title", "sweep", "run", "report", "options", "filter" }
--- Settings of a whole run, which every experiment takes.
local run_wide <const> = { "backend", "precision", "threads" }
local cases_max <const> = 100000
-- A probe ends after so many Lua instructions, and probing after so many runs that did not get to training.
local probe_instructions <const>, idle_probes_max <const> = 200000, 4

-- ---- making one ------------------------------------------------------------------------------------------------

local function check_name(name, where)
  if type(name) ~= "string" or not name:find("^[%a_][%w_]*$") then
    core.fail("usage", ("%s: '%s' is not a name (letters, digits and _)"):format(where, tostring(name)))
  end
  for _, taken in ipairs { "number", "label", table.unpack(run_wide) } do
    if name == taken then core.fail("usage", ("%s: '%s' is taken; choose another name"):format(where, name)) end
  end
end

-- An axis as a list of values; a single value is a list of one.
local function axis_of(name, values)
  local where = "sweep." .. name
  if type(values) ~= "table" or type(getmetatable(values)) == "table" or (#values == 0 and next(values) ~= nil) then values = { values } end
  if #values == 0 then core.fail("usage", where .. ": has no values; leave the axis out or give it some") end
  local seen = {}
  for i, value in ipairs(values) do
    local text = core.to_json_strict(value, ("%s[%d]"):format(where, i))
    if seen[text] then core.fail("usage", ("%s: values %d and %d are the same"):format(where, seen[text], i)) end
    seen[text] = i
  end
  return values
end

local function check_seeds(seeds, where)
  for i, seed in ipairs(seeds) do
    if math.type(seed) ~= "integer" and not (type(seed) == "number" and seed == math.floor(seed)) or seed < 0 then
      core.fail("usage", ("%s[%d]: a seed is a whole number from 0 up, not %s"):format(where, i, strict.describe(seed)))
    end
    seeds[i] = math.tointeger(seed)
  end
end

local function check_options(options, sweep)
  for _, name in ipairs(sorted.keys(options)) do
    check_name(name, "options")
    if sweep[name] ~= nil then core.fail("usage", ("options.%s: the sweep has an axis of that name"):format(name)) end
    core.to_json_strict(options[name], "options." .. name)
  end
end

--- @param t table  { title =, sweep = {}, run = function(case), report = function(r), options = {}, filter = function(case) }
function experiment.new(t)
  strict.keys(t, keys, "mg.experiment")
  strict.field(t, "title", "string", "mg.experiment")
  strict.field(t, "run", "function", "mg.experiment")
  for _, key in ipairs { "report", "filter" } do
    if t[key] ~= nil then strict.field(t, key, "function", "mg.experiment") end
  end
  for _, key in ipairs { "sweep", "options" } do
    if t[key] ~= nil then strict.field(t, key, "table", "mg.experiment") end
  end
  local self = { title = t.title, run = t.run, report = t.report, filter = t.filter, axes = {}, options = {}, settings = {} }
  for name, values in pairs(t.sweep or {}) do
    check_name(name, "sweep")
    self.axes[name] = axis_of(name, values)
  end
  self.axes.seed = self.axes.seed or { 1 }
  check_seeds(self.axes.seed, "sweep.seed")
  check_options(t.options or {}, self.axes)
  for name, value in pairs(t.options or {}) do self.options[name] = value end
  return setmetatable(self, Experiment)
end

--- Called by the engine with what the file returned.
function experiment.check_loaded(value, path)
  if getmetatable(value) ~= Experiment then
    core.fail("usage", ("%s: must end with `return mg.experiment { ... }`; it returned %s"):format(path, strict.describe(value)))
  end
  return value
end

-- ---- settings from the command line ------------------------------------------------------------------------------

local function value_from_text(text)
  if text == "true" or text == "false" then return text == "true" end
  local number = tonumber(text)
  if number and number == number and math.abs(number) < math.huge then return math.tointeger(number) or number end
  return text
end

local function split(text)
  local parts = {}
  for part in (text .. ","):gmatch("([^,]*),") do parts[#parts + 1] = part end
  return parts
end

-- A value of an axis from text, of a type that one of its own values has.
local function like_one_of(current, name, word)
  local value = value_from_text(word)
  for _, known in ipairs(current) do
    if type(known) == type(value) then return value end
    if type(known) == "string" then return word end
  end
  core.fail("usage", ("--set %s: a %s was expected, like its value %s, not '%s'"):format(name, type(current[1]), tostring(current[1]), word))
end

-- Values of an axis from text: tables are chosen among the axis's own by label, anything else is taken as it is.
local function axis_from_text(self, name, text)
  local current, chosen = self.axes[name], {}
  local labels = label.of(current)
  for i, word in ipairs(split(text)) do
    local found
    for j, known in ipairs(labels) do
      if known == word then found = current[j] end
    end
    if found == nil and type(current[1]) == "table" then
      local nearest = core.nearest(word, labels)
      core.fail("usage", ("--set %s: there is no '%s'; %s"):format(name, word, nearest and "did you mean '" .. nearest .. "'?" or "there are: " .. table.concat(labels, ", ")))
    end
    if found == nil then found = like_one_of(current, name, word) end
    chosen[i] = found
  end
  return axis_of(name, chosen)
end

local function option_from_text(self, name, text)
  local default, value = self.options[name], value_from_text(text)
  if type(default) == "string" then return text end
  if type(default) ~= type(value) then
    core.fail("usage", ("--set %s: a %s was expected, like the default %s, not '%s'"):format(name, type(default), tostring(default), text))
  end
  return value
end

local function set(self, name, text)
  if self.axes[name] then
    self.axes[name] = axis_from_text(self, name, text)
  elseif self.options[name] ~= nil then
    self.options[name] = option_from_text(self, name, text)
  else
    for _, wide in ipairs(run_wide) do
      if name == wide then
        self.settings[name] = value_from_text(text)
        return
      end
    end
    local known = sorted.keys(self.axes)
    for _, option in ipairs(sorted.keys(self.options)) do known[#known + 1] = option end
    for _, wide in ipairs(run_wide) do known[#known + 1] = wide end
    local nearest = core.nearest(name, known)
    core.fail("usage", ("--set %s: there is no such setting; %s"):format(name, nearest and "did you mean '" .. nearest .. "'?" or "there are: " .. table.concat(known, ", ")))
  end
end

--- Applies --set and --seeds. Returns the run-wide settings.
--- @param overrides table<string, string>|nil
--- @param seeds integer[]|nil
function experiment.configure(self, overrides, seeds)
  for _, name in ipairs(sorted.keys(overrides or {})) do set(self, name, overrides[name]) end
  if seeds then self.axes.seed = axis_of("seed", seeds) end
  check_seeds(self.axes.seed, "--set seed")
  core.check_settings(self.settings)
  return self.settings
end

-- ---- cases -------------------------------------------------------------------------------------------------------

-- Names of the axes, outermost first.
local function axis_order(self)
  local names = {}
  for _, name in ipairs(sorted.keys(self.axes)) do
    if name ~= "seed" then names[#names + 1] = name end
  end
  names[#names + 1] = "seed"
  return names
end

-- What run and filter receive: the parameters, with number and label; asking for an unknown one is an error.
local function case_view(params, number, text)
  local view = { number = number, label = text }
  for name, value in pairs(params) do view[name] = value end
  return setmetatable(view, { __index = function(_, key)
    local known = sorted.keys(view)
    local nearest = core.nearest(tostring(key), known)
    core.fail("usage", ("case.%s: there is no such parameter; %s"):format(tostring(key), nearest and "did you mean case." .. nearest .. "?" or "there are: " .. table.concat(known, ", ")))
  end })
end

local function label_of(names, axes, labels, at)
  local parts, chosen = {}, {}
  for i, name in ipairs(names) do
    local text = labels[name][at[i]]
    chosen[name] = text
    if #axes[name] > 1 then
      parts[#parts + 1] = type(axes[name][at[i]]) == "table" and text or name .. "=" .. text
    end
  end
  return #parts > 0 and table.concat(parts, " ") or "single case", chosen
end

-- Calls visit(at) for every point of the product, the last axis fastest.
local function each_point(names, axes, visit)
  local at = {}
  for i in ipairs(names) do at[i] = 1 end
  while true do
    visit(at)
    local i = #names
    while i > 0 and at[i] == #axes[names[i]] do
      at[i] = 1
      i = i - 1
    end
    if i == 0 then return end
    at[i] = at[i] + 1
  end
end

local function check_size(names, axes)
  local count = 1
  for _, name in ipairs(names) do count = count * #axes[name] end
  if count > cases_max then
    core.fail("usage", ("the sweep has %d cases; at most %d are allowed"):format(count, cases_max))
  end
end

--- All cases in order: { number, label, labels, params }, params holding the script's own values.
function experiment.cases(self)
  local names, labels, cases = axis_order(self), {}, {}
  check_size(names, self.axes)
  for _, name in ipairs(names) do labels[name] = label.of(self.axes[name]) end
  each_point(names, self.axes, function(at)
    local params = {}
    for name, value in pairs(self.options) do params[name] = value end
    for i, name in ipairs(names) do params[name] = self.axes[name][at[i]] end
    local text, chosen = label_of(names, self.axes, labels, at)
    if not self.filter or self.filter(case_view(params, #cases + 1, text)) then
      cases[#cases + 1] = { number = #cases + 1, label = text, labels = chosen, params = params }
    end
  end)
  return cases
end

-- ---- what the engine calls ------------------------------------------------------------------------------------------

-- Runs each point once up to where training begins, so that a wrong model or training is refused before anything is
-- trained. Only refusals of specifications count: an error of the script itself is a failed case later.
local function probe(self, cases)
  local first_seed, idle = self.axes.seed[1], 0
  for _, case in ipairs(cases) do
    if idle == idle_probes_max then return end
    if case.params.seed == first_seed then
      core.enter(self.run)
      local done, problem, spent = core.probe(probe_instructions, self.run, case_view(case.params, case.number, case.label))
      if done or spent then
        idle = idle + 1
      else
        local status, message = core.error_of(problem)
        if status and status ~= "nothing" and status ~= "interrupted" then
          core.fail_plain(status, ("%s (in case %d, %s)"):format(message, case.number, case.label))
        end
      end
    end
  end
end

-- Makes the report of cases without a number, so that a wrong axis or statement is refused before anything runs. An error of
-- the script itself may come of the missing numbers and does not count.
local function probe_report(self, cases)
  if not self.report then return end
  local stored = { experiment = { title = self.title }, cases = {} }
  for i, case in ipairs(cases) do
    stored.cases[i] = { number = case.number, label = case.label, params = case.params, status = "ok", seconds = 0,
      result = { metrics = {}, series = {}, tables = {} } }
  end
  local done, problem = core.probe(probe_instructions, report.blocks, stored, self)
  local status, message = core.error_of(not done and problem or nil)
  if status == "usage" then core.fail_plain(status, message) end
end

--- The plan as plain data.
function experiment.plan(self)
  local cases = experiment.cases(self)
  probe(self, cases)
  probe_report(self, cases)
  local axes, planned = {}, core.list {}
  for name, values in pairs(self.axes) do axes[name] = core.list(label.of(values)) end
  for i, case in ipairs(cases) do planned[i] = { number = case.number, label = case.label, labels = case.labels, params = case.params } end
  return {
    title = self.title, cases = planned, axes = axes, settings = self.settings,
    routers = core.list(sorted.keys(specification.used_routers)), backends = core.list { core.backend_name() },
    source = core.hash_value { run = self.run, routers = specification.defined_routers, files = specification.used_files },
  }
end

local result_keys <const> = { "metrics", "series", "tables" }

--- Runs one case and returns its result, checked.
function experiment.run_case(self, number)
  local case = experiment.cases(self)[number]
  if not case then core.fail("usage", ("there is no case %d"):format(number)) end
  core.enter(self.run)
  local result = self.run(case_view(case.params, case.number, case.label))
  if type(result) ~= "table" then
    core.fail("usage", ("run must return { metrics = {...} }, not %s"):format(strict.describe(result)))
  end
  strict.keys(result, result_keys, "the result of run")
  for _, key in ipairs(result_keys) do
    if result[key] ~= nil then strict.field(result, key, "table", "the result of run") end
  end
  for name, value in pairs(result.metrics or {}) do
    if type(value) ~= "number" then core.fail("usage", ("the result of run: metrics.%s must be a number, not %s"):format(tostring(name), strict.describe(value))) end
  end
  return { metrics = result.metrics or {}, series = result.series or {}, tables = result.tables or {} }
end

--- Renders stored results. Returns { text =, files = { name = content } }.
function experiment.render(self, stored, format)
  local text, files = report.write(stored, format, self)
  return { text = text, files = files }
end

return experiment
