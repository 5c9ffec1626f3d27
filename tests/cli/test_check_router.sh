#!/usr/bin/env bash
# moegauge check router: plugins by name and by file, options, Lua files, JSON, and exit codes.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
complain() { echo "FAIL: $1"; bad=1; }

# check CODE WORDS ARGUMENTS...: exit code, and words anywhere in what was printed.
check() {
  local code=$1 words=$2 out got
  shift 2
  out=$("$MOEGAUGE" check router "$@" 2>&1)
  got=$?
  [ "$got" = "$code" ] || complain "check router $*: exit code $got instead of $code: $out"
  [[ $out == *"$words"* ]] || complain "check router $*: '$words' is not in: $out"
}

check 0 "21 passed, 0 failed, 0 not applicable" topk
check 0 "0 failed" switch --set jitter=0.2
check 0 '"branching":[4]' tree --set branching=4 --set k=3
check 0 "ties" "$MOEGAUGE_BUILD/lib/moegauge/routers/switch.so" --filter ties
check 0 "router {\"name\":\"lua_topk\"}" "$MOEGAUGE_SOURCE/experiments/lua_routers.lua"
check 2 "renormalise = false" topk --set k=1
check 2 "did you mean 'k'?" topk --set kk=1
check 2 "--mode is for backends" topk --mode perf
check 4 "'nothing'" topk --filter nothing
check 5 "there is no router 'topkk'" topkk
check 5 "there is no backend 'cqu'" topk --backend cqu
check 0 "backend                passed" topk --backend reference --filter backend

cat >"$work/negative.lua" <<'LUA'
local mg <const> = require "moegauge"
return mg.router.define {
  name = "negative",
  params = { gate = { shape = { "experts", "width" }, init = "normal", scale = 0.02 } },
  promises = { "weights_nonnegative", "gives_probs" },
  route = function(r, x)
    local probs = x:linear(r:param "gate"):softmax()
    local ids, weights = probs:top_k(1)
    return { ids = ids, weights = weights:affine(-1, 0), probs = probs }
  end,
}
LUA
check 5 "nonnegative_weights    failed" "$work/negative.lua"
echo "return 1" >"$work/empty.lua"
check 4 "defines no router" "$work/empty.lua"

"$MOEGAUGE" check router topk --json >"$work/rows.json" || complain "check router --json fails"
passed=$(grep -c '"verdict": "passed"' "$work/rows.json")
[ "$passed" = 21 ] || complain "JSON holds $passed passed rows, not 21"
exit $bad
