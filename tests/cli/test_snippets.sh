#!/usr/bin/env bash
# What the READMEs and headers show works as shown: experiments run, routers keep their promises, calls are Lua, C compiles,
# and command lines are understood.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

# Each fenced block of a language as LANGUAGE-N beside the page that it is from.
mkdir blocks
while read -r page; do
  name=${page#./} name=${name%/README.md}
  awk -v stem="blocks/${name//\//-}" '
    /^```[a-z]+$/ { inside = 1; file = sprintf("%s-%d.%s", stem, ++count, substr($0, 4)); next }
    /^```$/ { inside = 0; close(file); next }
    inside { print > file }' "$MOEGAUGE_SOURCE/$page"
done < <(cd "$MOEGAUGE_SOURCE" && find . -name README.md -not -path './build/*' -not -path './results/*')

require='local mg <const> = require "moegauge"'
experiments=0 routers=0 others=0
for file in blocks/*.lua; do
  grep -qF "$require" "$file" || sed -i "1i $require" "$file"
  if grep -q 'mg\.experiment {' "$file"; then
    corpus=$(grep -c manpages "$file") # needs packages, and so a network
    experiments=$((experiments + 1))
    "$MOEGAUGE" run "$file" --dry-run >out 2>err || complain "$file: $(cat err)"
    [ "$corpus" = 0 ] || continue
    "$MOEGAUGE" run "$file" --smoke --seeds 1,2 --out ran >out 2>err || complain "$file does not run: $(cat out err)"
    rm -rf ran
  elif grep -q 'mg\.router\.define {' "$file"; then
    routers=$((routers + 1))
    "$MOEGAUGE" check router "$file" >out 2>err || complain "$file breaks a promise: $(cat out err)"
  else
    others=$((others + 1)) # parts of a script: they are Lua, whatever r, data and the like may be
    { echo "$require"; echo 'return mg.experiment { title = "t", run = function() return {} end, filter = function() local _ = function(r, data, model)'
      grep -vF "$require" "$file"; echo 'end return true end }'; } >whole.lua
    "$MOEGAUGE" run whole.lua --dry-run >out 2>err || complain "$file is not Lua: $(cat err)"
  fi
done
[ $experiments -ge 2 ] && [ $routers -ge 2 ] && [ $others -ge 3 ] || complain "found $experiments experiments, $routers routers, $others parts"

# The cluster call of the front page simulates.
call=$(grep -l 'return mg.cluster {' blocks/*.lua | head -1)
{ echo "$require"; echo 'return mg.experiment { title = "t", run = function()'; grep -vF "$require" "$call"; echo 'end }'; } >cluster.lua
"$MOEGAUGE" run cluster.lua >out 2>err || complain "$call: $(cat out err)"

# The router of router.h, from its comment to a plugin that is checked; the command of core/cli/README.md.
compiler=$(sed -n 's/^CMAKE_C_COMPILER:[^=]*=//p' "$MOEGAUGE_BUILD/CMakeCache.txt")
sed -n '/A whole plugin:/,/MG_ROUTER_PLUGIN(plugin)/s/^ \*     //p' "$MOEGAUGE_SOURCE/core/include/moegauge/router.h" >mine.c
"$compiler" -std=c17 -fPIC -shared -I "$MOEGAUGE_SOURCE/core/include" mine.c -o mine.so 2>err || complain "router.h: $(cat err)"
if [ -z "${MOEGAUGE_SANITIZE:-}" ]; then
  "$MOEGAUGE" check router ./mine.so >out 2>err || complain "the router of router.h: $(cat out err)"
fi
"$compiler" -std=c17 -fsyntax-only -I "$MOEGAUGE_SOURCE/core/include" -I "$MOEGAUGE_SOURCE/core" -x c blocks/core-cli-*.c 2>err ||
  complain "core/cli/README.md: $(cat err)"

# Command lines: every option is known and every word has its place.
lines=0
while read -r line; do
  lines=$((lines + 1))
  eval "set -- $line"
  "$MOEGAUGE" "$@" --help >out 2>err || complain "moegauge $line: $(cat err)"
done < <(cd "$MOEGAUGE_SOURCE" && find . -name README.md -not -path './build/*' -exec sed -nE 's/^    ([A-Z_]+=[^ ]+ )?(build\/release\/bin\/)?moegauge ([^#]*).*/\3/p' {} +)
[ $lines -ge 30 ] || complain "found $lines command lines"

[ $bad = 0 ] && echo "snippets: $experiments experiments, $routers routers, $others parts and $lines command lines work as shown"
exit $bad
