-- OLMoE, equations 5 to 8 (Muennighoff et al. 2024, arXiv 2409.02060): router saturation, co-activation, domain and
-- vocabulary specialisation of a trained model, as in its Figures 4 to 10 (of which only a few numbers are printed).
--
-- Two granularities of equal active width: 2 of 16 experts, and the paper's 8 of 64. Saturation compares the routing of
-- the validation text after 1, 10, 20 and 40 % of the training with that of the end.
--
-- What does not come out, and why. Saturation stays near chance for a fifth of the training, because it is short: 1 % of the
-- paper's is 5000 steps, of this one 3, and the learning rate has not even risen. The last layers are not ahead for the
-- same reason: until then nothing is settled anywhere. Specialisation by predicted ids does not rise with depth: these
-- models, whose loss is still 4.2, most likely predict from the last token, so what is predicted follows from what is read,
-- and the first layers, which route by the token they read, look specialised in both.

local mg <const> = require "moegauge"

local shares <const> = { 0.01, 0.1, 0.2, 0.4 }
local sizes <const> = { ["2 of 16"] = { experts = 16, k = 2 }, ["8 of 64"] = { experts = 64, k = 8 } }
local layers <const> = 4

local function add_saturation(m, values)
  local set, first = 1, 3
  for i, share in ipairs(shares) do
    local name, sum, top = ("at_%d"):format(math.floor(100 * share + 0.5)), 0, 0
    for l = 1, layers do
      sum, top = sum + values[l][i][set] / layers, top + values[l][i][first] / layers
    end
    m["saturation_" .. name], m["saturation_first_" .. name] = sum, top
    m["saturation_" .. name .. "_layer_first"], m["saturation_" .. name .. "_layer_last"] = values[1][i][set], values[layers][i][set]
  end
end

return mg.experiment {
  title = "OLMoE equations 5-8: saturation, co-activation, domains and vocabulary",
  sweep = { size = { "2 of 16", "8 of 64" }, seed = { 1, 2, 3 } },
  options = { tokens = 400000, corpus = "manpages" },
  run = function(case)
    local size = sizes[case.size]
    local model = mg.model { layers = layers, width = 64, heads = 4, embedding_scale = 8, initial_deviation = 0.1, seed = case.seed,
      feed_forward = mg.moe { experts = size.experts, width = 128 // size.k, router = mg.router.topk { k = size.k, order = "before", renormalise = false },
        losses = { { kind = "balance", weight = 0.01 }, { kind = "z", weight = 0.001 } } } }
    local result = mg.train { model = model, data = mg.corpus { corpus = case.corpus, tokenizer = "bpe", vocabulary = 1024 },
      tokens = case.tokens, batch = 8, sequence = 128, rate = 0.012, specialisation = true, snapshots = shares }
    local m, words = result.metrics, result.tables.vocabulary_specialisation.values
    add_saturation(m, result.tables.saturation.values)
    m.input_in_first_layer, m.input_in_last_layer = words[1][1], words[layers][1]
    m.predicted_in_first_layer, m.predicted_in_last_layer = words[1][3], words[layers][3]
    m.domain_over_chance = m.domain_largest / m.saturation_chance
    return result
  end,
  report = function(r)
    local function rises(size, first, second) return function(at) return at(size, second) - at(size, first) end end
    return {
      r:paper { source = "Muennighoff et al. 2024, arXiv 2409.02060", table = "Saturation (equation 5)", sourcing = "P", axis = "size",
        columns = { "saturation_at_1", "saturation_at_10", "saturation_at_20", "saturation_at_40", "saturation_first_at_1", "saturation_first_at_40", "saturation_chance" },
        note = "Shares of the final experts that a token had already after 1, 10, 20 and 40 % of the training, mean over layers; `first`: of the first choice alone. The paper prints \"up to ~60 %\" at 1 % and \"~80 %\" at 40 %.",
        rows = { { "8 of 64", saturation_at_1 = "0.6", saturation_at_40 = "0.8", saturation_chance = "0.125" } } },
      r:expect { axis = "size",
        { "Saturation is above chance after 1 %", "saturation_at_1", "8 of 64", ">", 0.125 },
        { "Saturation rises from 1 to 10 %", rises("8 of 64", "saturation_at_1", "saturation_at_10") },
        { "Saturation rises from 10 to 40 %", rises("8 of 64", "saturation_at_10", "saturation_at_40") },
        { "All choices saturate before the first choice", rises("8 of 64", "saturation_first_at_40", "saturation_at_40") },
        { "At 10 % the last layer is ahead of the first", rises("8 of 64", "saturation_at_10_layer_first", "saturation_at_10_layer_last") },
        { "Experts of 2 of 16 specialise in domains more than chance", "domain_over_chance", "2 of 16", ">", 2 },
        { "Specialisation by input id falls with depth (2 of 16)", rises("2 of 16", "input_in_last_layer", "input_in_first_layer") },
        { "Specialisation by predicted id rises with depth (2 of 16)", rises("2 of 16", "predicted_in_first_layer", "predicted_in_last_layer") },
        { "Specialisation by predicted id rises with depth (8 of 64)", rises("8 of 64", "predicted_in_first_layer", "predicted_in_last_layer") },
      },
      r:text "Reading. Saturation rises as in the paper, but as late as a run of 391 steps must have it: its first per cent is 3 steps of warm-up, where the paper's is 5000. All choices settle before the first one, as there. Domains are far from chance (a domain's busiest expert gets 2.7 times its even share with 16 experts, 3.5 times with 64), and routing follows the token read, less so in deeper layers. That deeper layers follow the token predicted does not come out: the likely reason is that after 0.4 million tokens a model predicts mostly from the last token, so that both measures move together. With 8 of 64 some pairs of experts work together (79 % of the tokens of the most coupled), which the paper reports of one pair only.",
      r:table("size", { "loss", "cv", "coactivation_largest", "domain_largest", "domain_over_chance", "vocabulary_input", "vocabulary_next", "vocabulary_predicted" }),
      r:table("size", { "input_in_first_layer", "input_in_last_layer", "predicted_in_first_layer", "predicted_in_last_layer",
        "saturation_at_10_layer_first", "saturation_at_10_layer_last" }),
      r:chart "saturation_set",
      r:heatmap "domain_load",
    }
  end,
}
