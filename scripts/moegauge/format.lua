--- Numbers and tables as text: three significant digits, units, columns aligned by display width.

local metrics = require "moegauge.metrics"

local format = {}

local function is_number(value) return type(value) == "number" and value == value and math.abs(value) ~= math.huge end

local prefixes <const> = { { 1e15, "P" }, { 1e12, "T" }, { 1e9, "G" }, { 1e6, "M" }, { 1e3, "k" } }

--- 1234567 -> "1.23 M"
function format.count(value)
  for _, prefix in ipairs(prefixes) do
    if math.abs(value) >= prefix[1] * 0.9995 then return string.format("%.3g %s", value / prefix[1], prefix[2]) end
  end
  return value == math.floor(value) and string.format("%d", value) or string.format("%.3g", value)
end

function format.bytes(value)
  local names, i = { "B", "KiB", "MiB", "GiB", "TiB" }, 1
  while value >= 1024 and i < #names do
    value, i = value / 1024, i + 1
  end
  return string.format(i == 1 and "%d %s" or "%.1f %s", value, names[i])
end

function format.time(seconds)
  if seconds < 1 then return string.format("%.0f ms", seconds * 1000) end
  if seconds < 100 then return string.format("%.1f s", seconds) end
  if seconds < 6000 then return string.format("%d min %02d s", seconds // 60, math.floor(seconds % 60)) end
  return string.format("%d h %02d min", seconds // 3600, math.floor(seconds % 3600 / 60))
end

--- A value of a metric as text; "–" for what was not measured.
function format.value(name, value)
  if not is_number(value) then return "–" end
  local metric = metrics.of(name)
  if metric.style == "count" then return format.count(value) end
  if metric.style == "percent" then return string.format("%.2f %%", value * 100) end
  if metric.style == "bytes" then return format.bytes(value) end
  if metric.style == "time" then return format.time(value) end
  return string.format("%." .. (metric.digits or 4) .. "f", value)
end

--- "3.2141 ± 0.0042" ; without an interval just the mean.
--- @param estimate moegauge.Estimate
function format.estimate(name, estimate)
  local text = format.value(name, estimate.mean)
  if not is_number(estimate.half) or estimate.half == 0 or not is_number(estimate.mean) then return text end
  local metric = metrics.of(name)
  if metric.style == "percent" then return string.format("%.2f ± %.2f %%", estimate.mean * 100, estimate.half * 100) end
  if metric.style == "fixed" then return string.format("%s ± %." .. (metric.digits or 4) .. "f", text, estimate.half) end
  return string.format("%s ± %.0f %%", text, 100 * estimate.half / math.abs(estimate.mean))
end

-- East Asian wide characters take two columns, combining marks none; everything else one.
local function columns_of(code)
  if code >= 0x300 and code <= 0x36F then return 0 end
  local wide = (code >= 0x1100 and code <= 0x115F) or (code >= 0x2E80 and code <= 0xA4CF) or (code >= 0xAC00 and code <= 0xD7A3)
    or (code >= 0xF900 and code <= 0xFAFF) or (code >= 0xFE30 and code <= 0xFE6F) or (code >= 0xFF00 and code <= 0xFF60)
    or (code >= 0x1F300 and code <= 0x1FAFF)
  return wide and 2 or 1
end

--- Columns that `text` takes on a terminal.
function format.width(text)
  local width = 0
  if not utf8.len(text) then return #text end
  for _, code in utf8.codes(text) do width = width + columns_of(code) end
  return width
end

local function pad(text, width, right)
  local space = string.rep(" ", math.max(0, width - format.width(text)))
  return right and space .. text or text .. space
end

--- @class moegauge.Table
--- @field title string|nil
--- @field note string|nil   a sentence under the table
--- @field columns { title: string, right: boolean|nil }[]
--- @field rows string[][]

--- A table for a terminal: header, rule, rows.
--- @param t moegauge.Table
function format.text_table(t)
  local widths = {}
  for c, column in ipairs(t.columns) do
    widths[c] = format.width(column.title)
    for _, row in ipairs(t.rows) do widths[c] = math.max(widths[c], format.width(row[c] or "")) end
  end
  local lines = {}
  if t.title then lines[#lines + 1] = t.title end
  local function line(cells)
    local parts = {}
    for c, column in ipairs(t.columns) do parts[c] = pad(cells[c] or "", widths[c], column.right) end
    lines[#lines + 1] = (table.concat(parts, "  "):gsub("%s+$", ""))
  end
  local heads, rules = {}, {}
  for c, column in ipairs(t.columns) do
    heads[c], rules[c] = column.title, string.rep("─", widths[c])
  end
  line(heads)
  line(rules)
  for _, row in ipairs(t.rows) do line(row) end
  if t.note then lines[#lines + 1] = t.note end
  return table.concat(lines, "\n") .. "\n"
end

local function escape_markdown(text) return (text:gsub("|", "\\|"):gsub("\n", " ")) end

--- @param t moegauge.Table
function format.markdown_table(t)
  local lines = {}
  if t.title then lines[#lines + 1] = "**" .. t.title .. "**\n" end
  local heads, rules = {}, {}
  for c, column in ipairs(t.columns) do
    heads[c], rules[c] = escape_markdown(column.title), column.right and "---:" or "---"
  end
  lines[#lines + 1] = "| " .. table.concat(heads, " | ") .. " |"
  lines[#lines + 1] = "| " .. table.concat(rules, " | ") .. " |"
  for _, row in ipairs(t.rows) do
    local cells = {}
    for c in ipairs(t.columns) do cells[c] = escape_markdown(row[c] or "") end
    lines[#lines + 1] = "| " .. table.concat(cells, " | ") .. " |"
  end
  if t.note then lines[#lines + 1] = "\n" .. t.note end
  return table.concat(lines, "\n") .. "\n"
end

return format
