-- Records the routing that the other experiments of this folder can cost in place of a generated one: for each released model
-- of the catalogue a small model is trained here on six domains of text, whose mixtures have as many experts and choices and
-- route as the released ones do (DeepSeek-V3: sigmoid, 4 of 8 groups, a bias that balances; the others: softmax and a balance
-- loss). What a token of the validation split is sent to is then written to results/traces/MODEL, with its domain.
--
--   moegauge run experiments/cluster/record_traces.lua
--   moegauge run experiments/cluster/balancing.lua --set trace=results/traces/deepseek_v3
--
-- A trace carries how a router of that kind loads its experts on real text, at the size and after the training that are here:
-- the released models had 10^6 times the tokens.

local mg <const> = require "moegauge"

local function router(name, choices)
  if name == "deepseek_v3" then return { router = mg.router.deepseek { k = choices, groups = 8, groups_kept = 4, rate = 0.01 } } end
  return { router = mg.router.topk { k = choices }, losses = { { kind = "balance", weight = 0.01 } } }
end

return mg.experiment {
  title = "Recorded traces for the cluster simulator",
  sweep = { model = { "deepseek_v3", "mixtral_8x7b", "olmoe_1b_7b", "qwen3_235b" } },
  options = { tokens = 1000000, trace_tokens = 131072, corpus = "manpages", folder = "results/traces" },
  run = function(case)
    local shape, routing = mg.cluster.models[case.model], router(case.model, mg.cluster.models[case.model].choices)
    local model = mg.model { layers = 3, width = 128, heads = 4, embedding_scale = 11, initial_deviation = 0.09, seed = case.seed,
      feed_forward = mg.moe { experts = shape.experts, width = 32, router = routing.router, losses = routing.losses } }
    return mg.train { model = model, data = mg.corpus { corpus = case.corpus, tokenizer = "bpe", vocabulary = 1024 }, tokens = case.tokens, batch = 16, sequence = 128, rate = 0.006,
      specialisation = true, trace = { path = case.folder .. "/" .. case.model, tokens = case.trace_tokens } }
  end,
  report = function(r)
    return { r:table("model", { "loss", "cv", "max_over_mean", "sequence_cv", "domain_largest", "dead_experts" }) }
  end,
}
