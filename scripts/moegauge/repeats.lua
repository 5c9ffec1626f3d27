--- Numbers of the repeats of a group of cases (result.lua): one for each seed.

local metrics = require "moegauge.metrics"
local sorted = require "moegauge.sorted"
local statistics = require "moegauge.statistics"

local repeats = {}

--- A number that is finite; nil for anything else.
--- @param value any
function repeats.number(value) return type(value) == "number" and math.abs(value) < math.huge and value or nil end

-- For each seed in order, the mean of a list of numbers.
local function means_of(seeds)
  local means = {}
  for _, values in sorted.pairs(seeds) do means[#means + 1] = statistics.mean(values) end
  return means
end

--- The values of a metric over the seeds of a group, in order; missing ones left out. Where another axis varies, a seed has
--- several points: its value is their mean, as points of one seed are not repeats of each other.
function repeats.values(group, name)
  local seeds = {}
  for _, case in ipairs(group.cases) do
    local seed = case.params.seed or 0
    seeds[seed] = seeds[seed] or {}
    table.insert(seeds[seed], repeats.number(case.result.metrics[name]))
  end
  for seed, values in pairs(seeds) do
    if #values == 0 then seeds[seed] = nil end
  end
  return means_of(seeds)
end

--- Values of two groups that share a seed, in the order of seeds: means over the points that both groups have.
function repeats.pairs(a, b, name)
  local other, left, right = {}, {}, {}
  for _, case in ipairs(b.cases) do other[b.points[case] .. "|" .. (case.params.seed or 0)] = repeats.number(case.result.metrics[name]) end
  for _, case in ipairs(a.cases) do
    local seed = case.params.seed or 0
    local mine, theirs = repeats.number(case.result.metrics[name]), other[a.points[case] .. "|" .. seed]
    if mine and theirs then
      left[seed], right[seed] = left[seed] or {}, right[seed] or {}
      table.insert(left[seed], mine)
      table.insert(right[seed], theirs)
    end
  end
  return means_of(left), means_of(right)
end

-- Labels and counts as a sentence's end: "2 of 16 cases of a, 1 of 16 of b and 3 more rows".
local function listed(rows)
  local words, shown <const> = {}, 4
  for i = 1, math.min(#rows, shown) do
    words[i] = ("%d of %d %s%s"):format(rows[i].count, rows[i].of, i == 1 and "cases of " or "of ", rows[i].label)
  end
  return table.concat(words, ", ") .. (#rows > shown and (" and of %d more rows"):format(#rows - shown) or "")
end

--- Sentences for the note of a table of groups (Result:groups): which rows lack cases, and which of the metrics only some
--- cases of a row have; "" when nothing is missing. A mean over what is left may flatter a row.
--- @param names string[]
function repeats.lacking(groups, names)
  local rows, text = {}, ""
  for _, list in ipairs { groups, groups.lost or {} } do
    for _, group in ipairs(list) do
      if (group.missing or 0) > 0 then rows[#rows + 1] = { label = group.label, count = group.missing, of = group.missing + #group.cases } end
    end
  end
  if #rows > 0 then text = " Left out for want of a result: " .. listed(rows) .. "." end
  for _, name in ipairs(names) do
    rows = {}
    for _, group in ipairs(groups) do
      local count = 0
      for _, case in ipairs(group.cases) do count = count + (repeats.number(case.result.metrics[name]) and 1 or 0) end
      if count > 0 and count < #group.cases then rows[#rows + 1] = { label = group.label, count = #group.cases - count, of = #group.cases } end
    end
    if #rows > 0 then text = ("%s No %s: %s."):format(text, metrics.of(name).title, listed(rows)) end
  end
  return text
end

return repeats
