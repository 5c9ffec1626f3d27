-- Makes two checkpoints in the form of released ones, for router_swap.lua and router_fine_tuning.lua.
--
-- `manpages` is a small model of OLMoE's blocks (arXiv 2409.02060), trained here on six domains of text: 32 experts of width
-- 64, of which a token uses four whose weights sum to 1. `random` has the shape of a model of a billion parameters (64
-- experts, eight per token, 0.9 G parameters) and weights that nobody trained: it shows costs, and that everything runs at
-- that size; its accuracy means nothing. Both get the tokenizer of their corpus.
--
--   moegauge run experiments/make_checkpoint.lua                        # writes results/checkpoints/{manpages,random}

local mg <const> = require "moegauge"

local configs <const> = {
  manpages = { model_type = "olmoe", vocab_size = 1024, hidden_size = 128, num_hidden_layers = 3, num_attention_heads = 4, num_key_value_heads = 4,
    intermediate_size = 64, num_experts = 32, num_experts_per_tok = 4, norm_topk_prob = true, hidden_act = "silu", rms_norm_eps = 1e-5,
    rope_theta = 10000, max_position_embeddings = 4096, tie_word_embeddings = false, attention_bias = false, initializer_range = 0.09 },
  random = { model_type = "olmoe", vocab_size = 50304, hidden_size = 1024, num_hidden_layers = 8, num_attention_heads = 16, num_key_value_heads = 16,
    intermediate_size = 512, num_experts = 64, num_experts_per_tok = 8, norm_topk_prob = false, hidden_act = "silu", rms_norm_eps = 1e-5,
    rope_theta = 10000, max_position_embeddings = 4096, tie_word_embeddings = false, attention_bias = false, initializer_range = 0.02 },
}

return mg.experiment {
  title = "Two checkpoints to swap routers in",
  sweep = { checkpoint = { "manpages", "random" } },
  options = { folder = "results/checkpoints", corpus = "manpages", tokens = 1500000 },
  run = function(case)
    if mg.core.smoke and case.checkpoint == "random" then mg.skip "0.9 G parameters are no matter of seconds" end
    local data = mg.corpus { corpus = case.corpus, vocabulary = 1024 }
    local model = mg.draw { config = configs[case.checkpoint], data = data, seed = case.seed, precision = case.checkpoint == "random" and "bf16" or "f32" }
    local result = { metrics = { params_total = model:counts().total, params_active = model:counts().active } }
    if case.checkpoint == "manpages" then
      model = model:with_router { losses = { { kind = "balance", weight = 0.01 } } }
      result = mg.train { model = model, data = data, trainable = "all", tokens = case.tokens, batch = 8, sequence = 128, rate = 0.006, router_rate = 0.1,
        precision = "bf16", seed = case.seed }
    end
    if not mg.core.probing() then model:save(case.folder .. "/" .. case.checkpoint) end
    return result
  end,
  report = function(r) return { r:table("checkpoint", { "params_total", "params_active", "loss", "accuracy", "cv", "tokens" }), r:chart("loss", "tokens") } end,
}
