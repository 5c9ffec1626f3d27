-- What does a released model lose and save under another routing of the same weights?
--
-- Every row is one checkpoint on the same tokens: other numbers of experts, top-p, capacities, groups, balancing biases and
-- thresholds fitted to text, fewer experts, trees in place of the flat gate, and two controls that know nothing of the
-- hidden state. Each seed is a segment of the validation text, so that differences are paired over text; what is fitted or
-- distilled sees the training text alone, in an order of its own for every seed.
--
--   moegauge run experiments/router_swap.lua --set checkpoint=OLMoE-1B-7B --set corpus=FOLDER --set choices=questions.jsonl

local mg <const> = require "moegauge"
local routings <const> = require "moegauge.routings"

local function divisor(n, wanted)
  local d = math.min(wanted, n)
  while n % d ~= 0 do d = d - 1 end
  return d
end

-- name -> function of the released mixture, the corpus and the case that gives what with_router takes; nil = as released.
local swaps <const> = {
  released = function() return nil end,
  ["half k"] = function(m) return { options = { k = routings.half(m.router) } } end,
  ["double k"] = function(m) return { options = { k = math.min(m.experts, 2 * m.router.k) } } end,
  ["top-p"] = function(m, _, case) return { router = mg.router.top_p { p = case.p, most = math.min(m.experts, 4 * m.router.k), renormalise = routings.sums_to_one(m.router) } } end,
  ["capacity 1"] = function() return { capacity = 1 } end,
  ["capacity 1.25"] = function() return { capacity = 1.25 } end,
  groups = function(m)
    local groups = divisor(m.experts, 4)
    return { router = mg.router.deepseek { k = m.router.k, score = "softmax", bias = "none", groups = groups, groups_kept = math.max(1, groups // 2), group_score = "max",
      renormalise = routings.sums_to_one(m.router) } }
  end,
  bias = function(m, data, case)
    return { router = mg.router.deepseek { k = m.router.k, score = "softmax", bias = "sign", rate = 0.01 / m.experts, renormalise = routings.sums_to_one(m.router) },
      data = data, calibrate = { tokens = case.fit_tokens, batch = 4, sequence = case.sequence, seed = case.seed } }
  end,
  quantile = function(m, data, case)
    return { router = mg.router.quantile { k = m.router.k, renormalise = routings.sums_to_one(m.router) },
      data = data, calibrate = { tokens = case.fit_tokens, batch = 16, sequence = case.sequence, seed = case.seed } }
  end,
  ["three quarters"] = function(m, data, case) return { keep = math.max(m.router.k, 3 * m.experts // 4), data = data, count = { tokens = case.fit_tokens, sequence = case.sequence, seed = case.seed } } end,
  ["tree fitted"] = function(m) return { router = mg.router.tree { k = m.router.k, branching = routings.two_levels(m), renormalise = routings.sums_to_one(m.router) }, gate = "fitted" } end,
  ["tree distilled"] = function(m, data, case)
    return { router = mg.router.tree { k = m.router.k, branching = routings.two_levels(m), renormalise = routings.sums_to_one(m.router) }, gate = "fitted",
      data = data, distil = { tokens = case.fit_tokens, batch = 4, sequence = case.sequence, rate = case.rate, seed = case.seed } }
  end,
  ["tree random"] = function(m, _, case) return { router = mg.router.tree { k = m.router.k, branching = routings.two_levels(m), renormalise = routings.sums_to_one(m.router) }, gate = "random", seed = case.seed } end,
  random = function(m) return { router = mg.router.random { k = m.router.k } } end,
  hash = function(m) return { router = mg.router.hash { k = divisor(m.experts, m.router.k), renormalise = true } } end,
}
local order <const> = { "released", "half k", "double k", "top-p", "capacity 1.25", "capacity 1", "groups", "bias", "quantile", "three quarters", "tree fitted",
  "tree distilled", "tree random", "random", "hash" }

local function loss_as_released(case) return case.params.routing == "released" and case.result.metrics.loss or nil end

return mg.experiment {
  title = "Fifteen routings of one checkpoint",
  sweep = { routing = order, seed = { 1, 2, 3, 4 } },
  options = { checkpoint = "", corpus = "manpages", choices = "", tokens = 8192, sequence = 256, fit_tokens = 131072, rate = 0.003, p = 0.4 },
  run = function(case)
    if case.checkpoint == "" then mg.core.fail("usage", "--set checkpoint=FOLDER is needed; experiments/make_checkpoint.lua makes two") end
    local data = mg.corpus { corpus = case.corpus }
    local model = mg.load(case.checkpoint)
    local swap = swaps[case.routing](model:mixture(), data, case)
    if swap then model = model:with_router(swap) end
    local result = mg.evaluate { model = model, data = data, tokens = case.tokens, sequence = case.sequence, segment = case.seed }
    if case.choices ~= "" then
      local answered = model:multiple_choice { choices = case.choices }
      result.metrics.choice_accuracy, result.metrics.choice_accuracy_norm = answered.acc.value, answered.acc_norm.value
    end
    for name, value in pairs(model.distillation and model.distillation.metrics or {}) do result.metrics[name] = value end
    local now = model:mixture()
    result.tables.gates = { router = now.router.name, gate = model:gate_source(), experts = now.experts, flops_by_formula = ("%.4g"):format(model:counts(case.sequence).flops_per_token) }
    return result
  end,
  report = function(r)
    local quality = { "loss", "perplexity", "accuracy" }
    for _, case in ipairs(r.cases) do
      if case.params.choices ~= "" and #quality == 3 then quality = { "loss", "perplexity", "accuracy", "choice_accuracy", "choice_accuracy_norm" } end
    end
    local against = r:relative("routing", "released", { "flops_per_token", "forward_tokens_per_second" })
    return {
      r:text(routings.chance_note(r, loss_as_released) or "Each seed is a segment of the validation text, on which all routings are compared."),
      r:facts("routing", "gates", { "router", "gate", "experts", "flops_by_formula" }),
      r:table("routing", quality),
      r:table("routing", { "cv", "max_over_mean", "dead_experts", "dropped_assignments" }),
      against:table("routing", { "flops_per_token", "flops_per_token_share", "flops_per_token_gate", "forward_tokens_per_second", "forward_tokens_per_second_share" }),
      r:table("routing", { "distillation_loss_first", "distillation_loss" }),
      r:expect { axis = "routing",
        { "Knowing nothing of the hidden state costs more than any fitted gate", "loss", "random", ">", "tree fitted" },
        { "Distillation brings a tree nearer to the released gate", "loss", "tree distilled", "<", "tree fitted" },
        { "A fitted tree is better than one whose gates are random", "loss", "tree fitted", "<", "tree random" },
        { "Balance by a bias costs less than balance by dropping", "loss", "bias", "<", "capacity 1" },
        { "A bias balances", "cv", "bias", "<", "released" },
        { "Half of the experts are worse than all that were trained for", "loss", "half k", ">", "released" },
      },
      r:differences("routing", "loss", "released"),
      r:pareto("flops_per_token", "loss", "routing"),
      r:pareto("cv", "loss", "routing"),
    }
  end,
}
