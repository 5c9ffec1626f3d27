#!/usr/bin/env bash
# moegauge check finds every animal of the zoo that is wrong when it routes, passes those that are not, and lives on.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"
zoo=$MOEGAUGE_BUILD/tests/zoo

passes() {
  "$MOEGAUGE" check router "$@" --json >"$work/json" 2>"$work/err" || complain "$*: $(cat "$work/err")"
  jq -e '[.rows[].verdict] | (map(select(. == "passed")) | length) >= 5 and all(. != "failed")' "$work/json" >/dev/null ||
    complain "$*: $(jq -c '.rows[] | select(.verdict == "failed")' "$work/json")"
}

# fails NAME CHECK WORDS: that check fails with those words, and the exit code is 5.
fails() {
  "$MOEGAUGE" check router "$zoo/$1.so" --json >"$work/json" 2>"$work/err"
  local code=$?
  [ $code = 5 ] || complain "$1: exit code $code instead of 5: $(cat "$work/err")"
  jq -e --arg check "$2" --arg words "$3" \
    '.rows[] | select(.check == $check) | .verdict == "failed" and (.detail | contains($words))' "$work/json" \
    >/dev/null || complain "$1: check $2 does not say '$3': $(jq -c '.rows[] | select(.verdict == "failed")' "$work/json")"
}

# dies NAME WORDS: the router takes its own process down, not ours.
dies() {
  local message code
  message=$("$MOEGAUGE" check router "$zoo/$1.so" 2>&1 >/dev/null)
  code=$?
  [ $code = 5 ] || complain "$1: exit code $code instead of 5: $message"
  [[ $message == *"$2"* ]] || complain "$1: '$2' is not in: $message"
}

passes "$zoo/healthy.so"
fails wrong_shape outputs "returned weights of shape"
fails no_weights outputs "returned no weights"
fails id_out_of_range outputs "chose expert 8"
fails duplicate_ids distinct_experts "chose expert 0 twice"
fails nan_weights finite "is nan"
dies abort_in_route "died of signal 6 (Aborted)"
dies crash_in_route "died of signal 11 (Segmentation fault)"

exit $bad
