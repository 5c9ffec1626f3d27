-- DeepSeekMoE, Table 1, the ladder of Figure 3 and the knock-outs of section 4.5 (Dai et al. 2024, arXiv 2401.06066):
-- shared experts and fine-grained experts against coarse ones at equal active width, and what each is worth once trained.
--
-- The width of the dense feed-forward is 128; hash and switch use one expert of that width of 16; all others two in all:
-- whole, or cut into m = 2 or 4 parts. The gates of DeepSeekMoE are not renormalised. Nothing is dropped. Knock-outs are
-- evaluations of trained weights: without the shared expert but with one routed expert more, and with the best of a
-- token's routed experts masked, 1 of 15 or 4 of 63.
--
-- What does not come out, and why: too short. The weight of a `switch` expert is its probability, near 1/16 at first, and 300
-- steps hardly lift it: it stays behind dense and hash. With 0.9 million tokens its distance to dense falls from 0.18 to
-- 0.04 nats (one seed). The seven weights of the finest layer begin near 1/63 for the same reason (they are not
-- renormalised), so the last steps of the ladder, 0.06 nats in the paper after 100B tokens, do not show.

local mg <const> = require "moegauge"

local balance <const> = { { kind = "balance", weight = 0.01 } }

local function fine(parts, shared, active, change)
  local t = { experts = 16 * parts - shared, width = 128 // parts, losses = balance,
    router = mg.router.topk { k = active, order = "before", renormalise = false }, shared = shared > 0 and { experts = shared } or nil }
  for key, value in pairs(change or {}) do t[key] = value end
  return mg.moe(t)
end

local function topk(k) return mg.router.topk { k = k, order = "before", renormalise = false } end

-- Each feed-forward, and what becomes of its weights.
local layers <const> = {
  dense = { mg.dense { width = 128 } },
  hash = { mg.moe { experts = 16, width = 128, router = mg.router.hash {} } },
  switch = { mg.moe { experts = 16, width = 128, router = mg.router.switch {}, losses = balance } },
  gshard = { mg.moe { experts = 16, width = 128, router = mg.router.gshard {}, losses = balance } },
  ["1 + 1 of 15"] = { fine(1, 1, 1), { unshared = fine(1, 1, 2, { shared = { experts = 0 } }), masked = fine(1, 1, 2, { knock_out = { choices = 1 } }) } },
  ["1 + 3 of 31"] = { fine(2, 1, 3), { unshared = fine(2, 1, 4, { shared = { experts = 0 } }) } },
  ["1 + 7 of 63"] = { fine(4, 1, 7), { unshared = fine(4, 1, 8, { shared = { experts = 0 } }), masked = fine(4, 1, 11, { knock_out = { choices = 4 } }),
    half = fine(4, 1, 4, { router = topk(4) }) } },
}
local order <const> = { "dense", "hash", "switch", "gshard", "1 + 1 of 15", "1 + 3 of 31", "1 + 7 of 63" }

local function model(case, feed_forward)
  return mg.model { layers = 2, width = 64, heads = 4, embedding_scale = 8, initial_deviation = 0.1, seed = case.seed, feed_forward = feed_forward }
end

return mg.experiment {
  title = "DeepSeekMoE Table 1: shared and fine-grained experts, and what they are worth",
  sweep = { layer = order, seed = { 1, 2, 3 } },
  options = { tokens = 300000, corpus = "manpages" },
  run = function(case)
    local trained, others = table.unpack(layers[case.layer])
    local evaluations = {}
    for name, feed_forward in pairs(others or {}) do evaluations[name] = model(case, feed_forward) end
    local result = mg.train { model = model(case, trained), tokens = case.tokens,
      data = mg.corpus { corpus = case.corpus, tokenizer = "bpe", vocabulary = 1024 },
      batch = 8, sequence = 128, rate = 0.012, evaluations = next(evaluations) and evaluations or nil }
    local m = result.metrics
    for name in pairs(evaluations) do m[name .. "_rise"] = m[name .. ".loss"] - m.loss end
    return result
  end,
  report = function(r)
    return {
      r:paper { source = "Dai et al. 2024, arXiv 2401.06066", table = "Table 1", sourcing = "P2", axis = "layer",
        columns = { "loss", "unshared_rise", "masked_rise", "half_rise", "params_total", "params_active", "flops_per_token" },
        note = "`unshared rise`: what the loss rises by when the shared expert goes and one more routed expert works; `masked rise`: when the best routed experts are masked for each token, 1 of 15 or 4 of 63; `half rise`: with 4 routed experts instead of 7 (the paper names GShard's loss for it).",
        rows = {
          { "dense", loss = "2.060" }, { "hash", loss = "1.932" }, { "switch", loss = "1.881" }, { "gshard", loss = "1.867" },
          { "1 + 7 of 63", loss = "1.808", unshared_rise = "0.606", half_rise = "0.059" },
        } },
      r:expect { axis = "layer",
        { "Any mixture is better than dense", "loss", "dense", ">", "hash" },
        { "Any learned mixture is better than dense", "loss", "dense", ">", "switch" },
        { "A learned gate is better than a hash", "loss", "hash", ">", "switch" },
        { "Two experts are better than one", "loss", "switch", ">", "gshard" },
        { "Fine-grained and shared experts are better than coarse ones", "loss", "gshard", ">", "1 + 7 of 63" },
        { "Each step of the ladder helps", "loss", "gshard", ">", "1 + 1 of 15", ">", "1 + 3 of 31", ">", "1 + 7 of 63" },
        { "The shared expert cannot be replaced by a routed one", "unshared_rise", "1 + 7 of 63", ">", 0.05 },
        { "Fine-grained experts are less redundant: masking the best hurts more", "masked_rise", "1 + 7 of 63", ">", "1 + 1 of 15" },
      },
      r:text "Reading. Hash and two experts of 16 beat the dense layer (by 0.15 and 0.07 nats; the paper: 0.13 and 0.19), one learned expert does not yet: its weight is its probability, near 1/16 at first. With 0.9 million tokens the distance of switch to dense falls from 0.18 to 0.04 nats (one seed, not shown). The ladder stays within the noise for the same reason: weights that are not renormalised begin near 1/63. The knock-outs come out as in the paper: no routed expert replaces the shared one (the loss rises by 0.2 to 1.1 nats), masking the best 4 of 63 hurts three times as much as the best 1 of 15, and 4 routed experts of 63 do nearly as well as 7.",
      r:differences("layer", "loss"),
      r:chart("loss", "tokens"),
    }
  end,
}
