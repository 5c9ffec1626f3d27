#!/usr/bin/env bash
# On a machine with a GPU: builds, holds the backend to the reference and to the host, looks for memory errors and races, and
# measures it beside its own limits. Writes gpu.json and gpu.md with where they came from; what could not be measured is "not
# measured", with the reason.
#
#   scripts/gpu.sh [--backend cuda|hip|NAME] [--scale N] [--quick] [--build FOLDER] [--out FOLDER]
#
#   --backend   default: the first of cuda and hip that has a device
#   --scale     power of two by which the benchmarks' shapes are divided (1)
#   --quick     one family of primitives, one router, a training of two steps: a rehearsal
#   --build     takes the programs of this build as they are; default: installs packages and builds build/release
#   --out       default: results/gpu/BACKEND
#
# Exit codes: 0 all is well · 1 a router, the training, the sanitizer or a benchmark failed · 2 usage · 4 the backend was not
# built (no toolkit) · 5 a primitive differs from the reference · 6 no device, a lost one, or too little memory on it
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
fail() { echo "gpu: $2" >&2; exit "$1"; }
usage() { fail 2 "$1; usage: scripts/gpu.sh [--backend NAME] [--scale N] [--quick] [--build FOLDER] [--out FOLDER]"; }
backend='' scale=1 quick='' build='' out=''
while [ $# -gt 0 ]; do
  case "$1" in
  --quick) quick=1; shift; continue ;;
  --backend | --scale | --build | --out) [ $# -ge 2 ] || usage "$1 needs a value" ;;
  *) usage "there is no option $1" ;;
  esac
  case "$1" in
  --backend) backend=$2 ;;
  --scale) scale=$2 ;;
  --build) build=$2 ;;
  --out) out=$2 ;;
  esac
  shift 2
done
[[ $scale =~ ^(1|2|4|8|16|32|64)$ ]] || usage "--scale: a power of two from 1 to 64 was expected, not $scale"

began=$SECONDS
note() { printf '== %s (after %d s)\n' "$1" $((SECONDS - began)) >&2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/routers" "$work/sanitizer"

# ---- build ------------------------------------------------------------------------------------------------------------

if [ -z "$build" ]; then
  build=build/release
  note "packages"
  scripts/install_packages.sh build run gpu
  note "build"
  cmake --preset release -DMG_TESTS=ON >"$work/configure.log" 2>&1 || { cat "$work/configure.log" >&2; fail 1 "cmake failed"; }
  cmake --build "$build" >"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log" >&2; fail 1 "the build failed"; }
fi
program=$build/bin/moegauge
[ -x "$program" ] || fail 2 "$program is missing; leave --build out to build it"
command -v jq >/dev/null || fail 2 "jq is missing: scripts/install_packages.sh gpu"

# ---- the device -------------------------------------------------------------------------------------------------------

"$program" list backends --json >"$work/backends.json"
if [ -z "$backend" ]; then
  backend=$(jq -r '[.[] | select(.name == "cuda" or .name == "hip")] | (map(select(.available)) + .)[0].name // empty' "$work/backends.json")
  [ -n "$backend" ] || fail 4 "neither cuda nor hip was built: nvcc (CUDA toolkit; CUDA_HOME) or hipcc (Debian: hipcc) is needed"
fi
entry() { jq -r --arg name "$backend" ".[] | select(.name == \$name) | $1" "$work/backends.json"; }
if [ -z "$(entry .name)" ]; then
  left_out=$(sed -n "s/^-- The backend $backend is left out: //p" "$work/configure.log" 2>/dev/null || true)
  fail 4 "the backend $backend was not built${left_out:+: $left_out}; there are: $(jq -r '[.[].name] | join(", ")' "$work/backends.json")"
fi
[ "$(entry .available)" = true ] || fail 6 "$(entry .problem)"

out=${out:-results/gpu/$backend}
mkdir -p "$out"
out=$(realpath "$out")

code=0
# worse CODE: the exit code that the first and gravest failure asks for.
worse() {
  case "$code$1" in
  05 | 06 | 15 | 16) code=$1 ;;
  0*) [ "$1" = 0 ] || code=1 ;;
  esac
}

# ---- conformance and routers --------------------------------------------------------------------------------------------

note "conformance"
rc=0
start=$SECONDS
"$program" check backend "$backend" --json ${quick:+--filter softmax} >"$work/conformance.out" 2>"$out/conformance.log" || rc=$?
worse $rc
jq -n --slurpfile all "$work/conformance.out" --argjson seconds $((SECONDS - start)) --rawfile log "$out/conformance.log" '
  if $all == [] then {ok: false, reason: $log} else
  $all[0].rows | {ok: all(.verdict != "failed"), passed: map(select(.verdict == "passed")) | length,
    unsupported: map(select(.verdict == "unsupported")) | length, failed: map(select(.verdict == "failed")) | length,
    failures: map(select(.verdict == "failed") | {name, detail}), worst: (map(.worst // 0) | max), seconds: $seconds} end' >"$work/conformance.json"

note "routers"
start=$SECONDS
routers=$("$program" list routers --names)
[ -z "$quick" ] || routers=topk
for router in $routers; do
  rc=0
  "$program" check router "$router" --backend "$backend" --json >"$work/routers/$router.json" 2>"$out/routers.$router.log" || rc=$?
  [ -s "$out/routers.$router.log" ] || rm "$out/routers.$router.log"
  [ $rc = 0 ] || worse $((rc == 6 ? 6 : 1))
done
cat "$work"/routers/*.json | jq -s --arg routers "$routers" --argjson seconds $((SECONDS - start)) '
  map(.rows[]) | map(select(.verdict == "failed") | {router, check, detail}) as $failures |
  ($routers | split("\n")) as $asked | (map(.router) | unique) as $seen |
  {ok: ($failures == [] and ($asked - $seen) == []), routers: ($seen | length), checks: (map(select(.verdict == "passed")) | length),
   failures: ($failures + (($asked - $seen) | map({router: ., check: "all", detail: "did not run"}))), seconds: $seconds}' >"$work/routers.json"

# ---- one training on the host and on the device ---------------------------------------------------------------------------

# The sources are the text: nothing has to be fetched. Two steps and the 64 tokens of a rehearsal's validation show that it
# runs; they are too few to hold the losses to the tolerance.
note "training on cpu and $backend"
start=$SECONDS
rc=0
"$program" run experiments/device_agreement.lua --set backend="$backend" --set corpus="$PWD/core" --set folder="$out/checkpoints" \
  --out "$out/device_agreement" --fresh ${quick:+--smoke --seeds 1} >"$out/device_agreement.log" 2>&1 || rc=$?
worse $((rc == 6 ? 6 : rc != 0))
"$program" report "$out/device_agreement" --format json >"$work/report.out" 2>>"$out/device_agreement.log" || : >"$work/report.out"
jq -n --slurpfile all "$work/report.out" --arg quick "$quick" --argjson rc $rc --argjson seconds $((SECONDS - start)) '
  def mean: if . == [] then null else add / length end;
  ($all[0].cases // []) as $cases | ($cases | map(select(.status == "ok") | {products: .params.products} + .result.metrics)) as $rows |
  {ok: ($rc == 0 and $rows != [] and ($quick != "" or all($rows[]; .loss_gap_of_tolerance <= 1))), cases: ($cases | length),
   failures: ($cases | map(select(.status != "ok") | {case: ."label", reason})),
   rows: ($rows | group_by(.products) | map({products: .[0].products, seeds: length, loss: map(.loss) | mean, cpu_loss: map(.cpu_loss) | mean,
     largest_loss_gap: (map(.loss_gap) | max), tolerance: (.[0] | if .loss_gap_of_tolerance > 0 then .loss_gap / .loss_gap_of_tolerance else null end),
     flip_rate: map(.flip_rate) | mean, tokens_per_second: map(.tokens_per_second // empty) | mean})), seconds: $seconds}' >"$work/agreement.json"
[ "$(jq .ok "$work/agreement.json")" = true ] || worse 1

# ---- memory errors and races ------------------------------------------------------------------------------------------

nvcc=$(sed -n 's/^MG_NVCC:.*=//p' "$build/CMakeCache.txt" 2>/dev/null || true)
sanitizer=${COMPUTE_SANITIZER:-}
if [ -z "$sanitizer" ] && [ "$backend" = cuda ]; then
  sanitizer=$(PATH=$PATH:$(dirname "${nvcc:-/usr/local/cuda/bin/nvcc}") command -v compute-sanitizer || true)
fi
if [ -z "$sanitizer" ]; then
  reason=$([ "$backend" = cuda ] && echo "compute-sanitizer is not installed" || echo "compute-sanitizer looks at CUDA alone")
  jq -n --arg reason "$reason" '{not_measured: $reason}' >"$work/sanitizer.json"
else
  for tool in memcheck racecheck initcheck synccheck; do
    note "$tool"
    rc=0
    start=$SECONDS
    timeout 7200 "$sanitizer" --tool "$tool" --error-exitcode 99 "$program" check backend "$backend" ${quick:+--filter softmax} \
      >"$out/sanitizer.$tool.log" 2>&1 || rc=$?
    worse $((rc != 0))
    jq -n --arg tool "$tool" --argjson rc $rc --argjson seconds $((SECONDS - start)) --arg summary "$(grep -E 'SUMMARY' "$out/sanitizer.$tool.log" | tail -n 1 | sed 's/^=* *//')" '
      {tool: $tool, ok: ($rc == 0), summary: (if $rc == 124 then "not finished within two hours" elif $summary == "" then "ended with exit code \($rc)" else $summary end), seconds: $seconds}' \
      >"$work/sanitizer/$tool.json"
  done
  jq -s '{ok: all(.ok), tools: .}' "$work"/sanitizer/*.json >"$work/sanitizer.json"
fi

# ---- benchmarks -------------------------------------------------------------------------------------------------------

note "benchmarks"
rc=0
"$program" bench limit/ --backend "$backend" --scale "$scale" -- --benchmark_format=json >"$work/bench.out" 2>"$out/bench.log" || rc=$?
if [ $rc = 4 ]; then
  jq -n --rawfile reason "$out/bench.log" '{not_measured: ($reason | sub("^error: "; "") | rtrimstr("\n"))}' >"$work/bench.json"
else
  [ $rc = 0 ] || worse $((rc == 6 ? 6 : 1))
  jq -n --slurpfile all "$work/bench.out" --argjson scale "$scale" --rawfile log "$out/bench.log" '
    if $all == [] then {ok: false, scale: $scale, rows: [], reason: $log} else
    $all[0].benchmarks | map({name: (.name | sub("/iterations:.*"; ""))} + (if .error_occurred then {failed: .error_message} else
      {median_ms, limit_ms, of_limit, rate: (."FLOP/s" // ."B/s"), unit: (if has("FLOP/s") then "FLOP/s" else "B/s" end)} end)) |
    {ok: (. != [] and all(.failed == null)), scale: $scale, rows: .} end' >"$work/bench.json"
  [ "$(jq .ok "$work/bench.json")" = true ] || worse "$(jq 'if any(.rows[]; (.failed // "") | test("memory")) then 6 else 1 end' "$work/bench.json")"
fi

# ---- the tables -------------------------------------------------------------------------------------------------------

hipcc=$(sed -n 's/^MG_HIPCC:.*=//p' "$build/CMakeCache.txt" 2>/dev/null || true)
case $backend in
cuda) toolkit=$("${nvcc:-nvcc}" --version 2>/dev/null | sed -n 's/^Cuda compilation tools, //p' || true) ;;
hip) toolkit=$("${hipcc:-hipcc}" --version 2>/dev/null | sed -n 's/^HIP version: /HIP /p' || true) ;;
*) toolkit='' ;;
esac
"$program" env --json >"$work/env.json"
jq -n --arg backend "$backend" --arg device "$(entry '.device // ""')" --arg toolkit "${toolkit:-none}" --arg time "$(date -u +%Y-%m-%dT%H:%MZ)" \
  --arg quick "$quick" --argjson code $code --argjson seconds $((SECONDS - began)) --slurpfile env "$work/env.json" \
  --slurpfile conformance "$work/conformance.json" --slurpfile routers "$work/routers.json" --slurpfile agreement "$work/agreement.json" \
  --slurpfile sanitizer "$work/sanitizer.json" --slurpfile bench "$work/bench.json" '
  {backend: $backend, device: $device, toolkit: $toolkit, time: $time, seconds: $seconds, exit_code: $code, rehearsal: ($quick != ""),
   build: $env[0], conformance: $conformance[0], routers: $routers[0], agreement: $agreement[0], sanitizer: $sanitizer[0], benchmarks: $bench[0]}' >"$out/gpu.json"

jq -r '.rehearsal as $rehearsal |
  def verdict: if .ok then "passed" else "**failed**" end;
  def digits($n): if . == null then "not measured" else . * pow(10; $n) | round / pow(10; $n) | tostring end;
  def rate: if . >= 1e12 then "\(. / 1e12 | digits(1)) T" elif . >= 1e9 then "\(. / 1e9 | digits(1)) G" else "\(. / 1e6 | digits(1)) M" end;
  def percent($n): if . == null then "not measured" else "\(100 * . | digits($n)) %" end;
  def list: map("- " + .) | join("\n");
  "# The backend \(.backend) on a device\n",
  (if .rehearsal then "A rehearsal: one family of primitives, one router, a training of two steps.\n" else empty end),
  "| check | result | detail | s |\n| --- | --- | --- | --- |",
  (.conformance | "| every primitive beside the reference | \(verdict) | \(if .passed == null then .reason | gsub("\n"; " ") else "\(.passed) passed, \(.unsupported) unsupported, \(.failed) failed; the largest error is \(.worst | digits(3)) of what is allowed" end) | \(.seconds // "") |"),
  (.routers | "| every check of \(.routers) routers | \(verdict) | \(.checks) passed, \(.failures | length) failed | \(.seconds) |"),
  (.agreement | "| a training on `cpu` and on the device | \(verdict) | \(.cases) cases, \(.failures | length) without a result\(if $rehearsal then "; the gap is not judged" else "" end) | \(.seconds) |"),
  (if .sanitizer.not_measured then "| compute-sanitizer | not measured | \(.sanitizer.not_measured) | |" else .sanitizer.tools[] | "| \(.tool) | \(verdict) | \(.summary) | \(.seconds) |" end),
  "\n## The same training on the host and on the device\n",
  "The largest gap between the losses is held to the tolerance; flips are tokens of a layer whose experts differ for the same weights, and are not judged (`experiments/device_agreement.lua` says why).\n",
  "| products | seeds | loss on the device | on `cpu` | largest gap | tolerance | flips | tokens/s |\n| --- | --- | --- | --- | --- | --- | --- | --- |",
  (.agreement.rows[] | "| \(.products) | \(.seeds) | \(.loss | digits(4)) | \(.cpu_loss | digits(4)) | \(.largest_loss_gap | digits(6)) | \(.tolerance | digits(4)) | \(.flip_rate | percent(3)) | \(.tokens_per_second | digits(0)) |"),
  "\n## Beside the device'"'"'s own limits\n",
  (if .benchmarks.not_measured then "Not measured: \(.benchmarks.not_measured)" else
    "Shapes divided by \(.benchmarks.scale); work and limits are in `tests/bench/README.md`. Medians of nine rounds by turns, by the device'"'"'s events.\n",
    "| benchmark | median ms | rate | limit ms | of the limit |\n| --- | --- | --- | --- | --- |",
    (.benchmarks.rows[] | if .failed then "| \(.name) | not measured: \(.failed) | | | |" else "| \(.name) | \(.median_ms | digits(3)) | \(.rate | rate)\(.unit) | \(.limit_ms | digits(3)) | \(.of_limit | percent(1)) |" end) end),
  "",
  ([ (.conformance.failures // [] | .[:20][] | "failed: \(.name): \(.detail)"), (.routers.failures[] | "failed: router \(.router): \(.check): \(.detail)"),
     (.agreement.failures[] | "no result: \(.case): \(.reason)") ] | if . == [] then empty else list + "\n" end),
  ([ "command: `scripts/gpu.sh --backend \(.backend)\(if .rehearsal then " --quick" else "" end)\(if (.benchmarks.scale // 1) > 1 then " --scale \(.benchmarks.scale)" else "" end)`",
     "device: \(.device)", "toolkit: \(.toolkit)", "host: \(.build.processor.model), \(.build.processor.usable) processors, \(.build.system)",
     "moegauge: \(.build.commit // "unknown commit")\(if .build.dirty then " with changes" else "" end), \(.build.compiler)", "time: \(.time), \(.seconds) s in all" ] | list)' \
  "$out/gpu.json" >"$out/gpu.md"
cat "$out/gpu.md"
note "$out/gpu.json, $out/gpu.md"
exit $code
