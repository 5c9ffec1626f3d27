#!/usr/bin/env bash
# Installs moegauge, builds a router and a backend against the installation as a user would, and uses both.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAIL: $1"; [ -f "$work/log" ] && tail -20 "$work/log"; exit 1; }

cmake --install "$MOEGAUGE_BUILD" --prefix "$work/prefix" >"$work/log" 2>&1 || fail "cmake --install"
moegauge=$work/prefix/bin/moegauge
[ -z "$(find "$work/prefix" -perm -o+w ! -type l)" ] || fail "the installation has files that any user may change"
[ -s "$work/prefix/share/man/man1/moegauge.1" ] || fail "no man page was installed"
[ -s "$work/prefix/share/bash-completion/completions/moegauge" ] || fail "no completion was installed"

# The installed program finds its own plugins, wherever the prefix lies.
mv "$work/prefix" "$work/moved"
moegauge=$work/moved/bin/moegauge
for kind in routers backends; do
  here=$("$MOEGAUGE" list $kind --names) there=$(env -u MOEGAUGE_PLUGIN_PATH "$moegauge" list $kind --names)
  [ "$here" = "$there" ] || fail "the installed program has other $kind: '$there' instead of '$here'"
done

compiler=$(sed -n 's/^CMAKE_C_COMPILER:[^=]*=//p' "$MOEGAUGE_BUILD/CMakeCache.txt")
cmake -S "$MOEGAUGE_SOURCE/tests/plugins/out_of_tree" -B "$work/build" -G Ninja -DCMAKE_C_COMPILER="$compiler" \
  -DCMAKE_PREFIX_PATH="$work/moved" >"$work/log" 2>&1 || fail "configuring the plugins"
cmake --build "$work/build" >"$work/log" 2>&1 || fail "building the plugins"

for file in routers/gumbel.so:mg_router_entry backends/counting.so:mg_backend_entry; do
  exported=$(nm -D --defined-only "$work/build/moegauge/${file%:*}" | awk '$2 ~ /[A-Z]/ { print $3 }')
  [ "$exported" = "${file#*:}" ] || fail "${file%:*} exports: $exported"
done

export MOEGAUGE_PLUGIN_PATH=$work/build/moegauge
"$moegauge" list routers --json >"$work/routers" || fail "list routers"
jq -e '.[] | select(.name == "gumbel") | .available and (.hash | length) == 32' "$work/routers" >/dev/null ||
  fail "gumbel is not listed: $(cat "$work/routers")"
"$moegauge" help router gumbel >"$work/help" || fail "help router gumbel"
grep -q 'strength .*factor on the Gumbel noise' "$work/help" || fail "the options of gumbel: $(cat "$work/help")"
grep -q 'e = top-k(x W + strength' "$work/help" || fail "the formula of gumbel: $(cat "$work/help")"
"$moegauge" list backends --json >"$work/backends" || fail "list backends"
jq -e '.[] | select(.name == "counting") | .available and (.device | startswith("primitives=4/"))' "$work/backends" \
  >/dev/null || fail "counting is not listed: $(cat "$work/backends")"

# A real run: the four primitives agree with the reference, and all others are named as not supported.
"$moegauge" check backend counting --json >"$work/check" || fail "check backend counting: $(head -c 400 "$work/check")"
jq -e '([.rows[] | select(.verdict == "passed") | .op] | unique) == ["add_scaled", "fill", "softmax", "transpose"]
  and ([.rows[] | select(.op == "matmul") | .verdict] | unique) == ["unsupported"]' "$work/check" >/dev/null ||
  fail "the primitives of counting: $(jq -c '[.rows[] | {op, verdict}] | unique' "$work/check")"

# A real run: the router keeps its promises, and trains in an experiment of the installed Lua library.
"$moegauge" check router gumbel >"$work/check" || fail "check router gumbel: $(cat "$work/check")"
cat >"$work/gumbel.lua" <<'LUA'
local mg <const> = require "moegauge"
return mg.experiment {
  title = "A router from outside the tree",
  sweep = { strength = { 0, 1 }, seed = { 1 } },
  run = function(case)
    local moe = mg.moe { experts = 4, width = 16, router = mg.router.gumbel { k = 2, strength = case.strength } }
    local model = mg.model { layers = 1, width = 16, heads = 2, feed_forward = moe, seed = case.seed }
    return mg.train { model = model, data = mg.corpus "synthetic", tokens = 4096, batch = 2, sequence = 64 }
  end,
}
LUA
cd "$work" || exit 1
MOEGAUGE_CACHE=$work/cache "$moegauge" run gumbel.lua --smoke --out "$work/results" >"$work/log" 2>&1 || fail "run gumbel.lua"
grep -q "2 cases finished, 0 without a result" "$work/log" || fail "the run of gumbel did not finish: $(cat "$work/log")"

# Installed, they are found without the variable.
cmake --install "$work/build" >"$work/log" 2>&1 || fail "installing the plugins"
env -u MOEGAUGE_PLUGIN_PATH "$moegauge" list routers --names | grep -qx gumbel || fail "the installed gumbel is not found"
echo "out of tree: built, loaded, described and installed"
