#!/usr/bin/env bash
# Every animal of the zoo is refused in words with exit code 5, and the program lives on.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"
zoo=$MOEGAUGE_BUILD/tests/zoo

# refused FILE WORDS: loading the file fails with exit code 5 and a message that holds the words and the file.
refused() {
  local message code
  message=$(timeout 30 "$MOEGAUGE" help router "$1" 2>&1 >"$work/out")
  code=$?
  [ $code = 5 ] || complain "$1: exit code $code instead of 5: $message"
  [[ $message == *"$2"* ]] || complain "$1: '$2' is not in: $message"
  [[ $message == "error: "* && $message == *"$(basename "$1")"* ]] || complain "$1: the file is not named: $message"
  [ -s "$work/out" ] && complain "$1: standard output is not empty: $(cat "$work/out")"
  echo "$(basename "$1"): ${message//$zoo\//}"
}

accepted() {
  "$MOEGAUGE" help router "$1" >"$work/out" 2>&1 || complain "$1 was refused: $(cat "$work/out")"
  grep -q "MUST NOT BE SHOWN" "$work/out" && complain "$1: a field beyond its table was read"
}

refused "$zoo/no_symbol.so" "exports neither mg_router_entry nor mg_backend_entry; end its source with MG_ROUTER_PLUGIN"
refused "$zoo/older_abi.so" "has plugin ABI 1, this moegauge"
refused "$zoo/newer_abi.so" "has plugin ABI 3, this moegauge"
refused "$zoo/newer_abi.so" "has ABI 2; rebuild it against this moegauge"
refused "$zoo/table_too_small.so" "its table has 16 bytes, at least"
refused "$zoo/null_table.so" "returned NULL instead of a table"
refused "$zoo/wild_table.so" "crashes while it is loaded (Segmentation fault)"
refused "$zoo/null_route.so" "its table has no .route"
refused "$zoo/two_entries.so" "make two plugins of it"
refused "$zoo/only_backend.so" "is a backend, but a router was wanted"
refused "$zoo/other_name.so" "calls itself 'somebody_else'; rename the file"
refused "$zoo/bad_default.so" "'k' must be an integer from 1 to 8, not 99"
refused "$zoo/option_outside.so" "option 'k' lies outside the options struct"
refused "$zoo/undefined_symbol.so" "undefined symbol: mg_zoo_nobody_has_this"
refused "$zoo/crash_at_load.so" "crashes while it is loaded"
refused "$zoo/exit_at_load.so" "a plugin must not call exit"
refused "$zoo/print_at_load.so" "prints to standard output while it is loaded"
started=$SECONDS
refused "$zoo/hang_at_load.so" "was still loading after 5 seconds"
[ $((SECONDS - started)) -le 20 ] || complain "the hanging plugin held us for $((SECONDS - started)) s"

echo "int main(void) { return 0; }" >"$work/text.so"
refused "$work/text.so" "is not a shared object"
: >"$work/empty.so"
refused "$work/empty.so" "is not a shared object"
head -c $(($(stat -c %s "$zoo/healthy.so") / 2)) "$zoo/healthy.so" >"$work/half.so"
refused "$work/half.so" "is cut short"
head -c 40 "$zoo/healthy.so" >"$work/stump.so"
refused "$work/stump.so" "is cut short"
{ head -c 18 "$zoo/healthy.so"; printf '\x08'; tail -c +20 "$zoo/healthy.so"; } >"$work/mips.so"
refused "$work/mips.so" "was built for another kind of processor"
refused "$work/nothing.so" "there is no such file"
cp "$zoo/healthy.so" "$work/healthy.so"
chmod o+w "$work/healthy.so"
refused "$work/healthy.so" "any user may change this file"
mkdir -m 0777 "$work/open" && cp "$zoo/healthy.so" "$work/open/" && chmod 0777 "$work/open"
refused "$work/open/healthy.so" "any user may replace files in its folder"

for animal in healthy smaller_table larger_table; do accepted "$zoo/$animal.so"; done

# One name in two folders: the first is used, the second is listed with the reason.
mkdir -p "$work/first/routers" "$work/second"
cp "$zoo/healthy.so" "$work/first/routers/"
cp "$zoo/healthy.so" "$work/second/"
listing=$(MOEGAUGE_PLUGIN_PATH=$work/first:$work/second "$MOEGAUGE" list routers --json) || complain "list failed"
jq -e --arg first "$work/first/routers/healthy.so" '
  [.[] | select(.name == "healthy")] | length == 2 and .[0].available and .[0].path == $first
    and (.[1].available | not) and (.[1].problem | contains("comes first in the search order"))
' <<<"$listing" >/dev/null || complain "one name in two folders: $listing"

# A listing survives the zoo (but for the one that takes 5 s) and says why each animal cannot be used.
mkdir "$work/zoo" && ln -s "$zoo"/*.so "$work/zoo/" && rm "$work/zoo/hang_at_load.so"
listing=$(MOEGAUGE_PLUGIN_PATH=$work/zoo "$MOEGAUGE" list routers --json) || complain "list did not survive the zoo"
jq -e '[.[] | select(.available | not) | .problem] | length >= 15 and all(length > 10)' <<<"$listing" >/dev/null ||
  complain "the zoo is not listed with its problems: $listing"

# The current folder is never searched, neither by name nor through a relative entry of the variable.
cd "$work/first/routers" || exit 1
message=$("$MOEGAUGE" help router healthy 2>&1) && complain "a plugin was loaded from the current folder"
message=$(MOEGAUGE_PLUGIN_PATH=.::healthy.so "$MOEGAUGE" help router healthy 2>&1) &&
  complain "a relative entry of MOEGAUGE_PLUGIN_PATH was used"
[[ $message == *"warning: MOEGAUGE_PLUGIN_PATH: '.' is left out because it is not an absolute path"* ]] ||
  complain "the relative entry was left out silently: $message"

# Whatever shared object the build made exports one function.
for file in "$MOEGAUGE_BUILD"/lib/moegauge/*/*.so; do
  [ -e "$file" ] || continue
  exported=$(nm -D --defined-only "$file" | awk '$2 ~ /[A-Z]/ { print $3 }')
  case $(basename "$(dirname "$file")"):$exported in
    routers:mg_router_entry | backends:mg_backend_entry) ;;
    *) complain "$file exports: $exported" ;;
  esac
done
exit $bad
