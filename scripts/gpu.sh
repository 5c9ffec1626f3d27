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

# summary NAME ARGUMENTS...: what gpu.jq makes of an answer on standard input.
summary() { jq -L scripts "${@:2}" "include \"gpu\"; $1"; }

note "conformance"
start=$SECONDS rc=0
"$program" check backend "$backend" --json ${quick:+--filter softmax} >"$work/out" 2>"$out/conformance.log" || rc=$?
worse $rc
jq -s '.[0]' "$work/out" | summary 'conformance($log; $seconds)' --argjson seconds $((SECONDS - start)) --rawfile log "$out/conformance.log" >"$work/conformance.json"

note "routers"
start=$SECONDS
routers=$("$program" list routers --names)
[ -z "$quick" ] || routers=topk
for router in $routers; do
  rc=0
  "$program" check router "$router" --backend "$backend" --json >"$work/routers/$router.json" 2>>"$out/routers.log" || rc=$?
  [ $rc = 0 ] || worse $((rc == 6 ? 6 : 1))
done
cat "$work"/routers/*.json | summary 'routers($asked | split("\n"); $seconds)' -s --arg asked "$routers" --argjson seconds $((SECONDS - start)) >"$work/routers.json"

# ---- one training on the host and on the device ---------------------------------------------------------------------------

# The sources are the text: nothing has to be fetched. Two steps and the 64 tokens of a rehearsal's validation show that it
# runs; they are too few to hold the losses to the tolerance.
note "training on cpu and $backend"
start=$SECONDS rc=0
"$program" run experiments/device_agreement.lua --set backend="$backend" --set corpus="$PWD/core" --set folder="$out/checkpoints" \
  --out "$out/device_agreement" --fresh ${quick:+--smoke --seeds 1} >"$out/device_agreement.log" 2>&1 || rc=$?
worse $((rc == 6 ? 6 : rc != 0))
"$program" report "$out/device_agreement" --format json >"$work/out" 2>>"$out/device_agreement.log" || : >"$work/out"
jq -s '.[0]' "$work/out" | summary 'agreement($quick == ""; $seconds)' --arg quick "$quick" --argjson seconds $((SECONDS - start)) >"$work/agreement.json"
[ "$(jq .ok "$work/agreement.json")" = true ] || worse 1

# ---- decoding with and without graphs ---------------------------------------------------------------------------------

# The small model just trained: what a token costs there is its launches, which is what graphs change.
note "decoding"
start=$SECONDS
how=(--prompt 0 --generate 128 --depth 512 --repeats 9)
[ -z "$quick" ] || how=(--prompt 0 --generate 4 --depth 16 --repeats 1)
for graphs in false true; do
  rc=0
  "$program" model bench "$out/checkpoints/bf16-1" --backend "$backend" --set graphs=$graphs "${how[@]}" --json \
    >"$work/decoding.$graphs.json" 2>"$work/decoding.log" || rc=$?
  cat "$work/decoding.log" >>"$out/decoding.log"
  [ $rc = 0 ] || grep -q "has no graphs" "$work/decoding.log" || worse $((rc == 6 ? 6 : 1))
  jq -s '.[0]' "$work/decoding.$graphs.json" | summary 'decoding_row($graphs; $log)' --arg graphs $graphs --rawfile log "$work/decoding.log" >"$work/decoding.row.$graphs.json"
done
jq -s --argjson seconds $((SECONDS - start)) '{ok: all(.failed == null), rows: ., seconds: $seconds}' "$work"/decoding.row.*.json >"$work/decoding.json"

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
    start=$SECONDS rc=0 log=$out/sanitizer.$tool.log
    timeout 7200 "$sanitizer" --tool "$tool" --error-exitcode 99 "$program" check backend "$backend" ${quick:+--filter softmax} >"$log" 2>&1 || rc=$?
    worse $((rc != 0))
    summary 'sanitizer_tool($tool; $rc; $summary; $seconds)' -n --arg tool "$tool" --argjson rc $rc --argjson seconds $((SECONDS - start)) \
      --arg summary "$(grep SUMMARY "$log" | tail -n 1 | sed 's/^=* *//')" >"$work/sanitizer/$tool.json"
  done
  jq -s '{ok: all(.ok), tools: .}' "$work"/sanitizer/*.json >"$work/sanitizer.json"
fi

# ---- benchmarks -------------------------------------------------------------------------------------------------------

note "benchmarks"
rc=0
"$program" bench limit/ --backend "$backend" --scale "$scale" -- --benchmark_format=json ${quick:+--rounds=2} >"$work/out" 2>"$out/bench.log" || rc=$?
if [ $rc = 4 ]; then
  jq -n --rawfile reason "$out/bench.log" '{not_measured: ($reason | sub("^error: "; "") | rtrimstr("\n"))}' >"$work/benchmarks.json"
else
  [ $rc = 0 ] || worse $((rc == 6 ? 6 : 1))
  jq -s '.[0]' "$work/out" | summary 'benchmarks($scale; $log)' --argjson scale "$scale" --rawfile log "$out/bench.log" >"$work/benchmarks.json"
  [ "$(jq .ok "$work/benchmarks.json")" = true ] || worse "$(summary 'if lacked_memory then 6 else 1 end' <"$work/benchmarks.json")"
fi

# ---- the tables -------------------------------------------------------------------------------------------------------

hipcc=$(sed -n 's/^MG_HIPCC:.*=//p' "$build/CMakeCache.txt" 2>/dev/null || true)
case $backend in
cuda) toolkit=$("${nvcc:-nvcc}" --version 2>/dev/null | sed -n 's/^Cuda compilation tools, //p' || true) ;;
hip) toolkit=$("${hipcc:-hipcc}" --version 2>/dev/null | sed -n 's/^HIP version: /HIP /p' || true) ;;
*) toolkit='' ;;
esac
parts=(conformance routers agreement decoding sanitizer benchmarks)
for part in "${parts[@]}"; do jq -c "{$part: .}" "$work/$part.json"; done | jq -s add >"$work/parts.json"
"$program" env --json | jq --arg backend "$backend" --arg device "$(entry '.device // ""')" --arg toolkit "${toolkit:-none}" --arg time "$(date -u +%Y-%m-%dT%H:%MZ)" \
  --arg quick "$quick" --argjson code "$code" --argjson seconds $((SECONDS - began)) --slurpfile parts "$work/parts.json" '
  {backend: $backend, device: $device, toolkit: $toolkit, time: $time, seconds: $seconds, exit_code: $code, rehearsal: ($quick != ""), build: .} + $parts[0]' >"$out/gpu.json"
summary markdown -r <"$out/gpu.json" >"$out/gpu.md"
cat "$out/gpu.md"
note "$out/gpu.json, $out/gpu.md"
exit "$code"
