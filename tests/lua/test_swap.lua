-- with_router on the small golden models: identities, what each parameter comes from, costs, files, and the message of every
-- swap that makes no sense.
local core = require "moegauge.core"
local families = require "moegauge.families"
local mg = require "moegauge"

local here = debug.traceback():match("(%S*)/tests/lua/test_swap%.lua")
local golden <const> = here .. "/tests/golden/models/"
local folder <const> = ("/tmp/moegauge-swap-%d-%s"):format(os.time(), tostring({}):match "0x(%x+)")

local text <const> = folder .. ".txt"
local written = assert(io.open(text, "w"))
written:write(("The owl looks at the moon. "):rep(6))
written:close()

local function load(family) return mg.load(golden .. family, { precision = "f32" }) end
local function loss(model) return model:perplexity { text = text, context = 48 }.loss end

local mixtral = load "mixtral"
local released <const> = loss(mixtral)

-- ---- identities and sources --------------------------------------------------------------------------------------

local all = mixtral:with_router { keep = { 0, 1, 2, 3, 4, 5, 6, 7 } }
assert(loss(all) == released and all:gate_source() == "released" and all:mixture().experts == 8)
assert(loss(mixtral:with_router { options = {} }) == released)
assert(loss(mixtral:with_router(mg.router.topk { k = 2, order = "after" })) == released)

local named = {
  { "none", mg.router.random { k = 2 } },
  { "released", mg.router.top_p { p = 0.5, renormalise = true } },
  { "bias initial, gate released", mg.router.deepseek { k = 2, score = "softmax" } },
  { "fitted", { router = mg.router.tree { k = 2, branching = { 2, 4 } }, gate = "fitted" } },
  { "random", { router = mg.router.tree { k = 2, branching = { 2, 4 } }, gate = "random" } },
}
for _, row in ipairs(named) do
  local swapped = mixtral:with_router(row[2])
  assert(swapped:gate_source() == row[1], swapped:gate_source())
  assert(loss(swapped) == loss(swapped))
end
assert(mixtral:gate_source() == "released")
assert(table.concat(mixtral:with_router(mg.router.hash { k = 2 }).left_out) == "gate")
-- An untouched bias changes nothing where the weights are the same.
assert(math.abs(loss(mixtral:with_router(mg.router.deepseek { k = 2, score = "softmax" })) - released) < 1e-6)
-- A swap of a swap keeps what its parameters came from.
local tree = mixtral:with_router { router = mg.router.tree { k = 2, branching = { 2, 4 } }, gate = "fitted" }
assert(tree:with_router { options = { k = 4, beam = 4 } }:gate_source() == "fitted")
assert(mixtral:with_router { keep = { 1, 3, 5, 7 } }:with_router { keep = { 3, 0 } }:mixture().experts == 2)
assert(loss(mixtral:with_router { keep = { 1, 3, 5, 7 } }:with_router { keep = { 1, 2 } }) == loss(mixtral:with_router { keep = { 3, 5 } }))

-- A gate that is not the released one is another one for another seed, and the same for the same.
local function random_gate(seed) return loss(mixtral:with_router { options = {}, gate = "random", seed = seed }) end
assert(random_gate(1) == random_gate(1) and random_gate(1) ~= random_gate(2) and random_gate(1) ~= released)

-- ---- costs ---------------------------------------------------------------------------------------------------------

local counts = mixtral:counts(64)
local more = mixtral:with_router { options = { k = 4 } }:counts(64)
assert(math.abs((more.flops.causal.parts.routed) / counts.flops.causal.parts.routed - 2) < 1e-9)
assert(more.total == counts.total and more.active > counts.active)
local fewer = mixtral:with_router { keep = { 0, 1 } }:counts(64)
assert(fewer.routed == counts.routed // 4 and fewer.router == counts.router // 4)

-- ---- files ---------------------------------------------------------------------------------------------------------

local function config_in(name)
  local file <close> = assert(io.open(folder .. "/" .. name .. "/config.json"))
  return core.from_json(file:read "a")
end

local saved = {
  { "k4", "mixtral", { options = { k = 4 } } },
  { "kept", "mixtral", { keep = { 2, 6, 7 } } },
  { "tree", "moegauge_swap", { router = mg.router.tree { k = 2, branching = { 4, 2 } }, gate = "fitted" } },
  { "bias", "moegauge_swap", mg.router.deepseek { k = 2, score = "softmax" } },
  { "drops", "moegauge_swap", { capacity = 1 } },
  { "hash", "moegauge_swap", mg.router.hash { k = 2, renormalise = true } },
}
for _, row in ipairs(saved) do
  local swapped = mixtral:with_router(row[3])
  swapped:save(folder .. "/" .. row[1])
  local again = mg.load(folder .. "/" .. row[1], { precision = "f32" })
  assert(config_in(row[1]).model_type == row[2], row[1])
  assert(loss(again) == loss(swapped), row[1])
  assert(row[2] == "mixtral" and again:gate_source() == "released" or again:gate_source() == swapped:gate_source(), row[1])
end
assert(config_in "k4".num_experts_per_tok == 4 and config_in "kept".num_local_experts == 3)
-- A swap of what was read back is written as one swap.
mg.load(folder .. "/tree", { precision = "f32" }):with_router { options = { k = 3, beam = 4 } }:save(folder .. "/again")
assert(config_in "again".released.model_type == "mixtral" and config_in "again".swap.router.k == 3)
assert(mg.load(folder .. "/again"):gate_source() == "fitted")
-- A model may be saved over the files it is used from: they are replaced, and it goes on with the old ones.
local over = mg.load(folder .. "/k4", { precision = "f32" })
local before = loss(over)
over:with_router { options = { k = 3 } }:save(folder .. "/k4")
assert(loss(over) == before and config_in "k4".num_experts_per_tok == 3)
assert(loss(mg.load(folder .. "/k4", { precision = "f32" }):with_router { options = { k = 4 } }) == before)
-- Its cost by configuration alone.
local tree42 = mixtral:with_router { router = mg.router.tree { k = 2, branching = { 4, 2 } }, gate = "random" }
assert(mg.inspect(folder .. "/tree", 64).flops_per_token.causal.forward == tree42:counts(64).flops_per_token)

-- What a case is known by changes with the checkpoint's files.
local stamp = core.stamp(folder .. "/drops")
assert(stamp == core.stamp(folder .. "/drops") and stamp ~= core.stamp(folder .. "/hash") and core.stamp(folder .. "/none") ~= stamp)
mixtral:with_router { capacity = 1 }:save(folder .. "/drops")
assert(core.stamp(folder .. "/drops") ~= stamp)

-- A model of random weights is written as a checkpoint of its family.
local made = mg.draw { config = config_in "k4", seed = 3, precision = "f32" }
assert(made:gate_source() == "random")
made:save(folder .. "/made")
assert(not pcall(made.perplexity, made, { text = text }))
assert(families.read(folder .. "/made").model_type == "mixtral")

-- ---- refusals ------------------------------------------------------------------------------------------------------

local function refused(words, f, ...)
  local done, problem = pcall(f, ...)
  local _, message = core.error_of(problem)
  assert(not done and message:find(words, 1, true), ("'%s' is not in: %s"):format(words, done and "no error" or message))
end
local function swap_refused(words, t) refused(words, mixtral.with_router, mixtral, t) end

swap_refused("k = 9 is more than the 8 experts of the layer", { options = { k = 9 } })
swap_refused("k = 3 is more than the 2 experts", { options = { k = 3 }, keep = { 0, 1 } })
swap_refused("have 9 leaves, but the layer has 8 experts", { router = mg.router.tree { k = 2, branching = { 3, 3 } }, gate = "fitted" })
swap_refused('router tree needs the parameters level1, level2, which the released router topk lacks; give gate = "fitted"', mg.router.tree { k = 2, branching = { 2, 4 } })
swap_refused('lacks; give gate = "random"', mg.router.cosine { k = 2 })
swap_refused("gates of router topk cannot be fitted", { options = {}, gate = "fitted" })
swap_refused("the 8 experts must be a multiple of groups = 3", mg.router.deepseek { k = 2, groups = 3, groups_kept = 2 })
swap_refused("capacity policy 'reroute' needs probabilities", { router = mg.router.random { k = 2 }, capacity = { policy = "reroute" } })
swap_refused("'keep' = 0 must be 1 to the 8 experts", { keep = 0, data = mg.corpus "synthetic" })
swap_refused("needs text to load them", { keep = 4 })
swap_refused("entry 2 of mixture 1 must be the number of an expert", { keep = { 1, 1, 2 } })
swap_refused("'keep' has no list for mixture 3", { keep = { { 0, 1 }, { 2, 3 } } })
swap_refused("a fitted tree orders the experts anew", { keep = { 0, 1, 2, 3 }, router = mg.router.tree { k = 2, branching = { 2, 2 } }, gate = "fitted" })
swap_refused("'calibrate' needs text", { router = mg.router.deepseek { k = 2 }, calibrate = true })
swap_refused("unknown key 'tokns'; did you mean 'tokens'", { router = mg.router.deepseek { k = 2 }, data = mg.corpus "synthetic", calibrate = { tokns = 5 } })
swap_refused("did you mean 'router'", { ruoter = mg.router.topk {} })
swap_refused("'gate' must be one of released, fitted, random", { options = {}, gate = "fited" })
swap_refused("give one of them", { options = { k = 1 }, router = mg.router.topk {} })
swap_refused("must be made with mg.router.NAME", { router = "topk" })

-- DeepSeek-V3 multiplies its weights, and has shared experts, groups and a bias of its own.
local deepseek = load "deepseek_v3"
assert(deepseek:with_router { options = { k = 2, groups_kept = 1 } }:gate_source() == "released")
refused("multiplies its weights by", deepseek.with_router, deepseek, mg.router.top_p {})
refused("say scale =", deepseek.with_router, deepseek, mg.router.topk { k = 2 })
assert(deepseek:with_router(mg.router.topk { k = 2, score = "sigmoid", scale = 1 }):gate_source() == "released")
refused("has an encoder", function() load "switch_transformers":with_router { options = { k = 1 } } end)

-- ---- cleaning up ---------------------------------------------------------------------------------------------------

os.remove(text)
local folders = { "again", "made" }
for _, row in ipairs(saved) do folders[#folders + 1] = row[1] end
for _, name in ipairs(folders) do
  for _, file in ipairs { "/model.safetensors", "/config.json", "/tokenizer.json", "" } do os.remove(folder .. "/" .. name .. file) end
end
assert(os.remove(folder))
