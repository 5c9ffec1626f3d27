-- Do the importance and the load loss keep noisy top-k gating balanced, and what does a layer without them lose?
--
-- Shazeer et al. 2017 (arXiv 1701.06538), table 6: one mixture, k = 4, the two losses at six pairs of weights. Theirs has
-- 256 experts between LSTM layers and sees 27,000 batches of 300,000 words; here 32 experts in the second of two decoder
-- layers see 300 batches of 1024 tokens. Noise, selection and losses are theirs.
--
-- Importance, load and max/mean are taken from training batches, with the noise, as the losses see them (means over the
-- last third). A batch of 1024 tokens is small: even routing shows a CV of 0.08 there, which is the floor of those columns.
-- Without noise, on the validation split, the same gates are less even ("load CV"): the losses act on the noisy choices.
-- With E = 32 and k = 4 the CV is at most sqrt(E/k - 1) = 2.65 and max/mean at most 8 (theirs: 7.9 and 64), so compare the
-- share of experts at work.
--
-- What does not come out, and why. Without a loss the model is not worse: eight experts of 32 do the work, and each of them
-- sees four times the text. At three times the length it is even ahead (0.9 million tokens, seeds 1 and 2: a loss of 3.89
-- against 3.95 with both losses at 0.1). The paper's gap is one of capacity, we think, which its 8 billion words fill.
-- Between w_load = 0.1 and 1, and between the two losses alone in importance, there is nothing left to see: those rows lie
-- at what even routing shows in a batch of 1024 tokens.

local mg <const> = require "moegauge"

-- Weights of the importance and the load loss, as the paper's rows name them.
local weights <const> = { ["0/0"] = { 0, 0 }, ["0.2/0"] = { 0.2, 0 }, ["0/0.2"] = { 0, 0.2 }, ["0.1/0.1"] = { 0.1, 0.1 },
  ["0.01/0.01"] = { 0.01, 0.01 }, ["1/1"] = { 1, 1 } }
local experts <const>, k <const>, batch <const>, sequence <const> = 32, 4, 8, 128

-- The mean of value(point) over the last third of a list.
local function late(points, value)
  local from, sum = #points - #points // 3 + 1, 0
  if #points < 3 then from = 1 end
  for i = from, #points do sum = sum + value(points[i]) end
  return sum / (#points - from + 1)
end

-- What the training batches show. A recorded loss is the square of the CV of importance, or of smooth load (eqs 7, 11).
local function add_batch_metrics(result)
  local metrics, losses = result.metrics, result.tables.losses.values[1]
  local floor = mg.random_floor { experts = experts, k = k, tokens = batch * sequence }
  metrics.cv_importance = late(losses, function(point) return math.sqrt(point[1]) end)
  metrics.cv_load = late(losses, function(point) return math.sqrt(point[2]) end)
  metrics.batch_max_over_mean = 1 + late(result.series.max_violation, function(point) return point[2] end)
  metrics.batch_share_at_work = 1 / (1 + metrics.cv_load ^ 2)
  metrics.batch_floor_cv, metrics.batch_floor_max_over_mean = floor.cv, floor.max_over_mean
end

return mg.experiment {
  title = "Shazeer et al. 2017, table 6: importance and load losses",
  sweep = { losses = { "0/0", "0.2/0", "0/0.2", "0.1/0.1", "0.01/0.01", "1/1" }, seed = { 1, 2, 3 } },
  options = { tokens = 300000, corpus = "manpages" },
  run = function(case)
    local weight = weights[case.losses]
    local moe = mg.moe { experts = experts, width = 32, router = mg.router.topk { k = k, order = "after", noise = "learned", noise_floor = 0 },
      losses = { { kind = "importance", weight = weight[1] }, { kind = "load", weight = weight[2] } } }
    local model = mg.model { layers = 2, width = 64, heads = 4, embedding_scale = 8, feed_forward = { mg.dense { width = 128 }, moe }, seed = case.seed }
    local data = mg.corpus { corpus = case.corpus, tokenizer = "bpe", vocabulary = 1024 }
    local result = mg.train { model = model, data = data, tokens = case.tokens, batch = batch, sequence = sequence, rate = 0.016, warmup = 0.3 }
    add_batch_metrics(result)
    return result
  end,
  report = function(r)
    return {
      r:paper { source = "Shazeer et al. 2017, arXiv 1701.06538", table = "Table 6", sourcing = "P2", axis = "losses",
        columns = { "perplexity", "cv_importance", "cv_load", "batch_floor_cv", "batch_max_over_mean", "batch_floor_max_over_mean", "batch_share_at_work", "cv" },
        rows = {
          { "0/0", perplexity = "39.8", cv_importance = "3.04", cv_load = "3.01", batch_max_over_mean = "17.80", batch_share_at_work = "0.099" },
          { "0.2/0", perplexity = "35.6", cv_importance = "0.06", cv_load = "0.17", batch_max_over_mean = "1.47", batch_share_at_work = "0.972" },
          { "0/0.2", perplexity = "35.7", cv_importance = "0.22", cv_load = "0.04", batch_max_over_mean = "1.15", batch_share_at_work = "0.998" },
          { "0.1/0.1", perplexity = "35.6", cv_importance = "0.06", cv_load = "0.05", batch_max_over_mean = "1.14", batch_share_at_work = "0.998" },
          { "0.01/0.01", perplexity = "35.7", cv_importance = "0.48", cv_load = "0.11", batch_max_over_mean = "1.37", batch_share_at_work = "0.988" },
          { "1/1", perplexity = "35.7", cv_importance = "0.03", cv_load = "0.02", batch_max_over_mean = "1.07", batch_share_at_work = "1.000" },
        },
        note = "Rows: w_importance/w_load. The share at work, 1 / (1 + CV(Load)^2), is calculated from the paper's CV. All but the last two columns are of training batches." },
      r:expect { axis = "losses",
        { "Without a loss few experts do the work: CV(Load) is at least 1", "cv_load", "0/0", ">", 1 },
        { "Without a loss the busiest expert has several times its share", "batch_max_over_mean", "0/0", ">", 3 },
        { "Without a loss the model is worse", "loss", "0/0", ">", "0.1/0.1" },
        { "Any loss gives the same quality, within 1 % of perplexity", "perplexity", "0.2/0", "~", "0/0.2", "~", "0.1/0.1", "~", "0.01/0.01", "~", "1/1", within = 0.01 },
        { "Any loss balances the load, to less than half the CV", function(at)
          local most = math.max(at("0.2/0", "cv_load"), at("0/0.2", "cv_load"), at("0.1/0.1", "cv_load"), at("0.01/0.01", "cv_load"), at("1/1", "cv_load"))
          return at("0/0", "cv_load") / 2 - most
        end },
        { "The busiest expert has less to do as w_load grows", "batch_max_over_mean", "0.01/0.01", ">", "0.1/0.1", ">", "1/1" },
        { "The importance loss alone leaves more imbalance of load than the load loss alone", "cv_load", "0.2/0", ">", "0/0.2" },
        { "The load loss alone leaves more imbalance of importance than the importance loss alone", "cv_importance", "0/0.2", ">", "0.2/0" },
      },
      r:text [[Reading. Without a loss the gate collapses, if less far than the paper's (24 % of the experts at work, there 10 %), and any of the losses prevents it. The model is then no worse: eight experts of 32 do the work, and each of them sees four times the text. At three times the length it is even ahead (0.9 million tokens, seeds 1 and 2: a loss of 3.89 against 3.95 with both losses at 0.1). The paper's gap is one of capacity, we think, which its 8 billion words fill. From w_load = 0.1 to 1 the busiest expert comes down from 1.21 to the 1.18 that even routing shows in a batch of 1024 tokens (the floor); between the two losses alone importance differs by nothing that three seeds can show. On the validation split, without the noise, the gates that were balanced with noise are less even (load CV).]],
      r:chart("cv", "tokens", { axis = "losses" }),
      r:chart("loss", "tokens", { axis = "losses" }),
    }
  end,
}
