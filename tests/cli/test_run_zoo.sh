#!/usr/bin/env bash
# Routers that abort, crash or hang fail their own case with the reason; the other cases of the experiment finish.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"
export MOEGAUGE_PLUGIN_PATH=$MOEGAUGE_BUILD/tests/zoo
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}handle_segv=0 # a crash must show as the signal that it is, not as a report of the sanitizer

cat >zoo.lua <<'LUA'
local mg <const> = require "moegauge"
return mg.experiment {
  title = "Which animals take their case down?",
  sweep = { router = { "healthy", "abort_in_route", "crash_in_route", "hang_in_route", "id_out_of_range" } },
  run = function(case)
    local moe = mg.moe { experts = 4, width = 16, router = mg.router[case.router] {} }
    local model = mg.model { layers = 1, width = 16, heads = 2, feed_forward = moe, seed = 1 }
    return mg.train { model = model, data = mg.corpus "synthetic", tokens = 4096, batch = 2, sequence = 64 }
  end,
}
LUA
"$MOEGAUGE" run zoo.lua --smoke --timeout 3 --out results >out 2>err
code=$?
[ $code = 1 ] || complain "exit code $code instead of 1 (some cases failed): $(cat err)"

# row ROUTER STATUS WORDS: what is stored about its case.
row() {
  local stored
  stored=$(sqlite3 results/results.sqlite "select status || ': ' || coalesce(reason, '') from cases where params like '%\"$1\"%'")
  [[ $stored == "$2: "*"$3"* ]] || complain "$1: stored as '$stored' instead of $2 with '$3'"
}
row healthy ok ""
row abort_in_route failed "SIGABRT"
row crash_in_route failed "SIGSEGV"
row hang_in_route failed "longer than the limit of 3 seconds"
row id_out_of_range failed "chose expert 4 for token 0"
exit $bad
