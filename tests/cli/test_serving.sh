#!/usr/bin/env bash
# Serving simulations from the command line: recorded requests, a policy in Lua, the same numbers in every run, and wrong
# input with one clear message and its exit code, before anything is simulated.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"

cat >replay.lua <<'LUA'
local mg <const> = require "moegauge"
local steps <const> = mg.step_cost { tokens = { 0, 4096 }, seconds = { 0.01, 1 } }
local policies <const> = { fixed = { instances = 2 }, lua = function(state) return state.queued > 4 and 3 or 1 end }
return mg.experiment {
  title = "Recorded requests",
  sweep = { policy = { "fixed", "lua" }, seed = { 1, 2 } },
  options = { file = "requests.csv", sequences = 4 },
  run = function(case)
    return mg.serving { hours = 0.2, seed = case.seed, arrivals = { replay = case.file },
      mixed = { prefill_step = steps, decode_step = steps, sequences = case.sequences, node_failure_hours = 1, repair_seconds = 20, scaling = policies[case.policy] } }
  end,
}
LUA
{
  echo seconds,prompt_tokens,output_tokens
  for i in $(seq 0 599); do echo "$i.5,$((100 + i % 7 * 50)),$((20 + i % 11 * 10))"; done
} >requests.csv

"$MOEGAUGE" run replay.lua --out first >out 2>err || complain "the replay fails: $(cat err)"
grep -q '4 cases finished' out || complain "cases are missing: $(cat out)"
"$MOEGAUGE" run replay.lua --out again --jobs 2 >out 2>err || complain "the second replay fails: $(cat err)"
numbers() { sqlite3 "$1/results.sqlite" "SELECT hash, name, value FROM metrics ORDER BY hash, name; SELECT hash, name, position, x, value FROM series ORDER BY 1, 2, 3"; }
[ -n "$(numbers first)" ] && [ "$(numbers first)" = "$(numbers again)" ] || complain "two runs give different numbers"
[ "$(sqlite3 first/results.sqlite "SELECT count(*) FROM metrics WHERE name = 'requests' AND value = 600")" = 4 ] || complain "requests were lost"
sqlite3 first/results.sqlite "SELECT provenance FROM cases LIMIT 1" | grep -q '"data_checksum"' || complain "the recorded file has no checksum in the provenance"

expect 2 "replay.lua" run replay.lua --set sequences=0
expect 3 "missing.csv" run replay.lua --set file=missing.csv
echo "700.5,100" >>requests.csv
expect 3 "requests.csv:602: the line does not have the fields of the header" run replay.lua
sed 's/node_failure_hours = 1/node_failure_hour = 1/' replay.lua >key.lua
expect 2 "did you mean 'node_failure_hours'?" run key.lua
sed 's/{ 0.01, 1 }/{ 0.01, -1 }/' replay.lua >cost.lua
expect 2 "cost.lua:2: mg.step_cost: 'seconds' must be 0 or more" run cost.lua
exit $bad
