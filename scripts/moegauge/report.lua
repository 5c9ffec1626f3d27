--- Renders stored results as a terminal table, Markdown, HTML, CSV or JSON. Nothing here computes a result: every format
--- is a view of the store that can be made again at any time.

local core = require "moegauge.core"
local expectation = require "moegauge.expectation"
local format = require "moegauge.format"
local html = require "moegauge.html"
local paper = require "moegauge.paper"
local result = require "moegauge.result"
local sorted = require "moegauge.sorted"
local strict = require "moegauge.strict"

local report = {}

-- Nested lists of blocks as one list.
local function flatten(blocks, out)
  for i, block in ipairs(blocks) do
    if type(block) ~= "table" then core.fail_plain("usage", ("report: entry %d of its list must be what a method of r made, not %s"):format(i, strict.describe(block))) end
    if block.kind == "blocks" then flatten(block, out) else out[#out + 1] = block end
  end
  return out
end

-- Cases that ended for the same reason share a row, under the first one's name.
local function failures_block(r)
  if #r.failed == 0 then return nil end
  local rows, alike = {}, {}
  for _, case in ipairs(r.failed) do
    local key = case.status .. "|" .. (case.reason or "")
    if not alike[key] then
      alike[key] = { row = { case.label or tostring(case.number), case.status, case.reason or "" }, more = 0 }
      rows[#rows + 1] = alike[key].row
      alike[key].first = alike[key].row[1]
    else
      alike[key].more = alike[key].more + 1
      alike[key].row[1] = ("%s, and %d more"):format(alike[key].first, alike[key].more)
    end
  end
  return { kind = "table", title = "Cases without a result", table = { columns = { { title = "case" }, { title = "status" }, { title = "reason" } }, rows = rows } }
end

--- The blocks of a report, in order: the experiment's own, then what failed.
function report.blocks(stored, experiment)
  local r = result.new(stored)
  local blocks = {}
  if #r.cases > 0 then
    local own = experiment and experiment.report and experiment.report(r)
    if own ~= nil and own ~= false and type(own) ~= "table" then core.fail_plain("usage", ("report: must return a list of what the methods of r make, not %s"):format(strict.describe(own))) end
    blocks = flatten(own or r:default_blocks(), {})
  end
  blocks[#blocks + 1] = failures_block(r)
  return blocks, r
end

local function title_of(stored) return stored.experiment.title or stored.experiment.name or "Experiment" end

-- Values of one fact over the cases as a text: numbers as their range, others one by one.
local function fact_text(values)
  local words, seen, least, most = {}, {}, math.huge, -math.huge
  for _, value in ipairs(values) do
    if type(value) == "number" then least, most = math.min(least, value), math.max(most, value) end
    if not seen[tostring(value)] then
      seen[tostring(value)] = true
      words[#words + 1] = tostring(value)
    end
  end
  if least < most then return ("%.10g to %.10g"):format(least, most) end
  return table.concat(words, ", ")
end

local function provenance_lines(r)
  local facts, lines = {}, {}
  for _, case in ipairs(r.cases) do
    for key, value in pairs(case.provenance or {}) do
      if type(value) ~= "table" then
        facts[key] = facts[key] or {}
        table.insert(facts[key], value)
      end
    end
  end
  for key, values in sorted.pairs(facts) do lines[#lines + 1] = key .. ": " .. fact_text(values) end
  return lines
end

--- A load this much above the processors in use means that others ran too.
local disturbed <const> = 1.25

-- A warning when the machine had more to do than this run; "" otherwise.
local function disturbance_of(r)
  local most, usable = 0, math.huge
  for _, case in ipairs(r.cases) do
    local origin = case.provenance or {}
    most = math.max(most, origin.load_average or 0)
    usable = math.min(usable, type(origin.processor) == "table" and origin.processor.usable or math.huge)
  end
  if most <= disturbed * usable then return "" end
  return (" Times and speeds were taken on a busy machine (load average up to %.1f on %d processors)."):format(most, usable)
end

-- A warning where simulated costs are peaks of hardware of which nothing was measured; "" otherwise.
local function roofline_of(r)
  local names, seen = {}, {}
  for _, case in ipairs(r.cases) do
    for name in ((case.provenance or {}).cluster_costs or ""):gmatch "([^,]+) %(roofline only%)" do
      name = name:match "^%s*(.-)$"
      if not seen[name] then names[#names + 1], seen[name] = name, true end
    end
  end
  if #names == 0 then return "" end
  table.sort(names)
  return (" Simulated costs are roofline only, the hardware's peak, for %s: no time comes from a measurement."):format(table.concat(names, ", "))
end

-- How the expected shapes came out, as a sentence; "" when none was stated.
local function shapes_of(blocks)
  local counts, words = {}, {}
  for _, block in ipairs(blocks) do
    for _, finding in ipairs(block.findings or {}) do counts[finding.verdict] = (counts[finding.verdict] or 0) + 1 end
  end
  for _, verdict in ipairs(expectation.verdicts) do
    if counts[verdict] then words[#words + 1] = ("%s %d"):format(verdict, counts[verdict]) end
  end
  return #words > 0 and " Expected shapes: " .. table.concat(words, ", ") .. "." or ""
end

local function summary_of(r, blocks)
  local seconds = 0
  for _, case in ipairs(r.cases) do seconds = seconds + (case.seconds or 0) end
  return ("%d cases finished, %d without a result; %s of running.%s"):format(#r.cases, #r.failed, format.time(seconds), disturbance_of(r) .. roofline_of(r) .. shapes_of(blocks))
end

local function terminal(stored, experiment)
  local blocks, r = report.blocks(stored, experiment)
  local out = { title_of(stored), "" }
  for _, block in ipairs(blocks) do
    if block.kind == "table" then
      out[#out + 1] = block.title
      out[#out + 1] = format.text_table(block.table, format.terminal_columns)
    elseif block.kind == "text" then
      out[#out + 1] = table.concat(format.wrap(block.text, format.terminal_columns), "\n") .. "\n"
    end
  end
  out[#out + 1] = summary_of(r, blocks)
  return table.concat(out, "\n") .. "\n"
end

local function markdown(stored, blocks, r)
  local out = { "# " .. title_of(stored) .. "\n" }
  for _, block in ipairs(blocks) do
    if block.kind == "table" then
      out[#out + 1] = "## " .. block.title .. "\n"
      out[#out + 1] = format.markdown_table(block.table)
    elseif block.kind == "chart" then
      out[#out + 1] = ("## %s\n\n![%s](charts/%s.svg)\n"):format(block.title, block.caption, block.name)
    else
      out[#out + 1] = block.text .. "\n"
    end
  end
  out[#out + 1] = summary_of(r, blocks) .. "\n\n## Provenance\n"
  for _, line in ipairs(provenance_lines(r)) do out[#out + 1] = "- " .. line end
  return table.concat(out, "\n") .. "\n"
end

-- Two charts of one metric, such as by different axes, get files of their own.
local function charts_of(blocks, files)
  local used = {}
  for _, block in ipairs(blocks) do
    if block.kind == "chart" then
      local name = block.name
      used[name] = (used[name] or 0) + 1
      if used[name] > 1 then block.name = ("%s-%d"):format(name, used[name]) end
      block.svg = core.run_gnuplot(block.script)
      files["charts/" .. block.name .. ".gp"] = block.script
      files["charts/" .. block.name .. ".svg"] = block.svg
    end
  end
end

local function csv_cell(value)
  if value == nil or value ~= value then return "" end
  local text = type(value) == "number" and ("%.17g"):format(value) or tostring(value)
  if text:find('[",\n\r]') then return '"' .. text:gsub('"', '""') .. '"' end
  return text
end

local function csv_line(cells)
  local texts = {}
  for i = 1, cells.n or #cells do texts[i] = csv_cell(cells[i]) end
  return table.concat(texts, ",") .. "\n"
end

-- A parameter in one cell: a specification as its label, where the sweep has given it one.
local function parameter_cell(case, name)
  local value = case.params[name]
  return type(value) == "table" and ((case.labels or {})[name] or core.to_json(value)) or value
end

-- One line per case: what it is, its parameters as case.NAME, its metrics.
local function csv_of_cases(stored)
  local given, measured, heads = {}, {}, { "number", "label", "status", "reason", "wall_seconds" }
  for _, case in ipairs(stored.cases) do
    for name in pairs(case.params) do given[name] = true end
    for name in pairs(case.result and case.result.metrics or {}) do measured[name] = true end
  end
  local params, names = sorted.keys(given), sorted.keys(measured)
  for _, name in ipairs(params) do heads[#heads + 1] = "case." .. name end
  local lines = { csv_line(table.move(names, 1, #names, #heads + 1, heads)) }
  for _, case in ipairs(stored.cases) do
    local cells = { case.number, case.label, case.status, case.reason, case.seconds, n = #heads }
    for i, name in ipairs(params) do cells[5 + i] = parameter_cell(case, name) end
    for i, name in ipairs(names) do cells[5 + #params + i] = case.result and case.result.metrics[name] end
    lines[#lines + 1] = csv_line(cells)
  end
  return table.concat(lines)
end

-- The fields of the records that blocks hold under `key`, one line each; nil when there are none.
local function csv_of_records(blocks, key, fields)
  local lines = { csv_line(fields) }
  for _, block in ipairs(blocks) do
    for _, record in ipairs(block[key] or {}) do
      local cells = { n = #fields }
      for i, field in ipairs(fields) do cells[i] = record[field] end
      lines[#lines + 1] = csv_line(cells)
    end
  end
  return #lines > 1 and table.concat(lines) or nil
end

local function csv(stored, experiment, files)
  local blocks = report.blocks(stored, experiment)
  files["report.csv"] = csv_of_cases(stored)
  files["expected.csv"] = csv_of_records(blocks, "findings", expectation.fields)
  files["paper.csv"] = csv_of_records(blocks, "figures", paper.fields)
  return files["report.csv"]
end

-- What is stored, and what the report makes of it: `expected`, one record per statement, and `papers`, one list per table.
local function json(stored, experiment)
  local whole, expected, papers = {}, core.list {}, core.list {}
  for key, value in pairs(stored) do whole[key] = value end
  for _, block in ipairs(report.blocks(stored, experiment)) do
    for _, finding in ipairs(block.findings or {}) do expected[#expected + 1] = finding end
    if block.figures then papers[#papers + 1] = { table = block.title, source = block.source, figures = block.figures } end
  end
  whole.expected, whole.papers = expected, papers
  return core.to_json(whole) .. "\n"
end

local function page(stored, experiment, files)
  local blocks, r = report.blocks(stored, experiment)
  charts_of(blocks, files)
  local body = {}
  for i, block in ipairs(blocks) do
    if block.title then body[#body + 1] = "<h2>" .. html.escape(block.title) .. "</h2>\n" end
    if block.kind == "table" then body[#body + 1] = html.table(block.table) end
    if block.kind == "chart" then body[#body + 1] = html.figure(block.svg, block.caption, "c" .. i) end
    if block.kind == "text" then body[#body + 1] = "<p>" .. html.escape(block.text) .. "</p>\n" end
  end
  local origin = {}
  for i, line in ipairs(provenance_lines(r)) do origin[i] = html.escape(line) end
  body[#body + 1] = "<h2>Provenance</h2>\n<details><summary>Where these numbers come from</summary><pre>" .. table.concat(origin, "\n") .. "</pre></details>\n"
  return html.page { title = title_of(stored), lead = '<p class="soft">' .. html.escape(summary_of(r, blocks)) .. "</p>\n",
    body = table.concat(body), data = json(stored, experiment) }
end

--- Renders results. Returns the text for the terminal, and a map of file name -> content that the caller writes into
--- the experiment's folder.
--- @param stored table       { experiment = {...}, cases = {...} }
--- @param wanted string      "table", "md", "html", "csv" or "json"
--- @param experiment table|nil  the loaded experiment, for its report function
--- @return string text
--- @return table<string, string> files
function report.write(stored, wanted, experiment)
  local files = {}
  if wanted == "table" then return terminal(stored, experiment), files end
  if wanted == "csv" then
    return csv(stored, experiment, files), files
  elseif wanted == "json" then
    files["report.json"] = json(stored, experiment)
    return files["report.json"], files
  elseif wanted == "md" then
    local blocks, r = report.blocks(stored, experiment)
    charts_of(blocks, files)
    files["report.md"] = markdown(stored, blocks, r)
    return files["report.md"], files
  elseif wanted == "html" then
    files["report.html"] = page(stored, experiment, files)
    return "", files
  end
  error("unknown report format '" .. tostring(wanted) .. "'; one of table, md, html, csv, json", 2)
end

return report
