--- Swapped models in files. What the family's own config.json can say (another k, fewer experts) is said there, so that other
--- programs load it. Everything else is a configuration of our own, which they refuse instead of misreading it:
---
---   { "model_type": "moegauge_swap", "released": the released configuration,
---     "swap": { "router": ..., "capacity": ..., "experts": n }, "sources": { parameter of the router: where it came from } }

local core = require "moegauge.core"
local lazy = require "moegauge.lazy"
local sorted = require "moegauge.sorted"

local families, swap = lazy "moegauge.families", lazy "moegauge.swap"

local swapped = {}

swapped.model_type = "moegauge_swap"
local base <const> = "moegauge.layers.{layer}.router."

-- Losses and how weights started are matters of training, which no file of weights speaks of.
local function essence(spec)
  local bare = swap.change_mixtures(swap.each_layer(spec), function(mixture)
    mixture.losses = nil
    return mixture
  end)
  bare.initial_deviation = nil
  return core.to_json(bare)
end

-- The specification that a configuration gives, resolved; nil if the family refuses it.
local function spec_of(config)
  local done, read = pcall(families.read, { file = "config.json", config = config, names = sorted.keys(config) })
  if not done then return nil end
  local described = core.describe(read.spec, 1, false)
  return described and described.spec
end

-- The released configuration with another k and number of experts, if that is all that has changed.
local function in_own_words(self)
  local config, new, old = {}, swap.mixtures(self.spec)[1], swap.mixtures(self.released_spec)[1]
  local values = { experts = { old.experts, new.experts }, chosen = { old.router.k, new.router.k } }
  for key, value in pairs(self.config) do
    local change = values[self.kinds[key]]
    config[key] = change and change[1] == value and change[2] or value
  end
  local spec = spec_of(config)
  return spec and essence(spec) == essence(self.spec) and config or nil
end

--- The parameters of the routers of a specification, each name once.
function swapped.router_names(spec)
  local names, seen = {}, {}
  for _, parameter in ipairs(core.describe(spec, 1, true).parameters) do
    local name = parameter.name:match "^layers%..+%.router%.([^.]+)$"
    if name and not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
  return names
end

-- The family's tensors, and under names of our own the router's parameters that it has none for.
local function tensors_for(tensors, spec)
  local list, has = core.list {}, {}
  for i, row in ipairs(tensors) do
    list[i] = row
    for _, to in ipairs(type(row[2]) == "table" and row[2] or { row[2] }) do has[to:match "%.router%.([^.]+)$" or ""] = true end
  end
  for _, name in ipairs(swapped.router_names(spec)) do
    if not has[name] then list[#list + 1] = { base .. name, "layers.{layer}.feed_forward.router." .. name } end
  end
  return list
end

--- What model:save writes: a configuration (nil: the one that the model came with) and the rules for its tensors.
function swapped.written(self)
  if not self.released_spec then return self.path == nil and self.config or self.made, self.tensors end
  local config = in_own_words(self)
  if config then return config, self.tensors end
  local released, mixture = self.config, swap.mixtures(self.spec)[1]
  if released.model_type == swapped.model_type then released = released.released end
  return {
    model_type = swapped.model_type, released = released, sources = self.sources,
    swap = { router = mixture.router, capacity = mixture.capacity, experts = mixture.experts },
  }, tensors_for(self.tensors, self.spec)
end

--- What families.read gives for such a configuration.
function swapped.read(source)
  local function refuse(key, rule) core.fail_plain("file", ("%s: key '%s': %s"):format(source.file, key, rule)) end
  local config = source.config
  for _, key in ipairs { "released", "swap" } do
    if type(config[key]) ~= "table" then refuse(key, "must be a table: moegauge wrote this file and reads it back") end
  end
  if type(config.released.model_type) ~= "string" or config.released.model_type == swapped.model_type then refuse("released", "must be the configuration of a released model") end
  local read = families.read { file = source.file, config = config.released, names = sorted.keys(config.released) }
  local spec = swap.change_mixtures(swap.each_layer(read.spec), function(mixture)
    mixture.router, mixture.capacity, mixture.experts = config.swap.router, config.swap.capacity, config.swap.experts
    return mixture
  end)
  local described, reason = core.describe(spec, 1, false)
  if not described then refuse("swap", reason) end
  local family = {}
  for key, value in pairs(read.family) do family[key] = value end
  family.tensors = tensors_for(family.tensors, spec)
  read.tensors = family.tensors
  read.family, read.spec, read.model_type, read.config = family, spec, swapped.model_type, config
  read.sources = type(config.sources) == "table" and config.sources or {}
  read.kinds = {}
  return read
end

return swapped
