-- Routers against each other at the same placement: what does each one's balance cost on 16 accelerators, and what
-- quality does it buy? Each router is trained first, in a small model; where it sends the tokens of the validation text is
-- recorded, token by token, and is then the trace of a large layer with as many experts, for which the step is simulated. So
-- node-limited routing shows both its balance and the messages that it saves.

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

-- Where a case's trace is kept.
local function path_of(case) return ("%s/%s-%d"):format(case.folder, case.router:gsub("[^%w]+", "_"), case.seed) end

local large <const> = { layers = 32, width = 4096, heads = 32, attention = "gqa", kv_heads = 8, head_width = 128, experts = 16, choices = 2, expert_hidden = 6400, vocabulary = 32000 }

return mg.experiment {
  title = "Routers at the same placement",
  sweep = { router = order, seed = { 1, 2, 3 } },
  options = { tokens = 300000, trace_tokens = 32768, corpus = "manpages", folder = "results/traces/routers" },
  run = function(case)
    local variant = routers[case.router]
    local model = mg.model { layers = 2, width = 64, heads = 4, embedding_scale = 8, initial_deviation = 0.1, seed = case.seed,
      feed_forward = mg.moe { experts = 16, width = 64, router = variant.router, losses = variant.losses } }
    local trained = mg.train { model = model, tokens = case.tokens, data = mg.corpus { corpus = case.corpus, tokenizer = "bpe", vocabulary = 1024 }, batch = 8, sequence = 128, rate = 0.012, final_tokens = 32768,
      trace = { path = path_of(case), tokens = case.trace_tokens } }
    local simulated = mg.cluster { step = "prefill", model = large, accelerator = "h100", ranks = 16, tokens = 8192, context = 4096, element_bytes = 2, kernels = "normal", overlap = "two_batch",
      extrapolate = true, trace = path_of(case) }
    for name, value in pairs(simulated.metrics) do
      if name ~= "cv" and name ~= "max_over_mean" and not name:find "^random_floor" then trained.metrics[name] = value end
    end
    return trained
  end,
  report = function(r)
    return {
      r:table("router", { "loss", "cv", "step_ms", "balanced_step_ms", "imbalance_ms", "rank_max_over_mean", "far_bytes_per_rank", "node_tokens_per_second" }),
      r:differences("router", "step_ms"),
      r:pareto("step_ms", "loss"),
    }
  end,
}
