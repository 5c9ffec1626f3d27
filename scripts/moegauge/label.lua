--- Short names for the values of a sweep: the word that says what a value is, and only those settings that tell it apart
--- from the others of its axis.

local sorted = require "moegauge.sorted"

local label = {}

local function is_list(value) return type(value) == "table" and (#value > 0 or next(value) == nil) end

local function scalar(value)
  if math.type(value) == "float" and value == math.floor(value) and math.abs(value) < 1e15 then return string.format("%d", value) end
  return type(value) == "number" and string.format("%.6g", value) or tostring(value)
end

-- Every leaf of a nested value as path -> text.
local function leaves(value, path, out)
  if type(value) ~= "table" then
    out[path] = scalar(value)
  elseif is_list(value) then
    local parts, plain = {}, true
    for i, item in ipairs(value) do
      plain = plain and type(item) ~= "table"
      parts[i] = plain and scalar(item) or ""
    end
    if plain then
      out[path] = table.concat(parts, ",")
    else
      for i, item in ipairs(value) do leaves(item, path .. "." .. i, out) end
    end
  else
    for key, item in pairs(value) do leaves(item, path == "" and key or path .. "." .. key, out) end
  end
  return out
end

-- The word that says what a value is: a router's name, a kind, or the value itself.
local function word_of(value)
  if type(value) ~= "table" then return scalar(value) end
  if type(value.router) == "table" then return tostring(value.router.name) end
  if value.name or value.kind then return tostring(value.name or value.kind) end
  return is_list(value) and (leaves(value, "", {})[""] or "list") or "table"
end

local function last_key(path) return path:match("([^.]+)$") end

--- One label for each value, in order; equal values get equal labels.
--- @param values any[]
--- @return string[]
function label.of(values)
  local flat, words, groups = {}, {}, {}
  for i, value in ipairs(values) do
    flat[i], words[i] = leaves(value, "", {}), word_of(value)
    groups[words[i]] = groups[words[i]] or {}
    table.insert(groups[words[i]], i)
  end
  local labels = {}
  for word, members in pairs(groups) do
    local varying, keys = {}, {}
    for _, i in ipairs(members) do
      for path in pairs(flat[i]) do keys[path] = true end
    end
    for path in pairs(keys) do
      for _, i in ipairs(members) do
        if flat[i][path] ~= flat[members[1]][path] then varying[path] = true end
      end
    end
    local order = sorted.keys(varying)
    for _, i in ipairs(members) do
      local parts = { word }
      for _, path in ipairs(order) do
        if flat[i][path] then parts[#parts + 1] = last_key(path) .. "=" .. flat[i][path] end
      end
      labels[i] = table.concat(parts, " ")
    end
  end
  return labels
end

return label
