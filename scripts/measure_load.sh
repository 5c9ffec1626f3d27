#!/usr/bin/env bash
# Loads and runs a random checkpoint of each storage type in a process of its own, and writes what that took to
# results/reference/loading.md.
#
#   scripts/measure_load.sh [FOLDER]        FOLDER has room for a file of 2.6 GB at a time, and keeps rows: those it has are
#                                        not measured again; a temporary one otherwise
#
# RUN in the environment is put before the program, such as RUN="taskset -c 0,1".
set -euo pipefail
cd "$(dirname "$0")/.."
program=build/release/bin/moegauge-load
out=results/reference/loading.md
[ -x "$program" ] || { echo "measure_load: $program is missing; build it first: cmake --preset release && cmake --build --preset release" >&2; exit 2; }
folder=${1:-$(mktemp -d)}
[ $# -gt 0 ] || trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder"
export MOEGAUGE_SOURCE=$PWD
commit=$(git describe --always)$(git diff --quiet HEAD -- . ':!results' || echo ' with changes')
rows=$folder/rows.md
touch "$rows"
for precision in bf16 f32; do
  for kind in bf16 f16 f8_e4m3 q8_0 q6_k q5_k q4_k q4_0 mxfp4 mxfp4_pairs f32; do
    grep -q "^| $kind | $precision | " "$rows" && continue
    row=$(${RUN:-} "$program" "$folder" $kind $precision)
    echo "$row" >>"$rows"
    rm -f "$folder"/model.* "$folder/config.json"
  done
done
{
  echo "# What loading takes, by storage type"
  echo
  echo "Random checkpoints of 0.6 G weights: a Mixtral of 11 blocks of width 1024 with 16 experts of width 1024, top 2, in a GGUF file; in f8_e4m3"
  echo "(with factors of 128 x 128) a DeepSeek-V3, in mxfp4_pairs a gpt-oss, both in safetensors, with embedding and head in bf16. Each row is a"
  echo "process that loads the checkpoint and touches every weight (\"loaded\": the most memory that the process held until then, VmHWM, the"
  echo "program itself included), then reads 256 tokens and writes 16 after 64, five times (\"in the end\")."
  echo
  echo "| storage | computed in | file, MB | loaded, MB | of the file | in the end, MB | prefill, tokens/s | decode, tokens/s | MB read by a decoded token |"
  echo "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
  for precision in bf16 f32; do grep "^| [a-z0-9_]* | $precision | " "$rows"; done
  echo
  echo "Commit $commit, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) processors, \`scripts/measure_load.sh\`. Rates are medians of five rounds."
} >"$out"
echo "$out"
