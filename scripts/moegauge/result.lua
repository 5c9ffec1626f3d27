--- The results of an experiment as a report sees them: cases grouped by an axis of the sweep, repeats paired by seed.
--- A report function receives one of these as `r` and returns a list of what r's methods make.

local chart = require "moegauge.chart"
local core = require "moegauge.core"
local expectation = require "moegauge.expectation"
local format = require "moegauge.format"
local label = require "moegauge.label"
local metrics = require "moegauge.metrics"
local paper = require "moegauge.paper"
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
  for _, case in ipairs(self.cases) do
    for name, value in pairs(case.params) do
      seen[name] = seen[name] or {}
      seen[name][key_of(value)] = true
    end
  end
  for name, values in sorted.pairs(seen) do
    local first = next(values)
    if name ~= "seed" and first and next(values, first) then names[#names + 1] = name end
  end
  return names
end

--- Cases grouped by the values of one axis, or by all varying axes but the seed. A group is { label, cases, points }; the
--- cases of a group are ordered by seed and then by place; points[case] is equal for cases of two groups that differ in
--- nothing but the axes grouped by, and the seed.
--- @param axis string|nil
function Result:groups(axis)
  if axis ~= nil and type(axis) ~= "string" then
    core.fail("usage", ("report: an axis is named by a text, not %s; without one, all axes that vary make the rows"):format(strict.describe(axis)))
  end
  local names = axis and { axis } or self:axes()
  local groups, by_key, columns, grouped = {}, {}, {}, { seed = true }
  for _, name in ipairs(names) do grouped[name] = true end
  for _, case in ipairs(self.cases) do
    local parts, values = {}, {}
    for i, name in ipairs(names) do
      check_axis(case, name)
      parts[i], values[i] = key_of(case.params[name]), case.params[name]
    end
    local key = table.concat(parts, "|")
    if not by_key[key] then
      by_key[key] = { values = values, cases = {}, points = {} }
      groups[#groups + 1] = by_key[key]
    end
    table.insert(by_key[key].cases, case)
    by_key[key].points[case] = point_of(case, grouped)
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
  return groups
end

local function number_or_nil(value) return type(value) == "number" and value == value and value or nil end

-- For each seed in order, the mean of a list of numbers.
local function means_of(seeds)
  local means = {}
  for _, values in sorted.pairs(seeds) do means[#means + 1] = statistics.mean(values) end
  return means
end

--- The values of a metric over the seeds of a group, in order; missing ones left out. Where another axis varies, a seed has
--- several points: its value is their mean, as points of one seed are not repeats of each other.
function result.values(group, name)
  local seeds = {}
  for _, case in ipairs(group.cases) do
    local seed = case.params.seed or 0
    seeds[seed] = seeds[seed] or {}
    table.insert(seeds[seed], number_or_nil(case.result.metrics[name]))
  end
  for seed, values in pairs(seeds) do
    if #values == 0 then seeds[seed] = nil end
  end
  return means_of(seeds)
end

--- Values of two groups that share a seed, in the order of seeds: means over the points that both groups have.
function result.pairs(a, b, name)
  local other, left, right = {}, {}, {}
  for _, case in ipairs(b.cases) do other[b.points[case] .. "|" .. (case.params.seed or 0)] = number_or_nil(case.result.metrics[name]) end
  for _, case in ipairs(a.cases) do
    local seed = case.params.seed or 0
    local mine, theirs = number_or_nil(case.result.metrics[name]), other[a.points[case] .. "|" .. seed]
    if mine and theirs then
      left[seed], right[seed] = left[seed] or {}, right[seed] or {}
      table.insert(left[seed], mine)
      table.insert(right[seed], theirs)
    end
  end
  return means_of(left), means_of(right)
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
  local t = { columns = { { title = axis or "case" } }, rows = {}, sort = {}, note = seeds_note(groups) }
  for c, name in ipairs(columns) do t.columns[c + 1] = { title = metrics.of(name).title, right = true } end
  for g, group in ipairs(groups) do
    t.rows[g], t.sort[g] = { group.label }, {}
    for c, name in ipairs(columns) do
      local estimate = statistics.estimate(result.values(group, name))
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
  return paper.block(t, groups, columns_for(groups, t.columns), result.values, seeds_note(groups))
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
  local found, tails = {}, {}
  for i = 1, #groups do
    for j = 1, #groups do
      local wanted = base and j ~= i and groups[j].label == base or not base and j < i
      local difference = wanted and statistics.paired(result.pairs(groups[i], groups[j], name)) or { n = 0 } -- no pairs
      if difference.n > 0 then
        found[#found + 1] = { a = groups[i].label, b = groups[j].label, difference = difference }
        tails[#tails + 1] = difference.p
      end
    end
  end
  local corrected = statistics.holm(tails)
  local t = { columns = { { title = "this" }, { title = "against" }, { title = metric.title .. " difference", right = true }, { title = "relative", right = true }, { title = "p (Holm)", right = true }, { title = "verdict" } }, rows = {}, keys = 2,
    note = "Paired over seeds, with 95 % intervals; \"unclear\" means inside the noise." .. expectation.averaged(groups) }
  for i, row in ipairs(found) do
    local d = row.difference
    local digits = metric.style == "fixed" and metric.digits or 4
    t.rows[i] = { row.a, row.b,
      d.n > 1 and ("%+." .. digits .. "f ± %." .. digits .. "f"):format(d.mean, d.half) or ("%+." .. digits .. "f"):format(d.mean),
      ("%+.2f %%"):format(100 * d.relative), d.n > 1 and (corrected[i] < 0.001 and "< 0.001" or ("%.3f"):format(corrected[i])) or "–",
      statistics.verdict(d, metric.better, corrected[i]) }
  end
  return { kind = "table", title = "Differences in " .. metric.title .. " larger than the noise?", table = t, verdicts = found }
end

local function axis_label(name)
  local metric = metrics.of(name)
  return metric.unit ~= "" and metric.title .. " (" .. metric.unit .. ")" or metric.title
end

-- The mean curve of a group's repeats with its lowest and highest, at the positions of the first repeat.
local function curve_of(group, name)
  local points = {}
  local first = group.cases[1].result.series and group.cases[1].result.series[name]
  for i, sample in ipairs(first or {}) do
    local values = {}
    for _, case in ipairs(group.cases) do
      local series = case.result.series[name]
      if series and series[i] then values[#values + 1] = number_or_nil(series[i][2]) end
    end
    if #values > 0 then points[#points + 1] = { sample[1], statistics.mean(values), math.min(table.unpack(values)), math.max(table.unpack(values)) } end
  end
  return points
end

--- Curves of a series, one per value of the axis: mean over seeds, band from lowest to highest.
--- @param name string
--- @param against string|nil  what the positions are; default tokens
--- @param options { axis: string|nil, log: boolean|nil }|nil
function Result:chart(name, against, options)
  options = options or {}
  local series = {}
  for g, group in ipairs(self:groups(options.axis)) do
    local points = curve_of(group, name)
    if #points > 0 then series[#series + 1] = { label = group.label, points = points, place = g } end
  end
  if #series == 0 then return { kind = "text", text = "No run recorded the series '" .. name .. "'." } end
  local script, cut = chart.lines { x_label = against or "tokens", y_label = axis_label(name), series = series, log_y = options.log }
  return { kind = "chart", name = name, title = metrics.of(name).title .. " over " .. (against or "tokens"),
    caption = axis_label(name) .. " over " .. (against or "tokens") .. "; the band spans all seeds." .. (cut and " The start lies above the axis." or ""),
    script = script }
end

-- The points of one line: x, then mean, lowest and highest y over seeds.
local function points_over(groups, x, y)
  local points = {}
  for _, group in ipairs(groups) do
    local values = result.values(group, y)
    if #values > 0 then points[#points + 1] = { group.cases[1].params[x], statistics.mean(values), math.min(table.unpack(values)), math.max(table.unpack(values)) } end
  end
  table.sort(points, function(a, b) return a[1] < b[1] end)
  return points
end

--- One line for each value of the axis `by`: a metric over an axis of numbers, mean over seeds and band over all.
--- @param t { x: string, y: string, by: string, log_x: boolean|nil, log_y: boolean|nil }
function Result:curve(t)
  strict.keys(t, { "x", "y", "by", "log_x", "log_y" }, "r:curve")
  local series = {}
  for g, group in ipairs(self:groups(t.by)) do
    local points = points_over(setmetatable({ cases = group.cases, experiment = self.experiment }, Result):groups(t.x), t.x, t.y)
    if #points > 0 then series[#series + 1] = { label = group.label, points = points, place = g } end
  end
  if #series == 0 then return { kind = "text", text = "No run measured '" .. t.y .. "'." } end
  local script = chart.lines { x_label = t.x:gsub("_", " "), y_label = axis_label(t.y), series = series, log_x = t.log_x, log_y = t.log_y }
  return { kind = "chart", name = t.y .. "-over-" .. t.x, title = metrics.of(t.y).title .. " over " .. t.x:gsub("_", " "),
    caption = axis_label(t.y) .. " over " .. t.x:gsub("_", " ") .. "; the band spans all seeds.",
    script = script }
end

--- One metric against another, with intervals on both and the Pareto front (lower is better unless the metric says otherwise).
function Result:pareto(x, y, axis)
  local points = {}
  for _, group in ipairs(self:groups(axis)) do
    local a, b = statistics.estimate(result.values(group, x)), statistics.estimate(result.values(group, y))
    if a.n > 0 and b.n > 0 then
      points[#points + 1] = { label = group.label, x = a.mean, x_half = number_or_nil(a.half) or 0, y = b.mean, y_half = number_or_nil(b.half) or 0 }
    end
  end
  local sign_x = metrics.of(x).better == "higher" and -1 or 1
  local sign_y = metrics.of(y).better == "higher" and -1 or 1
  for _, p in ipairs(points) do
    p.front = true
    for _, q in ipairs(points) do
      local no_worse = sign_x * q.x <= sign_x * p.x and sign_y * q.y <= sign_y * p.y
      if no_worse and (q.x ~= p.x or q.y ~= p.y) then p.front = false end
    end
  end
  if #points == 0 then return { kind = "text", text = "No run measured both '" .. x .. "' and '" .. y .. "'." } end
  return { kind = "chart", name = y .. "-by-" .. x, title = metrics.of(y).title .. " against " .. metrics.of(x).title,
    caption = axis_label(y) .. " against " .. axis_label(x) .. "; bars are 95 % intervals over seeds, the dashed line joins what no other beats on both.",
    script = chart.pareto { x_label = axis_label(x), y_label = axis_label(y), points = points } }
end

local part_order <const> = { "embedding", "attention", "gate", "selection", "dispatch", "routed", "shared", "dense", "combine", "head", "loss", "other" }

--- Cost per part as stacked bars: "flops" (per token, counted) or "ns" (per token, measured).
--- @param what string|nil
function Result:parts(what, axis)
  what = what or "flops"
  local labels, parts = {}, {}
  local groups = self:groups(axis)
  for g, group in ipairs(groups) do labels[g] = group.label end
  for _, part in ipairs(part_order) do
    local name = what .. "_per_token_" .. part
    local values, any = {}, false
    for g, group in ipairs(groups) do
      local found = result.values(group, name)
      values[g] = #found > 0 and statistics.median(found) or 0
      any = any or values[g] > 0
    end
    if any then parts[#parts + 1] = { label = part, values = values } end
  end
  if #parts == 0 then return { kind = "text", text = "No run recorded cost per part." } end
  local unit = what == "flops" and "forward FLOPs per token" or "ns per token, forward and backward"
  return { kind = "chart", name = "parts-" .. what, title = "Cost per part: " .. unit, caption = unit .. ", by part of the model.",
    script = chart.stacked { y_label = unit, labels = labels, parts = parts } }
end

-- Shares of one snapshot as multiples of a fair share.
local function as_fair_shares(shares)
  local scaled = {}
  for e, share in ipairs(shares) do scaled[e] = share * #shares end
  return scaled
end

-- rows[expert][column] from columns[column][expert].
local function transposed(columns)
  local rows = {}
  for x, column in ipairs(columns) do
    for y, value in ipairs(column) do
      rows[y] = rows[y] or {}
      rows[y][x] = value
    end
  end
  return rows
end

-- The panels of one recorded table of shares, and the largest value to show.
local function load_panels(recorded)
  local panels, most = {}, 2
  for l, columns in ipairs(recorded.values) do
    local scaled = {}
    for x, shares in ipairs(columns) do
      scaled[x] = as_fair_shares(shares)
      most = math.max(most, math.min(4, math.max(table.unpack(scaled[x]))))
    end
    panels[l] = { title = "layer " .. (recorded.layers and recorded.layers[l] + 1 or l), rows = transposed(scaled) }
  end
  return panels, most
end

--- Heat maps of recorded shares with the axes layer, column, expert ("load": columns are moments of training;
--- "domain_load": columns are domains), one panel per layer, for the first seed of every group that has them.
--- @param name string
function Result:heatmap(name, axis)
  local blocks = { kind = "blocks" }
  for _, group in ipairs(self:groups(axis)) do
    local case = group.cases[1]
    local recorded = case.result.tables and case.result.tables[name]
    if recorded and #recorded.values > 0 then
      local panels, most = load_panels(recorded)
      blocks[#blocks + 1] = { kind = "chart", name = name .. "-" .. group.label:gsub("[^%w]+", "-"),
        title = (recorded.domains and "Expert load by domain: " or "Expert load over training: ") .. group.label,
        caption = ("%s%s: each expert's load as a multiple of a fair share (white), by layer; columns are %s."):format(group.label,
          case.params.seed and ", seed " .. tostring(case.params.seed) or "",
          recorded.domains and "domains of the validation text" or "moments of training, first to last"),
        script = chart.heatmaps { panels = panels, x_label = "training", y_label = "expert", x_names = recorded.domains, scale_label = "load / fair share", most = most } }
    end
  end
  if #blocks == 0 then return { kind = "text", text = "No run recorded the table '" .. name .. "'." } end
  return blocks
end

--- A paragraph of the experiment's own.
function Result:text(text) return { kind = "text", text = text } end

--- The blocks of a report when the experiment does not say.
function Result:default_blocks()
  local blocks = { self:table() }
  if #self:groups() > 1 then blocks[#blocks + 1] = self:differences() end
  return blocks
end

return result
