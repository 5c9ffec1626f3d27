--- A published table beside this run: for every metric the paper's figure and ours, with where the figure was read.

local core = require "moegauge.core"
local format = require "moegauge.format"
local metrics = require "moegauge.metrics"
local statistics = require "moegauge.statistics"
local strict = require "moegauge.strict"

local paper = {}

--- How a published figure came here; the letters stand beside it in a report.
paper.sourcing = {
  P = "read in the paper", P2 = "read in the paper and in a second copy", C = "read in published code",
  S = "read in notes about the paper, not in it", M = "recalled, not checked", D = "calculated from the paper's figures",
}
--- The fields of a figure in the order of a table.
paper.fields = { "row", "metric", "paper", "sourcing", "mean", "half", "n" }
local sourcing_words <const> = "P, P2, C, S, M or D"

local keys <const> = { "source", "table", "sourcing", "axis", "columns", "rows", "note" }

-- ---- reading ----------------------------------------------------------------------------------------------------

local function check_sourcing(word, where)
  if not paper.sourcing[word] then core.fail("usage", ("%s: 'sourcing' must be %s, not %s"):format(where, sourcing_words, strict.describe(word))) end
end

local function check_row(row, columns, where)
  if type(row) ~= "table" then core.fail("usage", ("%s: a table was expected, not %s"):format(where, strict.describe(row))) end
  local known = { 1, "paper", "sourcing", table.unpack(columns) }
  for i, name in ipairs(known) do known[i] = tostring(name) end
  local named = {}
  for key, value in pairs(row) do named[tostring(key)] = value end
  strict.keys(named, known, where)
  if row[1] == nil and row.paper == nil then core.fail("usage", where .. ": name the run's row by its label, or the paper's by `paper`") end
  if row.sourcing ~= nil then check_sourcing(row.sourcing, where) end
  for _, name in ipairs(columns) do
    if row[name] ~= nil and not tonumber(row[name]) then
      core.fail("usage", ("%s: %s must be a number, not %s"):format(where, name, strict.describe(row[name])))
    end
  end
end

--- Refuses what is no such table.
function paper.check(t)
  strict.keys(t, keys, "r:paper")
  for _, key in ipairs { "source", "table" } do strict.field(t, key, "string", "r:paper") end
  for _, key in ipairs { "columns", "rows" } do strict.field(t, key, "table", "r:paper") end
  check_sourcing(t.sourcing, "r:paper")
  for i, row in ipairs(t.rows) do check_row(row, t.columns, ("r:paper.rows[%d]"):format(i)) end
end

-- ---- the block --------------------------------------------------------------------------------------------------

-- A figure as it was printed: a text stays as it is, a number gets no digits that it did not have.
local function figure_text(name, figure, row, sourcing)
  if figure == nil then return "–" end
  local text = type(figure) == "string" and figure or metrics.of(name).style == "percent" and ("%.6g %%"):format(100 * figure)
    or metrics.of(name).style == "count" and format.count(figure) or ("%.6g"):format(figure)
  return row.sourcing and row.sourcing ~= sourcing and text .. " [" .. row.sourcing .. "]" or text
end

-- Rows of the table in the paper's order, then the run's own that the paper lacks: { row, group or nil }.
local function pairs_of(t, groups)
  local by_label, paired, used = {}, {}, {}
  for _, group in ipairs(groups) do by_label[group.label] = group end
  for _, row in ipairs(t.rows) do
    paired[#paired + 1] = { row = row, group = row[1] ~= nil and by_label[tostring(row[1])] or nil }
    used[tostring(row[1])] = true
  end
  for _, group in ipairs(groups) do
    if not used[group.label] then paired[#paired + 1] = { row = { group.label }, group = group } end
  end
  return paired
end

local function has_figures(t, name)
  for _, row in ipairs(t.rows) do
    if row[name] ~= nil then return true end
  end
  return false
end

local function row_name(row)
  if row.paper and row[1] and row.paper ~= row[1] then return ("%s (%s)"):format(row[1], row.paper) end
  return tostring(row[1] or row.paper)
end

-- Adds the cells of one metric: the paper's where it has any, and this run's.
local function add_cells(cells, sort, t, pair, name, estimate, with_paper)
  if with_paper then
    cells[#cells + 1] = figure_text(name, pair.row[name], pair.row, t.sourcing)
    sort[#cells] = tonumber(pair.row[name])
  end
  cells[#cells + 1] = pair.group and format.estimate(name, estimate) or pair.row[1] and "not run" or "–"
  sort[#cells] = estimate.mean
end

local function note_of(t, seeds)
  return ("Paper: %s, %s [%s: %s]. This run: %s%s"):format(t.source, t.table, t.sourcing, paper.sourcing[t.sourcing],
    seeds:gsub("^Mean", "mean"), t.note and " " .. t.note or "")
end

--- The table as a block; its `figures` hold { row, metric, paper, sourcing, mean, half, n } for other formats.
--- @param t table  what the script gave, checked
--- @param groups table[]  { label, cases }
--- @param columns string[]  the metrics to show, floors included
--- @param values_of fun(group: table, metric: string): number[]
--- @param seeds string  a sentence about the repeats
function paper.block(t, groups, columns, values_of, seeds)
  local out = { columns = { { title = t.axis and t.axis:gsub("_", " ") or "case" } }, rows = {}, sort = {}, note = note_of(t, seeds) }
  local with_paper, figures = {}, core.list {}
  for c, name in ipairs(columns) do
    with_paper[c] = has_figures(t, name)
    if with_paper[c] then out.columns[#out.columns + 1] = { title = metrics.of(name).title .. ", paper", right = true } end
    out.columns[#out.columns + 1] = { title = metrics.of(name).title .. (with_paper[c] and ", run" or ""), right = true }
  end
  for i, pair in ipairs(pairs_of(t, groups)) do
    local cells, sort = { row_name(pair.row) }, {}
    for c, name in ipairs(columns) do
      local estimate = statistics.estimate(pair.group and values_of(pair.group, name) or {})
      add_cells(cells, sort, t, pair, name, estimate, with_paper[c])
      figures[#figures + 1] = { row = cells[1], metric = name, paper = tonumber(pair.row[name]), sourcing = pair.row[name] and (pair.row.sourcing or t.sourcing),
        mean = estimate.mean, half = estimate.half, n = estimate.n }
    end
    out.rows[i], out.sort[i] = cells, sort
  end
  return { kind = "table", title = t.table .. ": paper and this run", table = out, source = t.source, figures = figures }
end

return paper
