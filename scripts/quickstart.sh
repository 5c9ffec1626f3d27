#!/usr/bin/env bash
# From a fresh Debian 12 to the first table: installs packages, builds, runs experiments/quickstart.lua. Safe to run again:
# finished cases are kept. Arguments are handed to `moegauge run` (for example --smoke).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
step() { printf '\n== %s\n' "$*"; }
trap 'echo "quickstart: stopped: the step above failed" >&2' ERR

step "Packages"
scripts/install_packages.sh build run
step "Build"
cmake --preset release -DMG_TESTS=OFF -DMG_BENCH=OFF >/dev/null
cmake --build build/release
step "Experiment: experiments/quickstart.lua"
trap - ERR
exec build/release/bin/moegauge run experiments/quickstart.lua "$@"
