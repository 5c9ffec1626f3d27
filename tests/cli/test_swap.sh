#!/usr/bin/env bash
# Swapped routers on text, from an experiment: identities hold to the bit, what is fitted moves nothing else, models are saved
# and loaded as they are, only what is asked for is trained, and swaps that make no sense end the run with exit code 2.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
golden="$MOEGAUGE_SOURCE/tests/golden/models/mixtral"

make_corpus

cat >swap.lua <<'LUA'
local mg <const> = require "moegauge"
local data = mg.corpus { corpus = "corpus" }
local tree = mg.router.tree { k = 2, branching = { 4, 2 } }
local swaps = {
  released = { options = {} },
  kept = { keep = { 0, 1, 2, 3, 4, 5, 6, 7 } },
  loaded = { keep = 8, data = data },
  pruned = { keep = 6, data = data },
  groups = { router = mg.router.deepseek { k = 2, score = "softmax", bias = "none", groups = 8, groups_kept = 8, group_score = "max" } },
  bias = { router = mg.router.deepseek { k = 2, score = "softmax", rate = 0.01 }, data = data, calibrate = { tokens = 32768, batch = 8, sequence = 64 } },
  quantile = { router = mg.router.quantile { k = 2, renormalise = true }, data = data, calibrate = { tokens = 4096, batch = 8 } },
  hash = { router = mg.router.hash { kind = "balanced", k = 1 }, data = data, calibrate = { tokens = 512, batch = 1 } },
  tree = { router = tree, gate = "fitted" },
  distilled = { router = tree, gate = "fitted", data = data, distil = { tokens = 16384, sequence = 64, rate = 0.02 } },
}
local names = {}
for name in mg.sorted_pairs(swaps) do names[#names + 1] = name end
return mg.experiment {
  title = "swaps", sweep = { swap = names },
  run = function(case)
    local model = mg.load(mg.golden or "GOLDEN", { precision = "f32" }):with_router(swaps[case.swap])
    local function measure(of) return mg.evaluate { model = of, data = data, tokens = 2048, sequence = 64, timing_passes = 0 } end
    local result = measure(model)
    model:save("saved/" .. case.swap)
    local again = mg.load("saved/" .. case.swap, { precision = "f32" })
    local metrics = { loss = result.metrics.loss, again = measure(again).metrics.loss, cv = result.metrics.cv, flops = result.metrics.flops_per_token }
    for name, value in pairs(model.distillation and model.distillation.metrics or {}) do metrics[name] = value end
    if case.swap == "tree" then
      local trained = mg.train { model = model, data = data, trainable = "router", tokens = 2048, batch = 4, sequence = 64, rate = 0.02, timing_steps = 0, final_tokens = 64 }
      metrics.gradients, metrics.trained = trained.metrics.accounted_bytes_gradients, measure(model).metrics.loss
      metrics.gate = #model:gate_source()
    end
    return { metrics = metrics, tables = { gates = { gate = model:gate_source(), again = again:gate_source() } } }
  end,
}
LUA
sed -i "s#mg.golden or \"GOLDEN\"#\"$golden\"#" swap.lua

"$MOEGAUGE" run swap.lua --jobs 2 --out swaps >out 2>err || complain "the swaps fail: $(cat err)"
"$MOEGAUGE" report swaps --format json >report.json || complain "there is no report"
lua5.4 - <<'LUA' || complain "the numbers of the swaps are wrong"
local text = io.open("report.json"):read "a"
local rows = {}
for label, metrics in text:gmatch '"labels": ?{[^}]*"swap": ?"(%a+)"[^}]*}.-"metrics": ?{([^}]*)}' do
  rows[label] = {}
  for name, value in metrics:gmatch '"([%w_]+)": ?([%d.e+-]+)' do rows[label][name] = tonumber(value) end
end
local function at(row, name) return assert(rows[row] and rows[row][name], row .. "." .. name .. " is missing") end
for _, row in ipairs { "kept", "loaded" } do assert(at(row, "loss") == at("released", "loss"), row .. " changes the loss") end
assert(math.abs(at("groups", "loss") - at("released", "loss")) < 1e-6, "all groups kept change the loss")
for row in pairs(rows) do assert(at(row, "again") == at(row, "loss"), row .. ": the saved model is another") end
for _, row in ipairs { "pruned", "bias", "quantile", "hash", "tree", "distilled" } do assert(at(row, "loss") ~= at("released", "loss"), row .. " changes nothing") end
assert(at("bias", "cv") < 0.7 * at("released", "cv"), "the bias does not balance")
assert(at("distilled", "distillation_loss") < 0.9 * at("distilled", "distillation_loss_first"), "nothing is learned from the released gate")
assert(at("tree", "gradients") == 4 * 3 * 32 * (4 + 8), "other parameters than the routers' have gradients")
assert(at("tree", "trained") ~= at("tree", "loss") and at("tree", "gate") == #"fitted, fine-tuned", "the routers were not trained")
LUA

# refuse WORDS LINE: an experiment with this line in its run function is refused before anything runs.
refuse() {
  local words=$1 line=$2 got
  printf 'local mg <const> = require "moegauge"\nlocal data = mg.corpus { corpus = "corpus" }\nreturn mg.experiment { title = "t", run = function()\n  local m = mg.load "%s"\n  do %s end\n  return mg.evaluate { model = m, data = data }\nend }\n' "$golden" "$line" >wrong.lua
  "$MOEGAUGE" run wrong.lua >out 2>err
  got=$?
  [ "$got" = 2 ] || complain "$line: exit code $got instead of 2: $(cat err)"
  grep -qF -- "$words" err || complain "$line: '$words' is not in: $(cat err)"
  grep -q "wrong.lua:" err || complain "$line: the message names no line: $(cat err)"
}
refuse "k = 9 is more than the 8 experts" 'm = m:with_router { options = { k = 9 } }'
refuse "have 9 leaves, but the layer has 8 experts" 'm = m:with_router { router = mg.router.tree { k = 2, branching = { 3, 3 } }, gate = "fitted" }'
refuse "needs the parameters level1, level2, which the released router topk lacks" 'm = m:with_router(mg.router.tree { k = 2, branching = { 4, 2 } })'
refuse "unknown key 'tokns'; did you mean 'tokens'" 'return mg.evaluate { model = m, data = data, tokns = 5 }'
refuse "'trainable' must be" 'return mg.train { model = m, data = data, trainable = 3 }'
refuse "save it with model:save" 'return mg.train { model = m, data = data, checkpoint = "x" }'
refuse "a model of mg.model is trained whole" 'return mg.train { model = mg.model { layers = 1 }, data = data, trainable = "all" }'
refuse "must be made with mg.load or mg.draw" 'return mg.evaluate { model = mg.model { layers = 1 }, data = data }'
refuse "leave the options of the stage 'tokenize' out" 'return mg.evaluate { model = m, data = mg.corpus { corpus = "corpus", stages = { "split", { stage = "tokenize" }, "encode", "pack" } } }'

# What is only seen when it runs is a failed case with the same words.
fails() {
  local words=$1 line=$2
  printf 'local mg <const> = require "moegauge"\nlocal data = mg.corpus { corpus = "corpus" }\nreturn mg.experiment { title = "t", run = function()\n  local m = mg.load "%s"\n  %s\nend }\n' "$golden" "$line" >wrong.lua
  "$MOEGAUGE" run wrong.lua --fresh >out 2>err && complain "$line: is no failure"
  grep -qF -- "$words" out err || complain "$line: '$words' is not in: $(cat out err)"
}
fails "'trainable' matches no parameter" 'return mg.train { model = m, data = data, trainable = { "*.gates" }, tokens = 64 }'
fails "use its weights; train one of those, or load it again" 'local other = m:with_router { options = { k = 4 } } return mg.train { model = m, data = data, tokens = 64 }'
fails "kind \"file\" and 'path' go together" 'return mg.train { model = mg.model { layers = 1 }, data = mg.corpus { corpus = "corpus", tokenizer = "file" } }'
fails "from number" 'return mg.evaluate { model = m, data = data, segment = 100000 }'

"$MOEGAUGE" model eval saved/tree --text "$MOEGAUGE_SOURCE/.clang-format" --limit 50 >out 2>err || complain "a saved swap cannot be evaluated: $(cat err)"
"$MOEGAUGE" model inspect saved/tree >out 2>err || complain "a saved swap cannot be inspected: $(cat err)"
sed -i 's/"k": 2/"k": 9/' saved/tree/config.json
"$MOEGAUGE" model inspect saved/tree >out 2>err
[ $? = 3 ] && grep -q "key 'swap'" err || complain "a swap with k above E is not refused: $(cat err)"
exit $bad
