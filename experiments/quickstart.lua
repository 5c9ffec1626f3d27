-- Which router learns most per FLOP on real text, and how evenly does it load its experts?
--
-- Feed-forwards of equal active width: a token passes through 128 hidden units in each. The mixtures hold 1024 hidden
-- units in all, of which every token uses an eighth. `hash` routes by token id and learns no gate: the control that says
-- what more parameters alone are worth.

local mg <const> = require "moegauge"

local function moe(experts, width, router, capacity)
  return mg.moe { experts = experts, width = width, router = router, capacity = capacity,
    losses = router.name ~= "hash" and { { kind = "balance", weight = 0.001 } } or nil }
end

return mg.experiment {
  title = "Dense, top-k, switch, tree and hash gating at equal active width",
  sweep = {
    feed_forward = {
      mg.dense { width = 128 },
      moe(16, 64, mg.router.topk { k = 2 }),
      moe(8, 128, mg.router.switch {}, 1.25),
      moe(16, 64, mg.router.tree { k = 2, branching = { 4, 4 } }),
      moe(8, 128, mg.router.hash {}),
    },
    seed = { 1, 2, 3 },
  },
  options = { tokens = 900000, corpus = "manpages" },
  run = function(case)
    local data = mg.corpus { corpus = case.corpus, tokenizer = "bpe", vocabulary = 1024 }
    local model = mg.model { layers = 2, width = 64, heads = 4, feed_forward = case.feed_forward, seed = case.seed }
    return mg.train { model = model, data = data, tokens = case.tokens, batch = 8, sequence = 128, rate = 0.004, precision = "bf16" }
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
