--- Another routing for a released model: the same weights and tokens under another router, another capacity, or fewer
--- experts. A swap is a specification (router, capacity, losses, experts) and a source for each parameter of the new
--- router: released, fitted, random, initial; distilled and fine-tuned afterwards.

local core = require "moegauge.core"
local sorted = require "moegauge.sorted"
local specification = require "moegauge.specification"
local strict = require "moegauge.strict"

local swap = {}

local keys <const> = { "router", "options", "capacity", "losses", "keep", "count", "gate", "seed", "data", "calibrate", "distil" }
local gates <const> = { "released", "fitted", "random" }

-- ---- specifications ----------------------------------------------------------------------------------------------

-- A list stays marked as one, even when it is empty.
local function copy(value)
  if type(value) ~= "table" then return value end
  local new = getmetatable(value) == false and core.list {} or {}
  for key, item in pairs(value) do new[key] = copy(item) end
  return new
end

--- The specification with every mixture of the decoder replaced by change(mixture, number), counted from 1.
function swap.change_mixtures(spec, change)
  local new, count = copy(spec), 0
  local function entry(feed_forward)
    if type(feed_forward) ~= "table" or feed_forward.kind ~= "moe" then return feed_forward end
    count = count + 1
    return change(feed_forward, count)
  end
  if new.feed_forward.kind then
    new.feed_forward = entry(new.feed_forward)
  else
    for i, feed_forward in ipairs(new.feed_forward) do new.feed_forward[i] = entry(feed_forward) end
  end
  return new, count
end

--- The mixtures of a specification; one that stands for all layers is there once.
function swap.mixtures(spec)
  local list = {}
  swap.change_mixtures(spec, function(mixture)
    list[#list + 1] = mixture
    return mixture
  end)
  return list
end

local function refuse(where, message, ...) core.fail("usage", (where .. ": " .. message):format(...)) end

-- The short forms of t, which may be the router alone.
local function settings_of(t, where)
  if type(t) == "table" and type(t.name) == "string" then t = { router = t } end
  strict.keys(t, keys, where)
  local new = {}
  for key, value in pairs(t) do new[key] = value end
  if new.router and new.options then refuse(where, "'router' is a whole router and 'options' changes the released one; give one of them") end
  if new.router ~= nil and (type(new.router) ~= "table" or type(new.router.name) ~= "string") then
    refuse(where, "'router' must be made with mg.router.NAME{...}, not %s", strict.describe(new.router))
  end
  if type(new.capacity) == "number" then new.capacity = { policy = "drop", factor = new.capacity } end
  if type(new.losses) == "table" and next(new.losses) == nil then new.losses = core.list {} end
  new.gate, new.seed = new.gate or "released", new.seed or 1
  local known
  for _, name in ipairs(gates) do known = known or name == new.gate end
  if not known then refuse(where, "'gate' must be one of %s, not %s", table.concat(gates, ", "), strict.describe(new.gate)) end
  for _, key in ipairs { "calibrate", "distil" } do
    if new[key] == true then new[key] = {} end
    if new[key] ~= nil then
      if type(new[key]) ~= "table" then refuse(where, "'%s' must be true or a table of its options", key) end
      core.check(key, new[key])
    end
  end
  if new.count ~= nil then core.check("calibrate", new.count) end
  for _, key in ipairs { "calibrate", "distil" } do
    if new[key] and not new.data then refuse(where, "'%s' needs text to learn from: data = mg.corpus ...", key) end
  end
  if math.type(new.keep) == "integer" and not new.data then refuse(where, "'keep' = %d keeps the most loaded experts, and needs text to load them: data = mg.corpus ...", new.keep) end
  return new
end

-- A router that gives its weights another size than the released one would silently weaken or strengthen the experts;
-- `asked` is the router as the script wrote it.
local function check_scale(old, new, asked, where)
  local had, has = old.scale or 1, new.scale or 1
  if had == has or asked.scale ~= nil then return end
  refuse(where, "the released router %s multiplies its weights by %g, %s; its experts would weigh %g times as much", old.name, had,
    new.scale and ("and this router %s by %g: give it scale = %g, or say scale = %g if that is meant"):format(new.name, has, had, has)
    or ("and router %s has no option 'scale'"):format(new.name), has / had)
end

local function router_of(mixture, settings)
  if settings.router then return copy(settings.router) end
  local router = copy(mixture.router)
  for key, value in pairs(settings.options or {}) do router[key] = value end
  return router
end

-- How many experts the n-th mixture keeps, and which where they are named: a list of numbers from 0.
local function kept_of(settings, number, experts, where)
  local keep = settings.keep
  if keep == nil then return experts end
  if math.type(keep) == "integer" then
    if keep < 1 or keep > experts then refuse(where, "'keep' = %d must be 1 to the %d experts of the layer", keep, experts) end
    return keep
  end
  if type(keep) ~= "table" or #keep == 0 then refuse(where, "'keep' must be how many experts to keep, their numbers from 0, or a list of those for each mixture") end
  local list = type(keep[1]) == "table" and keep[number] or keep
  if type(list[1]) ~= "number" then refuse(where, "'keep' has no list for mixture %d", number) end
  return #list, list
end

local function describe(spec, where)
  local described, reason = core.describe(spec, 1, true)
  if not described then refuse(where, "%s", reason) end
  if described.cannot_run then refuse(where, "%s", described.cannot_run) end
  return described
end

-- { [layer's prefix] = { [parameter] = { shape, fixed } } } of the routers, and the prefixes in order of the layers.
local function router_parameters(described)
  local layers, order = {}, {}
  for _, parameter in ipairs(described.parameters) do
    local prefix, name = parameter.name:match "^(layers%..+%.router%.)([^.]+)$"
    if prefix then
      if not layers[prefix] then
        layers[prefix] = {}
        order[#order + 1] = prefix
      end
      layers[prefix][name] = { shape = parameter.shape, fixed = parameter.fixed }
    end
  end
  table.sort(order, function(a, b) return tonumber(a:match "%d+") < tonumber(b:match "%d+") end)
  return layers, order
end

-- ---- sources -----------------------------------------------------------------------------------------------------

-- For each router, which of its parameters can be computed from a released gate [experts, width].
local fitters <const> = {
  tree = {
    fits = function(name) return name:find "^level%d+$" ~= nil end,
    -- The gates of all levels; children per node by the rows of each.
    levels = function(parameters)
      local branching, nodes = {}, 1
      for level = 1, 16 do
        local parameter = parameters["level" .. level]
        if not parameter then break end
        branching[level] = parameter.shape[1] // nodes
        nodes = parameter.shape[1]
      end
      return branching
    end,
    -- Options under which every leaf is looked at, so that all probabilities are there to learn from.
    whole = function(experts) return { beam = experts } end,
  },
}

-- What each parameter of the new routers comes from, and what of the released ones is left out.
local function sources_of(old, new, settings, router, released, where)
  local sources, left_out, missing = {}, {}, {}
  local fitter = fitters[router.name]
  for prefix, parameters in pairs(new) do
    local had = old[prefix] or {}
    for name, parameter in pairs(parameters) do
      local source = had[name] and "released" or parameter.fixed and "initial" or "missing"
      if settings.gate == "random" then source = parameter.fixed and "initial" or "random" end
      if source == "missing" and settings.gate == "fitted" and fitter and fitter.fits(name) then source = "fitted" end
      if source == "missing" then missing[name] = true end
      sources[name] = source
    end
  end
  for prefix, parameters in pairs(old) do
    for name in pairs(parameters) do
      if not (new[prefix] or {})[name] then left_out[name] = true end
    end
  end
  if next(missing) then
    refuse(where, "router %s needs the parameters %s, which the released router %s lacks; %s", router.name, table.concat(sorted.keys(missing), ", "), released.name,
      fitter and 'give gate = "fitted" (from the released gate) or "random"' or 'give gate = "random"')
  end
  return sources, sorted.keys(left_out)
end

--- The sources in a few words: "released", "bias fitted, gate released", "none" for a router without parameters.
function swap.words(sources)
  local by, said = {}, {}
  for _, name in ipairs(sorted.keys(sources)) do
    local source = sources[name]
    by[source] = by[source] or {}
    table.insert(by[source], name)
  end
  local kinds = sorted.keys(by)
  if #kinds == 0 then return "none" end
  if #kinds == 1 then return kinds[1] end
  for i, source in ipairs(kinds) do said[i] = table.concat(by[source], " and ") .. " " .. source end
  return table.concat(said, ", ")
end

--- Notes that parameters have been changed: "released" becomes "released, fine-tuned".
function swap.mark(sources, word, chosen)
  for name, source in pairs(sources) do
    if chosen(name) and not source:find(word, 1, true) then sources[name] = source .. ", " .. word end
  end
end

-- ---- making ------------------------------------------------------------------------------------------------------

-- The most loaded experts of each mixture on text, in their old order.
local function most_loaded(self, settings, counts)
  local options = { data = settings.data, fit = false, seed = settings.seed }
  for key, value in pairs(settings.count or {}) do options[key] = value end
  local result = self:calibrate(options)
  local lists = {}
  for layer, load in ipairs(result.tables.load.values) do
    local order, kept = {}, {}
    for e = 1, #load do order[e] = e end
    table.sort(order, function(a, b) return load[a] > load[b] or (load[a] == load[b] and a < b) end)
    for i = 1, counts[layer] do kept[i] = order[i] - 1 end
    table.sort(kept)
    lists[layer] = kept
  end
  return lists
end

-- Experts as leaves of the trees, layer by layer.
local function tree_orders(self, new, order, settings)
  local lists = {}
  for i, prefix in ipairs(order) do
    local branching = fitters.tree.levels(new[prefix])
    local experts = 1
    for _, b in ipairs(branching) do experts = experts * b end
    lists[i] = self.model:order_experts(prefix .. "gate", branching, experts, settings.seed)
  end
  return lists
end

local function fit_tree(self, model, new, order, lists)
  for i, prefix in ipairs(order) do
    for _, name in ipairs(sorted.keys(new[prefix])) do
      if fitters.tree.fits(name) then model:set_means(prefix .. name, self.model, prefix .. "gate", lists[i]) end
    end
  end
end

-- The new model's specification with every router's options as `options`.
local function with_options(spec, options)
  return (swap.change_mixtures(spec, function(mixture)
    for key, value in pairs(options) do mixture.router[key] = value end
    return mixture
  end))
end

local function whole_spec(plan)
  local fitter = fitters[plan.router.name]
  if not fitter then return plan.spec end
  return with_options(plan.spec, fitter.whole(swap.mixtures(plan.spec)[1].experts))
end

-- Runs what is learned before the final model stands: distillation needs every probability.
local function make(self, plan)
  local settings, lists = plan.settings, nil
  if settings.keep then lists = #plan.lists > 0 and plan.lists or most_loaded(self, settings, plan.counts) end
  if settings.gate == "fitted" then lists = tree_orders(self, plan.parameters, plan.order, settings) end
  local base, record = self, nil
  if settings.gate == "fitted" or settings.distil then
    local first = self:derived(self.model:derive(settings.distil and whole_spec(plan) or plan.spec, lists, settings.gate, settings.seed), plan)
    if settings.gate == "fitted" then fit_tree(self, first.model, plan.parameters, plan.order, lists) end
    if settings.distil then
      record = first:distil { data = settings.data, teacher = self, experts = lists, options = settings.distil }
      swap.mark(plan.sources, "distilled", function(name) return not plan.fixed[name] end)
    end
    if not settings.distil then return first, lists end
    base, lists = first, nil
  end
  local model = self:derived(base.model:derive(plan.spec, lists, base == self and settings.gate or "released", settings.seed), plan)
  model.distillation = record
  return model
end

-- Changes every mixture as the settings say, and notes in the plan what the released routers were, how many experts are kept,
-- and which where they are named.
local function change_all(self, plan, where)
  local settings = plan.settings
  return (swap.change_mixtures(swap.each_layer(self.spec), function(mixture, number)
    local router = router_of(mixture, settings)
    local count, list = kept_of(settings, number, mixture.experts, where)
    plan.released[number], plan.counts[number], plan.lists[number], plan.router = mixture.router, count, list, router
    mixture.experts, mixture.router = count, router
    mixture.capacity, mixture.losses = settings.capacity or mixture.capacity, settings.losses or mixture.losses
    return mixture
  end))
end

local function check_fitted(plan, where)
  if not fitters[plan.router.name] then
    refuse(where, 'gates of router %s cannot be fitted to a released one; only those of a tree can. Use gate = "released" or "random"', plan.router.name)
  end
  if plan.settings.keep then
    refuse(where, "a fitted tree orders the experts anew; keep some first, and then fit: model:with_router{ keep = ... }:with_router{ gate = \"fitted\", ... }")
  end
end

-- What the parameters of the new routers are, and where each comes from.
local function plan_sources(self, plan, described, where)
  local old = router_parameters(describe(self.spec, where))
  plan.parameters, plan.order = router_parameters(described)
  plan.sources, plan.left_out = sources_of(old, plan.parameters, plan.settings, plan.router, plan.released[1], where)
  for name, source in pairs(plan.sources) do
    if source == "released" and self.sources[name] then plan.sources[name] = self.sources[name] end
  end
  for _, parameters in pairs(plan.parameters) do
    for name, parameter in pairs(parameters) do plan.fixed[name] = parameter.fixed end
  end
end

-- Everything that can be refused before a weight is touched.
local function plan_of(self, t, where)
  if self.has_encoder then refuse(where, "%s has an encoder; only decoders can be swapped", self.family) end
  local plan = { settings = settings_of(t, where), released = {}, counts = {}, lists = {}, fixed = {} }
  local settings = plan.settings
  local changed = change_all(self, plan, where)
  if #plan.released == 0 then refuse(where, "%s has no mixture of experts", self.family) end
  local described = describe(changed, where)
  plan.spec = described.spec
  for number, mixture in ipairs(swap.mixtures(plan.spec)) do
    check_scale(plan.released[number], mixture.router, settings.router or settings.options or {}, where)
  end
  plan_sources(self, plan, described, where)
  if settings.gate == "fitted" then check_fitted(plan, where) end
  return plan
end

--- A mixture for each layer, where one stands for all.
function swap.each_layer(spec)
  local new = copy(spec)
  if not new.feed_forward.kind then return new end
  local list = {}
  for i = 1, new.layers do list[i] = copy(new.feed_forward) end
  new.feed_forward = core.list(list)
  return new
end

--- model:with_router; released.lua says what it does.
function swap.apply(self, t)
  local where <const> = "model:with_router"
  local plan = plan_of(self, t, where)
  if core.probing() then return self:derived(nil, plan) end
  local model = make(self, plan)
  if plan.settings.calibrate then
    local options = { data = plan.settings.data }
    for key, value in pairs(plan.settings.calibrate) do options[key] = value end
    model.calibration = model:calibrate(options)
    swap.mark(model.sources, "fitted", function(name) return plan.fixed[name] end)
    for name, source in pairs(model.sources) do
      if source == "initial, fitted" then model.sources[name] = "fitted" end
    end
  end
  return model
end

return swap
