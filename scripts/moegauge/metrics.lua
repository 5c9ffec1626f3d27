--- The metrics a run may report: what each is called, its unit, which way is better, and how it is printed.
-- The definitions stand in core/moe/README.md, core/train/README.md and core/cluster/README.md; this table only names them for
-- people. Those of the cluster simulator are in metrics_cluster.lua.

local metrics = {}

--- @class moegauge.Metric
--- @field title string  column heading
--- @field unit string   "" when it has none
--- @field better string|nil  "lower", "higher" or nil when neither is better as such
--- @field style string  "fixed" (digits after the point), "count" (1.23 M), "percent", "bytes", "time"
--- @field digits integer|nil  for "fixed"
--- @field plain boolean|nil   printed without an interval: a yardstick, not a result
--- @field help string

--- @type table<string, moegauge.Metric>
metrics.known = {
  loss = { title = "loss", unit = "nats/token", better = "lower", style = "fixed", digits = 4, help = "mean validation cross entropy" },
  train_loss = { title = "train loss", unit = "nats/token", better = "lower", style = "fixed", digits = 4, help = "mean training cross entropy over the last window (of 24) of the run" },
  perplexity = { title = "perplexity", unit = "", better = "lower", style = "fixed", digits = 2, help = "e to the validation loss" },
  bits_per_byte = { title = "bits/byte", unit = "bits/byte", better = "lower", style = "fixed", digits = 4, help = "validation loss in bits per byte of text" },
  accuracy = { title = "accuracy", unit = "", better = "higher", style = "percent", help = "share of validation tokens whose most likely next token was right" },
  entropy_gap = { title = "gap to optimum", unit = "nats/token", better = "lower", style = "fixed", digits = 4, help = "validation loss minus the corpus's exact entropy" },
  tokens = { title = "tokens", unit = "tokens", style = "count", help = "tokens trained on" },
  steps = { title = "steps", unit = "steps", style = "count", help = "optimiser steps" },
  seconds = { title = "time", unit = "s", better = "lower", style = "time", help = "wall-clock training time" },
  tokens_per_second = { title = "tokens/s", unit = "tokens/s", better = "higher", style = "count", help = "training throughput after warm-up, median over windows of steps" },
  millijoules_per_token = { title = "energy", unit = "mJ/token", better = "lower", style = "fixed", digits = 3, help = "energy that the device drew in training steps per token, where it has a meter" },
  forward_tokens_per_second = { title = "forward tokens/s", unit = "tokens/s", better = "higher", style = "count", help = "speed of forward passes over whole sequences, median" },
  flip_rate = { title = "flips", unit = "", style = "percent", help = "share of (token, mixture) whose chosen experts differ between two models" },
  distillation_loss = { title = "distillation loss", unit = "", better = "lower", style = "fixed", digits = 4, help = "distance of the gate's probabilities from the released ones, per token and layer, last eighth of the steps" },
  distillation_loss_first = { title = "distillation loss at first", unit = "", style = "fixed", digits = 4, help = "the same, first eighth of the steps" },
  choice_accuracy = { title = "multiple choice", unit = "", better = "higher", style = "percent", help = "share of questions whose likeliest choice is right" },
  choice_accuracy_norm = { title = "multiple choice, per byte", unit = "", better = "higher", style = "percent", help = "the same by likelihood per byte" },
  flops_per_token = { title = "FLOPs/token", unit = "FLOP/token", better = "lower", style = "count", help = "forward FLOPs per token, counted as executed" },
  gate_ns_per_token = { title = "router", unit = "ns/token", better = "lower", style = "fixed", digits = 0, help = "time of the routers of all layers per token, forward and backward" },
  params_total = { title = "parameters", unit = "", style = "count", help = "all trained parameters" },
  params_active = { title = "active", unit = "", style = "count", help = "parameters that one token uses" },
  cv = { title = "load CV", unit = "", better = "lower", style = "fixed", digits = 3, help = "population deviation of expert load over its mean, averaged over layers" },
  max_over_mean = { title = "max/mean", unit = "", better = "lower", style = "fixed", digits = 2, help = "load of the busiest expert over the mean" },
  max_violation = { title = "MaxVio", unit = "", better = "lower", style = "fixed", digits = 3, help = "max/mean - 1" },
  random_floor_cv = { title = "CV floor", unit = "", style = "fixed", digits = 3, plain = true, help = "load CV of uniform random routing on as many tokens" },
  random_floor_dropped = { title = "dropped floor", unit = "", style = "percent", plain = true, help = "share of assignments that uniform random routing would lose to the same capacity" },
  random_floor_max_over_mean = { title = "max/mean floor", unit = "", style = "fixed", digits = 2, plain = true, help = "max/mean of uniform random routing on as many tokens" },
  random_floor_max_violation = { title = "MaxVio floor", unit = "", style = "fixed", digits = 3, plain = true, help = "MaxVio of uniform random routing on as many tokens" },
  cv_sample = { title = "load CV (sample)", unit = "", better = "lower", style = "fixed", digits = 3, help = "the same with E - 1 in the denominator" },
  sequence_cv = { title = "CV in sequence", unit = "", better = "lower", style = "fixed", digits = 3, help = "load CV of each sequence, mean over sequences and layers" },
  sequence_max_violation = { title = "MaxVio in sequence", unit = "", better = "lower", style = "fixed", digits = 3, help = "MaxVio of each sequence, mean over sequences and layers" },
  random_floor_sequence_cv = { title = "CV floor in sequence", unit = "", style = "fixed", digits = 3, plain = true, help = "load CV of uniform random routing on one sequence" },
  random_floor_sequence_max_violation = { title = "MaxVio floor in sequence", unit = "", style = "fixed", digits = 3, plain = true, help = "MaxVio of uniform random routing on one sequence" },
  repetition_first = { title = "repeats first", unit = "", style = "percent", help = "share of consecutive tokens with the same first choice, mean over layers" },
  repetition_any = { title = "repeats any", unit = "", style = "percent", help = "share of consecutive tokens with a common choice, mean over layers" },
  repetition_chance_first = { title = "chance first", unit = "", style = "percent", help = "the same of random routing: 1 / E" },
  repetition_chance_any = { title = "chance any", unit = "", style = "percent", help = "the same of random routing: 1 - C(E-K, K) / C(E, K)" },
  coactivation_largest = { title = "co-activation", unit = "", style = "percent", help = "largest share of one expert's tokens that another has too, mean over layers" },
  domain_largest = { title = "domain", unit = "", style = "percent", help = "largest share of a domain's tokens that one expert gets, mean over domains and layers" },
  vocabulary_input = { title = "vocabulary, input", unit = "", style = "percent", help = "largest share of a token id's first choices that one expert gets, mean over ids and layers" },
  vocabulary_next = { title = "vocabulary, next", unit = "", style = "percent", help = "the same by the id that follows" },
  vocabulary_predicted = { title = "vocabulary, predicted", unit = "", style = "percent", help = "the same by the id predicted" },
  saturation_chance = { title = "saturation chance", unit = "", style = "percent", help = "saturation of random routing: K / E" },
  entropy = { title = "load entropy", unit = "nats", better = "higher", style = "fixed", digits = 3, help = "entropy of the load distribution" },
  gini = { title = "Gini", unit = "", better = "lower", style = "fixed", digits = 3, help = "Gini coefficient of expert load" },
  effective_experts = { title = "eff. experts", unit = "", better = "higher", style = "fixed", digits = 1, help = "E / (1 + CV^2)" },
  dead_experts = { title = "dead", unit = "", better = "lower", style = "fixed", digits = 1, help = "experts that got no token, mean over layers" },
  dropped_assignments = { title = "dropped", unit = "", better = "lower", style = "percent", help = "share of assignments beyond an expert's capacity" },
  dropped_tokens = { title = "lost tokens", unit = "", better = "lower", style = "percent", help = "share of tokens that lost every assignment" },
  published = { title = "published", unit = "", style = "fixed", digits = 3, plain = true, help = "a published figure" },
  predicted = { title = "predicted", unit = "", style = "fixed", digits = 3, help = "the same figure simulated" },
  prediction_error = { title = "error", unit = "", style = "percent", help = "predicted over published, less one" },
  roofline = { title = "roofline", unit = "", style = "fixed", digits = 3, plain = true, help = "the same figure at the hardware's peak" },
  roofline_error = { title = "roofline error", unit = "", style = "percent", plain = true, help = "roofline over published, less one" },
  peak_bytes = { title = "peak memory", unit = "bytes", better = "lower", style = "bytes", help = "largest resident size of the case's process" },
  accounted_bytes = { title = "accounted", unit = "bytes", style = "bytes", help = "parameters, gradients, moments, activations, data and scratch as the tool counts them" },
  spikes = { title = "spikes", unit = "", better = "lower", style = "fixed", digits = 0, help = "steps whose loss stood out (z > 6 or more than 10 times the median)" },
}

for name, metric in pairs(require "moegauge.metrics_cluster") do metrics.known[name] = metric end

--- The description of a metric, also of one an experiment made up.
--- @param name string
--- @return moegauge.Metric
function metrics.of(name)
  local known = metrics.known[name]
  if known then return known end
  local evaluation, of = name:match("^([%w_]+)%.(.+)$")
  if evaluation then
    local copy = {}
    for key, value in pairs(metrics.of(of)) do copy[key] = value end
    copy.title = copy.title .. ", " .. evaluation:gsub("_", " ")
    copy.help = copy.help .. "; of the evaluation " .. evaluation
    return copy
  end
  local part = name:match("^(.+)_share$")
  if part then
    local whole = metrics.of(part)
    return { title = whole.title .. " share", unit = "", better = whole.better, style = "fixed", digits = 3, help = whole.title .. " as a multiple of another row's" }
  end
  part = name:match("^flops_per_token_(.+)$")
  if part then return { title = part, unit = "FLOP/token", better = "lower", style = "count", help = "forward FLOPs per token of: " .. part } end
  part = name:match("^accounted_bytes_(.+)$")
  if part then return { title = part, unit = "bytes", style = "bytes", help = "accounted memory: " .. part } end
  part = name:match("^ns_per_token_(.+)$")
  if part then return { title = part, unit = "ns/token", better = "lower", style = "fixed", digits = 0, help = "forward and backward time per token of: " .. part } end
  part = name:match("^forward_ns_per_token_(.+)$")
  if part then return { title = part .. " forward", unit = "ns/token", better = "lower", style = "fixed", digits = 0, help = "forward time per token of: " .. part } end
  return { title = (name:gsub("_", " ")), unit = "", style = "fixed", digits = 4, help = "defined by the experiment" }
end

return metrics
