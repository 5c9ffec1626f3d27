-- Which router learns most per FLOP on real text, and how evenly does it load its experts?
--
-- Four feed-forwards of equal active width: a token passes through 512 hidden units in each. The mixtures hold 4096
-- hidden units in all, of which every token uses an eighth.

local mg <const> = require "moegauge"

local function moe(experts, width, router, capacity)
  return mg.moe { experts = experts, width = width, router = router, capacity = capacity,
    losses = { { kind = "balance", weight = 0.01 } } }
end

return mg.experiment {
  title = "Dense, top-k, switch and tree gating at equal active width",
  sweep = {
    feed_forward = {
      mg.dense { width = 512 },
      moe(16, 256, mg.router.topk { k = 2 }),
      moe(8, 512, mg.router.switch {}, 1.25),
      moe(16, 256, mg.router.tree { k = 2, branching = { 4, 4 } }),
    },
    seed = { 1, 2, 3 },
  },
  options = { tokens = 150000, corpus = "manpages" },
  run = function(case)
    local model = mg.model { layers = 4, width = 128, heads = 4, feed_forward = case.feed_forward, seed = case.seed }
    return mg.train { model = model, data = mg.corpus(case.corpus), tokens = case.tokens, batch = 8, sequence = 256, precision = "bf16" }
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
