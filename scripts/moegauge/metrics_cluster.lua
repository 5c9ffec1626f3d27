--- The metrics of the cluster simulator, of steps and of serving; core/cluster/README.md defines them. `metrics` adds them to
--- its own.

local known = {
  step_ms = { title = "step", unit = "ms", better = "lower", style = "fixed", digits = 2, help = "simulated time of the step" },
  balanced_step_ms = { title = "balanced", unit = "ms", style = "fixed", digits = 2, plain = true, help = "the same step with perfect balance" },
  roofline_step_ms = { title = "roofline", unit = "ms", style = "fixed", digits = 2, plain = true, help = "the same step at the hardware's peak" },
  imbalance_ms = { title = "imbalance", unit = "ms", better = "lower", style = "fixed", digits = 2, help = "the step's time beyond that with perfect balance" },
  exposed_network_ms = { title = "exposed network", unit = "ms", better = "lower", style = "fixed", digits = 2, help = "the step's time in which nothing is computed" },
  cluster_tokens_per_second = { title = "tokens/s", unit = "tokens/s", better = "higher", style = "count", help = "simulated throughput of all ranks" },
  device_tokens_per_second = { title = "tokens/s/device", unit = "tokens/s", better = "higher", style = "count", help = "simulated throughput of one accelerator" },
  node_tokens_per_second = { title = "tokens/s/node", unit = "tokens/s", better = "higher", style = "count", help = "simulated throughput of one node" },
  dollars_per_million_tokens = { title = "$/M tokens", unit = "$", better = "lower", style = "fixed", digits = 3, help = "price of a million tokens at the catalogue's price of an hour" },
  joules_per_token = { title = "J/token", unit = "J", better = "lower", style = "fixed", digits = 3, help = "energy of a token at the catalogue's power" },
  rank_max_over_mean = { title = "rank max/mean", unit = "", better = "lower", style = "fixed", digits = 3, help = "rows of the busiest rank over the mean, mean over layers" },
  far_bytes_per_rank = { title = "network bytes", unit = "bytes", better = "lower", style = "bytes", help = "bytes that a rank sends to other nodes in the step" },
  near_bytes_per_rank = { title = "node bytes", unit = "bytes", better = "lower", style = "bytes", help = "bytes that a rank sends inside its node in the step" },
  memory_bytes = { title = "memory", unit = "bytes", better = "lower", style = "bytes", help = "what a rank must hold" },
  moved_experts = { title = "moved", unit = "", better = "lower", style = "fixed", digits = 0, help = "experts that re-planning moved, all layers" },
  move_ms = { title = "moving", unit = "ms", better = "lower", style = "fixed", digits = 1, help = "time in which the busiest rank receives moved weights" },
  mfu = { title = "MFU", unit = "", better = "higher", style = "percent", help = "model FLOPs, every query charged with all keys, over the bf16 peak" },
  extrapolated = { title = "extrapolated", unit = "", better = "lower", style = "fixed", digits = 0, plain = true, help = "variables of costs outside the range they were calibrated in" },
  mfu_causal = { title = "MFU, causal", unit = "", better = "higher", style = "percent", help = "the same, every query charged with the keys before it" },
  gpu_hours_per_trillion_tokens = { title = "GPU hours/T tokens", unit = "h", better = "lower", style = "count", help = "device hours for 1e12 tokens of training" },
  ranks = { title = "ranks", unit = "", style = "count", plain = true, help = "accelerators of all stages and replicas" },
  bubble_ms = { title = "bubble", unit = "ms", better = "lower", style = "fixed", digits = 2, help = "time that a rank of the pipeline waits, mean over ranks" },
  optimiser_ms = { title = "optimiser", unit = "ms", better = "lower", style = "fixed", digits = 2, help = "reducing gradients, updating and gathering weights" },
  trace_repeats = { title = "trace repeats", unit = "", style = "fixed", digits = 1, plain = true, help = "how often the step reads the trace's tokens" },
  most_near_bytes = { title = "most node bytes", unit = "bytes", better = "lower", style = "bytes", help = "node bytes of the rank that sends most" },
  most_far_bytes = { title = "most network bytes", unit = "bytes", better = "lower", style = "bytes", help = "network bytes of the rank that sends most" },
  requests = { title = "requests", unit = "", style = "count", help = "requests that came" },
  finished = { title = "finished", unit = "", style = "count", help = "requests that got their last token" },
  rejected = { title = "rejected", unit = "", better = "lower", style = "count", help = "requests too long for the KV memory of an instance" },
  unfinished = { title = "unfinished", unit = "", style = "count", help = "requests still in the system at the end" },
  preempted = { title = "preempted", unit = "", better = "lower", style = "count", help = "times that a request lost its KV memory to others" },
  lost_to_failures = { title = "lost to failures", unit = "", better = "lower", style = "count", help = "times that a request lost its KV memory to a failed node" },
  failures = { title = "failures", unit = "", style = "count", help = "node failures" },
  input_tokens = { title = "input tokens", unit = "tokens", style = "count", help = "prompt tokens of requests, cached ones included" },
  cached_tokens = { title = "cached tokens", unit = "tokens", style = "count", help = "prompt tokens found in a cache" },
  prefill_tokens = { title = "prefilled", unit = "tokens", style = "count", help = "tokens computed before a first token, again after a loss" },
  output_tokens = { title = "output tokens", unit = "tokens", style = "count", help = "tokens generated" },
  seconds_simulated = { title = "simulated", unit = "s", style = "time", help = "length of the simulation" },
  requests_per_second = { title = "requests/s", unit = "requests/s", style = "count", help = "requests that came per second" },
  output_tokens_per_second = { title = "output tokens/s", unit = "tokens/s", better = "higher", style = "count", help = "tokens generated per second" },
  requests_present = { title = "present", unit = "", style = "count", help = "requests in the system, mean over time" },
  goodput = { title = "goodput", unit = "requests/s", better = "higher", style = "count", help = "requests per second that met the objective" },
  goodput_share = { title = "met objective", unit = "", better = "higher", style = "percent", help = "share of finished requests that met the objective" },
  node_hours = { title = "node-hours", unit = "h", better = "lower", style = "fixed", digits = 0, help = "time of nodes that are paid: working, idle, starting or down" },
  nodes = { title = "nodes", unit = "", better = "lower", style = "fixed", digits = 1, help = "nodes paid, mean over time" },
  nodes_peak = { title = "peak nodes", unit = "", better = "lower", style = "fixed", digits = 0, help = "most nodes paid at a time" },
  dollars = { title = "dollars", unit = "$", better = "lower", style = "count", help = "price of the node-hours" },
  dollars_per_million_output_tokens = { title = "$/M output", unit = "$", better = "lower", style = "fixed", digits = 3, help = "price of a million output tokens, prefill included" },
  joules = { title = "joules", unit = "J", better = "lower", style = "count", help = "energy of all paid nodes, where their power is known" },
  joules_per_output_token = { title = "J/output token", unit = "J", better = "lower", style = "fixed", digits = 2, help = "energy per output token, prefill included" },
  prefill_tokens_per_second_per_node = { title = "prefill/s/node", unit = "tokens/s", better = "higher", style = "count", help = "tokens computed before a first token, per second and paid node" },
  output_tokens_per_second_per_node = { title = "output/s/node", unit = "tokens/s", better = "higher", style = "count", help = "tokens generated per second and paid node of the pool that decodes" },
}

-- Times of a step's parts: phases of a layer on the slowest ranks, resources of the ranks on average, and tasks of a pipeline.
for _, phase in ipairs { "attention", "dispatch", "experts", "combine", "shared", "dense", "head" } do
  known[phase .. "_ms"] = { title = phase, unit = "ms", better = "lower", style = "fixed", digits = 2, help = ("time of %s in all layers, on the slowest rank of each"):format(phase) }
end
for _, resource in ipairs { "compute", "network" } do
  known["busy_" .. resource .. "_ms"] = { title = "busy, " .. resource, unit = "ms", style = "fixed", digits = 2, help = ("time of a rank on %s, mean over ranks"):format(resource) }
  known["idle_" .. resource .. "_ms"] = { title = "idle, " .. resource, unit = "ms", better = "lower", style = "fixed", digits = 2, help = ("the rest of the step on %s"):format(resource) }
end
for task, words in pairs { forward = "forward alone", backward = "backward, inputs and weights", inputs = "gradients of inputs alone", weights = "gradients of weights alone", pair = "forward beside backward" } do
  known[task .. "_ms"] = { title = task, unit = "ms", better = "lower", style = "fixed", digits = 2, help = words .. ", of a rank, mean over ranks" }
end
for part, words in pairs { expert = "weights of routed experts", other = "other weights", state = "gradients, master weights and moments", activation = "activations and buffers", cache = "keys and values" } do
  known["memory_" .. part .. "_bytes"] = { title = "memory, " .. part, unit = "bytes", better = "lower", style = "bytes", help = "of a rank: " .. words }
end

local durations <const> = {
  ttft_seconds = { "first token", "from arrival to the first token" },
  tpot_seconds = { "per token", "time per output token after the first, mean of a request" },
  latency_seconds = { "latency", "from arrival to the last token" },
}
local statistics <const> = { mean = "mean", p50 = "median", p90 = "90 %", p99 = "99 %" }

for name, words in pairs(durations) do
  for short, long in pairs(statistics) do
    known[name .. "_" .. short] = { title = ("%s, %s"):format(words[1], long), unit = "s", better = "lower", style = "time", help = ("%s: %s over requests"):format(words[2], long) }
  end
end

local of_pools <const> = {
  node_hours = { title = "node-hours", unit = "h", better = "lower", style = "fixed", digits = 0, help = "node-hours paid" },
  nodes = { title = "nodes", unit = "", better = "lower", style = "fixed", digits = 1, help = "nodes paid, mean over time" },
  utilisation = { title = "use", unit = "", style = "percent", help = "share of capacity used by instances that work or wait" },
  queued = { title = "queued", unit = "", better = "lower", style = "count", help = "requests that wait, mean over time" },
  kv_peak = { title = "KV peak", unit = "", style = "percent", help = "largest share of an instance's KV memory set aside" },
}

for name, metric in pairs(of_pools) do
  for _, pool in ipairs { "prefill", "decode", "mixed" } do
    local copy = {}
    for key, value in pairs(metric) do copy[key] = value end
    copy.title, copy.help = metric.title .. ", " .. pool, metric.help .. "; " .. pool .. " pool"
    known[name .. "_" .. pool] = copy
  end
end

return known
