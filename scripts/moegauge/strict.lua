--- Tables that a user writes, checked: unknown keys are named together with the nearest known one.

local core = require "moegauge.core"

local strict = {}

--- A name from a file for a message, on one line and without what steers a terminal.
function strict.printable(name) return (name:gsub("%c", "?")) end

--- "a number", "an empty text": what a wrong value is, for a message.
function strict.describe(value)
  if value == nil then return "nothing" end
  if type(value) == "string" then return ("the text '%s'"):format(strict.printable(#value > 40 and value:sub(1, 37) .. "..." or value)) end
  if type(value) == "number" or type(value) == "boolean" then return tostring(value) end
  return "a " .. type(value)
end

--- Fails unless every key of `t` is one of `known` (a list of names).
function strict.keys(t, known, where)
  if type(t) ~= "table" then core.fail("usage", ("%s: a table was expected, not %s"):format(where, strict.describe(t))) end
  local allowed = {}
  for _, name in ipairs(known) do allowed[name] = true end
  local wrong
  for key in pairs(t) do
    if not allowed[key] and (wrong == nil or tostring(key) < tostring(wrong)) then wrong = key end
  end
  if wrong == nil then return end
  local nearest = core.nearest(tostring(wrong), known)
  core.fail("usage", ("%s: unknown key '%s'; %s"):format(where, tostring(wrong),
    nearest and "did you mean '" .. nearest .. "'?" or "known keys: " .. table.concat(known, ", ")))
end

--- Fails unless t[key] has the wanted type.
function strict.field(t, key, wanted, where)
  if type(t[key]) ~= wanted then
    core.fail("usage", ("%s: '%s' must be a %s, not %s"):format(where, key, wanted, strict.describe(t[key])))
  end
end

return strict
