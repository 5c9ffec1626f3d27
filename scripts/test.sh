#!/usr/bin/env bash
# Installs packages, builds with both compilers, and runs every test; stops at the first failure with the reason.
# Usage: test.sh [quick]    quick: the release build and its tests alone
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in
'' | quick) ;;
*) echo "usage: test.sh [quick]" >&2; exit 2 ;;
esac
began=$SECONDS
current="the start"
jobs=$(nproc)
step() {
  current=$1
  printf '\n== %s (after %d s)\n' "$current" $((SECONDS - began))
}
trap 'printf "\ntest.sh: failed after %d s in: %s\n" $((SECONDS - began)) "$current" >&2' ERR
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
export OMP_WAIT_POLICY=passive # tests run side by side: a waiting thread must not keep a core from another test

build() { # preset, then arguments of cmake --build
  local preset=$1 log
  shift
  log=$(mktemp)
  cmake --preset "$preset" >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; return 1; }
  rm -f "$log"
  cmake --build "build/$preset" --parallel "$jobs" "$@"
}
run_tests() { # preset, then arguments of ctest
  local preset=$1
  shift
  ctest --test-dir "build/$preset" --output-on-failure --no-tests=error --stop-on-failure -j "$jobs" "$@"
}

step "Packages"
scripts/install_packages.sh build run test

step "Format"
git ls-files '*.c' '*.h' '*.cpp' | xargs -r clang-format --dry-run -Werror

step "Release build (gcc)"
build release

step "All tests"
run_tests release

if [ "${1:-}" = quick ]; then
  step "Passed (quick)"
  exit 0
fi

step "Build with clang and the address and undefined-behaviour sanitizers"
build asan

step "All tests under these sanitizers"
run_tests asan

step "Lint (clang-tidy)"
git ls-files 'core/*.c' 'routers/*.c' 'backends/reference/*.c' |
  xargs -r -P "$jobs" -n 8 clang-tidy --quiet -p build/asan 2> >(grep -v 'warnings generated' >&2)

step "Build of the tests that compute in threads, with clang's thread sanitizer"
build tsan --target test_threads

step "These tests under the thread sanitizer"
run_tests tsan -L threads

step "Passed"
