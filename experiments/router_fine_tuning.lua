-- How much of what a damaged routing loses do the routers alone win back?
--
-- A checkpoint is damaged in its routing, its weights stay. Then only the parameters of its routers are trained on the loss of
-- the language model, everything else frozen: no gradient, no moment, no bit changes. Each case measures the same segment of
-- the validation text three times: as released, damaged, and fine-tuned. `nothing` is fine-tuned undamaged: what the same
-- training gives a routing that lacks nothing, so that gains beside it are not taken for repair.
--
--   moegauge run experiments/router_fine_tuning.lua --set checkpoint=OLMoE-1B-7B --set corpus=FOLDER

local mg <const> = require "moegauge"

local function sums_to_one(router) return router.order == "after" or router.renormalise == true end

-- Half of the experts; a single weight that is divided by itself would always be 1, which routers refuse.
local function half(router)
  if router.k // 2 < 2 and sums_to_one(router) then mg.skip "half of the experts is one, whose weight would always be 1" end
  return math.max(1, router.k // 2)
end

-- The tree of two levels that looks at the fewest gates.
local function tree(m)
  local best, least
  for groups = 2, m.experts // 2 do
    local cost = groups + math.min(m.router.k, groups) * (m.experts // groups)
    if m.experts % groups == 0 and (not least or cost < least) then best, least = groups, cost end
  end
  return mg.router.tree { k = m.router.k, branching = { best, m.experts // best }, renormalise = sums_to_one(m.router) }
end

local damages <const> = {
  nothing = function() return { seed = 1 } end,
  ["half k"] = function(m) return { options = { k = half(m.router) } } end,
  ["half of the experts"] = function(m, data, case) return { keep = math.max(m.router.k, m.experts // 2), data = data, count = { tokens = case.train_tokens, sequence = case.sequence, seed = case.seed } } end,
  ["tree fitted"] = function(m) return { router = tree(m), gate = "fitted" } end,
  ["gate random"] = function(_, _, case) return { options = {}, gate = "random", seed = case.seed } end,
}

-- Where the released model predicts no better than chance, nothing that is said of its accuracy means anything.
local function chance_note(r)
  local sum, count, chance = 0, 0, nil
  for _, case in ipairs(r.cases) do
    if case.result.metrics.loss_released then
      sum, count, chance = sum + case.result.metrics.loss_released, count + 1, math.log(case.result.tables.model.vocabulary)
    end
  end
  if count == 0 or sum / count < 0.95 * chance then return nil end
  return ("The checkpoint predicts no better than chance: %.2f nats as released, against ln of its vocabulary = %.2f. Its loss and accuracy, and differences between them, mean nothing; costs, balance, memory and speed do."):format(sum / count, chance)
end

return mg.experiment {
  title = "What routers alone win back",
  sweep = { damage = { "nothing", "half k", "half of the experts", "tree fitted", "gate random" }, seed = { 1, 2, 3 } },
  options = { checkpoint = "", corpus = "manpages", tokens = 16384, train_tokens = 131072, batch = 8, sequence = 128, rate = 0.0002 },
  run = function(case)
    if case.checkpoint == "" then mg.core.fail("usage", "--set checkpoint=FOLDER is needed; experiments/make_checkpoint.lua makes two") end
    local data = mg.corpus { corpus = case.corpus }
    local released = mg.load(case.checkpoint)
    local model = released:with_router(damages[case.damage](released:mixture(), data, case))
    local function measure(of) return mg.evaluate { model = of, data = data, tokens = case.tokens, sequence = case.sequence, segment = case.seed } end
    local as_released, damaged, gate = measure(released), measure(model), model:gate_source()
    local training = mg.train { model = model, data = data, trainable = "router", tokens = case.train_tokens, batch = case.batch, sequence = case.sequence,
      rate = case.rate, decay = 0, seed = case.seed, timing_steps = 0, evaluate_tokens = case.tokens // 4, final_tokens = case.tokens // 4 }
    local result = measure(model)
    local m, before, after = result.metrics, damaged.metrics.loss, result.metrics.loss
    m.loss_released, m.loss_damaged, m.gained = as_released.metrics.loss, before, before - after
    m.accuracy_released, m.accuracy_damaged, m.cv_damaged = as_released.metrics.accuracy, damaged.metrics.accuracy, damaged.metrics.cv
    m.lost = before - as_released.metrics.loss
    if m.lost > 0 then m.won_back = m.gained / m.lost end
    for _, name in ipairs { "accounted_bytes_gradients", "accounted_bytes_moments", "accounted_bytes_parameters" } do m[name] = training.metrics[name] end
    result.series = { loss = training.series.loss }
    result.tables.gates = { before = gate, after = model:gate_source(), trained = ("%d router parameters"):format(model:counts().router) }
    return result
  end,
  report = function(r)
    return {
      r:text(chance_note(r) or "Each seed is a segment of the validation text and an order of the training text."),
      r:facts("damage", "gates", { "before", "after", "trained" }),
      r:table("damage", { "loss_released", "loss_damaged", "loss", "lost", "gained", "won_back" }),
      r:table("damage", { "accuracy_released", "accuracy_damaged", "accuracy", "cv_damaged", "cv" }),
      r:table("damage", { "accounted_bytes_parameters", "accounted_bytes_gradients", "accounted_bytes_moments", "flops_per_token" }),
      r:differences("damage", "gained", "nothing"),
      r:expect { axis = "damage",
        { "Every damaged routing gains more than the undamaged one", "gained", "half k", ">", "nothing" },
        { "... and so do pruned experts", "gained", "half of the experts", ">", "nothing" },
        { "... and a fitted tree", "gained", "tree fitted", ">", "nothing" },
        { "A random gate wins back most of what it lost", function(at) return at("gate random", "won_back") - 0.5 end },
      },
      r:chart("loss", "tokens", { axis = "damage" }),
    }
  end,
}
