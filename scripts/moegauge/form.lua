--- The released form of a model: the family whose blocks compute what a specification says, and its config.json.
---
--- A family that is asked has `config(spec)`, the other way of its `spec(c)`: it proposes a configuration, or gives nil and
--- what it has no words for. What it proposes is read back by the family itself, and counts only if the specification that
--- comes of it computes the same. So a proposal need not be careful, and what stands in the way has a name.

local core = require "moegauge.core"
local families = require "moegauge.families"
local sorted = require "moegauge.sorted"

local form = {}

--- The families that are asked, those that most programs load first.
local asked <const> = { "mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe", "glm4_moe", "deepseek_v3" }

--- Short forms, whose long ones are compared, and what decides nothing once a model is trained.
local aside <const> = {
  heads = true, kv_heads = true, head_width = true, qk_norm = true, biases = true, rope_base = true, rotary = true,
  rope_interleaved = true, window = true, initial_deviation = true,
}

local function copy(t, changes)
  local new = {}
  for key, value in pairs(t) do new[key] = value end
  for key, value in pairs(changes or {}) do new[key] = value end
  return new
end

-- ---- what computes the same looks the same -----------------------------------------------------------------------

local function query_width(a) return a.kind == "latent" and a.nope_width + a.rope_width or a.head_width end

local function plain_attention(a)
  local rope = copy(a.rope)
  if rope.scaling.kind == "none" then rope.scaling = { kind = "none" } end
  if rope.columns == 0 then rope = { columns = 0 } end
  return copy(a, { rope = rope, scale = a.scale == 0 and query_width(a) ^ -0.5 or a.scale })
end

local function plain_router(r)
  local new = copy(r)
  if r.name == "topk" and r.score == "softmax" and r.noise == "none" then
    -- A softmax over the chosen logits is that over all of them, renormalised (core/moe/README.md).
    if r.order == "after" then new.order, new.renormalise = "before", true end
    new.noise_floor = nil
  end
  if r.name == "deepseek" then
    new.rate, new.bias = nil, r.bias ~= "none" -- how the bias moved is a matter of training
    if r.groups == 1 then new.groups_kept, new.group_score = nil, nil end
  end
  return new
end

local function plain_feed(f)
  local new = copy(f)
  if f.activation ~= "clamped_silu" then new.alpha, new.limit = nil, nil end
  if f.kind ~= "moe" then return new end
  new.losses, new.router = nil, plain_router(f.router)
  if f.capacity.policy == "none" then new.capacity = nil end
  local shared = f.shared
  new.shared = shared.experts > 0 and { width = shared.experts * shared.width, gate = shared.gate } or nil
  return new
end

local function each(list, change)
  local new = {}
  for i, entry in ipairs(list) do new[i] = change(entry) end
  return new
end

local function plain(spec)
  local new = copy(spec, { attention = each(spec.attention, plain_attention), feed_forward = each(spec.feed_forward, plain_feed) })
  for key in pairs(aside) do new[key] = nil end
  return new
end

-- ---- the first difference ----------------------------------------------------------------------------------------

local function same_number(a, b) return math.abs(a - b) <= 1e-9 * math.max(math.abs(a), math.abs(b)) end

local function shown(value)
  if value == nil then return "nothing" end
  if type(value) ~= "table" then return tostring(value) end
  return value.policy or value.kind or value.name or "a table"
end

-- What decides which other keys there are.
local first <const> = { kind = "1", name = "2" }

-- Where the two differ, and both values there; nil if they do not.
local function difference(a, b, path)
  if type(a) == "number" and type(b) == "number" then
    if same_number(a, b) then return nil end
  elseif type(a) == "table" and type(b) == "table" then
    local keys = {}
    for key in pairs(a) do keys[#keys + 1] = key end
    for key in pairs(b) do
      if a[key] == nil then keys[#keys + 1] = key end
    end
    table.sort(keys, function(x, y) return (first[x] or tostring(x)) < (first[y] or tostring(y)) end)
    for _, key in ipairs(keys) do
      local name = type(key) == "number" and ("%s[%d]"):format(path, key) or path == "" and key or path .. "." .. key
      local where, mine, theirs = difference(a[key], b[key], name)
      if where then return where, mine, theirs end
    end
    return nil
  elseif a == b then
    return nil
  end
  return path, a, b
end

-- ---- families ----------------------------------------------------------------------------------------------------

-- What a family makes of a resolved specification: { family, config, tensors }, or nil and what stands in the way.
local function try(family, spec)
  local config, reason = family.config(spec)
  if not config then return nil, reason end
  config.model_type = family.types[1]
  local good, read = pcall(families.read, { file = "config.json", config = config, names = sorted.keys(config) })
  if not good then return nil, tostring(read) end
  local back, refused = core.describe(read.spec, 1, false)
  if not back then return nil, refused end
  local where, mine, theirs = difference(plain(spec), plain(back.spec), "")
  if where then return nil, ("%s is %s here, %s there"):format(where, shown(mine), shown(theirs)) end
  return { family = family, config = config, tensors = read.tensors }
end

--- The released form of a specification: { family =, config = a config.json, tensors = its rules }; nil, and for each family
--- the first thing that stands in the way, where none computes the same.
--- @param spec table
function form.of(spec)
  local described, refused = core.describe(spec, 1, false)
  if not described then return nil, refused end
  local reasons = {}
  for _, name in ipairs(asked) do
    local found, reason = try(families.of(name), described.spec)
    if found then return found end
    reasons[#reasons + 1] = ("%s: %s"):format(name, reason)
  end
  return nil, table.concat(reasons, "; ")
end

return form
