#!/usr/bin/env bash
# Runs one MoE block and one training step in moegauge and in PyTorch by turns, and writes medians over all rounds to
# results/reference/pytorch-moe-block.md.
#
#   scripts/compare_pytorch.sh PYTHON [ROUNDS] [FOLDER]     PYTHON has torch installed; adds ROUNDS rounds (7) to those in
#                                                           FOLDER, where they are kept; without FOLDER the table is of
#                                                           these rounds alone
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:?usage: scripts/compare_pytorch.sh PYTHON [ROUNDS], where PYTHON can import torch}
rounds=${2:-7}
bench=build/release/bin/moegauge-bench
out=results/reference/pytorch-moe-block.md
[ -x "$bench" ] || { echo "compare_pytorch: $bench is missing; build it first: cmake --preset release && cmake --build --preset release" >&2; exit 2; }
"$python" -c 'import torch' || { echo "compare_pytorch: $python cannot import torch; install it there: $python -m pip install torch" >&2; exit 2; }
work=${3:-$(mktemp -d)}
[ $# -ge 3 ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}

commit=$(git describe --always)$(git diff --quiet HEAD -- . ':!results' || echo ' with changes')
before=$(find "$work" -name 'torch.*.txt' | wc -l)
for round in $(seq $((before + 1)) $((before + rounds))); do
  echo "round $round" >&2
  "$bench" --benchmark_filter='^(expert_mlp|training_step)/' --benchmark_format=json --benchmark_min_time=0.3 2>/dev/null >"$work/ours.$round.json"
  "$python" tests/bench/compare/pytorch_moe.py 3 >"$work/part.txt"
  "$python" tests/bench/compare/pytorch_train.py 3 >>"$work/part.txt"
  mv "$work/part.txt" "$work/torch.$round.txt"
done

mkdir -p "$(dirname "$out")"
COMMIT=$commit WORK=$work ROUNDS=$((before + rounds)) "$python" - >"$out" <<'EOF'
import glob, json, os, platform, statistics, subprocess
import torch

work, rounds = os.environ["WORK"], os.environ["ROUNDS"]
ours, theirs, context = {}, {}, {}
for path in glob.glob(work + "/ours.*.json"):
    with open(path) as file:
        data = json.load(file)
    context = data["context"]
    for row in data["benchmarks"]:
        ours.setdefault(row["name"].removesuffix("/real_time"), []).append(row["real_time"])
for path in glob.glob(work + "/torch.*.txt"):
    with open(path) as file:
        for line in file:
            name, value = line.split()
            theirs.setdefault(name, []).append(float(value))

def text(command):
    return subprocess.run(command, shell=True, capture_output=True, text=True).stdout.strip()

flops = 3 * 2 * 512 * 8 * 1024 * 512
print("# One MoE block and one training step beside PyTorch\n\n## The block, beside the usual loop over experts\n")
print("512 tokens of width 1024, 64 SwiGLU experts of width 512, softmax top-8 renormalised; parameters, activations and")
print("gradients in the named dtype. FLOPs are those of the three expert matrices (forward; three times that with backward).\n")
print("| case | moegauge ms | PyTorch ms | ratio | moegauge GFLOP/s | PyTorch GFLOP/s |\n| --- | --- | --- | --- | --- | --- |")
for name in sorted(name for name in theirs if name.startswith("expert_mlp")):
    a, b = statistics.median(ours[name]), statistics.median(theirs[name])
    work_done = flops * (3 if "backward" in name else 1)
    print(f"| {name} | {a:.1f} | {b:.1f} | {b / a:.2f} | {work_done / a * 1e-6:.0f} | {work_done / b * 1e-6:.0f} |")
print("\n## The training step of a small mixture, beside a straightforward decoder\n")
print("2048 tokens: 8 sequences of 256; 4 layers of width 128, 4 heads, vocabulary 4096, 16 SwiGLU experts of width 256, top-2,")
print("balance loss, clipping, AdamW. bf16: parameters in f32, matrix products in bf16 (PyTorch: autocast).\n")
print("| case | moegauge ms | PyTorch ms | ratio | moegauge tokens/s | PyTorch tokens/s |\n| --- | --- | --- | --- | --- | --- |")
for name in sorted(name for name in theirs if name.startswith("training_step")):
    a, b = statistics.median(ours[name]), statistics.median(theirs[name])
    print(f"| {name} | {a:.1f} | {b:.1f} | {b / a:.2f} | {2048e3 / a:.0f} | {2048e3 / b:.0f} |")
print(f"\nMedians of {rounds} interleaved rounds; the load average when the last round began was {context.get('load_avg')}.\n")
print("- command: `scripts/compare_pytorch.sh PYTHON`")
print("- CPU: " + text("lscpu | sed -n 's/^Model name: *//p'") + f", {os.environ['OMP_NUM_THREADS']} threads")
print("- moegauge: " + os.environ["COMMIT"] + ", " + context.get("backend", ""))
print(f"- PyTorch {torch.__version__}, Python {platform.python_version()}; oneDNN " +
      next((part.split("v")[1].split(" ")[0] for part in torch.__config__.show().splitlines() if "MKL-DNN" in part), "?"))
peaks = {key: value for key, value in context.items() if value and str(value).endswith("/s")}
print("- peaks measured in the benchmark's process: " + ", ".join(f"{key} {value}" for key, value in sorted(peaks.items())))
EOF
cat "$out"
