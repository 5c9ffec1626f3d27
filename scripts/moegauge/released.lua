--- Released models that run: loading, perplexity on text, multiple choice, routing traces, another routing.

local core = require "moegauge.core"
local lazy = require "moegauge.lazy"
local sorted = require "moegauge.sorted"
local specification = require "moegauge.specification"
local strict = require "moegauge.strict"

local families, inspect, speed = lazy "moegauge.families", lazy "moegauge.inspect", lazy "moegauge.speed"
local statistics, swap, swapped, tuning = lazy "moegauge.statistics", lazy "moegauge.swap", lazy "moegauge.swapped", lazy "moegauge.tuning"

local released = {}

local Model = { __name = "moegauge.released" }
Model.__index = Model

-- A model in the script's hands. While the plan is made (core.probing) there is no `model` behind it: its specification can
-- be checked and changed, but nothing runs.
local function new(fields)
  return setmetatable(fields, Model)
end

function released.is(value) return getmetatable(value) == Model end

local function described(read)
  local found, reason = core.describe(read.spec, 1, false)
  if not found then core.fail_plain("file", ("%s: the model that this configuration describes is refused: %s"):format(read.file, reason)) end
  return found.spec
end

local function fields_of(read, options)
  return {
    path = options.path, family = read.family.name, tensors = read.family.tensors, spec = described(read), has_encoder = read.spec.encoder ~= nil,
    config = read.config, made = read.made, kinds = read.kinds, precision = options.precision or "bf16", sources = {},
  }
end

--- Loads the checkpoint in a folder, whose config.json names its family. `precision` is "bf16" (default) or "f32".
--- @param path string
--- `options` are the backend's own, as `moegauge help backend NAME` lists them.
--- @param options? { backend?: string, precision?: string, threads?: integer, options?: table<string, any> }
function released.load(path, options)
  options = options or {}
  strict.keys(options, { "backend", "precision", "threads", "options" }, "mg.load")
  local read = families.read(path)
  if not read.family.runs then
    core.fail_plain("file", ("%s: %s is a family for accounting only: it can be inspected, not run"):format(read.file, read.family.name))
  end
  local fields = fields_of(read, { path = path, precision = options.precision })
  fields.sources, fields.swapped = read.sources or {}, read.sources ~= nil
  if core.probing() then
    specification.used_files[path] = core.stamp(path)
    return new(fields)
  end
  local of_backend = {}
  for name, value in pairs(options.options or {}) do of_backend[name] = value end
  of_backend.threads = options.threads or core.run_settings().threads or of_backend.threads
  fields.model = core.load_released {
    path = path, spec = read.spec, tensors = read.tensors, ignored = read.ignored_tensors,
    backend = options.backend or core.backend_name(), precision = fields.precision, options = next(of_backend) and of_backend or nil,
  }
  return new(fields)
end

--- A model of random weights, from a configuration as a config.json has it: what model:save then writes is a checkpoint like
--- a released one. `data` is the corpus whose tokenizer it gets; weights start with the deviation `initializer_range`.
--- @param t { config: table, data?: table, seed?: integer, precision?: string, backend?: string }
function released.draw(t)
  local where <const> = "mg.draw"
  strict.keys(t, { "config", "data", "seed", "precision", "backend" }, where)
  strict.field(t, "config", "table", where)
  local read = families.read { file = where, config = t.config, names = sorted.keys(t.config) }
  read.spec.initial_deviation = t.config.initializer_range
  local fields = fields_of(read, { path = nil, precision = t.precision })
  for _, name in ipairs(swapped.router_names(fields.spec)) do fields.sources[name] = "random" end
  if core.probing() then return new(fields) end
  local threads = core.run_settings().threads
  local wanted = { spec = read.spec, backend = t.backend or core.backend_name(), precision = fields.precision, seed = t.seed or 1, options = threads and { threads = threads } or nil }
  local data, filter
  if t.data then data, filter = tuning.corpus(nil, t.data) end
  fields.model = core.draw_released(wanted, data, filter)
  return new(fields)
end

--- The model that swap.lua makes of this one; `model` may be nil while a plan is made.
function Model:derived(model, plan)
  return new {
    path = self.path, family = self.family, tensors = self.tensors, config = self.config, kinds = self.kinds, precision = self.precision,
    has_encoder = self.has_encoder, swapped = true, released_spec = self.released_spec or self.spec, model = model, spec = plan.spec, sources = plan.sources, left_out = plan.left_out,
  }
end

--- The same weights under another routing. Every key may be left out:
---
---   router     mg.router.NAME{...}, in place of the released one; or
---   options    { k = 4 }: the released router with these options changed
---   capacity   a factor, or { policy =, factor =, ... } (core/moe/README.md)
---   losses     auxiliary losses, for training
---   keep       n: the n most loaded experts of each mixture; or a list of experts to keep, from 0; or one for each mixture
---   count      options of the pass over text that finds the most loaded
---   gate       "released" (default), "fitted" (a tree's, by k-means over the released gate's rows), or "random"
---   data       mg.corpus, on whose training split the following look
---   calibrate  true, or options: buffers (a bias, thresholds, tables) move by their router's own rule
---   distil     true, or options: the gates learn the released router's probabilities; needs gate "fitted" or "random"
---   seed       of clusters and random gates
---
--- model:gate_source() of the result says where its gate came from.
--- @param t table  as above, or a router alone
function Model:with_router(t) return swap.apply(self, t) end

--- Where the parameters of the routers came from: "released", "fitted", "bias fitted, gate released", "fitted, distilled", "none".
function Model:gate_source()
  if not self.swapped and next(self.sources) == nil then return "released" end
  return swap.words(self.sources)
end

--- The specification of the n-th mixture (default the first): its experts, router, capacity.
function Model:mixture(n)
  local mixture = swap.mixtures(swap.each_layer(self.spec))[n or 1]
  if not mixture then core.fail("usage", ("model:mixture: %s has no mixture %d"):format(self.family, n or 1)) end
  return mixture
end

--- How often another model with as many mixtures of as many experts, such as the same weights on another backend, chooses
--- other experts for the tokens of a segment of the validation split: metrics.flip_rate, tables.flips by layer.
--- @param t table  { with =, data =, and the keys of mg.evaluate }
function Model:compare_routing(t) return tuning.compare_routing(self, t) end

--- Moves the routers' buffers by their own rule on the training split of a corpus; with fit = false only counts the load.
--- @param options table  { data =, tokens =, batch =, sequence =, seed =, fit = } (core/train/README.md)
function Model:calibrate(options) return tuning.calibrate(self, options) end

--- Trains the gates until they give the probabilities of those of `teacher`; with_router{ distil = } does it.
--- @param t { data: table, teacher: table, experts?: integer[][], options?: table }
function Model:distil(t) return tuning.distil(self, t) end

--- What a token costs: parameters, active ones, and forward FLOPs per token at a context, in all and by part.
--- @param context? integer
function Model:counts(context)
  context = context or 1024
  local found = core.describe(self.spec, context, false)
  local flops, size = inspect.flops(found), found.size
  return { context = context, total = size.total + size.buffers, active = size.active, router = size.parts.router, routed = size.parts.routed,
    flops_per_token = flops.causal.forward, flops = flops }
end

local function whole(options, key, default, least, where)
  local value = options[key]
  if value == nil then return default end
  if math.type(value) ~= "integer" or value < least then
    core.fail("usage", ("%s: '%s' must be a whole number from %d up, not %s"):format(where, key, least, strict.describe(value)))
  end
  return value
end

local function need_decoder(self, where)
  if self.has_encoder then core.fail("usage", ("%s: %s has an encoder; texts are scored by decoders alone"):format(where, self.family)) end
end

-- ---- text --------------------------------------------------------------------------------------------------------

--- Perplexity of a text file. Passes of `context` tokens move on by `stride`; a pass scores the tokens that no pass before it
--- scored, so that every token but the first is scored once, with at least context - stride tokens before it. The interval is
--- that of the mean over passes. Of a limited text, bytes are counted in proportion to its tokens.
--- @param options { text: string, context?: integer, stride?: integer, limit?: integer }
function Model:perplexity(options)
  local where <const> = "model:perplexity"
  strict.keys(options, { "text", "context", "stride", "limit" }, where)
  strict.field(options, "text", "string", where)
  need_decoder(self, where)
  local context = whole(options, "context", 1024, 2, where)
  local stride = whole(options, "stride", math.max(context // 2, 1), 1, where)
  if stride >= context then core.fail("usage", ("%s: 'stride' = %d must be below context = %d, as a pass cannot score its first token"):format(where, stride, context)) end
  local ids, bytes = self.model:encode_file(options.text, true)
  local limit = math.min(#ids, whole(options, "limit", #ids, 2, where))
  if limit < 2 then core.fail("usage", ("%s: %s has %d tokens; at least 2 are needed"):format(where, options.text, #ids)) end
  local share = limit / #ids
  local sum, tokens, greedy, means, scored, first = 0.0, 0, 0, {}, 1, 1
  while scored < limit do
    local last = math.min(first + context - 1, limit)
    local log_likelihood, count, right = self.model:score(table.move(ids, first, last, 1, {}), scored - first + 2)
    sum, tokens, greedy = sum - log_likelihood, tokens + count, greedy + right
    means[#means + 1] = -log_likelihood / count
    scored, first = last, first + stride
  end
  local loss = sum / tokens
  local half = #means > 1 and statistics.estimate(means).half or nil
  return {
    text = options.text, tokens = tokens, bytes = math.floor(bytes * share), context = context, stride = stride, passes = #means,
    loss = loss, perplexity = math.exp(loss), perplexity_low = half and math.exp(loss - half), perplexity_high = half and math.exp(loss + half),
    bits_per_byte = sum / (math.log(2) * bytes * share), next_token_accuracy = greedy / tokens,
  }
end

-- ---- multiple choice ---------------------------------------------------------------------------------------------

local function check_question(question, number, path)
  local function refuse(rule) core.fail_plain("file", ("%s: question %d: %s"):format(path, number, rule)) end
  if type(question) ~= "table" then refuse "must be an object {context, choices, answer}" end
  if type(question.context) ~= "string" then refuse "'context' must be a text" end
  if type(question.choices) ~= "table" or #question.choices < 2 then refuse "'choices' must be a list of at least two texts" end
  for _, choice in ipairs(question.choices) do
    if type(choice) ~= "string" or choice == "" then refuse "'choices' must be texts that are not empty" end
  end
  local answer = question.answer
  if math.type(answer) ~= "integer" or answer < 0 or answer >= #question.choices then
    refuse(("'answer' must be a number from 0 to %d"):format(#question.choices - 1))
  end
end

-- ln p of a choice after its context. Spaces at the end of the context go with the choice, as a tokenizer joins them to words.
local function likelihood(self, context, choice)
  local trimmed = context:gsub("%s+$", "")
  local before = self.model:encode(trimmed, true)
  local all = self.model:encode(context .. choice, true)
  local from = 1
  while from <= #before and from < #all and before[from] == all[from] do from = from + 1 end
  return (self.model:score(all, math.max(from, 2)))
end

local function best_of(values)
  local best = 1
  for i = 2, #values do
    if values[i] > values[best] then best = i end
  end
  return best
end

--- Multiple choice: of the choices after a context, the model's is the likeliest one (acc), or the one that is likeliest per
--- byte of its text (acc_norm). The file holds one question a line: {"context": TEXT, "choices": [TEXT, ...], "answer": I},
--- counted from 0. Intervals are Wilson's, 95 %.
--- @param options { choices: string, limit?: integer }
function Model:multiple_choice(options)
  local where <const> = "model:multiple_choice"
  strict.keys(options, { "choices", "limit" }, where)
  strict.field(options, "choices", "string", where)
  need_decoder(self, where)
  local questions = core.read_json_lines(options.choices)
  local count = math.min(#questions, whole(options, "limit", #questions, 1, where))
  if count == 0 then core.fail_plain("file", ("%s: there is no question in it"):format(options.choices)) end
  for number = 1, count do check_question(questions[number], number, options.choices) end
  local right, right_norm = 0, 0
  for number = 1, count do
    local question, plain, normed = questions[number], {}, {}
    for i, choice in ipairs(question.choices) do
      plain[i] = likelihood(self, question.context, choice)
      normed[i] = plain[i] / #choice
    end
    if best_of(plain) == question.answer + 1 then right = right + 1 end
    if best_of(normed) == question.answer + 1 then right_norm = right_norm + 1 end
  end
  return { choices = options.choices, questions = count, acc = statistics.proportion(right, count), acc_norm = statistics.proportion(right_norm, count) }
end

-- ---- traces ------------------------------------------------------------------------------------------------------

-- The routing of a corpus, sequence by sequence.
local function trace_corpus(self, options)
  local where <const> = "model:trace"
  strict.keys(options, { "data", "path", "tokens", "sequence" }, where)
  local spec = specification.trace({ path = options.path, tokens = options.tokens, sequence = options.sequence }, nil, where)
  local data, filter = tuning.corpus(self, options.data, where)
  need_decoder(self, where)
  if core.probing() then core.fail("nothing", "the probe ends where the model runs") end
  self.model:trace_corpus(data, spec, filter)
  return { path = spec.path, tokens = spec.tokens, sequence = spec.sequence }
end

--- Writes which experts the tokens of a text went to (core/measure/trace.h) to `path`: of a file, or of the validation
--- split of a corpus in sequences of `sequence` tokens, each with its domain.
--- @param options { path: string, text?: string, context?: integer, limit?: integer, data?: table, tokens?: integer, sequence?: integer }
function Model:trace(options)
  local where <const> = "model:trace"
  if type(options) == "table" and options.data ~= nil then return trace_corpus(self, options) end
  strict.keys(options, { "text", "path", "context", "limit" }, where)
  for _, key in ipairs { "text", "path" } do strict.field(options, key, "string", where) end
  need_decoder(self, where)
  local context = whole(options, "context", 1024, 1, where)
  local ids = self.model:encode_file(options.text, true)
  local limit = math.min(#ids, whole(options, "limit", #ids, 1, where))
  if limit < #ids then ids = table.move(ids, 1, limit, 1, {}) end
  if #ids == 0 then core.fail("usage", ("%s: %s has no tokens"):format(where, options.text)) end
  self.model:trace(ids, context, options.path)
  return { text = options.text, path = options.path, tokens = #ids, context = context }
end

-- ---- speed -------------------------------------------------------------------------------------------------------

--- Tokens per second: reading `prompt` tokens in one pass, and writing `generate` tokens one by one after `depth` others.
--- Passes that are not counted bring all memory in place before the rounds. Tokens are random.
--- @param options? { prompt?: integer, generate?: integer, depth?: integer, repeats?: integer }
function Model:speed(options)
  local where <const> = "model:speed"
  options = options or {}
  strict.keys(options, { "prompt", "generate", "depth", "repeats" }, where)
  need_decoder(self, where)
  local prompt, generate = whole(options, "prompt", 512, 0, where), whole(options, "generate", 64, 0, where)
  local depth, repeats = whole(options, "depth", 512, 0, where), whole(options, "repeats", 5, 1, where)
  local rounds, decode_bytes = self.model:speed(prompt, generate, depth, repeats)
  return speed.summary(rounds, { prompt = prompt, generate = generate, depth = depth, decode_bytes = decode_bytes })
end

-- ---- going on from a prompt -----------------------------------------------------------------------------------------

-- What a family's configuration says ends a text: an id, a list of them, or nothing.
local function ends_of(self)
  local named = self.config and self.config.eos_token_id
  if math.type(named) == "integer" then return { named } end
  return type(named) == "table" and named or {}
end

local function number_in(options, key, default, low, high, where)
  local value = options[key]
  if value == nil then return default end
  if type(value) ~= "number" or not (value >= low and value <= high) then
    core.fail("usage", ("%s: '%s' must be a number from %g to %g, not %s"):format(where, key, low, high, strict.describe(value)))
  end
  return value
end

--- Goes on from a prompt, a text or ids, by at most `tokens` tokens, until one that ends a text: each is the likeliest
--- (temperature 0, the default), or drawn with weights e^(logit / temperature) from the `top_k` likeliest (0 = all) and of
--- those the fewest that hold the share `top_p`. The prompt is read as it stands: no chat template is put around it. Gives
--- ids, text (nil without a tokenizer), ended and prompt_tokens; `each(id, piece)` is told every token and the text that it
--- completed, at the end perhaps with nil and half a character.
--- @param options { prompt: string|integer[], tokens?: integer, temperature?: number, top_k?: integer, top_p?: number, seed?: integer, each?: fun(id: integer|nil, piece: string) }
function Model:generate(options)
  local where <const> = "model:generate"
  strict.keys(options, { "prompt", "tokens", "temperature", "top_k", "top_p", "seed", "each" }, where)
  need_decoder(self, where)
  local prompt = options.prompt
  if type(prompt) ~= "string" and type(prompt) ~= "table" then core.fail("usage", where .. ": 'prompt' must be a text or a list of ids") end
  if options.each ~= nil then strict.field(options, "each", "function", where) end
  local settings <const> = {
    tokens = whole(options, "tokens", 64, 1, where), temperature = number_in(options, "temperature", 0, 0, 1e6, where),
    top_k = whole(options, "top_k", 0, 0, where), top_p = number_in(options, "top_p", 1, 1e-9, 1, where), seed = whole(options, "seed", 1, 0, where),
    ends = ends_of(self),
  }
  if core.probing() then core.fail("nothing", "the probe ends where the model runs") end
  local ids <const> = type(prompt) == "string" and self.model:encode(prompt, true) or prompt
  local written <const>, text <const>, ended <const> = self.model:generate(ids, settings, options.each)
  return { ids = written, text = text, ended = ended, prompt_tokens = #ids }
end

-- ---- saving ------------------------------------------------------------------------------------------------------

--- Writes the model to a folder under the names of its family, with its config.json and tokenizer.json, so that other
--- programs load it. What was in 4 or 8 bits is written as what it stands for; a model from a GGUF file gets the
--- configuration that it amounts to, and its vocabulary as tokenizer.json unless that is SentencePiece's. A routing that the
--- family's configuration has no words for is written as model_type "moegauge_swap", which only moegauge loads.
--- @param folder string
function Model:save(folder)
  if type(folder) ~= "string" then core.fail("usage", "model:save: the path of a folder was expected") end
  local config, tensors = swapped.written(self)
  self.model:save(tensors, folder, config)
end

-- ---- the command -------------------------------------------------------------------------------------------------

local function number_text(value) return ("%.6g"):format(value) end

local function perplexity_lines(lines, r)
  local interval = r.perplexity_low and (" (95 %%: %s to %s)"):format(number_text(r.perplexity_low), number_text(r.perplexity_high)) or ""
  lines[#lines + 1] = ("text %s: %d tokens in %d passes of %d"):format(r.text, r.tokens, r.passes, r.context)
  lines[#lines + 1] = ("  perplexity           %s%s"):format(number_text(r.perplexity), interval)
  lines[#lines + 1] = ("  bits per byte        %s"):format(number_text(r.bits_per_byte))
  lines[#lines + 1] = ("  next-token accuracy  %s"):format(number_text(r.next_token_accuracy))
end

local function choice_lines(lines, r)
  lines[#lines + 1] = ("choices %s: %d questions"):format(r.choices, r.questions)
  for _, key in ipairs { "acc", "acc_norm" } do
    local p = r[key]
    lines[#lines + 1] = ("  %-8s  %s (95 %%: %s to %s)"):format(key, number_text(p.value), number_text(p.low), number_text(p.high))
  end
end

-- The tensors that hold values which are no numbers end it; five of them are named.
local function check_values(path)
  local found = core.check_values(path)
  local named = {}
  for i = 1, math.min(#found.not_finite, 5) do
    local one = found.not_finite[i]
    named[i] = ("%s (%d)"):format(strict.printable(one.tensor), one.not_finite)
  end
  if #named > 0 then
    core.fail_plain("file", ("%s: %d of %d tensors hold NaN or infinities: %s%s"):format(found.file, #found.not_finite, found.tensors,
      table.concat(named, ", "), #named < #found.not_finite and ", ..." or ""))
  end
  local unread = found.unread > 0 and ("; %d tensors are of types that are not decoded"):format(found.unread) or ""
  found.not_finite = nil
  return { result = found, text = ("%s: all %d values of %d tensors are finite%s\n"):format(found.file, found.values, found.tensors - found.unread, unread) }
end

local function given(value) return value ~= "" and value or nil end

-- The text with U+FFFD in place of bytes that are no UTF-8, as models over bytes may write.
local function readable(text)
  local parts, from = {}, 1
  while true do
    local _, bad = utf8.len(text, from)
    if not bad then break end
    parts[#parts + 1] = text:sub(from, bad - 1) .. utf8.char(0xfffd)
    from = bad + 1
  end
  return table.concat(parts) .. text:sub(from)
end

-- The same for a terminal, which no model shall steer: but for line ends and tabs, control characters are replaced too.
local function harmless(text)
  local mark <const> = utf8.char(0xfffd)
  return (readable(text):gsub("[\0-\8\11-\31\127]", mark):gsub("\xc2[\x80-\x9f]", mark))
end

-- Without --json the prompt and what follows are shown as they come; what is left to say is the end of the line.
local function generate(model, text, set)
  local each
  if not set.json then
    core.show(harmless(text))
    function each(_, piece) core.show(harmless(piece)) end
  end
  local made <const> = model:generate {
    prompt = text, tokens = set.tokens, temperature = set.temperature, top_k = set.top_k, top_p = set.top_p, seed = set.seed, each = each,
  }
  local result <const> = {
    family = model.family, precision = set.precision, prompt = text, prompt_tokens = made.prompt_tokens, ids = made.ids, text = readable(made.text), ended = made.ended,
  }
  return { result = result, text = "\n" }
end

--- For `moegauge model check` and the commands that run a model: { result =, text = }.
function released.command(action, path, set)
  if action == "check" then return check_values(path) end
  local load = { backend = given(set.backend), precision = set.precision, threads = set.threads > 0 and set.threads or nil, options = set.options }
  local text, choices, limit = given(set.text), given(set.choices), set.limit > 0 and set.limit or nil
  if action == "trace" and not (text and given(set.output)) then core.fail_plain("usage", "model trace: --text FILE and --output FILE are needed") end
  if action == "eval" and not (text or choices) then core.fail_plain("usage", "model eval: --text FILE or --choices FILE is needed") end
  local model = released.load(path, load)
  if action == "generate" then return generate(model, set.prompt_text, set) end
  local result, lines = { family = model.family, precision = load.precision }, {}
  if action == "bench" then
    result.backend = model.model:backend()
    result.speed = model:speed { prompt = set.prompt, generate = set.generate, depth = set.depth, repeats = set.repeats }
    result.peaks = core.peaks(set.threads)
    speed.compare(result)
    return { result = result, text = speed.text(path, result) }
  end
  if action == "trace" then
    result.trace = model:trace { text = text, path = set.output, context = set.context, limit = limit }
    lines[1] = ("%s: %d tokens traced"):format(set.output, result.trace.tokens)
    return { result = result, text = lines[1] .. "\n" }
  end
  if text then
    result.text = model:perplexity { text = text, context = set.context, stride = set.stride > 0 and set.stride or nil, limit = limit }
    perplexity_lines(lines, result.text)
  end
  if choices then
    result.choices = model:multiple_choice { choices = choices, limit = limit }
    choice_lines(lines, result.choices)
  end
  return { result = result, text = table.concat(lines, "\n") .. "\n" }
end

return released
