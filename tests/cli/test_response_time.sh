#!/usr/bin/env bash
# Answers and plans come at once: the goal is 100 ms; the limits leave room for a loaded machine.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"
[ -z "${MOEGAUGE_SANITIZE:-}" ] || { echo "SKIP: sanitizers slow the program down"; exit 77; }

# within MS ARGUMENTS...: the quickest of five calls.
within() {
  local limit=$1 best=100000 start took
  shift
  for _ in 1 2 3 4 5; do
    start=$(date +%s%N)
    "$MOEGAUGE" "$@" >/dev/null
    took=$((($(date +%s%N) - start) / 1000000))
    [ $took -lt $best ] && best=$took
  done
  echo "moegauge $*: $best ms"
  [ $best -lt "$limit" ] || { echo "FAIL: moegauge $* took $best ms, more than $limit"; bad=1; }
}

cat >plain.lua <<'LUA'
local mg <const> = require "moegauge"
return mg.experiment {
  title = "Plain numbers",
  sweep = { k = { 1, 2, 4 }, seed = { 1, 2, 3 } },
  run = function(case) return { metrics = { loss = 1 / case.k } } end,
}
LUA
within 1000 --version
within 1000 help
within 1000 help list
within 1000 list routers
within 1000 list backends
within 1000 list metrics
within 1000 env --json
within 100 run plain.lua --dry-run
exit $bad
