#!/usr/bin/env bash
# Measures expert products beside oneDNN and OpenBLAS, and gating beside reading its logits once, and writes medians over
# all rounds to results/reference/cpu-kernels.md.
#
#   scripts/bench_kernels.sh [ROUNDS] [FOLDER]     adds ROUNDS rounds (5) to those in FOLDER, where they are kept;
#                                                  without FOLDER the table is of these rounds alone
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5}
bench=build/release/bin/moegauge-bench
out=results/reference/cpu-kernels.md
[ -x "$bench" ] || { echo "bench_kernels: $bench is missing; build it first: cmake --preset release && cmake --build --preset release" >&2; exit 2; }
work=${2:-$(mktemp -d)}
[ $# -ge 2 ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}

commit=$(git describe --always)$(git diff --quiet HEAD -- . ':!results' || echo ' with changes')
before=$(find "$work" -name 'round.*.txt' | wc -l)
for round in $(seq $((before + 1)) $((before + rounds))); do
  echo "round $round" >&2
  "$bench" --benchmark_filter='^(gating/(top_k|softmax)|expert_matmul/.*/(moegauge|onednn|onednn_prepacked|openblas)/)' \
    --benchmark_color=false --benchmark_min_time=0.1 2>"$work/context.$round.txt" >"$work/part.txt"
  mv "$work/part.txt" "$work/round.$round.txt"
done

# NAME VALUE lines of every round to one NAME MEDIAN line each.
medians() {
  sort -k1,1 -k2,2g | awk '
    $1 != name { if (n) print name, value[int((n + 1) / 2)]; name = $1; n = 0 }
    { value[++n] = $2 }
    END { if (n) print name, value[int((n + 1) / 2)] }'
}
times=$(cat "$work"/round.*.txt | awk '$3 == "ms" { sub(/\/real_time/, "", $1); print $1, $2 }' | medians)
peaks=$(cat "$work"/context.*.txt | sed -n 's/^\(avx512 fma\|bf16 dot\|amx\|memory copy (read + written)\): \([0-9.]*\) G.*/\1=\2/p' |
  sed 's/ (read + written)//; s/ /_/; s/=/ /' | medians)

{
  echo "# Kernels of the cpu backend beside their limits"
  echo
  echo "## Expert products"
  echo
  echo "GFLOP/s of [tokens, 1024] x [1024, 2048], the weights of 64 experts in rotation; in brackets the share of the"
  echo "arithmetic peak. oneDNN with weights as they are stored, as moegauge reads them, and laid out beforehand as it likes best."
  echo
  echo "| dtype, tokens | moegauge | oneDNN | ratio | oneDNN, prepacked | ratio | OpenBLAS |"
  echo "| --- | --- | --- | --- | --- | --- | --- |"
  { echo "$peaks"; echo "$times"; } | awk '
    { value[$1] = $2 }
    function rate(name) { return (name in value) ? flops / value[name] * 1e-6 : 0 }
    function shown(speed) { return speed ? sprintf("%.0f (%.0f %%)", speed, 100 * speed / peak) : "-" }
    END {
      for (d = 1; d <= 2; d++) for (t = 64; t <= 512; t *= (t == 64) ? 2 : 4) {
        dtype = d == 1 ? "bf16" : "f32"
        peak = value["avx512_fma"]
        if (d == 1 && value["bf16_dot"] > peak) peak = value["bf16_dot"]
        if (d == 1 && value["amx"] > peak) peak = value["amx"]
        flops = 2 * t * 1024 * 2048
        base = "expert_matmul/" dtype "/" t "/"
        ours = rate(base "moegauge"); stored = rate(base "onednn"); packed = rate(base "onednn_prepacked")
        printf "| %s, %d | %s | %s | %.2f | %s | %.2f | %s |\n", dtype, t, shown(ours), shown(stored), ours / stored,
          shown(packed), ours / packed, shown(rate(base "openblas"))
      }
    }'
  echo
  echo "## Gating 8192 tokens"
  echo
  echo "One read is the time of reading the f32 logits once at half the rate of a copy (read and written)."
  echo
  echo "| what, experts, choices | ms | one read, ms | reads |"
  echo "| --- | --- | --- | --- |"
  { echo "$peaks"; echo "$times"; } | awk '
    /^memory_copy / { copy = $2 }
    /^gating/ {
      split($1, part, "/")
      read = 8192 * part[3] * 4 / (copy / 2) * 1e-6
      printf "| %s, %d, %d | %.3f | %.3f | %.1f |\n", part[2], part[3], part[4], $2, read, $2 / read
    }' | sort -t, -k1,1 -k2,2n -k3,3n
  echo
  echo "Medians of $((before + rounds)) rounds."
  echo
  echo "- command: \`scripts/bench_kernels.sh\`"
  echo "- CPU: $(lscpu | sed -n 's/^Model name: *//p'), $OMP_NUM_THREADS threads; $(sed -n 's/^backend: /backend /p' "$work/context.1.txt")"
  echo "- moegauge: $commit; oneDNN $(dpkg-query -W -f '${Version}' libdnnl-dev), OpenBLAS $(dpkg-query -W -f '${Version}' libopenblas-openmp-dev)"
  echo "- peaks measured in the same processes: $(echo "$peaks" | sed 's/_/ /; s/ \([0-9.]*\)$/ \1/' | awk '{ unit = /copy/ ? "GB/s" : "GFLOP/s"; print $0 " " unit }' | paste -sd, | sed 's/,/, /g')"
} >"$out"
cat "$out"
