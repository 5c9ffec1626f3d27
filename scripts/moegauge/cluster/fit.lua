--- `moegauge cluster fit`: tables of measurements to a calibration, as text, JSON and a Lua file.

local catalogue = require "moegauge.cluster.catalogue"
local core = require "moegauge.core"
local format = require "moegauge.format"
local sorted = require "moegauge.sorted"

local fit = {}

-- A table of numbers, texts, lists and tables as Lua, in order of the keys. Numbers have nine digits, which are more than
-- a measurement has.
local function literal(value, indent)
  if math.type(value) == "integer" then return ("%d"):format(value) end
  if type(value) == "number" then return ("%.9g"):format(value) end
  if type(value) ~= "table" then return ("%q"):format(value) end
  local parts, plain = {}, #value > 0
  for _, item in ipairs(value) do plain = plain and type(item) ~= "table" end
  for i, item in ipairs(value) do parts[i] = literal(item, indent .. "  ") end
  if #value > 0 then return plain and "{ " .. table.concat(parts, ", ") .. " }" or "{ " .. table.concat(parts, ", ") .. " }" end
  for _, key in ipairs(sorted.keys(value)) do
    local name = key:find "^[%a_][%w_]*$" and key or ("[%q]"):format(key)
    parts[#parts + 1] = ("%s  %s = %s,\n"):format(indent, name, literal(value[key], indent .. "  "))
  end
  return "{\n" .. table.concat(parts) .. indent .. "}"
end

local function percent(value) return ("%.1f %%"):format(100 * value) end

local function form_lines(lines, name, form)
  lines[#lines + 1] = ("%s: %d rows, residual %s median and %s at worst, left out %s and %s"):format(name, form.rows,
    percent(form.median_residual), percent(form.worst_residual), percent(form.median_left_out), percent(form.worst_left_out))
  for _, key in ipairs(sorted.keys(form.coefficients)) do
    local value = form.coefficients[key]
    lines[#lines + 1] = key:find "_s$" and ("  %-18s %.3g us"):format(key, value * 1e6) or ("  %-18s %.3f times the peak's time"):format(key, value)
  end
  for _, key in ipairs(sorted.keys(form.range)) do
    lines[#lines + 1] = ("  for %-14s %g to %g"):format(key, form.range[key][1], form.range[key][2])
  end
end

local function text_of(result)
  local lines = {}
  for _, name in ipairs(sorted.keys(result.forms)) do form_lines(lines, name, result.forms[name]) end
  if result.collective_errors then
    local e = result.collective_errors
    lines[#lines + 1] = ("collectives: %d points, each inner one predicted from its neighbours: %s median and %s at worst"):format(
      e.points, percent(e.median_left_out), percent(e.worst_left_out))
  end
  return table.concat(lines, "\n") .. "\n"
end

-- "COLUMN=TEXT,COLUMN=TEXT" as a table.
local function where_of(text)
  local where = {}
  for part in text:gmatch "[^,]+" do
    local column, value = part:match "^([^=]+)=(.*)$"
    if not column then core.fail_plain("usage", ("--where %s: COLUMN=TEXT was expected, not '%s'"):format(text, part)) end
    where[column] = value
  end
  return where
end

--- @param set table  the command line: accelerator, where, files
--- @return { result: table, text: string, lua: string }
function fit.command(set)
  local accelerator = catalogue.accelerators[set.accelerator]
  if not accelerator then
    local nearest = core.nearest(set.accelerator, sorted.keys(catalogue.accelerators))
    core.fail_plain("usage", ("--accelerator %s: there is none of that name; %s"):format(set.accelerator,
      nearest and "did you mean '" .. nearest .. "'?" or "there are: " .. table.concat(sorted.keys(catalogue.accelerators), ", ")))
  end
  local where = where_of(set.where)
  local result = core.fit_costs { files = set.files, accelerator = accelerator, where = next(where) and where or nil }
  local head = "--- Written by `moegauge cluster fit --accelerator " .. set.accelerator .. "`; scripts/moegauge/cluster/README.md says from what.\nreturn "
  return { result = result, text = text_of(result), lua = head .. literal(result, "") .. "\n" }
end

return fit
