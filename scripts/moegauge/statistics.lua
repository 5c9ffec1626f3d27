--- Statistics over few repeats: means with Student intervals, paired differences, Holm's correction, and a verdict that
--- refuses to rank inside the noise.

local statistics = {}

--- @param values number[]
function statistics.mean(values)
  local sum = 0
  for _, value in ipairs(values) do sum = sum + value end
  return #values > 0 and sum / #values or 0 / 0
end

--- Sample standard deviation (n - 1); NaN for fewer than two values.
--- @param values number[]
function statistics.deviation(values)
  local n, mean, sum = #values, statistics.mean(values), 0
  if n < 2 then return 0 / 0 end
  for _, value in ipairs(values) do sum = sum + (value - mean) ^ 2 end
  return math.sqrt(sum / (n - 1))
end

--- @param values number[]
--- @param share number  0 .. 1, interpolated linearly between order statistics
function statistics.quantile(values, share)
  local sorted = table.move(values, 1, #values, 1, {})
  table.sort(sorted)
  if #sorted == 0 then return 0 / 0 end
  local place = 1 + (#sorted - 1) * share
  local low = math.floor(place)
  local high = math.min(low + 1, #sorted)
  return sorted[low] + (sorted[high] - sorted[low]) * (place - low)
end

function statistics.median(values) return statistics.quantile(values, 0.5) end

-- ln Gamma by Lanczos' series (g = 7, nine terms); relative error below 1e-13 for x > 0.
local lanczos <const> = { 0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313,
  -176.61502916214059, 12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7 }
local function log_gamma(x)
  x = x - 1
  local sum = lanczos[1]
  for i = 2, #lanczos do sum = sum + lanczos[i] / (x + i - 1) end
  local t = x + 7.5
  return 0.5 * math.log(2 * math.pi) + (x + 0.5) * math.log(t) - t + math.log(sum)
end

-- The regularised incomplete beta function by its continued fraction (modified Lentz).
local function incomplete_beta(a, b, x)
  if x <= 0 then return 0 end
  if x >= 1 then return 1 end
  if x > (a + 1) / (a + b + 2) then return 1 - incomplete_beta(b, a, 1 - x) end
  local front = math.exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * math.log(x) + b * math.log(1 - x)) / a
  local tiny <const> = 1e-300
  local c, d = 1, 1 - (a + b) * x / (a + 1)
  d = 1 / (math.abs(d) < tiny and tiny or d)
  local fraction = d
  for m = 1, 300 do
    for half = 1, 2 do
      local numerator = half == 1 and m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        or -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
      d = 1 + numerator * d
      d = 1 / (math.abs(d) < tiny and tiny or d)
      c = 1 + numerator / c
      c = math.abs(c) < tiny and tiny or c
      fraction = fraction * d * c
    end
    if math.abs(d * c - 1) < 1e-15 then break end
  end
  return front * fraction
end

--- Two-sided probability that Student's t with `freedom` degrees exceeds |t|.
function statistics.student_tail(t, freedom)
  return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))
end

--- The t whose two-sided tail is `tail` (0.05 for a 95 % interval), by bisection.
function statistics.student_quantile(tail, freedom)
  local low, high = 0, 1e6
  for _ = 1, 200 do
    local middle = (low + high) / 2
    if statistics.student_tail(middle, freedom) > tail then low = middle else high = middle end
  end
  return (low + high) / 2
end

--- @class moegauge.Estimate
--- @field mean number
--- @field half number  half width of the 95 % interval of the mean; NaN for one value
--- @field deviation number
--- @field n integer

--- @param values number[]
--- @return moegauge.Estimate
function statistics.estimate(values)
  local n, deviation = #values, statistics.deviation(values)
  local half = n > 1 and statistics.student_quantile(0.05, n - 1) * deviation / math.sqrt(n) or 0 / 0
  return { mean = statistics.mean(values), half = half, deviation = deviation, n = n }
end

--- @class moegauge.Difference
--- @field mean number      mean of (a - b) over the pairs
--- @field half number      half width of its 95 % interval
--- @field relative number  mean / |mean of b|
--- @field p number         two-sided, paired t; 1 when it cannot be computed
--- @field n integer        pairs

--- Compares two lists of equal length whose i-th values belong together (same seed).
--- @return moegauge.Difference
function statistics.paired(a, b)
  local gaps = {}
  for i = 1, math.min(#a, #b) do gaps[i] = a[i] - b[i] end
  local estimate = statistics.estimate(gaps)
  local p = 1
  if estimate.n > 1 then
    local error_of_mean = estimate.deviation / math.sqrt(estimate.n)
    if error_of_mean > 0 then
      p = statistics.student_tail(estimate.mean / error_of_mean, estimate.n - 1)
    elseif estimate.mean < 0 or estimate.mean > 0 then -- equal in every pair; NaN is neither
      p = 0
    end
  end
  return { mean = estimate.mean, half = estimate.half, relative = estimate.mean / math.abs(statistics.mean(b)), p = p, n = estimate.n }
end

--- @class moegauge.Proportion
--- @field value number
--- @field low number   of Wilson's 95 % interval (Wilson 1927)
--- @field high number
--- @field n integer

--- `count` of `n` trials.
--- @return moegauge.Proportion
function statistics.proportion(count, n)
  local z <const> = 1.959963984540054
  local share, spread = count / n, z * z / n
  local middle = (share + spread / 2) / (1 + spread)
  local half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
  return { value = share, low = math.max(middle - half, 0), high = math.min(middle + half, 1), n = n }
end

--- Holm's step-down correction of a list of p-values, in their order.
--- @param values number[]
function statistics.holm(values)
  local order = {}
  for i = 1, #values do order[i] = i end
  table.sort(order, function(i, j) return values[i] < values[j] or (values[i] == values[j] and i < j) end)
  local corrected, largest = {}, 0
  for rank, i in ipairs(order) do
    largest = math.max(largest, math.min(1, values[i] * (#values - rank + 1)))
    corrected[i] = largest
  end
  return corrected
end

--- A word for a paired difference: "better", "worse", "unclear" (inside the noise), or "one seed" when there is nothing
--- to judge by. `better` is "lower" or "higher"; `p` is already corrected for the number of comparisons.
--- @param difference moegauge.Difference
function statistics.verdict(difference, better, p)
  if difference.n < 2 then return "one seed" end
  if p > 0.05 then return "unclear" end
  if not better then return "differs" end
  return (difference.mean < 0) == (better == "lower") and "better" or "worse"
end

return statistics
