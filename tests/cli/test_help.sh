#!/usr/bin/env bash
# Help of every command, man pages, completion, exit codes of wrong usage, and valid JSON.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"

# refuses CODE WORDS ARGUMENTS...: exit code, words on standard error, nothing on standard output.
refuses() {
  local code=$1 words=$2 message got
  shift 2
  message=$("$MOEGAUGE" "$@" 2>&1 >"$work/out")
  got=$?
  [ "$got" = "$code" ] || complain "moegauge $*: exit code $got instead of $code: $message"
  [[ $message == "error: "*"$words"* ]] || complain "moegauge $*: '$words' is not in: $message"
  [ -s "$work/out" ] && complain "moegauge $*: printed on standard output: $(cat "$work/out")"
}

"$MOEGAUGE" >"$work/overview" || complain "moegauge alone fails"
"$MOEGAUGE" help >"$work/help" && cmp -s "$work/overview" "$work/help" || complain "moegauge and moegauge help differ"
"$MOEGAUGE" --help >"$work/help" && cmp -s "$work/overview" "$work/help" || complain "moegauge --help differs"
commands=$(awk '/^Commands/ {on=1; next} /^$/ {on=0} on && /^  [a-z]/ {print $1}' "$work/overview")
[ "$(wc -w <<<"$commands")" -ge 5 ] || complain "too few commands: $commands"

for command in $commands; do
  "$MOEGAUGE" help "$command" >"$work/one" || complain "help $command fails"
  for other in "$command --help" "$command -h" "--help $command" "$command --help --bogus"; do
    # shellcheck disable=SC2086
    "$MOEGAUGE" $other >"$work/two" && cmp -s "$work/one" "$work/two" || complain "'$other' differs from help $command"
  done
  [ "$(grep -c '^  moegauge ' "$work/one")" -ge 3 ] || complain "help $command: fewer than two examples"
  awk 'length > 100 {exit 1}' "$work/one" || complain "help $command has a line beyond 100 columns"
  "$MOEGAUGE" help --man "$command" >"$work/man" || complain "help --man $command fails"
  if command -v groff >/dev/null; then
    groff -man -Tutf8 -ww "$work/man" >/dev/null 2>"$work/groff" || complain "man page of $command"
    [ -s "$work/groff" ] && complain "man page of $command: $(cat "$work/groff")"
  fi
  refuses 2 "unknown option '--bogus'" "$command" --bogus
done
"$MOEGAUGE" help --man >"$work/man" && grep -q '^.SH EXIT STATUS' "$work/man" || complain "the program's man page"

refuses 2 "there is no command 'lits'; did you mean 'list'?" lits
refuses 2 "unknown option '--jsn'; did you mean '--json'?" list routers --jsn
refuses 2 "there is no list of 'router'; did you mean 'routers'?" list router
refuses 2 "an argument is missing; usage: moegauge list" list
refuses 2 "did you mean 'list'?" help lst
refuses 2 "name the router" help router
refuses 2 "there is no completion for 'tcsh'" completion tcsh
refuses 2 "--set needs KEY=VALUE" check backend reference --set k
refuses 2 "unknown key 'k'" check backend reference --set k=1
refuses 4 "no primitive" check backend reference --filter nonsense --json
refuses 5 "there is no backend 'referenc'; did you mean 'reference'?" check backend referenc
refuses 5 "there is no router 'nonsense'" help router nonsense

# bench starts the program beside this one, or says what to install.
if [ -x "$MOEGAUGE_BUILD/bin/moegauge-bench" ]; then
  "$MOEGAUGE" bench gating -- --benchmark_list_tests >"$work/out" 2>&1 && grep -q gating "$work/out" ||
    complain "bench: $(head -3 "$work/out")"
fi
mkdir "$work/alone" && cp "$MOEGAUGE" "$work/alone/"
message=$(LD_LIBRARY_PATH=$MOEGAUGE_BUILD/lib "$work/alone/moegauge" bench 2>&1)
[ $? = 4 ] && [[ $message == *"the benchmarks were not built; install libbenchmark-dev"* ]] || complain "bench: $message"

for shell in bash zsh fish; do
  "$MOEGAUGE" completion $shell >"$work/$shell" || complain "completion $shell fails"
  command -v $shell >/dev/null && { $shell -n "$work/$shell" || complain "completion $shell does not parse"; }
done
completed=$(bash -c "source $work/bash; COMP_WORDS=(moegauge list --js); COMP_CWORD=2; _moegauge; echo \"\${COMPREPLY[*]}\"")
[ "$completed" = "--json" ] || complain "bash completes 'list --js' to '$completed'"

json() {
  "$MOEGAUGE" "$@" >"$work/json" 2>"$work/err" || complain "moegauge $*: $(cat "$work/err")"
  jq -e . "$work/json" >/dev/null || complain "moegauge $*: not JSON: $(cat "$work/json")"
}
json env --json
jq -e '.version and .compiler and .processor.usable > 0 and .libraries.sqlite' "$work/json" >/dev/null ||
  complain "env lacks facts: $(cat "$work/json")"
json list routers --json
json list backends --json
json list metrics --json
mkdir -p "$work/here/experiments/deep"
echo 'return require("moegauge").experiment { title = "Is it deep?", run = function() return {} end }' >"$work/here/experiments/deep/one.lua"
echo 'return 1' >"$work/here/experiments/two.lua"
(cd "$work/here" && "$MOEGAUGE" list experiments --json) >"$work/experiments" || complain "list experiments fails"
jq -e '.[0].path == "experiments/deep/one.lua" and .[0].title == "Is it deep?" and (.[1].problem | contains("must end with"))' "$work/experiments" >/dev/null ||
  complain "list experiments: $(cat "$work/experiments")"
(cd "$work" && "$MOEGAUGE" list experiments) | grep -q 'quickstart.lua' || complain "list experiments does not find those of this moegauge"
jq -e 'length >= 10 and all(.[]; .name and .help) and (map(.name) == (map(.name) | sort))' "$work/json" >/dev/null ||
  complain "list metrics: $(head -c 300 "$work/json")"
json check backend reference --filter softmax --json
jq -e '(.rows | length) > 0 and all(.rows[]; .verdict == "passed")' "$work/json" >/dev/null || complain "check of softmax"
for router in $("$MOEGAUGE" list routers --names); do
  json help router "$router" --json
  "$MOEGAUGE" help router "$router" | grep -q "^Options" || complain "help router $router has no options"
  folder=$MOEGAUGE_SOURCE/routers
  grep -q "^| \`$router\` |" "$folder/README.md" || complain "routers/README.md has no row for $router"
  grep -qF "\`$router\`" "$MOEGAUGE_SOURCE/README.md" || complain "README.md does not name $router"
  for option in $(jq -r '.options[].name' "$work/json"); do
    grep -q "^|.*\`$option\`.*|" "$folder/$router/README.md" || complain "routers/$router/README.md has no row for $option"
  done
done
for backend in $("$MOEGAUGE" list backends --names); do json help backend "$backend" --json; done

[[ $("$MOEGAUGE" --version) == "moegauge "[0-9]*.[0-9]*" ("* ]] || complain "--version: $("$MOEGAUGE" --version)"
"$MOEGAUGE" help | grep -q $'\033' && complain "colour without a terminal"
"$MOEGAUGE" env >/dev/full 2>"$work/err"
[ $? = 8 ] || complain "a full disk behind standard output is not exit code 8"
exit $bad
