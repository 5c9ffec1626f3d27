#!/usr/bin/env bash
# Experiments from the command line: plan, run, resume, interrupt, kill, crash, full disk, report, compare; each wrong
# input gives one clear message and its exit code. Cases are plain Lua here; test_train.sh trains.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"
stored() { sqlite3 "$1/results.sqlite" "SELECT count(*) FROM cases WHERE status = 'ok'"; }

cat >plain.lua <<'LUA'
local mg <const> = require "moegauge"
return mg.experiment {
  title = "Plain numbers",
  sweep = { k = { 1, 2, 4 }, seed = { 1, 2, 3 } },
  options = { noise = 0.5, spin = 0 },
  run = function(case)
    local start = os.clock()
    while os.clock() - start < case.spin do end
    return { metrics = { loss = 1 / case.k + case.noise * case.seed / 10 }, series = { loss = { { 1, 2.5 }, { 2, case.k } } } }
  end,
}
LUA

# The plan runs nothing.
"$MOEGAUGE" run plain.lua --dry-run >out || complain "dry run fails"
[ "$(grep -c 'to run' out)" = 9 ] || complain "dry run shows other cases: $(cat out)"
[ "$(sed -n 's/^  \(k\|seed\)  .*/\1/p' out | tr '\n' ' ')" = "k seed " ] || complain "the axes are not in the order of the cases: $(cat out)"
[ -e results ] && complain "dry run left results"

# Run, resume, add seeds, start afresh.
"$MOEGAUGE" run plain.lua --jobs 2 >out 2>err || complain "run fails: $(cat err)"
grep -q 'report: results/plain/report.html' out || complain "the report is not named: $(cat out)"
[ -s results/plain/report.html ] || complain "there is no report"
[ "$(grep -c ': ok' err)" = 9 ] || complain "progress does not show every case: $(cat err)"
"$MOEGAUGE" run plain.lua >out 2>err || complain "second run fails"
grep -q '9 of 9 cases were stored before' err || complain "stored cases were run again: $(cat err)"
"$MOEGAUGE" run plain.lua --seeds 2..4 --set k=2 >out 2>err || complain "run with seeds fails"
grep -q '2 of 3 cases were stored before' err || complain "seeds are not resumed: $(cat err)"
"$MOEGAUGE" run plain.lua --fresh >out 2>err && [ "$(grep -c ': ok' err)" = 9 ] || complain "--fresh does not run all"
"$MOEGAUGE" run plain.lua --smoke >out 2>err && [ -s results/plain-smoke/results.sqlite ] || complain "--smoke: $(cat err)"
[ "$(stored results/plain)" = 10 ] || complain "a smoke run changed the results"

# Every view of the results.
"$MOEGAUGE" report plain.lua --format json >out && jq -e '.cases | length == 9' out >/dev/null || complain "report as JSON"
"$MOEGAUGE" report results/plain --format csv >out && [ "$(wc -l <out)" = 10 ] || complain "report as CSV: $(cat out)"
"$MOEGAUGE" report results/plain --format md >out && grep -q '^# Plain numbers' out || complain "report as Markdown"
"$MOEGAUGE" report results/plain >out && grep -q 'Plain numbers' out || complain "report as a table"

# A changed function runs again, a changed comment does not.
sed 's/1 \/ case.k/2 \/ case.k/' plain.lua >changed.lua && mv changed.lua plain.lua
"$MOEGAUGE" run plain.lua >out 2>err && [ "$(grep -c ': ok' err)" = 9 ] || complain "a changed function is not run again"
sed -i '1i -- words' plain.lua
"$MOEGAUGE" run plain.lua >out 2>err
grep -q '9 of 9 cases were stored before' err || complain "a comment runs cases again: $(cat err)"

# What runs in the background writes to files of its own: the others are read while it runs.
# Ctrl-C once: the running case stops, finished ones stay, and the same command goes on.
"$MOEGAUGE" run plain.lua --set spin=0.3 --out stop >out 2>stop.err &
run=$!
await grep -qs '1/9' stop.err
kill -INT $run
wait $run
[ $? = 130 ] || complain "Ctrl-C does not end with 130"
grep -q 'interrupted; [1-9] of 9 cases are stored' stop.err || complain "Ctrl-C: $(cat stop.err)"
kept=$(stored stop)
"$MOEGAUGE" run plain.lua --set spin=0.3 --out stop --jobs 4 >out 2>err || complain "the run does not go on"
grep -q "$kept of 9 cases were stored before" err || complain "finished cases were lost: $(cat err)"

# kill -9: the same.
"$MOEGAUGE" run plain.lua --set spin=0.3 --out killed >out 2>killed.err &
run=$!
await grep -qs '2/9' killed.err
kill -KILL $run
wait $run 2>/dev/null
kept=$(stored killed)
[ "$kept" -ge 2 ] || complain "kill -9 lost finished cases"
"$MOEGAUGE" run plain.lua --set spin=0.3 --out killed --jobs 4 >out 2>err || complain "no run after kill -9: $(cat err)"
grep -q "$kept of 9 cases were stored before" err || complain "kill -9: $(cat err)"

# One run at a time per folder.
"$MOEGAUGE" run plain.lua --set spin=3 --set k=1 --seeds 1 --out locked >first.out 2>first.err &
run=$!
await test -s locked/results.sqlite
expect 8 "another moegauge run is writing here" run plain.lua --out locked
wait $run

# A failed case is a row with its reason and line; the others finish.
cat >fails.lua <<'LUA'
local mg <const> = require "moegauge"
return mg.experiment {
  title = "Some fail", sweep = { a = { 1, 2, 3, 4, 5 } },
  run = function(case)
    if case.a == 2 then error "boom" end
    if case.a == 3 then mg.skip "no need" end
    if case.a == 4 then while true do end end
    if case.a == 5 then return ('x'):rep(1 << 30) end
    return { metrics = { x = case.a } }
  end,
}
LUA
expect 1 "3 of 5 cases failed" run fails.lua --timeout 3 --jobs 2
"$MOEGAUGE" report results/fails >out
for words in 'fails.lua:5: boom' 'no need' 'longer than the limit of 3 seconds' 'not enough memory'; do
  grep -q "$words" out || complain "'$words' is not in the report: $(cat out)"
done

# Scripts that cannot be read, are compiled, or hang where no hook stops them; values of another kind than an axis has.
mkdir folder.lua && printf '\033Lua' >compiled.lua
expect 3 "folder.lua: is not a regular file" run folder.lua
expect 3 "nowhere.lua: cannot be opened" check router nowhere.lua
expect 2 "compiled.lua: is compiled Lua" run compiled.lua
expect 2 "--set k: a number was expected, like its value 1, not ''" run plain.lua --set k=
expect 2 "--set k: a number was expected, like its value 1, not 'two'" run plain.lua --set k=1,two
expect 2 "--set precision: bf16 or f32 was expected" run plain.lua --set precision=fp8
echo "local found = ('a'):rep(40):find(('a?'):rep(40) .. ('a'):rep(40) .. 'b')" >search.lua
timeout -s KILL 30 "$MOEGAUGE" run search.lua >out 2>err &
run=$!
for _ in 1 2 3 4 5 6; do sleep 0.3; pkill -INT -P $run; done
wait $run
[ $? = 130 ] || complain "a second Ctrl-C does not end a planning run: $(cat err)"

# Comparing runs.
"$MOEGAUGE" run plain.lua --out a >/dev/null 2>&1
sed 's/2 \/ case.k/2.2 \/ case.k/' plain.lua >worse.lua
"$MOEGAUGE" run worse.lua --out b >/dev/null 2>&1
"$MOEGAUGE" compare a b >out 2>err && grep -q 'worse' out || complain "compare finds no difference: $(cat out err)"
"$MOEGAUGE" compare a a --fail-on slower,worse >out 2>err || complain "a run is worse than itself: $(cat out err)"
expect 7 "regressed" compare a b --fail-on slower,worse
"$MOEGAUGE" compare b a --fail-on worse >out 2>err || complain "an improvement counts as a regression"
sed 's/Plain numbers/Other numbers/' plain.lua >other.lua
"$MOEGAUGE" run other.lua --out c >/dev/null 2>&1
expect 2 "title: Plain numbers | Other numbers" compare a c
"$MOEGAUGE" compare a c --force >out 2>/dev/null || complain "--force does not compare"
"$MOEGAUGE" compare a b --json 2>/dev/null | jq -e '.rows | length > 0' >/dev/null || complain "compare as JSON"
expect 2 "'slower' and 'worse' can be given" compare a b --fail-on slow
says 0 "p corrected for all" compare a b --metrics loss
[ "$(grep -c '^case .* verdict$' out)" = 1 ] || complain "a metric has not one table: $(cat out)"
expect 2 "no case of A measured 'los'; did you mean 'loss'?" compare a b --metrics los
expect 3 "is no folder" compare a nowhere

# Wrong input.
expect 3 "nothing.lua: cannot be read" run nothing.lua
expect 2 "did you mean 'k'?" run plain.lua --set kk=1
expect 2 "KEY=VALUE was expected" run plain.lua --set k
expect 2 "a number was expected" run plain.lua --set noise=loud
expect 2 "a range like 1..5" run plain.lua --seeds 5..1
expect 2 "jobs" run plain.lua --jobs 0
expect 3 "there are no results to read" report plain.lua --out nowhere
mkdir damaged && printf 'this is not a database, but it is long enough to look at' >damaged/results.sqlite
expect 3 "is not a moegauge results file" run plain.lua --out damaged
expect 3 "is not a moegauge results file" report damaged
printf 'return 3' >three.lua
expect 2 "three.lua: must end with" run three.lua
printf 'local mg = require "moegauge"\nreturn mg.experiment { title = "t", swep = {}, run = print }' >swep.lua
expect 2 "swep.lua: mg.experiment: unknown key 'swep'; did you mean 'sweep'?" run swep.lua
sed 's/options = {/report = function(r) return { r:table "kk" } end, options = {/' plain.lua >axis.lua
expect 2 "report: there is no axis 'kk'; did you mean 'k'?" run axis.lua --dry-run
printf 'local mg = require "moegauge"\nreturn mg.experiment { title = "t", filter = function() return false end, run = print }' >none.lua
expect 4 "the filter leaves no case" run none.lua

# A disk that is full, by a limit on file size; finished cases stay.
(ulimit -f 40; trap '' XFSZ; "$MOEGAUGE" run plain.lua --seeds 1..200 --out full --jobs 2 >out 2>err; echo $? >code)
[ "$(cat code)" = 8 ] || complain "a full disk ends with $(cat code): $(cat err)"
grep -q 'full/results.sqlite' err || complain "the full disk's path is not named: $(tail -1 err)"
if [ "$(id -u)" != 0 ]; then
  mkdir closed && chmod 500 closed
  expect 8 "closed" run plain.lua --out closed/x
fi

[ $bad = 0 ] && echo "run: plan, resume, interrupts, failures, reports, comparisons and refusals are as documented"
exit $bad
