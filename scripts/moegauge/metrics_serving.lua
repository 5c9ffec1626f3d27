--- The metrics of the serving simulation; core/cluster/README.md defines them. `metrics` adds them to its own.

local known = {
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
