--- Two runs side by side: cases with the same parameters are paired over seeds, and every metric that both measured gets
--- a difference with its interval and a word. Runs that cannot be compared fairly are told apart by what differs.

local core = require "moegauge.core"
local format = require "moegauge.format"
local label = require "moegauge.label"
local metrics = require "moegauge.metrics"
local sorted = require "moegauge.sorted"
local statistics = require "moegauge.statistics"

local compare = {}

--- A speed within this share of the other is the same: repeated runs on one machine differ by as much.
local same_speed <const> = 0.02

-- What makes numbers incomparable when it differs, and what is only worth knowing.
local decisive <const> = { "title", "data_checksum", "processor", "omp_num_threads", "build_type", "sanitizers" }
local notable <const> = { "version", "commit", "compiler", "backend", "backend_effect" }

local wanted <const> = { "loss", "accuracy", "tokens_per_second", "gate_ns_per_token", "peak_bytes" }

local function ok_cases(stored)
  local cases = {}
  for _, case in ipairs(stored.cases) do
    if case.status == "ok" then cases[#cases + 1] = case end
  end
  return cases
end

-- All values that a fact has in a run, as one text.
local function fact_of(stored, name)
  local seen, list = {}, {}
  local function add(value)
    if value == nil then return end
    local text = type(value) == "table" and tostring(value.model or core.to_json(value)) or tostring(value)
    if not seen[text] then
      seen[text] = true
      list[#list + 1] = text
    end
  end
  add(stored.experiment[name])
  for _, case in ipairs(ok_cases(stored)) do add((case.provenance or {})[name]) end
  table.sort(list)
  return table.concat(list, ", ")
end

local function differing(a, b, names)
  local found = core.list {}
  for _, name in ipairs(names) do
    local x, y = fact_of(a, name), fact_of(b, name)
    if x ~= y then found[#found + 1] = { name = name, a = x, b = y } end
  end
  return found
end

-- Cases by their parameters without the seed: key -> { params, by_seed }, and the keys in order.
local function points_of(stored)
  local points, order = {}, {}
  for _, case in ipairs(ok_cases(stored)) do
    local params = {}
    for name, value in pairs(case.params) do
      if name ~= "seed" then params[name] = value end
    end
    local key = core.to_json(params)
    if not points[key] then
      points[key] = { params = params, by_seed = {} }
      order[#order + 1] = key
    end
    points[key].by_seed[case.params.seed or 0] = case.result.metrics
  end
  return points, order
end

-- Labels of the points of a, by what varies among them.
local function labels_of(points, order)
  local values, labels = {}, {}
  for i, key in ipairs(order) do values[i] = points[key].params end
  local varying = {}
  for i = 1, #order do
    for name, value in pairs(values[i]) do
      if core.to_json(value) ~= core.to_json(values[1][name] == nil and "" or values[1][name]) then varying[name] = true end
    end
  end
  local names = sorted.keys(varying)
  for i, key in ipairs(order) do
    local parts = {}
    for _, name in ipairs(names) do
      local column = {}
      for j in ipairs(order) do column[j] = values[j][name] == nil and "none" or values[j][name] end
      local text = label.of(column)[i]
      parts[#parts + 1] = type(values[i][name]) == "table" and text or name .. "=" .. text
    end
    labels[key] = #parts > 0 and table.concat(parts, " ") or "all"
  end
  return labels
end

-- Metrics that a seed of both points measured: those asked for, the usual ones, or all when none of those is there.
local function common_metrics(a, b, asked)
  local present, names = {}, {}
  for seed, mine in pairs(a.by_seed) do
    for name in pairs(b.by_seed[seed] and mine or {}) do
      if b.by_seed[seed][name] ~= nil then present[name] = true end
    end
  end
  for _, name in ipairs(asked or wanted) do
    if present[name] then names[#names + 1] = name end
  end
  return (asked or #names > 0) and names or sorted.keys(present)
end

-- The names of a list "loss,cv"; nil for "". One that no case of a measured is refused.
local function asked_of(text, a)
  if text == "" then return nil end
  local measured, names = {}, {}
  for _, case in ipairs(ok_cases(a)) do
    for name in pairs(case.result.metrics) do measured[name] = true end
  end
  for name in (text .. ","):gmatch "([^,]*)," do
    if not measured[name] then
      local nearest = core.nearest(name, sorted.keys(measured))
      core.fail_plain("usage", ("--metrics %s: no case of A measured '%s'%s"):format(text, name, nearest and "; did you mean '" .. nearest .. "'?" or ""))
    end
    names[#names + 1] = name
  end
  return names
end

-- Values of b and of a for the seeds that both have, in order of seed.
local function paired_values(a, b, name)
  local left, right = {}, {}
  for _, seed in ipairs(sorted.keys(a.by_seed)) do
    local x, y = a.by_seed[seed][name], b.by_seed[seed] and b.by_seed[seed][name]
    if type(x) == "number" and type(y) == "number" and x == x and y == y then
      left[#left + 1], right[#right + 1] = y, x
    end
  end
  return left, right
end

local function is_speed(name) return name == "tokens_per_second" or name == "seconds" or name:find("_ns_per_token", 1, true) ~= nil end

--- "faster", "slower" for speeds, "better", "worse" for the rest, "same", "unclear", or "one seed".
local function word_of(row, p)
  local d = row.difference
  if d.mean == 0 and (d.n < 2 or d.half == 0) then return "same" end
  if d.n < 2 then return "one seed" end
  if is_speed(row.metric) then
    local reach = math.abs(d.relative) + d.half * math.abs(d.relative / d.mean)
    if d.mean == 0 or reach <= same_speed then return "same" end
    if p > 0.05 or math.abs(d.relative) <= same_speed then return "unclear" end
    local word = statistics.verdict(d, metrics.of(row.metric).better, p)
    return ({ better = "faster", worse = "slower" })[word] or word
  end
  return statistics.verdict(d, metrics.of(row.metric).better, p)
end

local function cells_of(row)
  local d = row.difference
  local half = d.n > 1 and d.mean ~= 0 and (" ± %.2f"):format(100 * d.half * math.abs(d.relative / d.mean)) or ""
  return { row.label, format.value(row.metric, row.a), format.value(row.metric, row.b), ("%+.2f%s %%"):format(d.mean == 0 and 0 or 100 * d.relative, half),
    row.p and (row.p < 0.001 and "< 0.001" or ("%.3f"):format(row.p)) or "–", row.verdict }
end

-- One table for each metric, so that a case and its verdict stand in one line of a terminal.
local function text_of(rows)
  local tables, order, parts = {}, {}, {}
  for _, row in ipairs(rows) do
    local t = tables[row.metric]
    if not t then
      t = { title = metrics.of(row.metric).title, rows = {}, columns = { { title = "case", wrap = true }, { title = "A", right = true }, { title = "B", right = true },
        { title = "B against A", right = true }, { title = "p (Holm)", right = true }, { title = "verdict" } } }
      tables[row.metric], order[#order + 1] = t, row.metric
    end
    t.rows[#t.rows + 1] = cells_of(row)
  end
  for i, name in ipairs(order) do parts[i] = format.text_table(tables[name], format.terminal_columns) end
  local note = ("Paired over seeds, with 95 %% intervals, each by itself; p corrected for all comparisons; speeds within %g %% are the same; \"unclear\" means inside the noise."):format(100 * same_speed)
  return table.concat(parts, "\n") .. table.concat(format.wrap(note, format.terminal_columns), "\n") .. "\n"
end

--- Compares run b with run a, both as the store gives them, by the metrics named ("loss,cv"; "" = the usual ones).
--- @return table  { unlike = {{ name, a, b }}, notable = the same, rows = {{ label, metric, a, b, verdict, ... }}, only_a =, only_b =, text = }
function compare.run(a, b, names)
  local asked = asked_of(names or "", a)
  local points_a, order_a = points_of(a)
  local points_b, order_b = points_of(b)
  local labels, rows, tails, only_a, only_b = labels_of(points_a, order_a), core.list {}, {}, 0, 0
  for _, key in ipairs(order_a) do
    local other = points_b[key]
    if not other then only_a = only_a + 1 end
    for _, name in ipairs(other and common_metrics(points_a[key], other, asked) or {}) do
      local new, old = paired_values(points_a[key], other, name)
      if #new > 0 then
        local difference = statistics.paired(new, old)
        rows[#rows + 1] = { label = labels[key], metric = name, a = statistics.mean(old), b = statistics.mean(new), difference = difference }
        if difference.n > 1 then tails[#tails + 1] = difference.p end -- one pair tests nothing
      end
    end
  end
  for _, key in ipairs(order_b) do
    if not points_a[key] then only_b = only_b + 1 end
  end
  local corrected, tested = statistics.holm(tails), 0
  for _, row in ipairs(rows) do
    if row.difference.n > 1 then
      tested = tested + 1
      row.p = corrected[tested]
    end
    row.verdict = word_of(row, row.p)
  end
  return { unlike = differing(a, b, decisive), notable = differing(a, b, notable), rows = rows, only_a = only_a, only_b = only_b,
    text = #rows > 0 and text_of(rows) or "" }
end

return compare
