-- Why does one learned expert per token trail a dense layer in a short run, where two experts do not?
--
-- The quickstart's `switch` is worse than its dense model. Each expert of eight sees an eighth of the tokens, and a gate
-- has to earn that back by sending alike tokens to the same expert. `position` deals tokens out by their place, which says
-- nothing about them: what dividing alone costs. `hash` deals them out by their id. The other rows change one thing of
-- `switch`: its capacity, the size of its weights (a sigmoid near a half instead of a softmax near an eighth), the gate's
-- learning rate, and whether half of the active width is shared by all tokens (DeepSeekMoE, arXiv 2401.06066).

local mg <const> = require "moegauge"

local balance <const> = { { kind = "balance", weight = 0.01 } }

local function one(router, capacity, shared)
  return mg.moe { experts = 8, width = shared and 64 or 128, router = router, capacity = capacity, losses = router.name ~= "hash" and balance or nil,
    shared = shared and { experts = 1, width = 64 } or nil }
end

local feed_forwards <const> = {
  dense = mg.dense { width = 128 },
  position = one(mg.router.hash { kind = "position" }),
  hash = one(mg.router.hash {}),
  switch = one(mg.router.switch {}),
  ["switch 1.25"] = one(mg.router.switch {}, 1.25),
  ["switch slow"] = one(mg.router.switch {}),
  sigmoid = one(mg.router.topk { k = 1, score = "sigmoid", renormalise = false, scale = 2 }),
  ["half shared"] = one(mg.router.switch {}, nil, true),
  ["top-2"] = mg.moe { experts = 16, width = 64, router = mg.router.topk { k = 2 }, losses = balance },
}

return mg.experiment {
  title = "Why one learned expert per token trails a dense layer in a short run",
  sweep = { layer = { "dense", "position", "switch", "switch 1.25", "switch slow", "sigmoid", "half shared", "top-2", "hash" }, seed = { 1, 2, 3 } },
  options = { tokens = 800000, corpus = "manpages" },
  run = function(case)
    local data = mg.corpus { corpus = case.corpus, tokenizer = "bpe", vocabulary = 1024 }
    local model = mg.model { layers = 2, width = 64, heads = 4, feed_forward = feed_forwards[case.layer], embedding_scale = 8, initial_deviation = 0.1, seed = case.seed }
    return mg.train { model = model, data = data, tokens = case.tokens, batch = 8, sequence = 128, rate = 0.012,
      router_rate = case.layer == "switch slow" and 0.01 or 0.1 }
  end,
  report = function(r)
    return {
      r:table("layer", { "loss", "cv", "dropped_assignments", "flops_per_token" }),
      r:expect { axis = "layer",
        { "Experts that know nothing of their tokens lose to a dense layer", "loss", "position", ">", "dense" },
        { "A learned gate earns more than half of that back", function(at) return (at("position", "loss") - at("switch", "loss")) - 0.5 * (at("position", "loss") - at("dense", "loss")) end },
        { "but not all of it", "loss", "switch", ">", "dense" },
        { "Dropped tokens cost on top", "loss", "switch 1.25", ">", "switch" },
        { "Larger weights change nothing, within 0.5 %", "loss", "sigmoid", "~", "switch", within = 0.005 },
        { "A gate that moves ten times slower changes nothing, within 0.5 %", "loss", "switch slow", "~", "switch", within = 0.005 },
        { "Half of the width shared by all tokens is better", "loss", "half shared", "<", "switch" },
        { "Two of sixteen experts, half as wide, are better", "loss", "top-2", "<", "switch" },
        { "The id alone is a better key than what the gate learns", "loss", "hash", "<", "switch" },
      },
      r:chart("loss", "tokens"),
    }
  end,
}
