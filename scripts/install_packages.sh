#!/usr/bin/env bash
# Installs the Debian packages of scripts/packages.txt that are missing. Usage: install_packages.sh build run [test] [gpu]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -gt 0 ] || {
  echo "usage: install_packages.sh build|run|test|gpu ..." >&2
  echo "The cuda backend is built where nvcc is found, which none of these brings: Debian's nvidia-cuda-toolkit (11.8; section non-free) or NVIDIA's own toolkit." >&2
  exit 2
}

missing=()
for kind in "$@"; do
  while read -r word package; do
    [ "$word" = "$kind" ] || continue
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
  done <"$here/packages.txt"
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ]; then
  as_root=()
elif command -v sudo >/dev/null; then
  as_root=(sudo)
else
  echo "error: these packages are missing and need root or sudo to install: ${missing[*]}" >&2
  echo "fix:   as root, run: apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "Installing ${#missing[@]} packages: ${missing[*]}"
"${as_root[@]}" apt-get update -qq || { echo "error: apt-get update failed; is the network there?" >&2; exit 1; }
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null ||
  { echo "error: apt-get could not install: ${missing[*]}" >&2; exit 1; }
