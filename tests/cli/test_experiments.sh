#!/usr/bin/env bash
# Every file of experiments/ plans, and every case of it runs in --smoke on the synthetic corpus, without network; its
# report finds each row that it names, so that no statement or published row is lost by a wrong label.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
export MOEGAUGE_CACHE="$work/cache" OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
bad=0
complain() { echo "FAIL: $1"; bad=1; }

ran=0
for script in "$MOEGAUGE_SOURCE"/experiments/*.lua "$MOEGAUGE_SOURCE"/experiments/papers/*.lua; do
  [ -e "$script" ] || continue
  name=$(basename "$script" .lua)
  corpus=()
  grep -q 'corpus = "manpages"' "$script" && corpus=(--set corpus=synthetic)
  "$MOEGAUGE" run "$script" --dry-run >out 2>err || complain "$name cannot be planned: $(cat err)"
  "$MOEGAUGE" run "$script" --smoke --seeds 1 --jobs 2 "${corpus[@]}" --out "$name" >out 2>err || complain "$name: $(tail -5 err)"
  grep -qE 'not run|not measured' out && complain "$name names a row that it does not run: $(grep -E 'not run|not measured' out)"
  ran=$((ran + 1))
done
[ "$ran" -ge 2 ] || complain "no experiment was found"
exit $bad
