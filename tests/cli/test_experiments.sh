#!/usr/bin/env bash
# Every file of experiments/ plans, and every case of it runs in --smoke without network, on a small corpus in place of
# the manual pages; its report finds each row that it names, so that no statement is lost by a wrong label.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

make_corpus

ran=0
for script in "$MOEGAUGE_SOURCE"/experiments/*.lua "$MOEGAUGE_SOURCE"/experiments/{papers,cluster}/*.lua; do
  name=$(basename "$script" .lua)
  corpus=()
  grep -q 'corpus = "manpages"' "$script" && corpus=(--set corpus="$work/corpus")
  # Those that look at a checkpoint take the one that make_checkpoint, which comes before them, has written here.
  grep -q 'checkpoint = ""' "$script" && corpus+=(--set checkpoint=results/checkpoints/manpages)
  "$MOEGAUGE" run "$script" --dry-run "${corpus[@]}" >out 2>err || complain "$name cannot be planned: $(cat err)"
  "$MOEGAUGE" run "$script" --smoke --seeds 1 --jobs 2 "${corpus[@]}" --out "$name" >out 2>err || complain "$name: $(tail -5 err)"
  grep -E "not run|there is no row" out >lost && complain "$name names a row that it does not run: $(cat lost)"
  ran=$((ran + 1))
done
[ "$ran" -ge 10 ] || complain "only $ran experiments were found"
exit $bad
