--- Charts as gnuplot scripts. Each function returns the text of a script that prints one SVG; the script is kept beside
--- the picture, so that anyone can redraw it.

local chart = {}

-- Okabe and Ito's palette, a brown and a grey: distinct to colour-blind readers, and in print.
local colours <const> = { "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31", "#999999" }

local function colour(i) return colours[(i - 1) % #colours + 1] end

-- When all colours have been used, the next ones get another shape of point or another dash.
local shapes <const> = { 7, 5, 9, 13 }
local function again(i) return (i - 1) // #colours % #shapes + 1 end

-- Text inside double quotes; gnuplot's enhanced mode is off, so only quote and backslash are special.
local function quoted(text) return '"' .. tostring(text):gsub('[\\"]', "\\%0"):gsub("\n", " ") .. '"' end

local function number(value)
  if type(value) ~= "number" or value ~= value or math.abs(value) == math.huge then return "NaN" end
  return string.format("%.9g", value)
end

local function preamble(width, height)
  return {
    ("set terminal svg size %d,%d dynamic noenhanced font 'Helvetica,13' background '#ffffff'"):format(width, height),
    "set encoding utf8",
    "set border 3 lc rgb '#444444'",
    "set tics nomirror textcolor rgb '#222222'",
    "set grid ytics lc rgb '#dddddd' lw 1",
    "set format x '%.6g'",
    "set tmargin 2.2",
  }
end

-- The power of ten, as a divisor and a word, that keeps the numbers of an axis short.
local function scale_of(largest)
  for _, step in ipairs { { 1e12, "T" }, { 1e9, "G" }, { 1e6, "M" }, { 1e3, "k" } } do
    if largest >= 2 * step[1] then return step[1], step[2] end
  end
  return 1, ""
end

local function axis_text(label, word) return word == "" and label or label .. " [" .. word .. "]" end

-- The key, under a title if there is one: beside the picture, or below it where long labels would take the picture's room. Returns the line that sets it, and
-- how much taller the whole must be.
local function key_for(items, options, title)
  local longest, across = 0, 1
  if title then options = options .. " title " .. quoted((title:gsub("_", " "))) end
  for _, item in ipairs(items) do longest = math.max(longest, utf8.len(item.label) or #item.label) end
  if longest <= 22 then return "set key outside right top vertical Left reverse " .. options, 0 end
  across = math.max(1, 720 // (7 * longest + 60))
  return ("set key outside below center horizontal maxcols %d height 1 Left reverse %s"):format(across, options), 10 + 18 * math.ceil(#items / across)
end

-- Largest absolute value of a column over lists of rows.
local function largest_of(lists, column)
  local largest = 0
  for _, rows in ipairs(lists) do
    for _, row in ipairs(rows) do largest = math.max(largest, math.abs(row[column])) end
  end
  return largest
end

-- A named data block of rows of numbers.
local function data_block(lines, name, rows)
  lines[#lines + 1] = "$" .. name .. " << END"
  for _, row in ipairs(rows) do
    local cells = {}
    for i, value in ipairs(row) do cells[i] = type(value) == "number" and number(value) or quoted(value) end
    lines[#lines + 1] = table.concat(cells, " ")
  end
  lines[#lines + 1] = "END"
end

-- A start this many times as high as the rest of the curves would flatten them: the axis then ends where they do.
local flattening <const> = 3

-- The lowest and highest value of the y axis, and whether the start of a run, its first twelfth, goes beyond it.
local function range_of(series)
  local bottom, later, top = math.huge, -math.huge, -math.huge
  for _, curve in ipairs(series) do
    local from = #curve.points // 12 + 1
    for i, point in ipairs(curve.points) do
      if i >= from then later = math.max(later, point[4]) end
      bottom, top = math.min(bottom, point[3]), math.max(top, point[4])
    end
  end
  local cut = later > bottom and top - bottom > flattening * (later - bottom)
  return bottom, cut and later or top, cut
end

--- Curves with the band between the lowest and the highest repeat.
--- @param spec { x_label: string, y_label: string, series: { label: string, points: number[][], place: integer|nil }[], log_x: boolean|nil, log_y: boolean|nil, key_title: string|nil }
---   a point is { x, mean, low, high }; equal places have equal colours in all charts of a report
--- @return string script
--- @return boolean cut  the start goes beyond the y axis
function chart.lines(spec)
  local key, more = key_for(spec.series, "samplen 2", spec.key_title)
  local lines = preamble(760, 420 + more)
  local lists = {}
  for i, series in ipairs(spec.series) do lists[i] = series.points end
  local divisor, word = scale_of(spec.log_x and 0 or largest_of(lists, 1))
  lines[#lines + 1] = "set xlabel " .. quoted(axis_text(spec.x_label, word))
  lines[#lines + 1] = "set ylabel " .. quoted(spec.y_label)
  lines[#lines + 1] = key
  if spec.log_x then lines[#lines + 1] = "set logscale x" end
  local bottom, top, cut = range_of(spec.series)
  if spec.log_y then lines[#lines + 1] = "set logscale y" end
  if top > bottom then
    local share = spec.log_y and (top / bottom) ^ 0.04 or 0.04 * (top - bottom)
    local low, high = spec.log_y and bottom / share or bottom - share, spec.log_y and top * share or top + share
    lines[#lines + 1] = ("set yrange [%s:%s]"):format(number(low), number(high))
  end
  local bands, curves = {}, {}
  for i, series in ipairs(spec.series) do
    local name = "curve" .. i
    data_block(lines, name, series.points)
    bands[i] = ("$%s using ($1/%g):3:4 with filledcurves fc rgb '%s' fs transparent solid 0.15 noborder notitle"):format(name, divisor, colour(series.place or i))
    curves[i] = ("$%s using ($1/%g):2 with lines lw 2 dt %d lc rgb '%s' title %s"):format(name, divisor, again(series.place or i), colour(series.place or i), quoted(series.label))
  end
  lines[#lines + 1] = "plot " .. table.concat(table.move(curves, 1, #curves, #bands + 1, bands), ", \\\n  ")
  return table.concat(lines, "\n") .. "\n", cut
end

--- Points with intervals on both axes, and the line of those that no other point beats on both.
--- @param spec { x_label: string, y_label: string, points: { label: string, x: number, x_half: number, y: number, y_half: number, front: boolean }[], key_title: string|nil }
function chart.pareto(spec)
  local key, more = key_for(spec.points, "samplen 1", spec.key_title)
  local lines = preamble(760, 420 + more)
  local largest = 0
  for _, point in ipairs(spec.points) do largest = math.max(largest, math.abs(point.x)) end
  local divisor, word = scale_of(largest)
  lines[#lines + 1] = "set xlabel " .. quoted(axis_text(spec.x_label, word))
  lines[#lines + 1] = "set ylabel " .. quoted(spec.y_label)
  lines[#lines + 1] = "set offsets graph 0.12, graph 0.22, graph 0.12, graph 0.08"
  lines[#lines + 1] = key
  local plots, front = {}, {}
  for i, point in ipairs(spec.points) do
    data_block(lines, "point" .. i, { { point.x / divisor, point.y, point.x_half / divisor, point.y_half } })
    plots[i] = ("$point%d using 1:2:3:4 with xyerrorbars pt %d ps 0.9 lw 1.5 lc rgb '%s' title %s"):format(i, shapes[again(i)], colour(i), quoted(point.label))
    if point.front then front[#front + 1] = { point.x / divisor, point.y } end
  end
  if #front > 1 then
    table.sort(front, function(a, b) return a[1] < b[1] end)
    data_block(lines, "front", front)
    plots[#plots + 1] = "$front using 1:2 with lines dt 2 lw 1 lc rgb '#888888' title 'Pareto front'"
  end
  lines[#lines + 1] = "plot " .. table.concat(plots, ", \\\n  ")
  return table.concat(lines, "\n") .. "\n"
end

--- One bar per label, stacked from parts.
--- @param spec { y_label: string, labels: string[], parts: { label: string, values: number[] }[] }
function chart.stacked(spec)
  local longest = 0
  for _, text in ipairs(spec.labels) do longest = math.max(longest, utf8.len(text) or #text) end
  local slanted = 7 * longest > 560 / #spec.labels
  local lines = preamble(760, 400 + (slanted and 3 * longest or 0))
  if slanted then lines[#lines + 1] = "set xtics rotate by -25" end
  local tallest = 0
  for i in ipairs(spec.labels) do
    local height = 0
    for _, part in ipairs(spec.parts) do height = height + (part.values[i] or 0) end
    tallest = math.max(tallest, height)
  end
  local divisor, word = scale_of(tallest)
  lines[#lines + 1] = "set ylabel " .. quoted(axis_text(spec.y_label, word))
  lines[#lines + 1] = "set style data histograms\nset style histogram rowstacked\nset style fill solid 0.9 border rgb '#ffffff'\nset boxwidth 0.6"
  lines[#lines + 1] = "set yrange [0:*]\nset key outside right top vertical Left reverse invert samplen 1"
  local rows = {}
  for i, text in ipairs(spec.labels) do
    rows[i] = { text }
    for p, part in ipairs(spec.parts) do rows[i][p + 1] = (part.values[i] or 0) / divisor end
  end
  data_block(lines, "bars", rows)
  local plots = {}
  for p, part in ipairs(spec.parts) do
    plots[p] = ("$bars using %d:xtic(1) lc rgb '%s' title %s"):format(p + 1, colour(p), quoted(part.label))
  end
  lines[#lines + 1] = "plot " .. table.concat(plots, ", \\\n  ")
  return table.concat(lines, "\n") .. "\n"
end

--- Heat maps side by side, on one scale: value 1 is white (a fair share), below it blue, above it red.
--- @param spec { panels: { title: string, rows: number[][] }[], x_label: string, y_label: string, x_names: string[]|nil, scale_label: string, most: number }
---   rows[y][x]
function chart.heatmaps(spec)
  local count = #spec.panels
  local across = math.min(count, 4)
  local down = math.ceil(count / across)
  local lines = preamble(160 + 200 * across, 90 + 210 * down)
  lines[#lines + 1] = "unset grid\nunset key\nset format x '%g'"
  lines[#lines + 1] = ("set palette defined (0 '#2166ac', 1 '#f7f7f7', %s '#b2182b')"):format(number(spec.most))
  lines[#lines + 1] = ("set cbrange [0:%s]\nset cblabel %s"):format(number(spec.most), quoted(spec.scale_label))
  if spec.x_names then
    local tics = {}
    for i, name in ipairs(spec.x_names) do tics[i] = quoted(name) .. " " .. (i - 1) end
    lines[#lines + 1] = "set xtics (" .. table.concat(tics, ", ") .. ") rotate by -35"
  else
    lines[#lines + 1] = "set xlabel " .. quoted(spec.x_label)
  end
  for p, panel in ipairs(spec.panels) do
    local points = {}
    for y, row in ipairs(panel.rows) do
      for x, value in ipairs(row) do points[#points + 1] = { x - 1, y - 1, value } end
    end
    data_block(lines, "panel" .. p, points)
  end
  lines[#lines + 1] = ("set multiplot layout %d,%d margins 0.1,0.83,%.3f,%.3f spacing 0.035,%.3f"):format(
    down, across, spec.x_names and 0.3 or 0.24, down > 1 and 0.93 or 0.88, down > 1 and 0.16 or 0)
  for p, panel in ipairs(spec.panels) do
    local height, width = #panel.rows, #(panel.rows[1] or {})
    lines[#lines + 1] = ("set title %s offset 0,-0.6\nset xrange [-0.5:%g]\nset yrange [-0.5:%g]"):format(quoted(panel.title), width - 0.5, height - 0.5)
    local leftmost = (p - 1) % across == 0
    lines[#lines + 1] = leftmost and "set format y '%g'\nset ylabel " .. quoted(spec.y_label) or "set format y ''\nunset ylabel"
    lines[#lines + 1] = p == count and "set colorbox user origin 0.86,0.2 size 0.018,0.6" or "unset colorbox"
    lines[#lines + 1] = ("plot $panel%d using 1:2:3 with image pixels"):format(p)
  end
  lines[#lines + 1] = "unset multiplot"
  return table.concat(lines, "\n") .. "\n"
end

return chart
