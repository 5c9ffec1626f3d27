--- Tables in an order that is the same in every run, which `pairs` does not give.

local sorted = {}

-- Numbers by value before all other keys by their text.
local function before(a, b)
  local x, y = type(a) == "number", type(b) == "number"
  if x ~= y then return x end
  if x then return a < b end
  return tostring(a) < tostring(b)
end

--- The keys of a table, in order.
function sorted.keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys, before)
  return keys
end

--- Like pairs, in order of the keys.
function sorted.pairs(t)
  local keys, i = sorted.keys(t), 0
  return function()
    i = i + 1
    if keys[i] ~= nil then return keys[i], t[keys[i]] end
  end
end

return sorted
