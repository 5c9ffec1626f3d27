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
  if not is_number(estimate.half) or not is_number(estimate.mean) then return text end
  local metric = metrics.of(name)
  if metric.plain or estimate.half <= 1e-12 * math.abs(estimate.mean) then return text end -- equal but for rounding
  if metric.style == "percent" then return string.format("%.2f ± %.2f %%", estimate.mean * 100, estimate.half * 100) end
  if metric.style == "fixed" then return string.format("%s ± %." .. (metric.digits or 4) .. "f", text, estimate.half) end
  return string.format("%s ± %.0f %%", text, 100 * estimate.half / math.abs(estimate.mean))
end

-- Each style's text of a size, for differences: a share's is in points of a hundred.
local sizes <const> = {
  count = format.count, bytes = format.bytes, time = format.time,
  percent = function(value) return string.format("%.2f", value * 100) end,
}

--- A difference in a metric with its sign: "+0.0042 ± 0.0011", "-1.20 ± 0.40 points" for one in per cent; without an
--- interval, or with none to speak of, just the mean.
--- @param difference { mean: number, half: number }
function format.difference(name, difference)
  local mean, half, metric = difference.mean, difference.half, metrics.of(name)
  if not is_number(mean) then return "–" end
  local size = sizes[metric.style] or function(value) return string.format("%." .. (metric.digits or 4) .. "f", value) end
  local text = (mean < 0 and "-" or "+") .. size(math.abs(mean))
  if is_number(half) and half > 1e-12 * math.abs(mean) then text = text .. " ± " .. size(half) end
  return metric.style == "percent" and text .. " points" or text
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
--- @field columns { title: string, right: boolean|nil, wrap: boolean|nil }[]  `wrap`: a cell may take several lines
--- @field rows string[][]
--- @field keys integer|nil  so many first columns name a row; default 1

--- Columns that a report for a terminal keeps to.
format.terminal_columns = 80

local gap <const>, narrowest <const> = 2, 18

--- Lines of at most `width` columns, broken between words; a longer word stays whole.
--- @return string[]
function format.wrap(text, width)
  local lines, line = {}, nil
  for word in text:gmatch "%S+" do
    local longer = line and line .. " " .. word or word
    if line and format.width(longer) > width then
      lines[#lines + 1], line = line, word
    else
      line = longer
    end
  end
  lines[#lines + 1] = line or ""
  return lines
end

local function widths_of(t)
  local widths = {}
  for c, column in ipairs(t.columns) do
    widths[c] = format.width(column.title)
    for _, row in ipairs(t.rows) do widths[c] = math.max(widths[c], format.width(row[c] or "")) end
  end
  return widths
end

local function total_of(widths, columns)
  local total = -gap
  for _, c in ipairs(columns) do total = total + widths[c] + gap end
  return total
end

-- Takes from the widest column that may wrap until the table fits, or none can give more.
local function narrow(t, widths, columns, limit)
  while total_of(widths, columns) > limit do
    local widest
    for c, column in ipairs(t.columns) do
      if column.wrap and widths[c] > narrowest and (not widest or widths[c] > widths[widest]) then widest = c end
    end
    if not widest then return end
    widths[widest] = widths[widest] - 1
  end
end

-- The columns of each part into which a table is cut to fit: every part begins with the columns that name a row.
local function parts_of(t, widths, limit)
  local keys, parts, part = {}, {}, nil
  for c = 1, math.min(t.keys or 1, #t.columns) do keys[c] = c end
  for c = #keys + 1, #t.columns do
    if part then part[#part + 1] = c end
    if not part or (total_of(widths, part) > limit and #part > #keys + 1) then
      if part then part[#part] = nil end
      part = table.move(keys, 1, #keys, 1, {})
      part[#part + 1] = c
      parts[#parts + 1] = part
    end
  end
  return #parts > 0 and parts or { keys }
end

-- One row as lines: cells that wrap take as many as they need.
local function add_row(lines, t, widths, columns, cells)
  local wrapped, height = {}, 1
  for _, c in ipairs(columns) do
    wrapped[c] = t.columns[c].wrap and format.wrap(cells[c] or "", widths[c]) or { cells[c] or "" }
    height = math.max(height, #wrapped[c])
  end
  for i = 1, height do
    local parts = {}
    for place, c in ipairs(columns) do parts[place] = pad(wrapped[c][i] or "", widths[c], t.columns[c].right) end
    lines[#lines + 1] = (table.concat(parts, (" "):rep(gap)):gsub("%s+$", ""))
  end
end

--- A table for a terminal: header, rule, rows. With a `limit`, columns marked `wrap` are narrowed first, and what is still
--- too wide is shown in parts, one below the other.
--- @param t moegauge.Table
--- @param limit integer|nil  columns of the terminal
function format.text_table(t, limit)
  local widths, all, lines, heads, rules = widths_of(t), {}, {}, {}, {}
  for c in ipairs(t.columns) do all[c] = c end
  if limit then narrow(t, widths, all, limit) end
  if t.title then lines[#lines + 1] = t.title end
  for c, column in ipairs(t.columns) do heads[c], rules[c] = column.title, ("─"):rep(widths[c]) end
  for i, columns in ipairs(limit and parts_of(t, widths, limit) or { all }) do
    if i > 1 then lines[#lines + 1] = "" end
    add_row(lines, t, widths, columns, heads)
    add_row(lines, t, widths, columns, rules)
    for _, row in ipairs(t.rows) do add_row(lines, t, widths, columns, row) end
  end
  for _, line in ipairs(t.note and (limit and format.wrap(t.note, limit) or { t.note }) or {}) do lines[#lines + 1] = line end
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
