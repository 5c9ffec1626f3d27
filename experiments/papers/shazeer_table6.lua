-- Do the importance and the load loss keep noisy top-k gating balanced, and what does a layer without them lose?
--
-- Shazeer et al. 2017 (arXiv 1701.06538), table 6: one mixture, k = 4, the two losses at six pairs of weights. Theirs has
-- 256 experts between LSTM layers and 27,000 steps of 300,000 words; here 32 experts in the second of two decoder layers,
-- 400 steps of 1024 tokens. Both losses, the noise and the selection are theirs. At E = 32 and k = 4 the load's CV is at
-- most sqrt(E/k - 1) = 2.65 and max/mean at most 8, where theirs could reach 7.9 and 64: compare the share of experts at
-- work. CV(Importance) is taken from training batches of 1024 tokens, of which even routing shows about 0.1.

local mg <const> = require "moegauge"

-- Weights of the importance and the load loss, as the paper's rows name them.
local weights <const> = { ["0/0"] = { 0, 0 }, ["0.2/0"] = { 0.2, 0 }, ["0/0.2"] = { 0, 0.2 }, ["0.1/0.1"] = { 0.1, 0.1 },
  ["0.01/0.01"] = { 0.01, 0.01 }, ["1/1"] = { 1, 1 } }
local experts <const> = 32

-- CV(Importance): the recorded loss is its square, one number per window and layer; the mean over the last 8 windows.
local function importance_cv(result)
  local windows, sum = result.tables.losses.values[1], 0
  local from = math.max(1, #windows - 7)
  for i = from, #windows do sum = sum + math.sqrt(windows[i][1]) / (#windows - from + 1) end
  return sum
end

return mg.experiment {
  title = "Shazeer et al. 2017, table 6: importance and load losses",
  sweep = { losses = { "0/0", "0.2/0", "0/0.2", "0.1/0.1", "0.01/0.01", "1/1" }, seed = { 1, 2, 3 } },
  options = { tokens = 400000, corpus = "manpages" },
  run = function(case)
    local weight = weights[case.losses]
    local moe = mg.moe { experts = experts, width = 32, router = mg.router.topk { k = 4, order = "after", noise = "learned", noise_floor = 0 },
      losses = { { kind = "importance", weight = weight[1] }, { kind = "load", weight = weight[2] } } }
    local model = mg.model { layers = 2, width = 64, heads = 4, feed_forward = { mg.dense { width = 128 }, moe }, seed = case.seed }
    local data = mg.corpus(case.corpus == "manpages" and { corpus = "manpages", vocabulary = 1024 } or case.corpus)
    local result = mg.train { model = model, data = data, tokens = case.tokens, batch = 8, sequence = 128, rate = 0.01 }
    result.metrics.cv_importance = importance_cv(result)
    result.metrics.share_at_work = result.metrics.effective_experts / experts
    return result
  end,
  report = function(r)
    return {
      r:paper { source = "Shazeer et al. 2017, arXiv 1701.06538", table = "Table 6", sourcing = "P2", axis = "losses",
        columns = { "perplexity", "cv_importance", "cv", "max_over_mean", "share_at_work" },
        rows = {
          { "0/0", perplexity = "39.8", cv_importance = "3.04", cv = "3.01", max_over_mean = "17.80", share_at_work = "0.099" },
          { "0.2/0", perplexity = "35.6", cv_importance = "0.06", cv = "0.17", max_over_mean = "1.47", share_at_work = "0.972" },
          { "0/0.2", perplexity = "35.7", cv_importance = "0.22", cv = "0.04", max_over_mean = "1.15", share_at_work = "0.998" },
          { "0.1/0.1", perplexity = "35.6", cv_importance = "0.06", cv = "0.05", max_over_mean = "1.14", share_at_work = "0.998" },
          { "0.01/0.01", perplexity = "35.7", cv_importance = "0.48", cv = "0.11", max_over_mean = "1.37", share_at_work = "0.988" },
          { "1/1", perplexity = "35.7", cv_importance = "0.03", cv = "0.02", max_over_mean = "1.07", share_at_work = "1.000" },
        },
        note = "Rows: w_importance/w_load. The share at work, 1 / (1 + CV(Load)^2), is calculated from the paper's CV." },
      r:expect { axis = "losses",
        { "Without a loss few experts do the work: CV(Load) is at least 1", "cv", "0/0", ">", 1 },
        { "Without a loss the busiest expert has several times its share", "max_over_mean", "0/0", ">", 3 },
        { "Without a loss the model is worse", "loss", "0/0", ">", "0.1/0.1" },
        { "Any loss gives the same quality, within 1 % of perplexity", "perplexity", "0.2/0", "~", "0/0.2", "~", "0.1/0.1", "~", "0.01/0.01", "~", "1/1", within = 0.01 },
        { "Any loss balances the load, to less than half the CV", function(at)
          local most = math.max(at("0.2/0", "cv"), at("0/0.2", "cv"), at("0.1/0.1", "cv"), at("0.01/0.01", "cv"), at("1/1", "cv"))
          return at("0/0", "cv") / 2 - most
        end },
        { "The busiest expert has less to do as w_load grows", "max_over_mean", "0.01/0.01", ">", "0.1/0.1", ">", "1/1" },
        { "The importance loss alone leaves more imbalance of load than the load loss alone", "cv", "0.2/0", ">", "0/0.2" },
        { "The load loss alone leaves more imbalance of importance than the importance loss alone", "cv_importance", "0/0.2", ">", "0.2/0" },
      },
      r:chart("cv", "tokens", { axis = "losses" }),
      r:chart("loss", "tokens", { axis = "losses" }),
    }
  end,
}
