#!/usr/bin/env bash
# Proves that the hip backend compiles and links against Debian 13's ROCm, its matrix libraries included: makes a tree of
# Debian 13 with debootstrap, installs hipcc, librocblas-dev and libhipblas-dev into it, builds the plugin there, and lists
# the libraries that it needs. Nothing runs on a device. Root only (chroot), and no part of test.sh.
#
#   tests/hip_library.sh FOLDER [ARCHITECTURE ...]     FOLDER is made (6 GB), or used again; by default those
#                                                    of gfx90a and gfx942 that this hipcc knows
#
# MIRROR (debootstrap's default) and APT_OPTIONS ("-o KEY=VALUE ...") say how packages are reached from here.
set -euo pipefail
usage='usage: tests/hip_library.sh FOLDER [ARCHITECTURE ...]'
tree=$(realpath -m "${1:?$usage}")
shift
architectures=$*
source=$(cd "$(dirname "$0")/.." && pwd)
fail() { echo "hip_library: $2" >&2; exit "$1"; }
[ "$(id -u)" = 0 ] || fail 2 "must run as root: it makes a tree with debootstrap and works in it with chroot"
command -v debootstrap >/dev/null || fail 2 "debootstrap is missing; install it: apt-get install debootstrap"
packages=(hipcc librocblas-dev libhipblas-dev binutils)
while read -r kind package; do
  case "$kind $package" in build\ libbenchmark* | build\ libcmocka* | build\ libdnnl* | build\ libopenblas*) ;;
  build\ *) packages+=("$package") ;;
  esac
done <"$source/scripts/packages.txt"

[ -e "$tree/etc/debian_version" ] || debootstrap --variant=minbase trixie "$tree" ${MIRROR:+"$MIRROR"} >&2
cp /etc/resolv.conf "$tree/etc/resolv.conf"
inside() { chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
# shellcheck disable=SC2206 # several words
options=(${APT_OPTIONS:-})
inside apt-get "${options[@]}" update -qq
inside apt-get "${options[@]}" install -qq -y --no-install-recommends "${packages[@]}" >&2

work=$tree/moegauge
rm -rf "$work"
mkdir -p "$work/source"
(cd "$source" && git ls-files -z -- CMakeLists.txt core backends routers scripts | xargs -0 cp --parents -t "$work/source")
inside cmake -G Ninja -S /moegauge/source -B /moegauge/build -DMG_TESTS=OFF -DMG_BENCH=OFF "-DMG_HIP_ARCHITECTURES=${architectures// /;}" |
  grep -E '^-- .*[Bb]ackend (hip|cuda)' || true
inside cmake --build /moegauge/build --target backends_hip

plugin=/moegauge/build/lib/moegauge/backends/hip.so
[ -e "$tree$plugin" ] || fail 1 "the build made no $plugin"
echo "Debian $(cat "$tree/etc/debian_version"): $(inside dpkg-query -W -f '${Package} ${Version}, ' hipcc librocblas-dev libhipblas-dev | sed 's/, $//')"
echo "code for: $(inside strings "$plugin" | grep -oE 'amdgcn-amd-amdhsa--gfx[0-9a-z]+' | sort -u | sed 's/.*--//' | paste -sd' ')"
echo "libraries: $(inside readelf -d "$plugin" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | paste -sd' ')"
# What the plugin looks up in a matrix library when it opens a device.
asked=$(inside strings "$plugin" | grep -E '^(rocblas|hipblas)_[a-z0-9_]+$' | sort -u || true)
for name in $asked; do
  symbols=$work/${name%%_*}.symbols
  [ -e "$symbols" ] || inside readelf -Ws --dyn-syms "/usr/lib/x86_64-linux-gnu/lib${name%%_*}.so" >"$symbols"
  grep -qw "$name" "$symbols" || fail 1 "lib${name%%_*} of this tree has no $name"
done
echo "looked up in matrix libraries, and there: ${asked:-nothing}" | paste -sd' '
unresolved=$(inside ldd -r "$plugin" 2>&1 | grep -E 'not found|undefined symbol' || true)
[ -z "$unresolved" ] || fail 1 "the plugin does not link: $unresolved"
echo "hip_library: the plugin compiles and links"
