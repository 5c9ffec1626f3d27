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

# ends FILES CODE WORDS ARGUMENTS...: exit code, and words in one of the files out and err, where the output stays.
ends() {
  local files=$1 code=$2 words=$3 got
  shift 3
  "$MOEGAUGE" "$@" >out 2>err
  got=$?
  [ "$got" = "$code" ] || complain "moegauge $*: exit code $got instead of $code: $(cat err)"
  # shellcheck disable=SC2086 # one or two names
  grep -qF -- "$words" $files || complain "moegauge $*: '$words' is not in: $(cat $files)"
}
# expect CODE WORDS ARGUMENTS...: words on standard error. says CODE WORDS ARGUMENTS...: words anywhere.
expect() { ends err "$@"; }
says() { ends "out err" "$@"; }

# Two folders of C texts in ./corpus: small stand-ins for the manual pages, without network.
make_corpus() {
  mkdir -p corpus/one corpus/two
  cp "$MOEGAUGE_SOURCE"/core/base/*.c corpus/one && cp "$MOEGAUGE_SOURCE"/core/tensor/ops/*.c corpus/two || exit 1
}

# await COMMAND...: until it succeeds, a minute at most.
await() {
  for _ in $(seq 1200); do "$@" 2>/dev/null && return; sleep 0.05; done
}
