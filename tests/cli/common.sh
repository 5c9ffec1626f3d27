# shellcheck shell=bash disable=SC2034
# For the tests of the command line: a folder of the test's own that it stands in, complaints, and wrong inputs. A test sources
# this file and ends with `exit $bad`.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export MOEGAUGE_CACHE="$work/cache"
bad=0
complain() { echo "FAIL: $1"; bad=1; }

# expect CODE WORDS ARGUMENTS...: exit code, and words on standard error.
expect() {
  local code=$1 words=$2 got
  shift 2
  "$MOEGAUGE" "$@" >out 2>err
  got=$?
  [ "$got" = "$code" ] || complain "moegauge $*: exit code $got instead of $code: $(cat err)"
  grep -qF -- "$words" err || complain "moegauge $*: '$words' is not in: $(cat err)"
}

# says CODE WORDS ARGUMENTS...: exit code, and words anywhere in what was printed, which stays in the files out and err.
says() {
  local code=$1 words=$2 got
  shift 2
  "$MOEGAUGE" "$@" >out 2>err
  got=$?
  [ "$got" = "$code" ] || complain "moegauge $*: exit code $got instead of $code: $(cat err)"
  grep -qF -- "$words" out err || complain "moegauge $*: '$words' is not in: $(cat out err)"
}

# await COMMAND...: until it succeeds, a minute at most.
await() {
  for _ in $(seq 1200); do "$@" 2>/dev/null && return; sleep 0.05; done
}
