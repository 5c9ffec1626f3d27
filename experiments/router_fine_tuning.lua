-- How much of what a damaged routing loses do the routers alone win back?
--
-- A checkpoint is damaged in its routing, its weights stay. Then only the parameters of its routers are trained on the loss of
-- the language model, everything else frozen: no gradient, no moment, no bit changes. Each case measures the same segment of
-- the validation text three times: as released, damaged, and fine-tuned. `nothing` is fine-tuned undamaged: what the same
-- training gives a routing that lacks nothing, so that gains beside it are not taken for repair.
--
--   moegauge run experiments/router_fine_tuning.lua --set checkpoint=OLMoE-1B-7B --set corpus=FOLDER

local mg <const> = require "moegauge"
local routings <const> = require "moegauge.routings"

local damages <const> = {
  nothing = function() return { seed = 1 } end,
  ["half k"] = function(m) return { options = { k = routings.half(m.router) } } end,
  ["half of the experts"] = function(m, data, case) return { keep = math.max(m.router.k, m.experts // 2), data = data, count = { tokens = case.train_tokens, sequence = case.sequence, seed = case.seed } } end,
  ["tree fitted"] = function(m)
    return { router = mg.router.tree { k = m.router.k, branching = routings.two_levels(m), renormalise = routings.sums_to_one(m.router) }, gate = "fitted" }
  end,
  ["gate random"] = function(_, _, case) return { options = {}, gate = "random", seed = case.seed } end,
}

local function loss_as_released(case) return case.result.metrics.loss_released end

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
      r:text(routings.chance_note(r, loss_as_released) or "Each seed is a segment of the validation text and an order of the training text."),
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
