-- A router written in Lua beside the same one in C: do they route alike, to the last bit?

local mg <const> = require "moegauge"

-- Softmax top-k: the k experts of highest probability, their weights renormalised. The parameter has the name, shape
-- and start of the C router's gate, so both begin as the same numbers.
local lua_topk <const> = mg.router.define {
  name = "lua_topk",
  summary = "Softmax top-k, in Lua.",
  options = { k = { default = 2, min = 1, max = 64, help = "experts kept per token" } },
  params = { gate = { shape = { "experts", "width" }, init = "normal", scale = 0.02 } },
  promises = { "weights_sum_to_one", "weights_nonnegative", "causal", "per_token", "experts_exchangeable", "gives_probs", "gives_logits" },
  route = function(r, x)
    local logits = x:linear(r:param "gate")
    local probs = logits:softmax()
    local ids, weights = probs:top_k(r.k)
    return { ids = ids, weights = weights:shares(), probs = probs, logits = logits }
  end,
}

local function moe(router) return mg.moe { experts = 8, width = 64, router = router, losses = { { kind = "balance", weight = 0.01 } } } end

return mg.experiment {
  title = "A top-k router in Lua and the same one in C",
  sweep = { feed_forward = { moe(mg.router.topk { k = 2 }), moe(lua_topk { k = 2 }) }, seed = { 1, 2 } },
  options = { tokens = 16384 },
  run = function(case)
    local model = mg.model { layers = 2, width = 64, heads = 4, feed_forward = case.feed_forward, seed = case.seed }
    return mg.train { model = model, data = mg.corpus "synthetic", tokens = case.tokens, batch = 8, sequence = 128 }
  end,
  report = function(r)
    return { r:table("feed_forward", { "loss", "accuracy", "cv", "flops_per_token", "gate_ns_per_token" }), r:differences("feed_forward", "loss"), r:chart("loss", "tokens") }
  end,
}
