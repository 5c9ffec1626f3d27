--- The results of an experiment as a report sees them: cases grouped by an axis of the sweep, repeats paired by seed.
--- A report function receives one of these as `r` and returns a list of what r's methods make.

local charts = require "moegauge.result_charts"
local core = require "moegauge.core"
local expectation = require "moegauge.expectation"
local format = require "moegauge.format"
local label = require "moegauge.label"
local metrics = require "moegauge.metrics"
local paper = require "moegauge.paper"
local repeats = require "moegauge.repeats"
local sorted = require "moegauge.sorted"
local statistics = require "moegauge.statistics"
local strict = require "moegauge.strict"

--- @class moegauge.Result
--- @field cases table[]   finished cases in sweep order
--- @field failed table[]  failed and skipped cases, each with `status` and `reason`
local Result = {}
Result.__index = Result
setmetatable(Result, { __index = function(_, key)
  local known = {}
  for name, value in sorted.pairs(Result) do
    if type(value) == "function" and name ~= "__index" then known[#known + 1] = name end
  end
  local nearest = core.nearest(tostring(key), known)
  core.fail("usage", ("report: there is no r:%s; %s"):format(tostring(key), nearest and "did you mean r:" .. nearest .. "?" or "there are: " .. table.concat(known, ", ")))
end })

local result = {}

--- @param stored table  what the store holds: { experiment = {...}, cases = {...} }
--- @return moegauge.Result
function result.new(stored)
  local self = setmetatable({ experiment = stored.experiment or {}, cases = {}, failed = {} }, Result)
  for _, case in ipairs(stored.cases or {}) do
    table.insert(case.status == "ok" and self.cases or self.failed, case)
  end
  return self
end

-- Fails unless the case has such a parameter.
local function check_axis(case, name)
  if case.params[name] ~= nil then return end
  local known = sorted.keys(case.params)
  local nearest = core.nearest(name, known)
  core.fail("usage", ("report: there is no axis '%s'; %s"):format(name, nearest and "did you mean '" .. nearest .. "'?" or "there are: " .. table.concat(known, ", ")))
end

-- A text that is equal for equal values of an axis.
local function key_of(value)
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  for i, key in ipairs(sorted.keys(value)) do parts[i] = tostring(key) .. "=" .. key_of(value[key]) end
  return "{" .. table.concat(parts, ",") .. "}"
end

-- A text of all parameters but those of `left_out`.
local function point_of(case, left_out)
  local rest = {}
  for name, value in pairs(case.params) do
    if not left_out[name] then rest[name] = value end
  end
  return key_of(rest)
end

--- The axes that vary, `seed` left out, in order of name.
function Result:axes()
  local seen, names = {}, {}
  for _, cases in ipairs { self.cases, self.failed } do
    for _, case in ipairs(cases) do
      for name, value in pairs(case.params) do
        seen[name] = seen[name] or {}
        seen[name][key_of(value)] = true
      end
    end
  end
  for name, values in sorted.pairs(seen) do
    local first = next(values)
    if name ~= "seed" and first and next(values, first) then names[#names + 1] = name end
  end
  return names
end

--- Cases grouped by the values of one axis, or by all varying axes but the seed. A group is { label, cases, points, missing };
--- the cases of a group are ordered by seed and then by place; points[case] is equal for cases of two groups that differ in
--- nothing but the axes grouped by, and the seed; `missing` counts cases without a result. Groups of such cases alone are in
--- the list's field `lost`. Its field `axis` is the axis, where values alone would not say what they are of.
--- @param axis string|nil
function Result:groups(axis)
  if axis ~= nil and type(axis) ~= "string" then
    core.fail("usage", ("report: an axis is named by a text, not %s; without one, all axes that vary make the rows"):format(strict.describe(axis)))
  end
  local names = axis and { axis } or self:axes()
  local groups, by_key, columns, grouped = {}, {}, {}, { seed = true }
  for _, name in ipairs(names) do grouped[name] = true end
  local function group_of(case)
    local parts, values = {}, {}
    for i, name in ipairs(names) do
      check_axis(case, name)
      parts[i], values[i] = key_of(case.params[name]), case.params[name]
    end
    local key = table.concat(parts, "|")
    if not by_key[key] then
      by_key[key] = { values = values, cases = {}, points = {}, missing = 0 }
      groups[#groups + 1] = by_key[key]
    end
    return by_key[key]
  end
  for _, case in ipairs(self.cases) do
    local group = group_of(case)
    table.insert(group.cases, case)
    group.points[case] = point_of(case, grouped)
  end
  for _, case in ipairs(self.failed) do
    local group = group_of(case)
    group.missing = group.missing + 1
  end
  for i in ipairs(names) do
    local values = {}
    for g, group in ipairs(groups) do values[g] = group.values[i] end
    columns[i] = label.of(values)
  end
  for g, group in ipairs(groups) do
    local words = {}
    for i, name in ipairs(names) do
      words[i] = #names > 1 and type(group.values[i]) ~= "table" and name .. "=" .. columns[i][g] or columns[i][g]
    end
    group.label = #words > 0 and table.concat(words, " ") or "all"
    table.sort(group.cases, function(a, b)
      local x, y = a.params.seed or 0, b.params.seed or 0
      if x ~= y then return x < y end
      return a.number < b.number
    end)
  end
  local found = { lost = {}, axis = axis and groups[1] and type(groups[1].values[1]) ~= "table" and axis or nil }
  for _, group in ipairs(groups) do table.insert(#group.cases > 0 and found or found.lost, group) end
  return found
end

local default_columns <const> = { "loss", "bits_per_byte", "accuracy", "flops_per_token", "cv", "max_over_mean",
  "dropped_assignments", "gate_ns_per_token", "tokens_per_second" }

-- What uniform random routing reaches, for the metrics of balance that are read against it.
local floors <const> = { cv = "random_floor_cv", max_over_mean = "random_floor_max_over_mean", max_violation = "random_floor_max_violation",
  sequence_cv = "random_floor_sequence_cv", sequence_max_violation = "random_floor_sequence_max_violation",
  dropped_assignments = "random_floor_dropped" }

-- The columns, each metric of balance followed by its floor where that was measured.
local function with_floors(columns, present)
  local all, listed = {}, {}
  for _, name in ipairs(columns) do listed[name] = true end
  for _, name in ipairs(columns) do
    all[#all + 1] = name
    local floor = floors[name]
    if floor and present[floor] and not listed[floor] then all[#all + 1] = floor end
  end
  return all
end

-- The wanted columns, or the default ones that at least one case measured, or, for cases with other metrics, theirs.
local function columns_for(groups, wanted)
  local present, columns = {}, {}
  for _, group in ipairs(groups) do
    for _, case in ipairs(group.cases) do
      for name in pairs(case.result.metrics) do present[name] = true end
    end
  end
  if wanted then return with_floors(wanted, present) end
  for _, name in ipairs(default_columns) do
    if present[name] then columns[#columns + 1] = name end
  end
  return with_floors(#columns > 0 and columns or sorted.keys(present), present)
end

local function seeds_note(groups)
  local least, most, averaged = math.huge, 0, expectation.averaged(groups)
  for _, group in ipairs(groups) do
    local seeds = {}
    for _, case in ipairs(group.cases) do seeds[case.params.seed or 0] = true end
    least, most = math.min(least, #sorted.keys(seeds)), math.max(most, #sorted.keys(seeds))
  end
  if most < 2 then return (averaged == "" and "One run each" or "One seed each") .. ": nothing here tells a difference from noise. Use --seeds 1..5." .. averaged end
  return ("Mean ± half width of the 95 %% interval over %s %s."):format(least == most and most or least .. " to " .. most, averaged == "" and "runs" or "seeds") .. averaged
end

--- One row per value of the axis, one column per metric (mean and 95 % interval over seeds).
--- @param axis string|nil
--- @param columns string[]|nil
function Result:table(axis, columns)
  local groups = self:groups(axis)
  columns = columns_for(groups, columns)
  local t = { columns = { { title = axis or "case" } }, rows = {}, sort = {}, note = seeds_note(groups) .. repeats.lacking(groups, columns) }
  for c, name in ipairs(columns) do t.columns[c + 1] = { title = metrics.of(name).title, right = true } end
  for g, group in ipairs(groups) do
    t.rows[g], t.sort[g] = { group.label }, {}
    for c, name in ipairs(columns) do
      local estimate = statistics.estimate(repeats.values(group, name))
      t.rows[g][c + 1] = format.estimate(name, estimate)
      t.sort[g][c + 1] = estimate.mean
    end
  end
  return { kind = "table", title = axis and "By " .. axis:gsub("_", " ") or "Results", table = t }
end

--- What is no number: one row per value of the axis, with texts from the table `name` of its first case, `columns` being keys
--- there.
--- @param axis string
--- @param name string
--- @param columns string[]
function Result:facts(axis, name, columns)
  local t = { columns = { { title = axis } }, rows = {} }
  for c, key in ipairs(columns) do t.columns[c + 1] = { title = (key:gsub("_", " ")) } end
  for g, group in ipairs(self:groups(axis)) do
    local facts = (group.cases[1].result.tables or {})[name] or {}
    t.rows[g] = { group.label }
    for c, key in ipairs(columns) do t.rows[g][c + 1] = facts[key] == nil and "–" or tostring(facts[key]) end
  end
  return { kind = "table", title = (name:gsub("^%l", string.upper):gsub("_", " ")), table = t }
end

--- A published table beside this run: for each row of the paper, by label, its figures and ours.
--- @param t { source: string, table: string, sourcing: string, axis: string|nil, columns: string[], rows: table[], note: string|nil }
---   a row is { label, METRIC = the paper's figure, paper = its name there, sourcing = where it differs }; without a label
---   it stands in the paper alone
function Result:paper(t)
  paper.check(t)
  local groups = self:groups(t.axis)
  local columns = columns_for(groups, t.columns)
  return paper.block(t, groups, columns, repeats.values, seeds_note(groups) .. repeats.lacking(groups, columns))
end

--- Statements about the expected shape, each judged as holding, not holding, or within noise.
--- @param t table  a list of { words, metric, this, relation, that, ..., by =, within = } or { words, function(at) ... end },
---   and the `axis` whose labels they name
function Result:expect(t) return expectation.judge(self:groups(t.axis), table.move(t, 1, #t, 1, {})) end

-- A result of made cases: { params, metrics } in order.
function Result:made_of(made)
  local stored = { experiment = self.experiment, cases = {} }
  for i, one in ipairs(made) do stored.cases[i] = { number = i, status = "ok", params = one.params, result = { metrics = one.metrics } } end
  return result.new(stored)
end

local function params_without(case, axis)
  check_axis(case, axis)
  local params = {}
  for name, value in pairs(case.params) do
    if name ~= axis then params[name] = value end
  end
  return params
end

--- Cases folded along an axis: for every combination of the other parameters one case with the metrics that `f` makes of
--- the list of cases, such as a slope. The result is reported like any other.
--- @param axis string
--- @param f fun(cases: table[]): table<string, number>
--- @return moegauge.Result
function Result:fold(axis, f)
  local folded, by_key = {}, {}
  for _, case in ipairs(self.cases) do
    local params = params_without(case, axis)
    local key = key_of(params)
    if not by_key[key] then
      by_key[key] = { params = params, cases = {} }
      folded[#folded + 1] = by_key[key]
    end
    table.insert(by_key[key].cases, case)
  end
  for _, one in ipairs(folded) do one.metrics = f(one.cases) end
  return self:made_of(folded)
end

--- The same cases with the named metrics also as multiples of those of one row, NAME_share: each case is divided by the
--- case of equal parameters, seed included, whose axis has that label.
--- @param axis string
--- @param base string  a label of the axis
--- @param names string[]  metrics
--- @return moegauge.Result
function Result:relative(axis, base, names)
  local base_of, made = {}, {}
  for _, group in ipairs(self:groups(axis)) do
    for _, case in ipairs(group.label == base and group.cases or {}) do base_of[key_of(params_without(case, axis))] = case.result.metrics end
  end
  for i, case in ipairs(self.cases) do
    local all, whole = {}, base_of[key_of(params_without(case, axis))] or {}
    for name, value in pairs(case.result.metrics) do all[name] = value end
    for _, name in ipairs(names) do all[name .. "_share"] = all[name] and whole[name] and all[name] / whole[name] end
    made[i] = { params = case.params, metrics = all }
  end
  return self:made_of(made)
end

--- Every pair of values of the axis compared by one metric, paired over seeds, corrected for the number of comparisons
--- (Holm); a difference inside the noise is called unclear and nothing is ranked by it.
--- @param axis string|nil
--- @param name string|nil  the metric; default loss
--- @param base string|nil  a label of the axis: only differences from that row
function Result:differences(axis, name, base)
  name = name or "loss"
  local groups, metric = self:groups(axis), metrics.of(name)
  local found, tails, most = {}, {}, 0
  for i = 1, #groups do
    for j = 1, #groups do
      local wanted = base and j ~= i and groups[j].label == base or not base and j < i
      local difference = wanted and statistics.paired(repeats.pairs(groups[i], groups[j], name)) or { n = 0 } -- no pairs
      if difference.n > 0 then
        found[#found + 1] = { a = groups[i].label, b = groups[j].label, difference = difference }
        most = math.max(most, difference.n)
        if difference.n > 1 then tails[#tails + 1] = difference.p end -- one pair tests nothing
      end
    end
  end
  local corrected, tested, fewer = statistics.holm(tails), 0, {}
  local t = { columns = { { title = "this" }, { title = "against" }, { title = metric.title .. " difference", right = true }, { title = "relative", right = true }, { title = "p (Holm)", right = true }, { title = "verdict" } }, rows = {}, keys = 2,
    note = "Paired over seeds, with 95 % intervals, each by itself; p corrected for all comparisons; \"unclear\" means inside the noise." .. expectation.averaged(groups) .. repeats.lacking(groups, { name }) }
  for i, row in ipairs(found) do
    local d, p = row.difference, nil
    if d.n > 1 then
      tested = tested + 1
      p = corrected[tested]
    end
    if d.n < most then fewer[#fewer + 1] = ("%s against %s (%d)"):format(row.a, row.b, d.n) end
    t.rows[i] = { row.a, row.b, format.difference(name, d), ("%+.2f %%"):format(100 * d.relative),
      p and (p < 0.001 and "< 0.001" or ("%.3f"):format(p)) or "–", statistics.verdict(d, metric.better, p) }
  end
  if #fewer > 0 then
    local shown <const> = math.min(#fewer, 4)
    t.note = ("%s Fewer than %d pairs: %s%s."):format(t.note, most, table.concat(fewer, ", ", 1, shown), #fewer > shown and (" and %d more"):format(#fewer - shown) or "")
  end
  local of = axis and #self:axes() > 1 and (" by %s:"):format((axis:gsub("_", " "))) or ""
  return { kind = "table", title = ("Differences in %s%s larger than the noise?"):format(metric.title, of), table = t, verdicts = found }
end

--- Curves of a series, one per value of the axis: mean over seeds, band from lowest to highest.
--- @param name string
--- @param against string|nil  what the positions are; default tokens
--- @param options { axis: string|nil, log: boolean|nil }|nil
function Result:chart(name, against, options)
  options = options or {}
  return charts.series(self:groups(options.axis), name, against or "tokens", options.log)
end

--- One line for each value of the axis `by`: a metric over an axis of numbers, mean over seeds and band over all.
--- @param t { x: string, y: string, by: string, log_x: boolean|nil, log_y: boolean|nil }
function Result:curve(t)
  strict.keys(t, { "x", "y", "by", "log_x", "log_y" }, "r:curve")
  local groups = self:groups(t.by)
  local lines = { axis = groups.axis }
  for i, group in ipairs(groups) do
    lines[i] = { label = group.label, groups = setmetatable({ cases = group.cases, failed = {}, experiment = self.experiment }, Result):groups(t.x) }
  end
  return charts.curves(lines, t)
end

--- One metric against another, with intervals on both and the Pareto front (lower is better unless the metric says otherwise).
function Result:pareto(x, y, axis) return charts.pareto(self:groups(axis), x, y) end

--- Cost per part as stacked bars: "flops" (per token, counted) or "ns" (per token, measured).
--- @param what string|nil
function Result:parts(what, axis) return charts.parts(self:groups(axis), what or "flops") end

--- Heat maps of recorded shares with the axes layer, column, expert ("load": columns are moments of training;
--- "domain_load": columns are domains), one panel per layer, for the first seed of every group that has them.
--- @param name string
function Result:heatmap(name, axis) return charts.heatmaps(self:groups(axis), name) end

--- A paragraph of the experiment's own.
function Result:text(text) return { kind = "text", text = text } end

--- The blocks of a report when the experiment does not say.
function Result:default_blocks()
  local blocks = { self:table() }
  if #self:groups() > 1 then blocks[#blocks + 1] = self:differences() end
  return blocks
end

return result
