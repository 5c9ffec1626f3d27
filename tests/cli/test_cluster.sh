#!/usr/bin/env bash
# The cluster simulator from the command line: fits, the experiments' cases, traces written and read, bad input.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"

data=$MOEGAUGE_SOURCE/scripts/moegauge/cluster/data
says 0 "gemm: 22 rows" cluster fit "$data/deepgemm_h800.csv" --accelerator h800
says 0 '"median_left_out"' cluster fit "$data/deepgemm_h800.csv" --accelerator h800 --json
[[ $(head -c 1 out) == "{" && ! -s err ]] || complain "--json printed more than JSON"
says 2 "did you mean 'h800'" cluster fit "$data/deepgemm_h800.csv" --accelerator h80
says 2 "has no column 'mm'" cluster fit "$data/deepgemm_h800.csv" --where mm=64
says 2 "needs more rows" cluster fit "$data/deepgemm_h800.csv" --where m=64,n=2112
says 3 "cannot be opened" cluster fit "$work/none.csv"
says 3 "no known table" cluster fit "$data/../../../packages.txt"
says 2 "did you mean 'fit'" cluster fti "$data/deepgemm_h800.csv"

# A fit becomes a calibration: its file is Lua that mg.cluster takes.
"$MOEGAUGE" cluster fit "$data/deepgemm_h800.csv" --accelerator h800 --output "$work/mine.lua" >/dev/null
cat >"$work/mine_used.lua" <<'LUA'
local mg <const> = require "moegauge"
return mg.experiment { title = "t", run = function()
  return mg.cluster { step = "decode", model = "olmoe_1b_7b", accelerator = "h800", calibration = require "mine", ranks = 8, trace = { kind = "zipf", layers = 1 }, extrapolate = true }
end }
LUA
says 2 "no coefficients of" run "$work/mine_used.lua" --out "$work/o1"

# A trace written by one experiment is read by another; a placement in Lua is asked and checked.
cat >"$work/traces.lua" <<LUA
local mg <const> = require "moegauge"
local function spec(more)
  local t = { step = "decode", model = "olmoe_1b_7b", accelerator = "h100", costs = "roofline", ranks = 8, tokens = 32, element_bytes = 2 }
  for key, value in pairs(more) do t[key] = value end
  return t
end
return mg.experiment { title = "t", sweep = { way = { "generated", "file", "placed", "lost" } }, run = function(case)
  local made = { kind = "zipf", layers = 2, tokens = 300 }
  if case.way == "generated" then return mg.cluster(spec { trace = made }) end
  if case.way == "placed" then return mg.cluster(spec { trace = made, placement = function(r)
    assert(r.experts == 64 and r.ranks == 8 and #r.load == 64)
    local slots = {}
    for e = 1, r.slots do slots[e] = r.experts - e end
    return slots
  end }) end
  if case.way == "lost" then return mg.cluster(spec { trace = made, placement = function(r)
    local slots = {}
    for e = 1, r.slots do slots[e] = 0 end
    return slots
  end }) end
  mg.cluster.write_trace(spec { trace = made }, "$work/written")
  if case.way == "other" then return mg.cluster(spec { trace = "$work/written", model = "mixtral_8x7b" }) end
  return mg.cluster(spec { trace = "$work/written" })
end }
LUA
"$MOEGAUGE" run "$work/traces.lua" --out "$work/traces" >out 2>err
code=$?
[[ $code == 1 ]] || complain "traces: exit code $code: $(cat err out)"
grep -qF "roofline only, the hardware's peak, for H100 SXM" out || complain "the report does not say that its costs are peaks: $(cat out)"
tr -s '[:space:]' ' ' <out | grep -qF "no slot for expert 1" || complain "a lost expert was not refused: $(cat out)"
says 3 "trace of another model" run "$work/traces.lua" --set way=other --out "$work/o4"
steps=$(sqlite3 "$work/traces/results.sqlite" "SELECT label, value FROM cases JOIN metrics USING(hash) WHERE name = 'step_ms' ORDER BY label")
[[ $(grep -c . <<<"$steps") == 3 ]] || complain "three cases should have a step: $steps"
[[ $(grep generated <<<"$steps" | cut -d'|' -f2) == $(grep file <<<"$steps" | cut -d'|' -f2) ]] || complain "a trace from its file gives another step: $steps"

# What a training records is costed as it was recorded and domain by domain, and is no trace of a model with other experts.
cat >"$work/recorded.lua" <<LUA
local mg <const> = require "moegauge"
return mg.experiment { title = "t", options = { experts = 8 }, run = function(case)
  local model = mg.model { layers = 2, width = 16, heads = 2, feed_forward = mg.moe { experts = 8, width = 16, router = mg.router.topk { k = 2 } } }
  mg.train { model = model, data = mg.corpus "synthetic", tokens = 2048, batch = 4, sequence = 32, final_tokens = 256, trace = { path = "$work/own/routing", tokens = 2000 } }
  local facts = mg.cluster.trace "$work/own/routing"
  assert(facts.tokens == 2016 and facts.texts == 63 and facts.layers == 2 and facts.experts == 8 and facts.choices == 2)
  local metrics = {}
  for _, order in ipairs { "recorded", "domains" } do
    local result = mg.cluster { step = "decode", model = { layers = 2, experts = case.experts, choices = 2 }, accelerator = "tpu_v5p", costs = "roofline", ranks = 8, tokens = 16,
      context = 64, element_bytes = 2, trace = { path = "$work/own/routing", order = order } }
    metrics[order .. "_cv"], metrics[order .. "_floor"] = result.metrics.cv, result.metrics.random_floor_cv
  end
  return { metrics = metrics }
end }
LUA
says 0 "roofline only, the hardware's peak, for TPU v5p" run "$work/recorded.lua" --out "$work/o5"
origin=$(sqlite3 "$work/o5/results.sqlite" "SELECT json_extract(provenance, '$.cluster_trace') FROM cases")
[[ $origin == "$work/own/routing" ]] || complain "the provenance does not name the trace: $origin"
loads=$(sqlite3 "$work/o5/results.sqlite" "SELECT count(DISTINCT value) FROM metrics")
[[ $loads == 3 ]] || complain "two orders of a trace and a floor should be three numbers: $loads"
says 1 "trace of another model" run "$work/recorded.lua" --set experts=4 --out "$work/o6"

# Every accelerator of the catalogue can be simulated at its peak, on two nodes, by each kind of step.
cat >"$work/catalogue.lua" <<'LUA'
local mg <const> = require "moegauge"
return mg.experiment { title = "t", run = function()
  local steps = {}
  for name, accelerator in pairs(mg.cluster.accelerators) do
    for _, step in ipairs { "decode", "prefill", "training" } do
      local result = mg.cluster { step = step, model = { layers = 2, experts = 16, choices = 2 }, accelerator = name, costs = "roofline", ranks = 2 * (accelerator.node_ranks or 8),
        tokens = 16, context = 64, kernels = step == "decode" and "low_latency" or "normal", comm_sms = 0, trace = { tokens = 512 } }
      steps[name .. "_" .. step] = result.metrics.step_ms
    end
  end
  return { metrics = steps }
end }
LUA
says 0 "1 cases finished" run "$work/catalogue.lua" --out "$work/o7"
steps=$(sqlite3 "$work/o7/results.sqlite" "SELECT count(*) FROM metrics WHERE value > 0")
[[ $steps == 48 ]] || complain "16 accelerators with three steps each should give 48 times: $steps"

# An altered trace is refused before any case runs.
printf 'x' | dd of="$work/written" bs=1 seek=4000 conv=notrunc 2>/dev/null
cat >"$work/altered.lua" <<LUA
local mg <const> = require "moegauge"
return mg.experiment { title = "t", run = function() return mg.cluster { step = "decode", model = "olmoe_1b_7b", accelerator = "h100", costs = "roofline", ranks = 8, trace = "$work/written" } end }
LUA
says 3 "checksum" run "$work/altered.lua" --out "$work/o2"

# Mistakes in a specification end the run before any case, at the line that made them.
spec() { printf 'local mg <const> = require "moegauge"\nreturn mg.experiment { title = "t", run = function() return mg.cluster { step = "decode", model = "olmoe_1b_7b", accelerator = "h100", costs = "roofline", ranks = 8, %s } end }\n' "$1" >"$work/bad.lua"; }
while IFS='|' read -r keys words; do
  spec "$keys"
  says 2 "$words" run "$work/bad.lua" --out "$work/o3"
done <<'CASES'
tokenz = 3|did you mean 'tokens'
accelerator = "h10"|did you mean
model = "olmo"|there are: deepseek_v3
ranks = 12|do not divide over nodes of 8
slots = 65|do not divide over 8 ranks
placement = "elpb"|did you mean 'eplb'
placement = 3|must be a policy's name or a function
trace = { kind = "zipff" }|must be one of uniform
trace = { kind = "zipf", exponent = -1 }|'exponent' must be a number from 0 to 16
trace = { kind = "group_limited", groups = 7 }|do not fit
costs = "calibrated", accelerator = "mi300x"|no calibration for MI300X
CASES
exit $bad
