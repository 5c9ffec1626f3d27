-- Reports: a paper's table beside the run, statements about the expected shape, floors, folded cases, tables that fit.
local core = require "moegauge.core"
local format = require "moegauge.format"
local report = require "moegauge.report"
local result = require "moegauge.result"
local statistics = require "moegauge.statistics"

local function equal(a, b) assert(a == b, ("'%s' is not '%s'"):format(tostring(a), tostring(b))) end
local function near(a, b, what) assert(math.abs(a - b) <= 1e-9, ("%s: %.12g is not %.12g"):format(what, a, b)) end
local function fails(f, words)
  local done, problem = pcall(f)
  assert(not done, "nothing was refused; expected: " .. words)
  assert(tostring(problem):find(words, 1, true), ("'%s' is not in '%s'"):format(words, tostring(problem)))
end

-- Results of cases: stored { row = { metric = { value of seed 1, of seed 2, ... } } }.
local function stored_of(rows, order)
  local stored = { experiment = { title = "T" }, cases = {} }
  for _, name in ipairs(order) do
    local seeds = 0
    for _, values in pairs(rows[name]) do seeds = math.max(seeds, #values) end
    for seed = 1, seeds do
      local found = {}
      for metric, values in pairs(rows[name]) do found[metric] = values[seed] end
      stored.cases[#stored.cases + 1] = { number = #stored.cases + 1, status = "ok", seconds = 1, label = name, params = { row = name, seed = seed }, result = { metrics = found } }
    end
  end
  return stored
end

local stored = stored_of({
  low = { loss = { 1, 1.1, 0.9 }, cv = { 0.5, 0.6, 0.4 }, random_floor_cv = { 0.1, 0.1, 0.1 }, max_violation = { 0, 0, 0 } },
  high = { loss = { 2, 2.2, 1.9 }, cv = { 1.5, 1.4, 1.7 }, random_floor_cv = { 0.1, 0.1, 0.1 } },
  wild = { loss = { 0.2, 3, 1.4 } },
  single = { accuracy = { 0.5 } },
}, { "low", "high", "wild", "single" })
local r = result.new(stored)

local function verdict_of(statement)
  table.insert(statement, 1, "words")
  local block = r:expect { axis = "row", statement }
  return block.findings[1].verdict, block.findings[1]
end
local function judged(wanted, statement)
  local verdict, finding = verdict_of(statement)
  assert(verdict == wanted, ("%s: %s, not %s"):format(finding.measured, verdict, wanted))
end

-- Gaps 1, 1.1, 1: mean 1.0333, deviation 0.0577, t = 31 with 2 degrees, p = 1 - t / sqrt(t^2 + 2).
local _, gap = verdict_of { "loss", "high", ">", "low" }
near(gap.margin, 3.1 / 3, "margin")
near(gap.p, 1 - 31 / math.sqrt(31 * 31 + 2), "p")
equal(gap.seeds, 3)
assert(gap.measured:find("loss 2.0333 (high) against 1.0000 (low): +1.0333 ± 0.14", 1, true), gap.measured)

judged("holds", { "loss", "high", ">", "low" })
judged("holds", { "loss", "low", "<", "high" })
judged("does not hold", { "loss", "high", "<", "low" })
judged("within noise", { "loss", "wild", ">", "low" })
judged("holds", { "loss", "high", ">", "low", by = 0.5 })
judged("does not hold", { "loss", "high", ">", "low", by = 1.5 })
judged("holds", { "loss", "low", "<=", "high" })
judged("does not hold", { "loss", "high", "<=", "low", within = 0.5 })
judged("holds", { "loss", "high", "<=", "low", within = 1.5 })
judged("holds", { "loss", "low", "~", "high", within = 0.6 })
judged("does not hold", { "loss", "low", "~", "high", within = 0.2 })
judged("within noise", { "loss", "low", "~", "wild", within = 0.6 })
judged("holds", { "loss", "high", ">", 1.5 })
judged("holds", { "max_violation", "low", "=", 0 })
judged("does not hold", { "loss", "low", "=", 1 })
judged("does not hold", { "max_violation", "low", ">", 0 }) -- equal in every repeat is not more
judged("holds", { "max_violation", "low", ">=", 0 })
judged("one seed", { "accuracy", "single", ">", 0.1 })
judged("not measured", { "loss", "high", ">", "nobody" })
judged("not measured", { "gini", "high", ">", "low" })

_, gap = verdict_of { "loss", "high", ">", "nobody" }
equal(gap.measured, "there is no row 'nobody'")
_, gap = verdict_of { "gini", "high", ">", "low" }
equal(gap.measured, "no seed has Gini of both high and low")
_, gap = verdict_of { function(at) return at("nobody", "loss") end }
equal(gap.measured, "there is no row 'nobody'")

-- A chain holds when every link does, and shows the link that decides.
judged("holds", { "cv", "high", ">", "low", ">", 0.1 })
judged("within noise", { "loss", "high", ">", "low", "<", "wild" })
judged("does not hold", { "loss", "wild", "<", "high", "<", "low" })
_, gap = verdict_of { "cv", "high", ">", "low", ">", 0.1 }
assert(gap.measured:find("load CV 0.500 (low) against 0.1", 1, true), gap.measured)

-- A function of one repeat; a number that is not there is no error of the script.
judged("holds", { function(at) return at("high", "loss") / at("low", "loss") - 1.5 end })
judged("not measured", { function(at) return at("high", "loss") - at("high", "gini") end })
fails(function() verdict_of { function() return "yes" end } end, "must return a number")
fails(function() verdict_of { function() error "mine" end } end, "mine")

fails(function() r:expect { axis = "row", { "words", "loss", "high" } } end, "r:expect[1]: { words, metric")
fails(function() r:expect { axis = "row", { "words", "loss", "high", "=>", "low" } } end, "'=>' is no relation")
fails(function() r:expect { axis = "row", { "words", "loss", "high", ">", {} } } end, "a row's label or a number")
fails(function() r:expect { axis = "row", { "words", "loss", "high", ">", "low", more = 2 } } end, "unknown key 'more'")

-- The paper beside the run: its rows in its order, rows of its own, rows of the run's own, figures as printed.
local block = r:paper { source = "Someone 2020", table = "Table 1", sourcing = "P", axis = "row", columns = { "loss", "cv" },
  rows = { { "high", loss = "2.10", cv = 1.5 }, { paper = "Elsewhere", loss = 7 }, { "low", paper = "Lowest", loss = 0.9, sourcing = "M" } } }
local heads = {}
for i, column in ipairs(block.table.columns) do heads[i] = column.title end
equal(table.concat(heads, "|"), "row|loss, paper|loss, run|load CV, paper|load CV, run|CV floor")
equal(table.concat(block.table.rows[1], "|"), "high|2.10|2.0333 ± 0.3795|1.5|1.533 ± 0.379|0.100")
equal(table.concat(block.table.rows[2], "|"), "Elsewhere|7|–|–|–|–")
equal(table.concat(block.table.rows[3], "|"), "low (Lowest)|0.9 [M]|1.0000 ± 0.2484|–|0.500 ± 0.248|0.100")
equal(block.table.rows[4][1], "wild")
equal(r:paper({ source = "S", table = "T", sourcing = "P", axis = "row", columns = { "loss" }, rows = { { "lost", loss = 1 } } }).table.rows[1][3], "not run")
assert(block.table.note:find("Someone 2020, Table 1 [P: read in the paper]", 1, true), block.table.note)
equal(block.figures[1].paper, 2.1)
fails(function() r:paper { source = "S", table = "T", sourcing = "Q", columns = {}, rows = {} } end, "'sourcing' must be")
fails(function() r:paper { source = "S", table = "T", sourcing = "P", columns = { "loss" }, rows = { { "low", los = 1 } } } end, "did you mean 'loss'?")
fails(function() r:paper { source = "S", table = "T", sourcing = "P", columns = { "loss" }, rows = { { "low", loss = "much" } } } end, "loss must be a number")
fails(function() r:paper { source = "S", table = "T", sourcing = "P", columns = { "loss" }, rows = { { loss = 1 } } } end, "name the run's row")

-- Folding an axis: one case for each seed, with the metrics made of that seed's cases.
local folded = r:fold("row", function(cases) return { count = #cases, spread = cases[2] and cases[2].result.metrics.loss - cases[1].result.metrics.loss } end)
equal(#folded.cases, 3)
equal(folded.cases[1].result.metrics.count, 4)
equal(folded.cases[2].params.row, nil)
near(folded.cases[2].result.metrics.spread, 1.1, "folded")

-- Multiples of one row's metrics, seed by seed.
local relative = r:relative("row", "low", { "loss", "cv" })
near(relative.cases[5].result.metrics.loss_share, 2.2 / 1.1, "share of the same seed")
equal(relative.cases[1].result.metrics.cv_share, 1)
equal(relative.cases[7].result.metrics.cv_share, nil)

-- A metric over an axis of numbers.
local over = result.new { cases = {} }
for i, one in ipairs { { 4, "a", 1, 2 }, { 4, "a", 2, 4 }, { 2, "a", 1, 9 }, { 2, "b", 1, 5 } } do
  over.cases[i] = { number = i, status = "ok", params = { n = one[1], kind = one[2], seed = one[3] }, result = { metrics = { loss = one[4] } } }
end
local curve = over:curve { x = "n", y = "loss", by = "kind", log_x = true }
assert(curve.script:find("$curve1 << END\n2 9 9 9\n4 3 2 4\nEND\n$curve2 << END\n2 5 5 5\nEND", 1, true), curve.script)
assert(curve.script:find("set logscale x", 1, true))

-- One expert of two, at random: the CV of 100 tokens is |n1 - n2| / 100, whose mean is about sqrt(2 / (pi 100)) = 0.08.
local floor = require("moegauge").random_floor { experts = 2, k = 1, tokens = 100 }
assert(math.abs(floor.cv - 0.08) < 0.03, floor.cv)
equal(floor.max_over_mean, 1 + floor.max_violation)

-- A machine that had more to do than the run is named, and facts of all cases are put together.
stored.cases[1].provenance = { load_average = 7.25, peak_memory_bytes = 10, data_checksum = "a", processor = { usable = 2 } }
stored.cases[2].provenance = { load_average = 2, peak_memory_bytes = 30, data_checksum = "b", processor = { usable = 2 } }
local page = report.write(stored, "md", {})
for _, words in ipairs { "busy machine (load average up to 7.2 on 2 processors)", "- peak_memory_bytes: 10 to 30", "- data_checksum: a, b" } do
  assert(page:find(words, 1, true), ("'%s' is not in: %s"):format(words, page))
end
stored.cases[1].provenance.load_average = 2.25
assert(not report.write(stored, "md", {}):find("busy machine", 1, true))

-- Simulated costs that rest on no measurement are named.
assert(not report.write(stored, "md", {}):find("roofline only", 1, true))
stored.cases[1].provenance.cluster_costs = "H200 SXM (calibrated), TPU v4 (roofline only)"
stored.cases[2].provenance.cluster_costs = "MI300X (roofline only)"
assert(report.write(stored, "md", {}):find("roofline only, the hardware's peak, for MI300X, TPU v4: no time", 1, true))
stored.cases[1].provenance.cluster_costs, stored.cases[2].provenance.cluster_costs = nil, nil

-- Every format shows the statements and the paper's figures.
local experiment = { report = function(one)
  return { one:paper { source = "Someone 2020", table = "Table 1", sourcing = "P", axis = "row", columns = { "loss" }, rows = { { "high", loss = 2.1 } } },
    one:expect { axis = "row", { "high loses, more \"or\" less", "loss", "high", ">", "low" }, { "low is wild", "loss", "low", ">", "wild" } } }
end }
for _, wanted in ipairs { "table", "md", "html" } do
  local text, files = report.write(stored, wanted, experiment)
  text = wanted == "html" and files["report.html"] or text
  for _, words in ipairs { "Does the expected shape hold?", "within noise", "Table 1: paper and this run", "Expected shapes: holds 1, within noise 1.", "read in the paper" } do
    assert(text:gsub("\n", " "):find(words, 1, true), ("%s lacks '%s': %s"):format(wanted, words, text))
  end
end
local _, files = report.write(stored, "csv", experiment)
assert(files["expected.csv"]:find('"high loses, more ""or"" less",holds,1.03', 1, true), files["expected.csv"])
assert(files["paper.csv"]:find("high,loss,2.1", 1, true), files["paper.csv"])
local whole = core.from_json((report.write(stored, "json", experiment)))
equal(whole.expected[2].verdict, "within noise")
equal(whole.papers[1].figures[1].paper, 2.1)
equal(#whole.cases, #stored.cases)

-- Tables that fit: cells wrap where they may, and the rest is shown in parts that repeat the columns naming a row.
equal(table.concat(format.wrap("one two  three", 7), "|"), "one two|three")
equal(format.wrap("", 7)[1], "")
local wide = { columns = { { title = "case" }, { title = "first", right = true }, { title = "second", right = true } }, rows = { { "a", "1", "2" } } }
equal(format.text_table(wide, 14), "case  first\n────  ─────\na         1\n\ncase  second\n────  ──────\na          2\n")
equal(format.text_table(wide, 19), format.text_table(wide))
local words = { columns = { { title = "what", wrap = true }, { title = "verdict" } }, rows = { { "a statement of more than twenty letters", "holds" } } }
equal(format.text_table(words, 30), "what                   verdict\n─────────────────────  ───────\na statement of more    holds\nthan twenty letters\n")

-- Another axis varies: a seed's value is the mean over the points that both rows have, not the last one of them.
-- Gaps b - a: at width 1: 1, 2, 3 (seeds 1 to 3); at width 2: 5, 4, 6; at width 3 only b is there. Means 3, 3, 4.5.
local crossed = { experiment = { title = "T" }, cases = {} }
for seed, gaps in ipairs { { 1, 5 }, { 2, 4 }, { 3, 6 } } do
  for width = 1, 3 do
    for _, name in ipairs(width == 3 and { "b" } or { "a", "b" }) do
      crossed.cases[#crossed.cases + 1] = { number = #crossed.cases + 1, status = "ok", seconds = 1, label = name, params = { row = name, width = width, seed = seed },
        result = { metrics = { loss = 10 * width + (name == "b" and (gaps[width] or 100) or 0) } } }
    end
  end
end
local two = result.new(crossed)
local block = two:expect { axis = "row", { "chain", "loss", "b", ">", "a" }, { "function", function(at) return at("b", "loss") - at("a", "loss") end },
  { "every point", "loss", "a", "=", "a" } }
for i = 1, 2 do
  near(block.findings[i].margin, 3.5, "margin over points")
  equal(block.findings[i].seeds, 3)
  near(block.findings[i].p, 1 - 7 / math.sqrt(7 * 7 + 2), "p over points") -- t = 3.5 / (0.866 / sqrt(3)) = 7, 2 degrees
end
equal(block.findings[3].verdict, "holds")
assert(block.table.note:find("the value of a seed is the mean over their points", 1, true), block.table.note)
local means = two:table("row", { "loss" }).table -- of a and seed: (10 + 20) / 2 each; of b with its gaps and width 3's 130: 55 + 1/3 of them
equal(means.rows[1][2], "15.0000")
near(means.sort[2][2], (60 + 100) / 3 + (6 + 6 + 9) / 9, "table over points")
assert(means.note:find("interval over 3 seeds. Other axes vary too", 1, true), means.note)
local verdicts = two:differences("row", "loss").verdicts
equal(#verdicts, 1)
near(verdicts[1].difference.mean, 3.5, "difference over points")
equal(verdicts[1].difference.n, 3)
assert(not r:expect({ axis = "row", { "words", "loss", "high", ">", "low" } }).table.note:find "Other axes")

-- The y axis of a chart holds the start of a run, unless that would flatten the rest: then the caption says so.
local chart = require "moegauge.chart"
local function range_for(first)
  local points = { { 0, first, first, first } }
  for i = 1, 23 do points[i + 1] = { i, 1, 0, 1 } end
  local script, cut = chart.lines { x_label = "x", y_label = "y", series = { { label = "a", points = points } } }
  local low, high = script:match "set yrange %[([^:]+):([^%]]+)%]"
  return tonumber(low), tonumber(high), cut
end
local low, high, cut = range_for(2.5)
assert(low == -0.1 and high == 2.6 and not cut, "a start of 2.5 is cut")
low, high, cut = range_for(5)
assert(low == -0.04 and high == 1.04 and cut, "a start of 5 flattens the rest")

-- A method that is not there, and a report that is no list of blocks.
fails(function() r:tabel "row" end, "report: there is no r:tabel; did you mean r:table?")
fails(function() r:table "rwo" end, "report: there is no axis 'rwo'; did you mean 'row'?")
fails(function() report.blocks(stored, { report = function() return 3 end }) end, "report: must return a list of what the methods of r make, not 3")
fails(function() report.blocks(stored, { report = function() return { "words" } end }) end, "report: entry 1 of its list must be what a method of r made")

-- Long labels go below a picture and slant under bars, and leave the picture its room.
local function script_of(text)
  return (chart.lines { x_label = "x", y_label = "y", series = { { label = text, points = { { 0, 1, 1, 1 }, { 1, 2, 2, 2 } } } } })
end
assert(script_of("short"):find("key outside right", 1, true) and script_of(("long "):rep(9)):find("key outside below", 1, true))
local function bars_of(text) return chart.stacked { y_label = "y", labels = { text, text .. "2", text .. "3" }, parts = { { label = "p", values = { 1, 2, 3 } } } } end
assert(not bars_of("short"):find("rotate", 1, true) and bars_of(("long "):rep(9)):find("rotate by -25", 1, true))

-- A statement between two numbers says nothing of the run: a row of an axis of numbers is named by its label.
fails(function() r:expect { axis = "row", { "words", "loss", 0, ">", 0.1 } } end, "r:expect[1]: both sides of '>' are numbers")

-- Differences keep to the metric's style: shares in points of a hundred, counts short.
equal(format.difference("loss", { mean = -0.25, half = 0.125 }), "-0.2500 ± 0.1250")
equal(format.difference("accuracy", { mean = 0.0277, half = 0.0181 }), "+2.77 ± 1.81 points")
equal(format.difference("tokens_per_second", { mean = -12345, half = 678 }), "-12.3 k ± 678")
equal(format.difference("seconds", { mean = 2, half = 0 / 0 }), "+2.0 s")
equal(format.difference("loss", { mean = 0 / 0, half = 0 / 0 }), "–")

-- What is missing is said where the means stand: cases without a result, rows without any, numbers that a case lacks. One
-- pair tests nothing and does not count among the comparisons.
local gappy = stored_of({ a = { loss = { 1, 2, 3 } }, b = { loss = { 2, 3.5, 4 } }, c = { loss = { 9, 0 / 0, 1 / 0 } } }, { "a", "b", "c" })
for i, one in ipairs { { "b", 4, "crashed" }, { "b", 5, "crashed" }, { "b", 6, "crashed" }, { "d", 1, "hung" } } do
  gappy.cases[9 + i] = { number = 9 + i, status = "failed", reason = one[3], label = one[1] .. " seed=" .. one[2], params = { row = one[1], seed = one[2] } }
end
local lacking = result.new(gappy)
local note = lacking:table("row").table.note
assert(note:find("Left out for want of a result: 3 of 6 cases of b, 1 of 1 of d. No loss: 2 of 3 cases of c.", 1, true), note)
local found = lacking:differences "row"
assert(found.table.note:find("Left out for want of a result", 1, true) and found.table.note:find("Fewer than 3 pairs: c against a (1), c against b (1).", 1, true), found.table.note)
local single = statistics.paired({ 2, 3.5, 4 }, { 1, 2, 3 })
equal(table.concat(found.table.rows[1], "|"), ("b|a|+1.1667 ± %.4f|+58.33 %%|%.3f|worse"):format(single.half, single.p))
equal(table.concat(found.table.rows[2], "|"), "c|a|+8.0000|+800.00 %|–|one seed")
equal(lacking:expect({ axis = "row", { "words", "loss", "a", "<", "d" } }).findings[1].measured, "no seed has loss of both a and d")
assert(not r:table("row").table.note:find("Left out", 1, true))
equal(statistics.paired({ 1 / 0, 1 / 0 }, { 1 / 0, 1 / 0 }).p, 1)

-- Cases that failed alike share a row of the report; the CSV has one line of each, with its parameters.
local text
text, files = report.write(gappy, "csv", {})
local header, first = text:match "([^\n]+)\n([^\n]+)\n"
equal(header, "number,label,status,reason,wall_seconds,case.row,case.seed,loss")
equal(first, "1,a,ok,,1,a,1,1")
assert(text:find("\n13,d seed=1,failed,hung,,d,1,\n", 1, true), text)
local blocks = report.blocks(gappy, { report = function() return {} end })
equal(#blocks[1].table.rows, 2)
equal(table.concat(blocks[1].table.rows[1], "|"), "b seed=4, and 2 more|failed|crashed")

-- Curves are means over the same positions; two charts of one name get two files.
local curves = { experiment = {}, cases = {} }
for i, xs in ipairs { { 10, 20, 30 }, { 10, 30 }, { 11, 21 } } do
  local samples = {}
  for k, x in ipairs(xs) do samples[k] = { x, i * x } end
  curves.cases[i] = { number = i, status = "ok", params = { length = i > 2 and "odd" or "even", seed = i }, result = { metrics = { loss = 1 }, series = { loss = samples } } }
end
local over_axis = result.new(curves):chart("loss", "tokens", { axis = "length" })
assert(over_axis.script:find("$curve1 << END\n10 15 10 20\n30 45 30 60\nEND\n$curve2 << END\n11 33 33 33", 1, true), over_axis.script)
assert(over_axis.script:find('title "length"', 1, true), over_axis.script)
curves.cases[3].params.length = "even"
local apart = result.new(curves):chart("loss", "tokens", { axis = "length" })
equal(apart.text, "The runs of a row recorded 'loss' at different tokens; name the axis they differ by, { axis = ... }.")
_, files = report.write(stored_of({ a = { loss = { 1 } } }, { "a" }), "md", { report = function(one)
  local block = function() return { kind = "chart", name = "loss", title = "t", caption = "c", script = "set terminal svg\nplot x\n" } end
  return { block(), block() }
end })
assert(files["charts/loss.svg"] and files["charts/loss-2.svg"] and files["report.md"]:find("charts/loss-2.svg", 1, true))
