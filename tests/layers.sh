#!/usr/bin/env bash
# Fails when a layer includes one above it, a plugin includes anything but moegauge/*.h, lua.h is seen outside core/lua, or
# the sources that all GPU backends share name a vendor.
set -u
source_dir=${1:?usage: layers.sh SOURCE_DIR}
cd "$source_dir" || exit 1
layers=(base tensor host moe model train measure cluster lab lua cli)
declare -A rank
for i in "${!layers[@]}"; do rank[${layers[$i]}]=$i; done
bad=0
complain() { echo "$1"; bad=1; }

includes() { grep -rHoE '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<][^">]+' --include='*.c' --include='*.h' --include='*.cpp' "$1" 2>/dev/null | sed -E 's/:[[:space:]]*#[[:space:]]*include[[:space:]]*["<]/ /'; }

while read -r file included; do
  own=$(cut -d/ -f2 <<<"$file")
  [ "$own" = include ] && case "$included" in
    moegauge/*) continue ;;
    */*) [ -n "${rank[${included%%/*}]:-}" ] && complain "$file: a public header includes the internal $included"; continue ;;
    *) continue ;;
  esac
  case "$included" in
    lua.h|lauxlib.h|lualib.h) [ "$own" = lua ] || complain "$file: only core/lua may include $included" ;;
  esac
  target=${included%%/*}
  [ "$target" = "$included" ] && continue
  [ -n "${rank[$target]:-}" ] || continue
  [ -n "${rank[$own]:-}" ] || { complain "$file: $own is not a layer"; continue; }
  [ "${rank[$target]}" -le "${rank[$own]}" ] || complain "$file: $own includes $included, which lies above it"
done < <(includes core)

for tree in routers backends; do
  while read -r file included; do
    target=${included%%/*}
    [ "$target" = "$included" ] && continue
    [ -n "${rank[$target]:-}" ] && complain "$file: a plugin may include only moegauge/*.h, not $included"
  done < <(includes "$tree")
done

while IFS= read -r line; do
  complain "$line: names a vendor; what differs between GPUs belongs into gpu_vendor.h"
done < <(
  grep -HnoE '\b_*(cuda|cublas|nvml|nvcc|hip|roc(m|blas|wmma)|rsmi|CUDA|NVCC|NVPTX|HIP|ROCM|AMDGCN)[A-Za-z_]*' backends/gpu/*.{c,h,cpp}
  grep -rHnE '^[[:space:]]*#[[:space:]]*(el)?if.*(CUDA|NVCC|HIP|ROCM|AMDGCN|NVPTX)' --include='*.c' --include='*.h' --include='*.cpp' core routers backends/cpu backends/reference
)

for folder in core/*/; do
  name=$(basename "$folder")
  [ "$name" = include ] || [ -n "${rank[$name]:-}" ] || complain "$folder: not a layer of the design"
done
[ $bad = 0 ] && echo "layers: every include points down"
exit $bad
