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
  "switch_transformers", "nllb-moe", "dbrx", "solar_open" } do
  assert(types[name] and types[name].runs, name .. " does not run")
end

-- Solar Open is a mixture in every layer; keys that would make it another model are refused, and its heads' width is no share of
-- the width of the model. The base of rotary positions may stand in either table.
local function read(config) return pcall(families.read, { file = "c", config = config, names = names_of(config) }) end
local function solar(more)
  local config = { model_type = "solar_open", hidden_size = 32, num_hidden_layers = 2, vocab_size = 96, num_attention_heads = 4, num_key_value_heads = 2,
    moe_intermediate_size = 16, n_routed_experts = 8, n_shared_experts = 1, num_experts_per_tok = 3 }
  for key, value in pairs(more) do config[key] = value end
  return read(config)
end
local _, plain = solar {}
assert(plain.spec.attention.head_width == 128 and plain.spec.attention.rope.base == 1e6 and plain.spec.feed_forward[1].kind == "moe")
for _, key in ipairs { "rope_scaling", "rope_parameters" } do
  local _, based = solar { rope_theta = 5e5, [key] = { rope_type = "default", rope_theta = 2e6 } }
  assert(based.spec.attention.rope.base == 2e6, key)
end
for key, wrong in pairs { use_qk_norm = true, first_k_dense_replace = 1, partial_rotary_factor = 0.5 } do
  local good, why = solar { [key] = wrong }
  assert(not good and tostring(why):find("'" .. key .. "': must be", 1, true), key .. ": " .. tostring(why))
end

-- GLM-4.7-Flash: which layers are dense, by a list, by a number, or the first.
local function flash(more)
  local config = { model_type = "glm4_moe_lite", hidden_size = 32, num_hidden_layers = 3, vocab_size = 96, num_attention_heads = 4, intermediate_size = 48,
    moe_intermediate_size = 16, n_routed_experts = 8, n_shared_experts = 1, num_experts_per_tok = 3, q_lora_rank = 20, kv_lora_rank = 16,
    qk_rope_head_dim = 8, qk_nope_head_dim = 12, v_head_dim = 10 }
  for key, value in pairs(more) do config[key] = value end
  return read(config)
end
local function kinds_of(more)
  local good, read_flash = flash(more)
  assert(good, tostring(read_flash))
  local kinds = {}
  for i, feed in ipairs(read_flash.spec.feed_forward) do kinds[i] = feed.kind end
  return table.concat(kinds, " ")
end
assert(kinds_of {} == "dense moe moe" and kinds_of { first_k_dense_replace = 2 } == "dense dense moe")
assert(kinds_of { first_k_dense_replace = 1, mlp_layer_types = { "sparse", "dense", "sparse" } } == "moe dense moe")
assert(not flash { mlp_layer_types = { "sparse", "odd", "sparse" } } and not types.glm4_moe_lite.runs)
