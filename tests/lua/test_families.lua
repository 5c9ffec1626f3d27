-- Every tensor that transformers saves for a tiny model of each family has a parameter of the right shape, every parameter
-- has its tensor, and nothing but what a family says it ignores is left over.
local core = require "moegauge.core"
local families = require "moegauge.families"

local here = debug.traceback():match("(%S*)/tests/lua/test_families%.lua")
local file <close> = assert(io.open(here .. "/tests/golden/tensor_names.json"))
local golden = core.from_json(file:read "a").families

local function elements(shape)
  local count = 1
  for _, size in ipairs(shape) do count = count * size end
  return count
end

local function same(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

local function sum_at(shapes, back)
  local whole = table.move(shapes[1], 1, #shapes[1], 1, {})
  for i = 2, #shapes do whole[#whole - back] = whole[#whole - back] + shapes[i][#shapes[i] - back] end
  return whole
end

-- What the file's tensor must look like so that the transforms, undone from the last to the first, give the parameters.
local undo = {
  transpose = function(shape)
    local n, new = #shape, table.move(shape, 1, #shape, 1, {})
    new[n - 1], new[n] = shape[n], shape[n - 1]
    return new
  end,
  unpack = function(shape) return { shape[1] * shape[2], shape[3] } end,
}

local function source_shape(row, shapes)
  local last = row.transforms[#row.transforms]
  local shape, left = shapes[1], #row.transforms
  if #shapes > 1 then
    assert(last == "split_rows" or last == "deinterleave_rows" or last == "deinterleave_columns", "many parameters need a split")
    shape, left = sum_at(shapes, last == "deinterleave_columns" and 0 or 1), left - 1
  end
  if row.expert then shape = table.move(shape, 2, #shape, 1, {}) end
  for i = left, 1, -1 do shape = undo[row.transforms[i]](shape) end
  return shape
end

local function matches_pattern(name, patterns, values)
  for _, pattern in ipairs(patterns or {}) do
    local text = pattern:gsub("{module}", values.module):gsub("[%-%.]", "%%%0"):gsub("%*", ".*")
    if name:find("^" .. text .. "$") then return true end
  end
  return false
end

local function names_of(t)
  local names = {}
  for name in pairs(t) do names[#names + 1] = name end
  return names
end

local seen = 0
for model_type, case in pairs(golden) do
  local read = families.read { file = model_type, config = case.config, names = names_of(case.config) }
  local described, reason = core.describe(read.spec, 16, true)
  assert(described, tostring(reason))
  local shapes, filled = {}, {}
  for _, parameter in ipairs(described.parameters) do shapes[parameter.name] = parameter.shape end
  for _, row in ipairs(families.tensors(read.family, described.spec, described.parameters)) do
    local shape = case.tensors[row.from[1]]
    if shape and #row.from == 1 then
      local targets = {}
      for i, name in ipairs(row.to) do targets[i] = shapes[name] end
      local wanted = source_shape(row, targets)
      assert(same(shape, wanted), ("%s: %s is [%s], the map says [%s]"):format(model_type, row.from[1], table.concat(shape, ","), table.concat(wanted, ",")))
      for _, name in ipairs(row.to) do
        filled[name] = (filled[name] or 0) + (row.expert and elements(shapes[name]) // shapes[name][1] or elements(shapes[name]))
      end
      case.tensors[row.from[1]] = nil
    end
  end
  for name, shape in pairs(shapes) do
    assert(filled[name] == elements(shape), ("%s: %s gets %s of %d elements"):format(model_type, name, tostring(filled[name]), elements(shape)))
  end
  for name in pairs(case.tensors) do
    assert(matches_pattern(name, read.family.ignored_tensors, { module = tostring(described.spec.layers) }), ("%s: nobody takes %s"):format(model_type, name))
  end
  seen = seen + 1
end
assert(seen >= 13, "families were not tested")

-- A family that runs has a map of its tensors, and every name of a file and a model type is one family's.
local types = {}
for _, family in ipairs(families.all()) do
  assert(not family.runs or family.tensors, family.name .. " runs but has no tensors")
  for _, name in ipairs(family.types) do
    assert(not types[name], name .. " is claimed twice")
    types[name] = family
  end
end
assert(types.kimi_k2 == types.deepseek_v3 and types.granitemoeshared == types.granitemoe)
for _, name in ipairs { "mixtral", "olmoe", "qwen2_moe", "qwen3_moe", "deepseek", "deepseek_v2", "deepseek_v3", "gpt_oss", "granitemoe", "phimoe", "glm4_moe",
  "switch_transformers", "nllb-moe", "dbrx" } do
  assert(types[name] and types[name].runs, name .. " does not run")
end
