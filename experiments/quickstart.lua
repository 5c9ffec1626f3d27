-- Which router learns most per FLOP on real text, and how evenly does it load its experts?
--
-- Feed-forwards of equal active width: a token passes through 128 hidden units in each. The mixtures hold 1024 hidden
-- units in all, of which every token uses an eighth. `hash` routes by token id and learns no gate: the control that says
-- what more parameters alone are worth. The embeddings are scaled by the root of the width and weights start with a
-- deviation of 0.1, near 1 / sqrt(64), which makes runs of this size steady from seed to seed.

local mg <const> = require "moegauge"

local function moe(experts, width, router, capacity)
  return mg.moe { experts = experts, width = width, router = router, capacity = capacity,
    losses = router.name ~= "hash" and { { kind = "balance", weight = 0.01 } } or nil }
end

return mg.experiment {
  title = "Dense, top-k, switch, tree and hash gating at equal active width",
  sweep = {
    feed_forward = {
      mg.dense { width = 128 },
      moe(16, 64, mg.router.topk { k = 2 }),
      moe(8, 128, mg.router.switch {}, 2),
      moe(16, 64, mg.router.tree { k = 2, branching = { 4, 4 } }),
      moe(8, 128, mg.router.hash {}),
    },
    seed = { 1, 2, 3, 4 },
  },
  options = { tokens = 800000, corpus = "manpages" },
  run = function(case)
    local data = mg.corpus { corpus = case.corpus, tokenizer = "bpe", vocabulary = 1024 }
    local model = mg.model { layers = 2, width = 64, heads = 4, feed_forward = case.feed_forward,
      embedding_scale = 8, initial_deviation = 0.1, seed = case.seed }
    return mg.train { model = model, data = data, tokens = case.tokens, batch = 8, sequence = 128, rate = 0.012, router_rate = 0.1,
      precision = "bf16" }
  end,
  report = function(r)
    return {
      r:table("feed_forward"),
      r:differences("feed_forward", "loss"),
      r:chart("loss", "tokens"),
      r:pareto("flops_per_token", "loss"),
      r:heatmap "load",
      r:heatmap "domain_load",
      r:chart("cv", "tokens"),
      r:parts "flops",
      r:parts "ns",
    }
  end,
}
