-- Statistics, formats, labels and sorted keys against values worked by hand or taken from printed tables.
local statistics = require "moegauge.statistics"
local format = require "moegauge.format"
local label = require "moegauge.label"
local sorted = require "moegauge.sorted"

local function near(a, b, tolerance, what)
  assert(math.abs(a - b) <= tolerance, ("%s: %.10g is not %.10g"):format(what, a, b))
end

-- Student's t from printed tables (95 % two-sided).
for _, row in ipairs { { 1, 12.706 }, { 2, 4.303 }, { 4, 2.776 }, { 9, 2.262 }, { 30, 2.042 }, { 1000, 1.962 } } do
  near(statistics.student_quantile(0.05, row[1]), row[2], 5e-4, "t quantile, " .. row[1] .. " degrees")
end
near(statistics.student_tail(1, 1), 0.5, 1e-12, "Cauchy tail at 1")
near(statistics.student_tail(0, 5), 1, 1e-12, "tail at 0")

near(statistics.deviation { 2, 4, 4, 4, 5, 5, 7, 9 }, math.sqrt(32 / 7), 1e-12, "sample deviation")
near(statistics.quantile({ 4, 1, 3, 2 }, 0.25), 1.75, 1e-12, "quantile")
near(statistics.median { 3, 1, 2 }, 2, 0, "median")

-- Differences 1, 2, 3: mean 2, deviation 1, t = 2 sqrt 3 with 2 degrees; p = 1 - t / sqrt(t^2 + 2).
local difference = statistics.paired({ 2, 4, 6 }, { 1, 2, 3 })
near(difference.mean, 2, 1e-12, "paired mean")
near(difference.half, 4.30265 / math.sqrt(3), 1e-4, "paired interval")
near(difference.p, 1 - math.sqrt(12) / math.sqrt(14), 1e-9, "paired p")

-- Two pairs, differences 1 and 3: mean 2, deviation sqrt 2, so t = 2 with 1 degree; p = 1 - 2 atan(2) / pi.
local two <const> = statistics.paired({ 2, 5 }, { 1, 2 })
near(statistics.deviation { 1, 3 }, math.sqrt(2), 1e-12, "deviation of two")
near(two.half, 12.7062, 1e-4, "interval of two pairs")
near(two.p, 1 - 2 * math.atan(2) / math.pi, 1e-9, "p of two pairs")
local one <const> = statistics.paired({ 2 }, { 1 })
assert(one.p == 1 and one.n == 1 and one.half ~= one.half, "one pair has an interval")

-- Holm, worked by hand: 0.01 * 3, max(0.03, 0.02 * 2), max(0.04, 0.04).
local holm = statistics.holm { 0.04, 0.01, 0.02 }
near(holm[2], 0.03, 1e-12, "Holm first")
near(holm[3], 0.04, 1e-12, "Holm second")
near(holm[1], 0.04, 1e-12, "Holm third")

-- (0.5 +- 0.60423 * 1.95996 / 2.92073), and an interval that does not leave 0 to 1.
local half = statistics.proportion(1, 2)
near(half.low, 0.0945312, 1e-6, "Wilson low")
near(half.high, 0.9054688, 1e-6, "Wilson high")
local none = statistics.proportion(0, 10)
near(none.low, 0, 1e-12, "Wilson of none, low")
near(none.high, 0.2775328, 1e-6, "Wilson of none, high")

assert(statistics.verdict({ n = 1, mean = -1 }, "lower", 1) == "one seed")
assert(statistics.verdict({ n = 5, mean = -1 }, "lower", 0.2) == "unclear")
assert(statistics.verdict({ n = 5, mean = -1 }, "lower", 0.01) == "better")
assert(statistics.verdict({ n = 5, mean = -1 }, "higher", 0.01) == "worse")

assert(format.count(1234567) == "1.23 M", format.count(1234567))
assert(format.count(999.9) == "1 k" or format.count(999.9) == "1e+03", format.count(999.9))
assert(format.count(12) == "12")
assert(format.bytes(1536) == "1.5 KiB")
assert(format.time(0.25) == "250 ms" and format.time(75) == "75.0 s" and format.time(600) == "10 min 00 s")
assert(format.value("accuracy", 0.3141) == "31.41 %")
assert(format.value("loss", 0 / 0) == "–")
assert(format.width "日本" == 4 and format.width "e\u{301}" == 1)
local text = format.text_table { columns = { { title = "a" }, { title = "n", right = true } }, rows = { { "日本", "1" }, { "x", "100" } } }
assert(text == "a       n\n────  ───\n日本    1\nx     100\n", text)
assert(format.markdown_table({ columns = { { title = "a|b" } }, rows = { { "c|d" } } }):find("c\\|d", 1, true))

local names = label.of {
  { kind = "dense", width = 512 },
  { kind = "moe", experts = 16, router = { name = "topk", k = 1 } },
  { kind = "moe", experts = 16, router = { name = "topk", k = 2 } },
  { kind = "moe", experts = 8, router = { name = "switch" } },
}
assert(table.concat(names, "; ") == "dense; topk k=1; topk k=2; switch", table.concat(names, "; "))
assert(table.concat(label.of { 1, 2.0, 0.5 }, " ") == "1 2 0.5")

-- Keys in order: numbers by value, then the others by their text, however they are mixed.
local function joined(t)
  local texts = {}
  for key, value in sorted.pairs(t) do texts[#texts + 1] = tostring(key) .. "=" .. value end
  return table.concat(texts, " ")
end
assert(joined { b = 1, a = 2, ["10"] = 3, [10] = 4, [9] = 5, [-1.5] = 6, ["9"] = 7 } == "-1.5=6 9=5 10=4 10=3 9=7 a=2 b=1")
assert(joined {} == "" and #sorted.keys {} == 0)
