#!/usr/bin/env bash
# Training from the command line on the synthetic corpus: a router in Lua routes as the same one in C to the last bit,
# the same command gives the same bits, and the wrong inputs of a training experiment are refused before anything runs.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"
export OMP_NUM_THREADS=2

metric() { sqlite3 "$1/results.sqlite" "SELECT group_concat(value, ' ') FROM (SELECT value FROM metrics JOIN plan USING(hash) WHERE name = '$2' ORDER BY plan.number)"; }

script=$MOEGAUGE_SOURCE/experiments/lua_routers.lua
"$MOEGAUGE" run "$script" --smoke --seeds 1 --out one >out 2>err || complain "smoke run fails: $(cat err)"
"$MOEGAUGE" run "$script" --smoke --seeds 1 --out two --jobs 2 >out 2>err || complain "second smoke run fails: $(cat err)"
for name in loss cv entropy; do
  set -- $(metric one $name)
  [ $# = 8 ] && [ "$1 $3 $5 $7" = "$2 $4 $6 $8" ] || complain "$name of the routers in C and in Lua, in pairs: $*"
  [ "$(metric one $name)" = "$(metric two $name)" ] || complain "$name is another in a second run"
done
"$MOEGAUGE" report one --format json 2>/dev/null | jq -e '.cases[0].provenance | .data_checksum and .commit and .backend' >/dev/null || complain "provenance is missing"

# A filter in Lua decides about every document of a folder, and its result is another corpus.
filtered() {
  cat >filter.lua <<LUA
local mg <const> = require "moegauge"
return mg.experiment { title = "filter", run = function()
  local data = mg.corpus { corpus = "$MOEGAUGE_SOURCE/core", domain_bytes = 100000, vocabulary = 300, filter = function(text, domain) return $1 end }
  return mg.train { model = mg.model { layers = 1, width = 32, heads = 2 }, data = data, tokens = 64, batch = 1, sequence = 32 }
end }
LUA
  "$MOEGAUGE" run filter.lua --smoke --out filter >out 2>err
  sqlite3 filter/results.sqlite "SELECT status || ' ' || ifnull(json_extract(provenance, '$.data_checksum'), reason) FROM cases JOIN plan USING(hash)"
}
all=$(filtered 'true') upper=$(filtered 'text:upper()') wrong=$(filtered 'domain == 3 or nil')
[[ $all == "ok "* && $upper == "ok "* && $all != "$upper" ]] || complain "a filter's text: $all, $upper"
[[ $wrong == "failed "*"must return true, false and a reason, or a text, not a nil"* ]] || complain "a filter's nil: $wrong"

# A trained model is kept in the form of a released one, which loads, reads text, and is saved again as it was.
cat >kept.lua <<LUA
local mg <const> = require "moegauge"
return mg.experiment { title = "kept", run = function()
  local data = mg.corpus { corpus = "$MOEGAUGE_SOURCE/core", domain_bytes = 100000, vocabulary = 300 }
  local moe = mg.moe { experts = 4, width = 16, router = mg.router.topk { k = 2 }, losses = { { kind = "balance", scope = "global", window = 2 } } }
  local result = mg.train { model = mg.model { layers = 1, width = 32, heads = 2, feed_forward = moe }, data = data, tokens = 64, batch = 1, sequence = 32, save = "kept/model" }
  local loaded = mg.load("kept/model", { precision = "f32" })
  result.metrics.read = loaded:perplexity { text = "$MOEGAUGE_SOURCE/LICENSE", limit = 40 }.loss
  loaded:save "kept/again"
  return result
end }
LUA
"$MOEGAUGE" run kept.lua --smoke --out kept/run >out 2>err || complain "training with 'save' fails: $(cat err)"
jq -e '.model_type == "mixtral" and .vocab_size == 300 and .eos_token_id == null and .rope_theta == 10000' kept/model/config.json >/dev/null || complain "the config.json of a trained model: $(cat kept/model/config.json)"
jq -e '.model.vocab | length == 300' kept/model/tokenizer.json >/dev/null || complain "the tokenizer.json of a trained model"
for name in config.json tokenizer.json model.safetensors; do cmp -s kept/model/$name kept/again/$name || complain "$name changes when it is saved again"; done
[ -n "$(metric kept/run read)" ] || complain "a kept model reads no text"

# A bad specification: what is put in for FEED or TRAIN, the exit code, and the words.
refused() {
  cat >bad.lua <<LUA
local mg <const> = require "moegauge"
local moe <const> = function(t) t.experts, t.width = t.experts or 8, 16 return mg.moe(t) end
return mg.experiment { title = "bad", sweep = { ff = { $1 } },
  run = function(case)
    local model = mg.model { layers = 1, width = 32, heads = 2, feed_forward = case.ff }
    return mg.train { model = model, data = mg.corpus($2), tokens = 64, batch = 1, sequence = 32, $3 }
  end }
LUA
  expect "$4" "$5" run bad.lua --out bad
  grep -q 'bad.lua' err || complain "'$5': the file is not named: $(cat err)"
  [ -e bad/results.sqlite ] && complain "'$5': something ran"
}
good='mg.dense { width = 16 }' text='"synthetic"'
refused 'moe { router = mg.router.topk { k = 9 } }' "$text" '' 2 'k = 9 is more than the 8 experts'
refused 'moe { router = mg.router.topk { kk = 2 } }' "$text" '' 2 "did you mean 'k'?"
refused 'moe { router = mg.router.tree { branching = { 3, 3 } } }' "$text" '' 2 'tree'
refused 'moe { router = mg.router.topk {}, capacity = 0 }' "$text" '' 2 'factor'
refused 'moe { router = mg.router.topk {}, capacty = 1 }' "$text" '' 2 "did you mean 'capacity'?"
refused 'moe { router = mg.router.topk { k = "two" } }' "$text" '' 2 'must be an integer'
refused "$good" "$text" 'evaluations = { wide = { layers = 1 } }' 2 'evaluations.wide must be made with mg.model'
refused "$good" "$text" 'evaluations = { mg.model { layers = 1 } }' 2 'a table of models by name'
refused "$good" "$text" 'evaluation = {}' 2 "did you mean 'evaluations'?"
refused "$good" "$text" 'snapshots = { 0.1, 1.5 }' 2 'entry 2 is none'
refused 'moe { router = mg.router.topk {}, capacity = 1 }' "$text" 'save = "kept/no"' 2 'mixtral: feed_forward[1].capacity is drop here, nothing there; qwen2_moe'
refused 'moe { router = mg.router.topk {} }' "$text" 'save = 3' 2 "'save' must be the path of a folder"
refused 'moe { router = mg.router.nothing {} }' "$text" '' 5 "there is no router 'nothing'"
refused "$good" "$text" 'tokns = 3' 2 "did you mean 'tokens'?"
refused "$good" "$text" 'rate = -1' 2 'rate'
refused "$good" '"/no/such/folder"' '' 3 '/no/such/folder'
refused "$good, 0/0" "$text" '' 2 'NaN'
expect 5 "there is no backend 'gpuu'" run "$script" --dry-run --set backend=gpuu
expect 2 "from 1 up" run "$script" --dry-run --set threads=0

[ $bad = 0 ] && echo "train: the Lua router equals the C one, runs repeat to the bit, wrong specifications are refused"
exit $bad
