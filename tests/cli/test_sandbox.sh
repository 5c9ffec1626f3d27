#!/usr/bin/env bash
# `run --sandbox`: an experiment that tries to leave it, in each way a script has, ends in one clear message and the
# documented exit code, and one that does not works as without. What the kernel refuses is in test_lab_sandbox.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
# The leak check wants to trace its process, which a sandbox does not allow.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"

make_corpus
mkdir -p home/.secret elsewhere script && echo "kept-to-itself" >home/.secret/key && echo words >corpus/one/a.txt

# experiment NAME BODY [LOAD [REPORT]]: script/NAME.lua, whose run function is BODY.
experiment() {
  cat >"script/$1.lua" <<LUA
local mg <const> = require "moegauge"
${3:-}
return mg.experiment {
  title = "Hostile", options = { path = "" },
  run = function(case) do $2 end return { metrics = { x = 1 } } end,
  report = function(r) do ${4:-} end return { r:text "done" } end,
}
LUA
}
# reason WORDS NAME ARGUMENTS...: the case fails and its row says why.
reason() {
  local words=$1 name=$2
  shift 2
  expect 1 "1 of 1 cases failed" run "script/$name.lua" --sandbox "$@"
  grep -qF -- "$words" out || complain "$name: '$words' is not the reason: $(cat out)"
}

experiment calm ""
"$MOEGAUGE" run script/calm.lua --sandbox --dry-run >out 2>err
code=$?
if [ $code = 6 ] && grep -q "there is no sandbox" err; then
  echo "skipped: $(cat err)"
  exit 77
fi
[ $code = 0 ] || complain "a plan in a sandbox: $(cat err)"
[ -e results ] && complain "dry run left results"

# What needs nothing from outside works as without a sandbox: training, charts, resuming, every view, modules beside.
quick=("$MOEGAUGE_SOURCE/experiments/quickstart.lua" --smoke --seeds 1 --jobs 2 --set "corpus=$work/corpus" --sandbox)
"$MOEGAUGE" run "${quick[@]}" >out 2>err || complain "the quickstart does not run in a sandbox: $(tail -5 err)"
[ -s results/quickstart-smoke/report.html ] && [ -s results/quickstart-smoke/charts/loss.svg ] || complain "its report has no page or chart"
[ -n "$(find "$MOEGAUGE_CACHE" -type f)" ] && complain "a sandboxed run wrote to the cache of others"
"$MOEGAUGE" run "${quick[@]}" >out 2>err
grep -q '5 of 5 cases were stored before' err || complain "a sandboxed run is not resumed: $(cat err)"
for format in table md csv json html; do
  "$MOEGAUGE" report results/quickstart-smoke --format $format >out 2>err && [ -s out ] || complain "report as $format: $(cat err)"
done
echo 'return { value = 7 }' >script/beside.lua && mkdir script/below && echo 'return { value = 8 }' >script/below/deep.lua
experiment modules 'assert(require("beside").value + require("below.deep").value == 15)'
"$MOEGAUGE" run script/modules.lua --sandbox >out 2>err || complain "modules beside a script: $(cat err)"

# Files: read, listed, linked to, written, at every point where the script runs.
key=$work/home/.secret/key
experiment reads "local why; for _, path in ipairs { '$key', '/etc/passwd', 'script/../home/.secret/key' } do local f; f, why = io.open(path); assert(not f, path) end error(why)"
reason "Permission denied" reads --allow-fs
experiment writes "assert(io.open('$work/elsewhere/new', 'w'))"
reason "Permission denied" writes --allow-fs
[ -e elsewhere/new ] && complain "a file was written elsewhere"
experiment spoils "assert(io.open('results/spoils/results.sqlite', 'w'))"
reason "Permission denied" spoils --allow-fs
experiment may "local f = assert(io.open('results/may/sandbox/own', 'w')); f:write('mine'); f:close(); assert(io.open('results/may/sandbox/own')); assert(os.remove('results/may/sandbox/own'))"
"$MOEGAUGE" run script/may.lua --sandbox --allow-fs >out 2>err || complain "a file of its own: $(cat out err)"
experiment names "assert(io.open(case.path)):close()"
"$MOEGAUGE" run script/names.lua --sandbox --allow-fs --set "path=$key" >out 2>err || complain "what --set names is not read: $(cat out err)"
"$MOEGAUGE" run script/names.lua --sandbox --allow-fs --set "path=$key" --out . >out 2>err || complain "results in the folder itself: $(cat out err)"
expect 1 "1 of 1 cases failed" run script/reads.lua --sandbox --allow-fs --out .
experiment loads "" "local f, why = io.open('$key'); if not f then error(why) end"
expect 2 "Permission denied" run script/loads.lua --sandbox --allow-fs
experiment shows "" "" "local f, why = io.open('$key'); if not f then error(why) end"
expect 2 "Permission denied" run script/shows.lua --sandbox --allow-fs
expect 2 "'io' is not a local variable" report script/shows.lua
grep -rq "kept-to-itself" results && complain "a secret reached the results"
ln -s ../home/.secret/key script/linked.lua
experiment links 'require "linked"'
reason "there is no linked.lua" links
experiment folder "mg.train { model = mg.model { layers = 1, width = 16, heads = 1 }, data = mg.corpus '$work/home', tokens = 1000 }"
reason "Permission denied" folder
grep -q "in the sandbox a script reads its own Lua files and what --set names" out || complain "the refusal does not say what is allowed: $(cat out)"
experiment saves "mg.train { model = mg.model { layers = 1, width = 16, heads = 1, feed_forward = mg.moe { experts = 2, width = 8, router = mg.router.topk { k = 2 } } }, data = mg.corpus 'synthetic', tokens = 1000, save = '$work/elsewhere/model' }"
reason "elsewhere/model" saves

# The network and other programs: the only ones a script can reach are the packages of a corpus.
experiment fetches "mg.train { model = mg.model { layers = 1, width = 16, heads = 1 }, data = mg.corpus 'manpages', tokens = 1000 }"
reason "cannot be downloaded" fetches
experiment executes "os.execute('touch $work/elsewhere/new')"
reason "attempt to call a nil value (field 'execute')" executes --allow-fs
experiment pipes "io.popen('touch $work/elsewhere/new')"
reason "attempt to call a nil value (field 'popen')" pipes --allow-fs

# Code: bytecode, and a plugin by its path, in a run function, a plan and as the backend of a whole run.
experiment bytecode 'assert(load("\27Lua"))'
reason "attempt to load a binary chunk" bytecode
cp "$MOEGAUGE_BUILD/lib/moegauge/routers/topk.so" script/evil.so
experiment plugin "mg.moe { experts = 2, width = 8, router = mg.router['$work/script/evil.so'] { k = 1 } }"
expect 5 "in a sandbox no plugin is loaded by its path" run script/plugin.lua --sandbox
expect 5 "in a sandbox no plugin is loaded by its path" run script/calm.lua --sandbox --set "backend=$work/script/evil.so"

# Shares: loops where a script runs, one that no hook stops, and memory beside that of Lua, which test_run.sh exhausts.
experiment loops 'while true do end'
reason "longer than the limit of 1 seconds" loops --timeout 1
experiment spins "" "while true do end"
"$MOEGAUGE" run script/spins.lua --sandbox >out 2>err &
run=$!
await pgrep -P $run
kill -INT $run
wait $run
[ $? = 130 ] || complain "Ctrl-C while planning does not end with 130: $(cat err)"
experiment matches "return ('a'):rep(40):find(('a?'):rep(40) .. ('a'):rep(40))"
expect 1 "the plan: took longer than the limit of 1 seconds" run script/matches.lua --sandbox --timeout 1
expect 1 "the plan: took longer than the limit of 1 seconds" run script/spins.lua --sandbox --timeout 1
if [ -z "${MOEGAUGE_SANITIZE:-}" ]; then
  experiment swells "mg.train { model = mg.model { layers = 1, width = 64, heads = 1, feed_forward = mg.moe { experts = 65536, width = 65536, router = mg.router.topk { k = 2 } } }, data = mg.corpus 'synthetic', tokens = 1000 }"
  reason "memory" swells
fi

# The other commands that load a script shut it in too: routers are checked, titles read.
cat >script/router.lua <<LUA
local mg <const> = require "moegauge"
print("\27[2Jprinted")
LUA
cp script/router.lua script/opens.lua && echo "assert(io.open('$key'))" >>script/opens.lua
cat >>script/router.lua <<'LUA'
return mg.router.define { name = "calm", params = { gate = { shape = { "experts", "width" }, init = "normal", scale = 0.02 } },
  route = function(r, x) local ids, weights = x:linear(r:param "gate"):softmax():top_k(1); return { ids = ids, weights = weights } end }
LUA
"$MOEGAUGE" check router script/router.lua --sandbox >out 2>err || complain "a router is not checked in a sandbox: $(cat out err)"
grep -q "0 failed" out && grep -qF "?[2Jprinted" err || complain "the check's output is not passed on, made plain: $(cat -v out err)"
"$MOEGAUGE" check router script/router.lua --sandbox --json 2>/dev/null | jq -e '.rows | length > 10' >/dev/null || complain "a check in a sandbox as JSON"
expect 2 "'io' is not a local variable" check router script/opens.lua --sandbox
expect 2 "--sandbox is for Lua files" check router topk --sandbox
mkdir experiments && cp script/calm.lua script/loads.lua experiments
experiment escape "" && sed 's/"Hostile"/"\\27[2J"/' script/escape.lua >experiments/escape.lua
"$MOEGAUGE" list experiments --sandbox >out 2>err || complain "list experiments in a sandbox: $(cat err)"
grep -q "calm.lua *Hostile" out && [ "$(grep -c 'not available' out)" = 2 ] || complain "titles read in a sandbox: $(cat out)"
grep -q $'\033' out && complain "a title reached the terminal with an escape sequence"

# What reaches the terminal only prints.
experiment colours "" && sed -i 's/"Hostile"/"\\27[2J"/' script/colours.lua
expect 2 "holds control characters" run script/colours.lua --sandbox
experiment paints 'error "\27[2Jboom"' "" 'r.cases[1].label = "\27[2J"'
reason "boom" paints
grep -q $'\033' out err && complain "an escape sequence reached the terminal: $(cat -v out err)"

[ $bad = 0 ] && echo "sandbox: hostile scripts end in their message, harmless ones run"
exit $bad
