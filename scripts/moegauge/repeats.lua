--- Numbers of the repeats of a group of cases (result.lua): one for each seed.

local sorted = require "moegauge.sorted"
local statistics = require "moegauge.statistics"

local repeats = {}

--- A number that is one; nil for anything else.
--- @param value any
function repeats.number(value) return type(value) == "number" and value == value and value or nil end

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

return repeats
