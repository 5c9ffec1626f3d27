#!/usr/bin/env bash
# moegauge check router: plugins by name and by file, options, Lua files, JSON, and exit codes.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"

says 0 "21 passed, 0 failed, 0 not applicable" check router topk
says 0 "0 failed" check router switch --set jitter=0.2
says 0 '"branching":[4]' check router tree --set branching=4 --set k=3
says 0 "ties" check router "$MOEGAUGE_BUILD/lib/moegauge/routers/switch.so" --filter ties
says 0 "router {\"name\":\"lua_topk\"}" check router "$MOEGAUGE_SOURCE/experiments/lua_routers.lua"
says 2 "renormalise = false" check router topk --set k=1
says 2 "did you mean 'k'?" check router topk --set kk=1
says 2 "--mode is for backends" check router topk --mode perf
says 4 "'nothing'" check router topk --filter nothing
says 5 "there is no router 'topkk'" check router topkk
says 5 "there is no backend 'cqu'" check router topk --backend cqu
says 0 "backend                passed" check router topk --backend reference --filter backend

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
says 5 "nonnegative_weights    failed" check router "$work/negative.lua"
echo "return 1" >"$work/empty.lua"
says 4 "defines no router" check router "$work/empty.lua"

"$MOEGAUGE" check router topk --json >"$work/rows.json" || complain "check router --json fails"
passed=$(grep -c '"verdict": "passed"' "$work/rows.json")
[ "$passed" = 21 ] || complain "JSON holds $passed passed rows, not 21"
exit $bad
