-- Does a device train the same model as the host, and does it route the same weights alike?
--
-- Every case trains one small mixture twice from the same weights, on the same batches: on `cpu` and on the run's backend.
-- Then the weights that `cpu` trained are loaded onto that backend, and both route the same text.
--
--   moegauge run experiments/device_agreement.lua --set backend=cuda
--   moegauge run experiments/device_agreement.lua --set backend=reference      # what rounding alone does
--
-- The loss is what is held to a tolerance. Two backends that are both right round sums in different orders; a gate turns a
-- last digit into another expert wherever two scores nearly tie, and from then on the weights part. So the routings of two
-- trainings cannot be compared at all, and a flip between equal weights is no error but a tie that was met: its rate is
-- reported, to be read beside that of `reference`. The loss is a mean over thousands of tokens, which such parting moves
-- little, and any wrong kernel moves much. The tolerances are several times what `reference` and `cpu` differed by over three
-- seeds of 25600 tokens: 0.0003 with f32 products, 0.0044 with bf16 ones (and 0 and 0.2 % flips). Backends may round the
-- probabilities of attention to bf16 before or after they are divided by their sum (core/measure/README.md), which makes more
-- flips with bf16 products, and none with f32 ones.

local mg <const> = require "moegauge"

local config <const> = { model_type = "olmoe", vocab_size = 512, hidden_size = 64, num_hidden_layers = 2, num_attention_heads = 4, num_key_value_heads = 4,
  intermediate_size = 64, num_experts = 16, num_experts_per_tok = 2, norm_topk_prob = true, hidden_act = "silu", rms_norm_eps = 1e-5,
  rope_theta = 10000, max_position_embeddings = 4096, tie_word_embeddings = false, attention_bias = false, initializer_range = 0.1 }

local tolerance <const> = { f32 = 0.002, bf16 = 0.02 } -- nats per token, for products that round their operands so

local function trained(backend, data, case)
  local model = mg.draw { config = config, data = data, seed = case.seed, precision = "f32", backend = backend }
  model = model:with_router { losses = { { kind = "balance", weight = 0.01 } } }
  local result = mg.train { model = model, data = data, trainable = "all", tokens = case.tokens, batch = 8, sequence = 64, rate = 0.006, router_rate = 0.1,
    evaluate_tokens = 4096, final_tokens = 16384, timing_steps = 1, precision = case.products, seed = case.seed }
  return model, result
end

return mg.experiment {
  title = "A device beside the host: one training, one routing",
  sweep = { products = { "f32", "bf16" }, seed = { 1, 2, 3 } },
  options = { tokens = 51200, corpus = "manpages", folder = "results/checkpoints/device_agreement" },
  run = function(case)
    local device <const> = mg.core.backend_name()
    local data = mg.corpus { corpus = case.corpus, vocabulary = 512 }
    local model, host = trained("cpu", data, case)
    local _, result = trained(device, data, case)
    local folder = ("%s/%s-%d"):format(case.folder, case.products, case.seed)
    model:save(folder)
    local copy = mg.load(folder, { precision = "f32", backend = device })
    local routed = copy:compare_routing { with = model, data = data, tokens = 8192, batch = 8, sequence = 64, precision = case.products }
    local metrics, series = result.metrics, result.series
    metrics.cpu_loss = host.metrics.loss
    metrics.loss_gap = math.abs(metrics.loss - metrics.cpu_loss)
    metrics.loss_gap_of_tolerance = metrics.loss_gap / tolerance[case.products]
    metrics.flip_rate = routed.metrics.flip_rate
    metrics.same_weights_loss_gap = math.abs(routed.metrics.loss - routed.metrics.other_loss)
    series.cpu_train_loss = host.series.train_loss
    result.tables.flips = routed.tables.flips
    return result
  end,
  report = function(r)
    return {
      r:text("Losses in nats per token, on the validation text, of the same training on both backends. Its gap may be at most 0.002 with f32 products and 0.02 with bf16 ones. flip_rate is the share of (token, layer) whose experts differ for the same weights and tokens; it is reported, not judged."),
      r:table("products", { "loss", "cpu_loss", "loss_gap", "loss_gap_of_tolerance", "flip_rate", "same_weights_loss_gap", "tokens_per_second" }),
      r:expect { axis = "products",
        { "With f32 products the losses agree", function(at) return 1 - at("f32", "loss_gap_of_tolerance") end },
        { "With bf16 products the losses agree", function(at) return 1 - at("bf16", "loss_gap_of_tolerance") end },
      },
      r:chart("train_loss", "tokens"),
    }
  end,
}
