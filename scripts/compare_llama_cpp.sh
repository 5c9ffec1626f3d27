#!/usr/bin/env bash
# Runs one random mixture of OLMoE's shape in moegauge and in llama.cpp by turns, with the same weights in bf16, and writes
# medians over all rounds to results/reference/llama-cpp.md.
#
#   scripts/compare_llama_cpp.sh LLAMA_BENCH COMMIT MODEL [ROUNDS] [FOLDER]
#
# LLAMA_BENCH is llama.cpp's llama-bench, built from COMMIT; MODEL a folder that tests/bench/compare/make_olmoe.py made.
# Adds ROUNDS rounds (5) to those in FOLDER, where they are kept; without FOLDER the table is of these rounds alone.
set -euo pipefail
usage='usage: scripts/compare_llama_cpp.sh LLAMA_BENCH COMMIT MODEL [ROUNDS] [FOLDER]'
llama=$(realpath "${1:?$usage}") theirs=${2:?$usage} model=$(realpath "${3:?$usage}")
rounds=${4:-5} folder=${5:+$(realpath -m "$5")}
cd "$(dirname "$0")/.."
program=build/release/bin/moegauge
out=results/reference/llama-cpp.md
[ -x "$program" ] || { echo "compare_llama_cpp: $program is missing; build it first: cmake --preset release && cmake --build --preset release" >&2; exit 2; }
[ -x "$llama" ] || { echo "compare_llama_cpp: $llama cannot be run; tests/bench/README.md says how to build llama-bench" >&2; exit 2; }
[ -f "$model/model.gguf" ] || { echo "compare_llama_cpp: $model/model.gguf is missing; make it: PYTHON tests/bench/compare/make_olmoe.py $model" >&2; exit 2; }
work=${folder:-$(mktemp -d)}
[ -n "$folder" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
threads=${OMP_NUM_THREADS:-$(nproc)}
prompt=512 generate=64 depth=512

commit=$(git describe --always)$(git diff --quiet HEAD -- . ':!results' || echo ' with changes')
before=$(find "$work" -name 'theirs.*.json' | wc -l)
for round in $(seq $((before + 1)) $((before + rounds))); do
  echo "round $round" >&2
  "$program" model bench "$model" --threads "$threads" --prompt $prompt --generate $generate --depth $depth --repeats 1 --json >"$work/ours.$round.json"
  "$llama" -m "$model/model.gguf" -t "$threads" -p $prompt -n 0 -r 1 -o json 2>/dev/null >"$work/prefill.json"
  "$llama" -m "$model/model.gguf" -t "$threads" -p 0 -n $generate -d $depth -r 1 -o json 2>/dev/null >"$work/part.json"
  jq -s 'add' "$work/prefill.json" "$work/part.json" >"$work/theirs.$round.json"
done

# The median of numbers, one a line.
median() { sort -n | awk '{v[NR] = $1} END {print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
# The lowest and highest of numbers, one a line.
span() { sort -n | awk 'NR == 1 {low = $1} {high = $1} END {printf "%.1f to %.1f", low, high}'; }
ours() { jq -r "$1" "$work"/ours.*.json; }
# The rates of llama.cpp in the prefill (0) or the decode (1), one a line.
rate_of() { jq -r ".[$1].avg_ts" "$work"/theirs.*.json; }
row() { # NAME KEY INDEX SHARE
  local a b
  a=$(ours ".speed.$2.tokens_per_second" | median)
  b=$(rate_of "$3" | median)
  awk -v name="$1" -v a="$a" -v b="$b" -v as="$(ours ".speed.$2.tokens_per_second" | span)" -v bs="$(rate_of "$3" | span)" \
    -v share="$4" 'BEGIN {printf "| %s | %.1f (%s) | %.1f (%s) | %.2f | %s |\n", name, a, as, b, bs, a / b, share}'
}
percent() { awk '{printf "%.0f %%", 100 * $1}'; }
giga() { awk '{printf "%.1f", $1 * 1e-9}'; }
{
  echo "# A mixture of OLMoE's shape beside llama.cpp"
  echo
  echo "8 layers of width 1024, 16 heads, 64 experts of width 512, top-8, vocabulary 50304; random weights in bf16, the same for"
  echo "both ($(ours .speed.decode.bytes_per_token | median | awk '{printf "%.0f", $1 * 1e-6}') MB must be read for a decoded token). Tokens per second, in brackets the slowest and the fastest round."
  echo
  echo "| pass | moegauge | llama.cpp | ratio | moegauge beside the machine |"
  echo "| --- | --- | --- | --- | --- |"
  row "prefill of $prompt tokens" prefill 0 "$(ours .speed.prefill.of_peak | median | percent) of the arithmetic peak"
  row "decode of $generate tokens after $depth" decode 1 "$(ours .speed.decode.of_bandwidth | median | percent) of the memory bandwidth"
  echo
  echo "Medians of $((before + rounds)) rounds, in which the programs took turns; each round is a process of its own, which warms up first. Of a prompt both compute the last layer's feed-forward and the head for its last token alone."
  echo
  echo "- commands: \`moegauge model bench MODEL --threads $threads --repeats 1\`; \`llama-bench -m MODEL.gguf -t $threads -p $prompt -n 0 -r 1\`, \`-p 0 -n $generate -d $depth -r 1\`"
  echo "- script: \`scripts/compare_llama_cpp.sh\`; weights: \`tests/bench/compare/make_olmoe.py\`"
  echo "- CPU: $(lscpu | sed -n 's/^Model name: *//p'), $threads threads"
  echo "- moegauge: $commit, $(ours .backend | head -n 1)"
  echo "- llama.cpp: $theirs, $(jq -r '.[0].backends' "$work"/theirs.1.json), flash attention $(jq -r '.[0].flash_attn | if . == -1 then "auto" elif . == 1 then "on" else "off" end' "$work"/theirs.1.json), cache in $(jq -r '.[0].type_k' "$work"/theirs.1.json)"
  echo "- peaks measured in moegauge's processes, medians: bf16 dot $(ours .peaks.bf16_flops | median | giga) GFLOP/s, f32 $(ours .peaks.f32_flops | median | giga) GFLOP/s, AMX $(ours .peaks.amx_flops | median | giga) GFLOP/s, memory read $(ours .peaks.read_bytes | median | giga) GB/s"
} >"$out"
cat "$out"
