#!/usr/bin/env bash
# scripts/gpu.sh: a rehearsal on the executor from conformance to tables; no device, no toolkit, a primitive that differs, a
# training that parts, a race, and too little memory each end with their own exit code, and stand in the tables.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"
[ -e "$MOEGAUGE_BUILD/tests/executor/gpu_host32.so" ] || { echo "the executor was not built: it needs a C++ compiler"; exit 77; }
command -v jq >/dev/null || { echo "jq is not installed"; exit 77; }
export MOEGAUGE_PLUGIN_PATH=$MOEGAUGE_BUILD/tests/executor

# script CODE WORDS ARGUMENTS...: the exit code of gpu.sh, and words in its output.
script() {
  local code=$1 words=$2 got
  shift 2
  "$MOEGAUGE_SOURCE/scripts/gpu.sh" "$@" >out 2>err
  got=$?
  [ "$got" = "$code" ] || complain "gpu.sh $*: exit code $got instead of $code: $(cat out err)"
  grep -qF -- "$words" out err || complain "gpu.sh $*: '$words' is not in: $(cat out err)"
}
# holds FOLDER CONDITION: of the JSON.
holds() { jq -e "$2" "$1/gpu.json" >/dev/null || complain "$2 is not so in $(jq -c "del(.build)" "$1/gpu.json")"; }

script 2 "there is no option --size" --size 3
script 2 "a power of two from 1 to 64" --scale 3
script 2 "moegauge is missing" --build "$work/nowhere"
script 4 "the backend abacus was not built" --backend abacus --build "$MOEGAUGE_BUILD"
if [ "$("$MOEGAUGE" list backends --json | jq '[.[] | select(.name == "cuda" and (.available | not))] | length')" = 1 ]; then
  script 6 "device can be used here" --backend cuda --build "$MOEGAUGE_BUILD" --out "$work/none"
  [ -e "$work/none" ] && complain "a run without a device left results"
fi

script 0 "A rehearsal" --backend gpu_host32 --quick --scale 64 --build "$MOEGAUGE_BUILD" --out "$work/all"
holds all '.exit_code == 0 and .backend == "gpu_host32" and (.device | test("executor on the host")) and .build.version != null and .toolkit == "none"'
holds all '.conformance | .ok and .passed > 20 and .failed == 0 and .worst <= 1'
holds all '.routers | .ok and .routers == 1 and .checks > 10'
holds all '.agreement | .ok and .cases == 2 and (.rows | map(.products)) == ["bf16", "f32"] and all(.rows[]; .loss > 0 and .flip_rate >= 0)'
holds all '.agreement.rows[1] | .largest_loss_gap < .tolerance'
holds all '.decoding | .ok and (.rows | map(.graphs)) == ["false", "true"] and all(.rows[]; .tokens == 4 and .tokens_per_second > 0)'
holds all '.sanitizer == {not_measured: "compute-sanitizer looks at CUDA alone"}'
grep -qF "| compute-sanitizer | not measured |" all/gpu.md || complain "gpu.md: $(cat all/gpu.md)"
if [ -x "$MOEGAUGE_BUILD/bin/moegauge-bench" ]; then
  holds all '.benchmarks | .ok and .scale == 64 and (.rows | length) == 5 and all(.rows[]; .median_ms > 0 and .limit_ms > 0 and .of_limit > 0)'
else
  holds all '.benchmarks.not_measured | test("the benchmarks were not built")'
fi

# A program of the same build that answers some questions itself: WHAT says which.
mkdir -p stub/bin
cat >stub/bin/moegauge <<'STUB'
#!/usr/bin/env bash
case "$WHAT $1 $2" in
"differs check backend")
  echo '{"rows": [{"op": "softmax", "name": "softmax f32 [3, 5]", "verdict": "failed", "worst": 9.5, "detail": "element 7"}]}'
  exit 5 ;;
"memory bench "*)
  echo '{"benchmarks": [{"name": "limit/gate/f32/iterations:9/manual_time", "error_occurred": true, "error_message": "out of device memory: 3 MiB wanted"}]}' ;;
"parts check backend") echo '{"rows": [{"op": "softmax", "name": "softmax", "verdict": "passed", "worst": 0.5}]}' ;;
"parts check router") printf '{"rows": [{"router": "%s", "check": "outputs", "verdict": "passed"}]}' "$3" ;;
"parts report "*)
  echo '{"cases": [{"status": "ok", "params": {"products": "f32"}, "result": {"metrics": {"loss": 2, "cpu_loss": 1, "loss_gap": 1, "loss_gap_of_tolerance": 500, "flip_rate": 0.5}}}]}' ;;
*" model bench") echo '{"speed": {"decode": {"tokens": 4, "depth": 16, "tokens_per_second": 9, "lowest": 8, "highest": 10}}}' ;;
*" bench "*) echo '{"benchmarks": [{"name": "limit/gate/f32", "median_ms": 2, "limit_ms": 1, "of_limit": 0.5, "B/s": 1e12}]}' ;;
*" run "*) ;;
*" report "*)
  echo '{"cases": [{"status": "ok", "params": {"products": "f32"}, "result": {"metrics": {"loss": 1, "cpu_loss": 1, "loss_gap": 0.001, "loss_gap_of_tolerance": 0.5, "flip_rate": 0, "tokens_per_second": 7}}}]}' ;;
*) exec "$MOEGAUGE" "$@" ;;
esac
STUB
cat >stub/sanitizer <<'STUB'
#!/usr/bin/env bash
echo "========= $2 SUMMARY: 1 of something"
[ "$2" != "$WHAT" ] || exit 99
shift 4
exec "$@" >/dev/null
STUB
chmod +x stub/bin/moegauge stub/sanitizer
stubbed() { # WHAT CODE WORDS ARGUMENTS...
  local what=$1 code=$2 words=$3
  shift 3
  WHAT=$what script "$code" "$words" --backend gpu_host32 --build "$work/stub" --out "$work/$what" "$@"
}
stubbed differs 5 "failed: softmax f32 [3, 5]: element 7" --quick
stubbed memory 6 "| limit/gate/f32 | not measured: out of device memory: 3 MiB wanted |" --quick
stubbed parts 1 "| f32 | 1 | 2 | 1 | 1 | 0.002 | 50 % | not measured |"
holds parts '.conformance.ok and .routers.ok and (.agreement.ok | not)'
export COMPUTE_SANITIZER=$work/stub/sanitizer
stubbed racecheck 1 "| racecheck | **failed** | racecheck SUMMARY: 1 of something |" --quick
holds racecheck '.sanitizer | .ok == false and (.tools | map(select(.ok) | .tool)) == ["initcheck", "memcheck", "synccheck"]'
holds racecheck '.benchmarks.rows == [{name: "limit/gate/f32", median_ms: 2, limit_ms: 1, of_limit: 0.5, rate: 1e12, unit: "B/s"}]'
exit $bad
