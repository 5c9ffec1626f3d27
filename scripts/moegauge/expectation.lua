--- Statements about the shape of a result, written before the run and judged by it: each compares values of a metric, or
--- is a function of one repeat, and comes out as "holds", "does not hold" or "within noise" by a t-test over the seeds
--- that the compared cases share.
---
--- A statement is reduced to gaps: for each seed one number that is positive where the statement is true. Where an axis varies
--- that is not the statement's, a seed has one case of a row for each point of it: its gap is the mean over the points that
--- all rows named have, as points of one seed are not repeats of each other. A statement holds when the gaps' mean lies above 0 beyond the noise (two-sided p <= 0.05), does not hold when it lies below 0 beyond the noise.
--- A chain a > b > c holds only when every link does. Statements are made beforehand and each stands for itself, so p is
--- not corrected for their number.

local core = require "moegauge.core"
local format = require "moegauge.format"
local metrics = require "moegauge.metrics"
local repeats = require "moegauge.repeats"
local sorted = require "moegauge.sorted"
local statistics = require "moegauge.statistics"
local strict = require "moegauge.strict"

local expectation = {}

-- Verdicts from the one that decides a chain first to the one that decides it last.
local severity <const> = { ["does not hold"] = 1, ["not measured"] = 2, ["one seed"] = 3, ["within noise"] = 4, holds = 5 }

--- Verdicts in the order in which a summary counts them.
expectation.verdicts = { "holds", "does not hold", "within noise", "one seed", "not measured" }

-- Each relation as gaps between left a and right b, `margin` being a share of |b|. `strict` relations are false of equal
-- values; `exact` ones need no noise to be judged by.
local relations <const> = {
  [">"] = { strict = true, gaps = { function(a, b, margin) return a - b - margin end } },
  ["<"] = { strict = true, gaps = { function(a, b, margin) return b - a - margin end } },
  [">="] = { gaps = { function(a, b, margin) return a - b + margin end } },
  ["<="] = { gaps = { function(a, b, margin) return b - a + margin end } },
  ["~"] = { gaps = { function(a, b, margin) return margin - (a - b) end, function(a, b, margin) return margin + (a - b) end } },
  ["="] = { exact = true, gaps = { function(a, b) return a == b and 0 or -1 end } },
}
local relation_words <const> = ">, <, >=, <=, ~ or ="

-- ---- reading statements ---------------------------------------------------------------------------------------------

local function refuse(where, words, ...) core.fail("usage", (where .. ": " .. words):format(...)) end

-- The links { left, relation, right } of a chain written as metric, operand, relation, operand, ...
local function links_of(statement, where)
  local links, count = {}, #statement
  if type(statement[2]) ~= "string" or count < 5 or count % 2 == 0 then
    refuse(where, "{ words, metric, this, relation, that, ... } or { words, function(at) ... end } was expected")
  end
  for i = 4, count, 2 do
    if not relations[statement[i]] then refuse(where, "'%s' is no relation; one of %s", tostring(statement[i]), relation_words) end
    for _, operand in ipairs { statement[i - 1], statement[i + 1] } do
      if type(operand) ~= "string" and type(operand) ~= "number" then
        refuse(where, "a row's label or a number was expected beside '%s', not %s", statement[i], strict.describe(operand))
      end
    end
    if type(statement[i - 1]) == "number" and type(statement[i + 1]) == "number" then
      refuse(where, "both sides of '%s' are numbers, so that no result decides; a row is named by its label, a text: \"%s\"", statement[i], tostring(statement[i - 1]))
    end
    links[#links + 1] = { left = statement[i - 1], relation = statement[i], right = statement[i + 1] }
  end
  return links
end

local function check(statement, where)
  if type(statement) ~= "table" then refuse(where, "a table was expected, not %s", strict.describe(statement)) end
  for key in pairs(statement) do
    if math.type(key) ~= "integer" and key ~= "by" and key ~= "within" then
      refuse(where, "unknown key '%s'; known keys: by, within", tostring(key))
    end
  end
  strict.field(statement, 1, "string", where)
  for _, key in ipairs { "by", "within" } do
    if statement[key] ~= nil then strict.field(statement, key, "number", where) end
  end
end

-- ---- judging gaps -----------------------------------------------------------------------------------------------

-- What a list of gaps says: verdict, p, and their estimate.
local function judge(gaps, relation)
  local estimate = statistics.estimate(gaps)
  if estimate.n == 0 then return "not measured", nil, estimate end
  if relation.exact then return estimate.mean == 0 and "holds" or "does not hold", nil, estimate end
  if estimate.n == 1 then return "one seed", nil, estimate end
  if estimate.deviation == 0 then
    local holds = estimate.mean > 0 or (estimate.mean == 0 and not relation.strict)
    return holds and "holds" or "does not hold", 0, estimate
  end
  local p = statistics.student_tail(estimate.mean * math.sqrt(estimate.n) / estimate.deviation, estimate.n - 1)
  if p > 0.05 then return "within noise", p, estimate end
  return estimate.mean > 0 and "holds" or "does not hold", p, estimate
end

--- @class moegauge.Finding
--- @field words string     the statement
--- @field verdict string
--- @field measured string  the values that it was judged by
--- @field margin number    mean over seeds of what must be positive; `half` its 95 % interval
--- @field half number
--- @field p number|nil     two-sided
--- @field seeds integer

--- The fields of a finding in the order of a table.
expectation.fields = { "words", "verdict", "margin", "half", "p", "seeds", "measured" }

local function finding_of(verdict, p, estimate)
  return { verdict = verdict, p = p, margin = estimate.mean, half = estimate.half, seeds = estimate.n }
end

-- Whether finding a decides a chain rather than finding b: the worse verdict does, of equal ones the less certain.
local function decides(a, b)
  if severity[a.verdict] ~= severity[b.verdict] then return severity[a.verdict] < severity[b.verdict] end
  return (a.p or 0) > (b.p or 0)
end

local function margin_text(estimate)
  if estimate.n < 2 or estimate.deviation == 0 then return ("margin %+.3g"):format(estimate.mean) end
  return ("margin %+.3g ± %.3g"):format(estimate.mean, estimate.half)
end

-- ---- chains -----------------------------------------------------------------------------------------------------

-- The value of an operand at a point; a number is the same everywhere.
local function value_at(point, operand, name)
  if type(operand) == "number" then return operand end
  local case = point[operand]
  return case and repeats.number(case.result.metrics[name])
end

-- For each seed that has any: { left values, right values } of its points that have both.
local function paired(world, link, name)
  local seeds = {}
  for _, points in ipairs(world.seeds) do
    local left, right = {}, {}
    for _, point in ipairs(points) do
      local a, b = value_at(point, link.left, name), value_at(point, link.right, name)
      if a and b then left[#left + 1], right[#right + 1] = a, b end
    end
    if #left > 0 then seeds[#seeds + 1] = { left, right } end
  end
  return seeds
end

-- The mean over points of f(left, right), for each seed.
local function over_points(seeds, f)
  local means = {}
  for i, both in ipairs(seeds) do
    local values = {}
    for j, left in ipairs(both[1]) do values[j] = f(left, both[2][j]) end
    means[i] = statistics.mean(values)
  end
  return means
end

local function operand_text(operand, values, name)
  if type(operand) == "number" then return ("%.6g"):format(operand) end
  return ("%s (%s)"):format(format.value(name, statistics.mean(values)), operand)
end

local function no_row(label) return ("there is no row '%s'"):format(label) end

local function measured_text(world, link, name, seeds)
  for _, operand in ipairs { link.left, link.right } do
    if type(operand) == "string" and not world.labels[operand] then return no_row(operand) end
  end
  if #seeds == 0 then return ("no seed has %s of both %s and %s"):format(metrics.of(name).title, link.left, link.right) end
  local left, right = over_points(seeds, function(a) return a end), over_points(seeds, function(_, b) return b end)
  local gap = over_points(seeds, function(a, b) return a - b end)
  return ("%s %s against %s: %s"):format(metrics.of(name).title, operand_text(link.left, left, name), operand_text(link.right, right, name),
    format.difference(name, statistics.estimate(gap)))
end

local function judge_link(world, link, name, share)
  local relation, worst = relations[link.relation]
  local seeds = paired(world, link, name)
  for _, gap in ipairs(relation.gaps) do
    local verdict, p, estimate = judge(over_points(seeds, function(a, b) return gap(a, b, share * math.abs(b)) end), relation)
    local finding = finding_of(verdict, p, estimate)
    if not worst or decides(finding, worst) then worst = finding end
  end
  worst.measured = measured_text(world, link, name, seeds)
  return worst
end

local function judge_chain(world, statement, where)
  local worst
  for _, link in ipairs(links_of(statement, where)) do
    local strict_one = relations[link.relation].strict
    local finding = judge_link(world, link, statement[2], (strict_one and statement.by or statement.within) or 0)
    if not worst or decides(finding, worst) then worst = finding end
  end
  return worst
end

-- ---- functions of one repeat ----------------------------------------------------------------------------------------

local missing <const> = setmetatable({}, { __tostring = function() return "not measured" end })

-- at(label, metric) for one point; ends the function when there is no such number, noting a row that does not exist.
local function reader(world, point, lost)
  return function(name, metric)
    if not world.labels[name] then lost.row = name end
    local value = value_at(point, name, metric)
    if not value then error(missing, 0) end
    return value
  end
end

-- What the function returns for each point of a seed that has all that it asks for.
local function margins_of(world, points, f, lost, where)
  local margins = {}
  for _, point in ipairs(points) do
    local done, value = pcall(f, reader(world, point, lost))
    if not done and value ~= missing then error(value, 0) end
    if done and not repeats.number(value) then refuse(where, "the function must return a number, positive where the statement is true, not %s", strict.describe(value)) end
    if done then margins[#margins + 1] = value end
  end
  return margins
end

local function judge_function(world, statement, where)
  local gaps, lost = {}, {}
  for _, points in ipairs(world.seeds) do
    local margins = margins_of(world, points, statement[2], lost, where)
    if #margins > 0 then gaps[#gaps + 1] = statistics.mean(margins) end
  end
  local verdict, p, estimate = judge(gaps, relations[">"])
  local measured = lost.row and no_row(lost.row) or estimate.n == 0 and "no seed has all that it needs"
    or margin_text(estimate)
  local finding = finding_of(verdict, p, estimate)
  finding.measured = measured
  return finding
end

-- ---- the block --------------------------------------------------------------------------------------------------

-- The labels, and for each seed in order its points, a point being the cases by label that differ in nothing else.
local function world_of(groups)
  local world, seeds = { labels = {}, seeds = {} }, {}
  for _, group in ipairs(groups.lost or {}) do world.labels[group.label] = true end
  for _, group in ipairs(groups) do
    world.labels[group.label] = true
    for _, case in ipairs(group.cases) do
      local seed, name = case.params.seed or 0, group.points[case]
      seeds[seed] = seeds[seed] or {}
      seeds[seed][name] = seeds[seed][name] or {}
      seeds[seed][name][group.label] = case
    end
  end
  for _, points in sorted.pairs(seeds) do
    local list = {}
    for _, point in sorted.pairs(points) do list[#list + 1] = point end
    world.seeds[#world.seeds + 1] = list
  end
  return world
end

--- A sentence for the note of a comparison whose seeds have several points; "" where each has one.
function expectation.averaged(groups)
  for _, points in ipairs(world_of(groups).seeds) do
    if #points > 1 then return " Other axes vary too: the value of a seed is the mean over their points." end
  end
  return ""
end

local function judged(world, statement, where)
  check(statement, where)
  local finding = type(statement[2]) == "function" and judge_function(world, statement, where) or judge_chain(world, statement, where)
  finding.words = statement[1]
  return finding
end

--- Judges statements by groups of cases. Returns a table block whose `findings` hold one moegauge.Finding each.
--- @param groups table[]  as Result:groups gives them
--- @param statements table  a list of statements
function expectation.judge(groups, statements)
  local world, findings = world_of(groups), core.list {}
  local t = { columns = { { title = "expected", wrap = true }, { title = "measured", wrap = true }, { title = "p", right = true }, { title = "verdict" } }, rows = {},
    note = "Stated before the run and tested by themselves, paired over seeds, with 95 % intervals; \"within noise\" means that the repeats cannot tell. Of a chain the weakest link is shown." .. expectation.averaged(groups) .. repeats.lacking(groups, {}) }
  for i, statement in ipairs(statements) do
    local finding = judged(world, statement, ("r:expect[%d]"):format(i))
    findings[i] = finding
    t.rows[i] = { finding.words, finding.measured, finding.p and (finding.p < 0.001 and "< 0.001" or ("%.3f"):format(finding.p)) or "–", finding.verdict }
  end
  return { kind = "table", title = "Does the expected shape hold?", table = t, findings = findings }
end

return expectation
