#!/usr/bin/env bash
# The cluster simulator from the command line: fits, the experiments' cases, traces written and read, bad input.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
expect() {
  local code=$1 words=$2
  shift 2
  set +e
  "$MOEGAUGE" "$@" >"$folder/out" 2>"$folder/err"
  local got=$?
  set -e
  [[ $got == "$code" ]] || fail "$*: exit code $got, not $code: $(cat "$folder/err")"
  grep -qF -- "$words" "$folder/err" "$folder/out" || fail "$*: no '$words' in: $(cat "$folder/err")"
}

data=$MOEGAUGE_SOURCE/scripts/moegauge/cluster/data
expect 0 "gemm: 22 rows" cluster fit "$data/deepgemm_h800.csv" --accelerator h800
expect 0 '"median_left_out"' cluster fit "$data/deepgemm_h800.csv" --accelerator h800 --json
[[ $(head -c 1 "$folder/out") == "{" && ! -s "$folder/err" ]] || fail "--json printed more than JSON"
expect 2 "did you mean 'h800'" cluster fit "$data/deepgemm_h800.csv" --accelerator h80
expect 2 "has no column 'mm'" cluster fit "$data/deepgemm_h800.csv" --where mm=64
expect 2 "needs more rows" cluster fit "$data/deepgemm_h800.csv" --where m=64,n=2112
expect 3 "cannot be opened" cluster fit "$folder/none.csv"
expect 3 "no known table" cluster fit "$data/../../../packages.txt"
expect 2 "did you mean 'fit'" cluster fti "$data/deepgemm_h800.csv"

# A fit becomes a calibration: its file is Lua that mg.cluster takes.
cd "$folder"
"$MOEGAUGE" cluster fit "$data/deepgemm_h800.csv" --accelerator h800 --output "$folder/mine.lua" >/dev/null
cat >"$folder/mine_used.lua" <<'LUA'
local mg <const> = require "moegauge"
return mg.experiment { title = "t", run = function()
  return mg.cluster { step = "decode", model = "olmoe_1b_7b", accelerator = "h800", calibration = require "mine", ranks = 8, trace = { kind = "zipf", layers = 1 }, extrapolate = true }
end }
LUA
expect 2 "no coefficients of" run "$folder/mine_used.lua" --out "$folder/o1"

# A trace written by one experiment is read by another; a placement in Lua is asked and checked.
cat >"$folder/traces.lua" <<LUA
local mg <const> = require "moegauge"
local function spec(more)
  local t = { step = "decode", model = "olmoe_1b_7b", accelerator = "h100", costs = "roofline", ranks = 8, tokens = 32, element_bytes = 2 }
  for key, value in pairs(more) do t[key] = value end
  return t
end
return mg.experiment { title = "t", sweep = { way = { "generated", "file", "placed", "lost", "other" } }, run = function(case)
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
  mg.cluster.write_trace(spec { trace = made }, "$folder/written")
  if case.way == "other" then return mg.cluster(spec { trace = "$folder/written", model = "mixtral_8x7b" }) end
  return mg.cluster(spec { trace = "$folder/written" })
end }
LUA
set +e
"$MOEGAUGE" run "$folder/traces.lua" --out "$folder/traces" >"$folder/out" 2>"$folder/err"
code=$?
set -e
[[ $code == 1 ]] || fail "traces: exit code $code: $(cat "$folder/err" "$folder/out")"
grep -qF "no slot for expert 1" "$folder/out" || fail "a lost expert was not refused: $(cat "$folder/out")"
grep -qF "trace of another model" "$folder/out" || fail "a trace of another model was not refused"
steps=$(sqlite3 "$folder/traces/results.sqlite" "SELECT label, value FROM cases JOIN metrics USING(hash) WHERE name = 'step_ms' ORDER BY label")
[[ $(grep -c . <<<"$steps") == 3 ]] || fail "three cases should have a step: $steps"
[[ $(grep generated <<<"$steps" | cut -d'|' -f2) == $(grep file <<<"$steps" | cut -d'|' -f2) ]] || fail "a trace from its file gives another step: $steps"

# An altered trace ends a case with the reason.
printf 'x' | dd of="$folder/written" bs=1 seek=4000 conv=notrunc 2>/dev/null
cat >"$folder/altered.lua" <<LUA
local mg <const> = require "moegauge"
return mg.experiment { title = "t", run = function() return mg.cluster { step = "decode", model = "olmoe_1b_7b", accelerator = "h100", costs = "roofline", ranks = 8, trace = "$folder/written" } end }
LUA
expect 1 "checksum" run "$folder/altered.lua" --out "$folder/o2"

# Mistakes in a specification end the run before any case, at the line that made them.
spec() { printf 'local mg <const> = require "moegauge"\nreturn mg.experiment { title = "t", run = function() return mg.cluster { step = "decode", model = "olmoe_1b_7b", accelerator = "h100", costs = "roofline", ranks = 8, %s } end }\n' "$1" >"$folder/bad.lua"; }
while IFS='|' read -r keys words; do
  spec "$keys"
  expect 2 "$words" run "$folder/bad.lua" --out "$folder/o3"
done <<'CASES'
tokenz = 3|did you mean 'tokens'
accelerator = "h10"|did you mean
model = "olmo"|there are: deepseek_v3
ranks = 12|do not divide over nodes of 8
slots = 65|do not divide over 8 ranks
placement = "elpb"|did you mean 'eplb'
placement = 3|must be a policy's name or a function
costs = "calibrated", accelerator = "mi300x"|no calibration for MI300X
CASES

for experiment in validate expert_parallel balancing capacity; do
  "$MOEGAUGE" run "$MOEGAUGE_SOURCE/experiments/cluster/$experiment.lua" --dry-run >"$folder/out" 2>"$folder/err" || fail "$experiment: $(cat "$folder/err")"
done
"$MOEGAUGE" run "$MOEGAUGE_SOURCE/experiments/cluster/expert_parallel.lua" --smoke --out "$folder/smoke" >"$folder/out" 2>"$folder/err" || fail "expert_parallel: $(cat "$folder/err")"
