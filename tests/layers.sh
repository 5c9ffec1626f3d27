#!/usr/bin/env bash
# Fails when a layer includes one above it, a plugin includes anything but moegauge/*.h, lua.h is seen outside core/lua, or
# the sources that all GPU backends share name a vendor. One awk reads every source once.
set -u
source_dir=${1:?usage: layers.sh SOURCE_DIR}
cd "$source_dir" || exit 1

folders=(core/*/)
folders=("${folders[@]#core/}")
find core routers backends -name '*.c' -o -name '*.h' -o -name '*.cpp' | sort | tr '\n' '\0' |
  FOLDERS="${folders[*]%/}" xargs -0 awk '
BEGIN {
  layers = split("base tensor host moe model train measure cluster lab lua cli", name)
  for (i = 1; i <= layers; i++) rank[name[i]] = i
  for (i = split(ENVIRON["FOLDERS"], name); i > 0; i--)
    if (name[i] != "include" && !(name[i] in rank)) complain("core/" name[i] "/: not a layer of the design")
}

function complain(text) { print text; bad = 1 }

function check_core(included, target, own) {
  own = part[2]
  if (own == "include") {
    if (target != "moegauge" && target in rank) complain(FILENAME ": a public header includes the internal " included)
    return
  }
  if (included ~ /^(lua|lauxlib|lualib)\.h$/ && own != "lua") complain(FILENAME ": only core/lua may include " included)
  if (!(target in rank)) return
  if (!(own in rank)) complain(FILENAME ": " own " is not a layer")
  else if (rank[target] > rank[own]) complain(FILENAME ": " own " includes " included ", which lies above it")
}

function vendor() { complain(FILENAME ":" FNR ": names a vendor; what differs between GPUs belongs into gpu_vendor.h: " $0) }

FNR == 1 {
  split(FILENAME, part, "/")
  shared = FILENAME ~ /^backends\/gpu\/[^\/]*$/
  blind = FILENAME ~ /^(core|routers|backends\/cpu|backends\/reference)\//
}

/^[ \t]*#[ \t]*include[ \t]*["<]/ {
  included = $0
  sub(/^[ \t]*#[ \t]*include[ \t]*["<]/, "", included)
  sub(/[">].*/, "", included)
  target = included
  if (!sub(/\/.*/, "", target)) target = ""
  if (part[1] == "core") check_core(included, target)
  else if (target in rank) complain(FILENAME ": a plugin may include only moegauge/*.h, not " included)
}

# A name that begins as a vendor does; the character before it must end the word before.
shared && (" " $0) ~ /[^A-Za-z0-9_]_*(cuda|cublas|nvml|nvcc|hip|roc(m|blas|wmma)|rsmi|CUDA|NVCC|NVPTX|HIP|ROCM|AMDGCN)/ { vendor() }
blind && /^[ \t]*#[ \t]*(el)?if.*(CUDA|NVCC|HIP|ROCM|AMDGCN|NVPTX)/ { vendor() }

END {
  if (!bad) print "layers: every include points down"
  exit bad
}' || exit 1
