-- Routers against each other at the same placement: what does each one's balance cost on 16 accelerators, and what
-- quality does it buy? Each router is trained first, in a small model; the shares of the choices that its experts got in the
-- last window of training then make the trace of a large layer with as many experts, for which the step is simulated.
--
-- The shares carry how even a router is, not which tokens go together, so that node-limited routing shows its balance here and
-- not the messages it saves.

local mg <const> = require "moegauge"

local function aux(weight) return { { kind = "balance", weight = weight } } end
local routers <const> = {
  ["topk"] = { router = mg.router.topk { k = 2 } },
  ["topk, balance loss"] = { router = mg.router.topk { k = 2 }, losses = aux(0.01) },
  ["bias-balanced"] = { router = mg.router.deepseek { k = 2, rate = 0.01 } },
  ["node-limited"] = { router = mg.router.deepseek { k = 2, rate = 0.01, groups = 4, groups_kept = 2 } },
  ["expert choice"] = { router = mg.router.expert_choice {} },
  ["tree"] = { router = mg.router.tree { k = 2, branching = 4 }, losses = aux(0.01) },
}
local order <const> = { "topk", "topk, balance loss", "bias-balanced", "node-limited", "expert choice", "tree" }

-- The shares of the last window, layer by layer.
local function last_shares(recorded)
  local shares = {}
  for l, windows in ipairs(recorded.values) do shares[l] = windows[#windows] end
  return shares
end

local large <const> = { layers = 32, width = 4096, heads = 32, attention = "gqa", kv_heads = 8, head_width = 128, experts = 16, choices = 2, expert_hidden = 6400, vocabulary = 32000 }

return mg.experiment {
  title = "Routers at the same placement",
  sweep = { router = order, seed = { 1, 2, 3 } },
  options = { tokens = 300000, corpus = "manpages" },
  run = function(case)
    local variant = routers[case.router]
    local model = mg.model { layers = 2, width = 64, heads = 4, embedding_scale = 8, initial_deviation = 0.1, seed = case.seed,
      feed_forward = mg.moe { experts = 16, width = 64, router = variant.router, losses = variant.losses } }
    local trained = mg.train { model = model, tokens = case.tokens, data = mg.corpus { corpus = case.corpus, tokenizer = "bpe", vocabulary = 1024 }, batch = 8, sequence = 128, rate = 0.012, final_tokens = 32768 }
    local simulated = mg.cluster { step = "prefill", model = large, accelerator = "h100", ranks = 16, tokens = 8192, context = 4096, element_bytes = 2, kernels = "normal", overlap = "two_batch",
      extrapolate = true, trace = { kind = "shares", shares = last_shares(trained.tables.load), layers = 4, seed = case.seed } }
    for name, value in pairs(simulated.metrics) do
      if name ~= "cv" and name ~= "max_over_mean" and not name:find "^random_floor" then trained.metrics[name] = value end
    end
    return trained
  end,
  report = function(r)
    return {
      r:table("router", { "loss", "cv", "step_ms", "balanced_step_ms", "imbalance_ms", "rank_max_over_mean", "node_tokens_per_second" }),
      r:differences("router", "step_ms"),
      r:pareto("step_ms", "loss"),
    }
  end,
}
