#!/usr/bin/env bash
# A released model from the command line: evaluation on text and on questions, routing traces; each wrong input gives one
# clear message and its exit code.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"
golden="$MOEGAUGE_SOURCE/tests/golden/models" gguf="$MOEGAUGE_SOURCE/tests/golden/gguf"

printf 'The owl looks at the moon. %.0s' 1 2 3 4 5 6 7 8 >text
cat >questions.jsonl <<'JSON'
{"context": "The owl looks at the ", "choices": ["moon", "spoon", "m"], "answer": 0}

{"context": "1 + 1 =", "choices": [" 2", " three"], "answer": 1}
JSON

# Perplexity: each of the 215 tokens after the first is scored once, whatever the passes, and one pass over all sees most.
"$MOEGAUGE" model eval "$golden/mixtral" --text text --precision f32 --json >whole || complain "eval fails"
"$MOEGAUGE" model eval "$golden/mixtral" --text text --precision f32 --context 20 --stride 7 --json >passes || complain "eval in passes fails"
"$MOEGAUGE" model eval "$golden/mixtral" --text text --precision f32 --context 20 --stride 7 --backend reference --json >reference || complain "eval on the reference fails"
lua5.4 - <<'LUA' || complain "the numbers of model eval are wrong"
local function read(name, key) return tonumber(io.open(name):read("a"):match('"' .. key .. '": ?([%d.e+-]+)')) end
for _, name in ipairs { "whole", "passes" } do
  assert(read(name, "tokens") == 215 and read(name, "bytes") == 216, name .. ": tokens")
  local loss = read(name, "loss")
  assert(math.abs(read(name, "perplexity") / math.exp(loss) - 1) < 1e-9, name .. ": perplexity")
  assert(math.abs(read(name, "bits_per_byte") - loss * 215 / 216 / math.log(2)) < 1e-9, name .. ": bits per byte")
end
assert(read("whole", "passes") == 1 and read("passes", "passes") == 29, "passes")
assert(math.abs(read("passes", "loss") - read("reference", "loss")) < 1e-5, "backends differ")
LUA

# Questions.
"$MOEGAUGE" model eval "$golden/mixtral" --choices questions.jsonl --json >out || complain "multiple choice fails"
grep -q '"questions": 2' out || complain "not both questions were asked: $(cat out)"
"$MOEGAUGE" model eval "$golden/mixtral" --choices questions.jsonl --text text --limit 1 >out 2>&1 && complain "a limit of one token is accepted"
"$MOEGAUGE" model eval "$golden/mixtral" --choices questions.jsonl --limit 1 >out || complain "one question fails"
grep -q '1 questions' out || complain "the limit is not kept: $(cat out)"

# Text: shown as it is written, or as JSON; from a word, standard input or a file.
written=$("$MOEGAUGE" model generate "$golden/mixtral" 'The owl' --tokens 9 --precision f32 --json | jq -er .text) || complain "generate --json fails"
[ "${#written}" = 9 ] || complain "nine tokens of one character each are '$written'"
printf 'The owl' >owl
for words in "- --seed 5" "--text owl --top-k 1 --temperature 2"; do
  # shellcheck disable=SC2086
  [ "$("$MOEGAUGE" model generate "$golden/mixtral" $words --tokens 9 --precision f32 <owl)" = "The owl$written" ] || complain "model generate $words"
done
"$MOEGAUGE" model generate "$gguf/olmoe.gguf" 'The owl' --tokens 3 --json | jq -e '.prompt_tokens == 7 and (.ids | length) == 3 and .prompt == "The owl"' >/dev/null || complain "generate from a GGUF file"
[ "$("$MOEGAUGE" model generate "$golden/mixtral" $'a\e[31m\xc2\x9b\tb' --tokens 1 --precision f32 | cut -b1-13)" = $'a\xef\xbf\xbd[31m\xef\xbf\xbd\tb' ] || complain "what is shown can steer a terminal"
expect 2 "TEXT is missing" model generate "$golden/mixtral"
expect 2 "the prompt has no token" model generate "$golden/mixtral" ''
expect 2 "'top_p' must be a number" model generate "$golden/mixtral" owl --top-p 2
expect 3 "not UTF-8" model generate "$golden/mixtral" "$(printf 'owl \xff')"
expect 2 "has an encoder" model generate "$golden/switch_transformers" owl

# Traces.
"$MOEGAUGE" model trace "$golden/mixtral" --text text --output trace --context 50 >out || complain "trace fails"
grep -q '216 tokens traced' out || complain "trace says: $(cat out)"
grep -aq '"layers.2.weights"' trace || complain "the trace has no third layer"

# Ids: of a text, of standard input, of a file; the same in a GGUF file with that vocabulary.
[ "$("$MOEGAUGE" model tokenize "$golden/mixtral" 'The owl')" = "51 71 68 94 78 86 75" ] || complain "the ids of a text are wrong"
for words in "$golden/mixtral -" "$gguf/olmoe.gguf -" "$golden/mixtral/tokenizer.json --text owl"; do
  printf 'The owl' >owl
  # shellcheck disable=SC2086
  [ "$("$MOEGAUGE" model tokenize $words <owl)" = "51 71 68 94 78 86 75" ] || complain "model tokenize $words"
done
"$MOEGAUGE" model tokenize "$golden/mixtral" '' --json | jq -e '.ids == [] and .tokens == [] and .bytes == 0' >/dev/null || complain "no text has ids"
"$MOEGAUGE" model tokenize "$golden/mixtral" 'a b' --json | jq -e '.ids == [64, 94, 65] and .tokens == ["a", "\u0120", "b"] and .bytes == 3' >/dev/null || complain "model tokenize --json"
expect 2 "TEXT is missing" model tokenize "$golden/mixtral"
expect 2 "not both" model tokenize "$golden/mixtral" owl --text owl
expect 2 "'owl' is one argument too many" model eval "$golden/mixtral" owl
expect 3 "cannot be opened" model tokenize nowhere owl

# GGUF files evaluate as what they were made from, and bad ones end with 3.
"$MOEGAUGE" model eval "$gguf/olmoe.gguf" --text text --precision f32 --json | jq -e '.text.tokens == 215' >/dev/null || complain "eval of a GGUF file"
"$MOEGAUGE" model trace "$gguf/deepseek2.gguf" --text text --output trace --context 50 | grep -q '216 tokens traced' || complain "trace of a GGUF file"
"$MOEGAUGE" model inspect "$gguf/gpt_oss.gguf" | grep -q 'gpt_oss (gpt_oss), a family that runs' || complain "inspect of a GGUF file"
sed 's/general.architecture\(.\{12\}\)olmoe/general.architecture\1gemma/' "$gguf/olmoe.gguf" >gemma.gguf
head -c 3000 "$gguf/olmoe.gguf" >cut.gguf
for action in inspect eval; do
  expect 3 "gemma.gguf: key 'general.architecture': must be one of" model $action gemma.gguf --text text
  expect 3 "cut.gguf" model $action cut.gguf --text text
done
# Speed, of a model without a tokenizer too; the numbers belong together.
"$MOEGAUGE" model bench "$golden/olmoe" --prompt 7 --generate 3 --depth 5 --repeats 2 --threads 1 >out || complain "bench fails"
grep -q 'prefill  *7 tokens .* GFLOP/s' out || complain "bench says nothing of the prefill: $(cat out)"
grep -q 'decode  *3 tokens after 5 .* GB/s' out || complain "bench says nothing of the decode: $(cat out)"
"$MOEGAUGE" model bench "$golden/olmoe" --prompt 0 --generate 2 --repeats 1 --precision f32 --json >out || complain "bench of the decode alone fails"
jq -e '(.speed.prefill | not) and .speed.rounds == 1 and .precision == "f32" and
  .speed.decode.lowest <= .speed.decode.tokens_per_second and .speed.decode.of_bandwidth > 0' out >/dev/null ||
  complain "the numbers of bench are wrong: $(cat out)"
"$MOEGAUGE" model bench "$golden/olmoe" --prompt 0 --generate 2 --repeats 1 --backend cpu --set isa=portable --json >out || complain "bench with an option of the backend fails"
jq -e '.backend | tostring | test("portable")' out >/dev/null || complain "the backend's option had no effect: $(cat out)"

# Weights that are no numbers: found on request, and no result is made from them.
mkdir infinite
cp "$golden"/mixtral/*.json infinite
"$MOEGAUGE" model check "$golden/mixtral" --json | jq -e '.tensors == 96 and .values == 71648 and .unread == 0' >/dev/null || complain "model check --json"
"$MOEGAUGE" model check "$gguf/olmoe_q8_0.gguf" | grep -q 'values of 27 tensors are finite' || complain "model check of a GGUF file"
{ head -c -2 "$golden/mixtral/model.safetensors" && printf '\200\177'; } >infinite/model.safetensors # the last bf16 is an infinity
expect 3 "1 of 96 tensors hold NaN or infinities: model.norm.weight (1)" model check infinite
expect 3 "the probability of a token is no number" model eval infinite --text text
expect 3 "the probability of a token is no number" model eval infinite --choices questions.jsonl

# What a file says stays on one line and steers no terminal.
mkdir steering
cp "$golden"/mixtral/* steering
sed -i 's/"hidden_act"/"num_\\u001b[31m\\nexperts": 1, "hidden_act"/' steering/config.json
expect 3 "key 'num_?[31m?experts': is unknown" model inspect steering

# Links that lead nowhere are named, not passed over.
mkdir dangling
cp "$golden"/mixtral/*.json dangling
ln -s blobs/none dangling/model.safetensors
expect 3 "dangling/model.safetensors: cannot be opened" model eval dangling --text text

# Wrong inputs.
expect 2 "name it with --backend" model bench "$golden/olmoe" --set isa=portable
expect 2 "backend cpu: 'isa' must be" model bench "$golden/olmoe" --backend cpu --set isa=quick
expect 2 "at least one token to read or to write" model bench "$golden/olmoe" --prompt 0 --generate 0
expect 2 "has an encoder" model bench "$golden/switch_transformers"
expect 2 "'repeats' must be" model bench "$golden/olmoe" --repeats 0
expect 2 "--text FILE or --choices FILE is needed" model eval "$golden/mixtral"
expect 2 "--output FILE are needed" model trace "$golden/mixtral" --text text
expect 2 "action of model" model evaluate "$golden/mixtral"
expect 3 "nothing.txt" model eval "$golden/mixtral" --text nothing.txt
expect 3 "tokenizer.json" model eval "$golden/olmoe" --text text
expect 2 "has an encoder" model eval "$golden/switch_transformers" --text text
mkdir counted broken
echo '{"model_type": "jamba"}' >counted/config.json
expect 3 "counted/config.json" model eval counted --text text
cp "$golden/mixtral/config.json" "$golden/mixtral/tokenizer.json" broken
expect 3 "broken" model eval broken --text text
head -c 3000 "$golden/mixtral/model.safetensors" >broken/model.safetensors
expect 3 "model.safetensors" model eval broken --text text
cp "$golden/olmoe/model.safetensors" broken
expect 3 "is [32, 32], but [16, 32] was expected for parameter layers.0.attention.key.weight" model eval broken --text text
echo '{"context": "a", "choices": ["b"], "answer": 0}' >few.jsonl
expect 3 "question 1: 'choices' must be a list of at least two texts" model eval "$golden/mixtral" --choices few.jsonl
echo '{"context": "a", ' >cut.jsonl
expect 3 "cut.jsonl: line 1 is not JSON" model eval "$golden/mixtral" --choices cut.jsonl

[ $bad = 0 ] && echo "released models run from the command line"
exit $bad
