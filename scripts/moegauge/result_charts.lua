--- The charts of a report, made of groups of cases (Result:groups in result.lua): what to draw and what to say of it.

local chart = require "moegauge.chart"
local metrics = require "moegauge.metrics"
local repeats = require "moegauge.repeats"
local sorted = require "moegauge.sorted"
local statistics = require "moegauge.statistics"

local charts = {}

local function axis_label(name)
  local metric = metrics.of(name)
  return metric.unit ~= "" and metric.title .. " (" .. metric.unit .. ")" or metric.title
end

-- The mean curve of a group's repeats with its lowest and highest, at the positions where all that recorded the series have a
-- value. `recorded`: whether any did.
local function curve_of(group, name)
  local at, points, recorded = {}, {}, 0
  for _, case in ipairs(group.cases) do
    local series = case.result.series and case.result.series[name]
    recorded = recorded + (series and 1 or 0)
    for _, sample in ipairs(series or {}) do
      local x = sample[1]
      at[x] = at[x] or {}
      table.insert(at[x], repeats.number(sample[2]))
    end
  end
  for x, values in sorted.pairs(at) do
    if #values == recorded then points[#points + 1] = { x, statistics.mean(values), math.min(table.unpack(values)), math.max(table.unpack(values)) } end
  end
  return points, recorded > 0
end

--- Curves of a recorded series, one for each group.
function charts.series(groups, name, against, log)
  local series, apart = {}, {}
  for g, group in ipairs(groups) do
    local points, recorded = curve_of(group, name)
    if #points > 0 then
      series[#series + 1] = { label = group.label, points = points, place = g }
    elseif recorded then
      apart[#apart + 1] = group.label
    end
  end
  if #series == 0 and #apart == 0 then return { kind = "text", text = "No run recorded the series '" .. name .. "'." } end
  if #series == 0 then return { kind = "text", text = ("The runs of a row recorded '%s' at different %s; name the axis they differ by, { axis = ... }."):format(name, against) } end
  local script, cut = chart.lines { x_label = against, y_label = axis_label(name), series = series, log_y = log, key_title = groups.axis }
  return { kind = "chart", name = name, title = metrics.of(name).title .. " over " .. against,
    caption = axis_label(name) .. " over " .. against .. "; the band spans all seeds." .. (cut and " The start lies above the axis." or "")
      .. (#apart > 0 and (" Left out, as their runs recorded at different %s: %s."):format(against, table.concat(apart, ", ")) or ""),
    script = script }
end

-- The points of one line: x, then mean, lowest and highest y over seeds.
local function points_over(groups, x, y)
  local points = {}
  for _, group in ipairs(groups) do
    local values = repeats.values(group, y)
    if #values > 0 then points[#points + 1] = { group.cases[1].params[x], statistics.mean(values), math.min(table.unpack(values)), math.max(table.unpack(values)) } end
  end
  table.sort(points, function(a, b) return a[1] < b[1] end)
  return points
end

--- One line for each of `lines` ({ label, groups by the axis t.x }): the metric t.y over that axis.
function charts.curves(lines, t)
  local series = {}
  for i, line in ipairs(lines) do
    local points = points_over(line.groups, t.x, t.y)
    if #points > 0 then series[#series + 1] = { label = line.label, points = points, place = i } end
  end
  if #series == 0 then return { kind = "text", text = "No run measured '" .. t.y .. "'." } end
  local script = chart.lines { x_label = t.x:gsub("_", " "), y_label = axis_label(t.y), series = series, log_x = t.log_x, log_y = t.log_y, key_title = lines.axis }
  return { kind = "chart", name = t.y .. "-over-" .. t.x, title = metrics.of(t.y).title .. " over " .. t.x:gsub("_", " "),
    caption = axis_label(t.y) .. " over " .. t.x:gsub("_", " ") .. "; the band spans all seeds.",
    script = script }
end

--- Metric y against metric x, one point for each group, and what no other beats on both.
function charts.pareto(groups, x, y)
  local points = {}
  for _, group in ipairs(groups) do
    local a, b = statistics.estimate(repeats.values(group, x)), statistics.estimate(repeats.values(group, y))
    if a.n > 0 and b.n > 0 then
      points[#points + 1] = { label = group.label, x = a.mean, x_half = repeats.number(a.half) or 0, y = b.mean, y_half = repeats.number(b.half) or 0 }
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
    script = chart.pareto { x_label = axis_label(x), y_label = axis_label(y), points = points, key_title = groups.axis } }
end

local part_order <const> = { "embedding", "attention", "gate", "selection", "dispatch", "routed", "shared", "dense", "combine", "head", "loss", "other" }

--- The parts of a cost as stacked bars, one for each group: what = "flops" or "ns".
function charts.parts(groups, what)
  local labels, parts = {}, {}
  for g, group in ipairs(groups) do labels[g] = group.label end
  for _, part in ipairs(part_order) do
    local name = what .. "_per_token_" .. part
    local values, any = {}, false
    for g, group in ipairs(groups) do
      local found = repeats.values(group, name)
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

--- Heat maps of a recorded table of shares, for the first case of each group that has it.
function charts.heatmaps(groups, name)
  local blocks = { kind = "blocks" }
  for _, group in ipairs(groups) do
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

return charts
