#!/usr/bin/env bash
# Installs packages, builds with both compilers, and runs every test; stops at the first failure with the reason.
# Usage: test.sh [quick]    quick: the release build and its tests alone
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
began=$SECONDS
step() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - began)); }
trap 'echo "test.sh: failed in the step above" >&2' ERR
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
export OMP_WAIT_POLICY=passive # tests run side by side: a waiting thread must not keep a core from another test

run_tests() { # preset, then ctest arguments
  local preset=$1
  shift
  ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j2 "$@"
}
build() {
  cmake --preset "$1" >"build-$1.log" 2>&1 || { cat "build-$1.log" >&2; rm -f "build-$1.log"; return 1; }
  rm -f "build-$1.log"
  cmake --build "build/$1"
}

step "Packages"
scripts/install_packages.sh build run test

step "Format"
git ls-files '*.c' '*.h' '*.cpp' | xargs -r clang-format --dry-run -Werror

step "Release build (gcc) and all tests"
build release
run_tests release

[ "${1:-}" = quick ] && { step "Passed (quick)"; exit 0; }

step "clang build"
build clang

step "Lint (clang-tidy)"
git ls-files 'core/*.c' 'routers/*.c' 'backends/reference/*.c' | xargs -r -P2 -n8 clang-tidy --quiet -p build/clang 2>/dev/null

step "Address and undefined-behaviour sanitizers"
build asan
run_tests asan -LE timing

step "Thread sanitizer"
build tsan
run_tests tsan -L threads

step "Passed"
