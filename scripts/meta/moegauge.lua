---@meta moegauge
-- Annotations for editors with the Lua language server: what `require "moegauge"` gives. Nothing here runs. The methods
-- of Var repeat the table in core/lua/vars.c; tests/lua/test_meta.lua holds the two equal.

---@class moegauge
---@field core table
---@field version string
local mg = {}

---@class moegauge.ExperimentTable
---@field title string
---@field sweep? table<string, any>                          axis -> list of values; a single value is a list of one
---@field options? table<string, number|string|boolean>     defaults that --set changes, read as case.NAME
---@field run fun(case: moegauge.Case): moegauge.RunResult
---@field report? fun(r: moegauge.Result): moegauge.Block[]
---@field filter? fun(case: moegauge.Case): boolean          false leaves the case out

---@class moegauge.Case
---@field number integer
---@field label string
---@field seed integer
---@field [string] any

---@class moegauge.RunResult
---@field metrics table<string, number>
---@field series? table<string, number[]|number[][]>  values, or pairs { x, value }
---@field tables? table<string, any>

-- What a report function receives. Each method returns a block, but `fold`, which returns such a result again.
---@class moegauge.Result
---@field cases table[]   finished cases in sweep order
---@field failed table[]  failed and skipped cases
local Result = {}

---@class moegauge.Block

---One row per value of the axis, one column per metric.
---@param axis? string
---@param columns? string[]  metrics
---@return moegauge.Block
function Result:table(axis, columns) end

---Every pair of values of the axis, or all against one of them, compared by one metric.
---@param axis? string
---@param name? string  metric; default loss
---@param base? string  a label of the axis
---@return moegauge.Block
function Result:differences(axis, name, base) end

---One row per value of the axis, with texts from the table `name` of its first case.
---@param axis string
---@param name string
---@param columns string[]  keys of that table
---@return moegauge.Block
function Result:facts(axis, name, columns) end

---A row is { label, METRIC = figure, paper = its name there, sourcing = where it differs }.
---@class moegauge.PaperTable
---@field source string    authors, year, arXiv number
---@field table string     the table's number in the paper
---@field sourcing "P"|"P2"|"C"|"S"|"M"|"D"  how the figures came here
---@field axis? string
---@field columns string[] metrics
---@field rows table[]
---@field note? string

---@param t moegauge.PaperTable
---@return moegauge.Block
function Result:paper(t) end

---Statements about the expected shape: a list of { words, metric, this, relation, that, ..., by =, within = } or
---{ words, function(at) return a number that is positive where the statement is true end }, and `axis`.
---@param t table
---@return moegauge.Block
function Result:expect(t) end

---@param axis string
---@param f fun(cases: table[]): table<string, number>
---@return moegauge.Result
function Result:fold(axis, f) end

---The named metrics also as multiples of those of one row: NAME_share.
---@param axis string
---@param base string  a label of the axis
---@param names string[]
---@return moegauge.Result
function Result:relative(axis, base, names) end

---A metric over an axis of numbers, one line for each value of `by`.
---@param t { x: string, y: string, by: string, log_x: boolean|nil, log_y: boolean|nil }
---@return moegauge.Block
function Result:curve(t) end

---@param name string     series
---@param against? string what the positions are
---@param options? { axis: string|nil, log: boolean|nil }
---@return moegauge.Block
function Result:chart(name, against, options) end

---@param x string
---@param y string
---@param axis? string
---@return moegauge.Block
function Result:pareto(x, y, axis) end

---@param what? "flops"|"ns"
---@param axis? string
---@return moegauge.Block
function Result:parts(what, axis) end

---@param name string  table
---@param axis? string
---@return moegauge.Block
function Result:heatmap(name, axis) end

---@param text string
---@return moegauge.Block
function Result:text(text) end

---@class moegauge.Value

---@param t moegauge.ExperimentTable
---@return table
function mg.experiment(t) end

---@param t { width: integer, activation?: string, gated?: boolean }
---@return moegauge.Value
function mg.dense(t) end

---@class moegauge.MoeTable
---@field experts integer
---@field width integer
---@field router moegauge.Value
---@field activation? string
---@field gated? boolean
---@field capacity? number|table  a factor is short for { policy = "drop", factor = ... }
---@field losses? table[]
---@field shared? table  { experts =, width =, gate = "none"|"sigmoid" }
---@field biases? boolean
---@field scale_inputs? boolean
---@field alpha? number
---@field limit? number
---@field parallel? table  { width =, norm = }
---@field null? table  experts that compute nothing: { zero =, copy =, constant =, tau = }
---@param t moegauge.MoeTable
---@return moegauge.Value
function mg.moe(t) end

---@param t table  keys as in core/model/model.h, and `seed`
---@return moegauge.Value
function mg.model(t) end

---@param t string|table  "manpages", "synthetic", a folder, or the pipeline's keys
---@return moegauge.Value
function mg.corpus(t) end

---@param t table  `model`, `data`, `save`, `trace`, and the keys of core/train/README.md, such as `evaluations` = { NAME = model }; with
---                a released `model` also `trainable` = "router" (default), "all" or patterns of parameter names
---@return moegauge.RunResult
function mg.train(t) end

---What a routing costs on many accelerators (core/cluster/README.md). `placement` is a policy's name, or a function that
---gets { layer, load, experts, slots, ranks, nodes, groups, seed } and returns the expert of each slot, from 0.
---@param t { step?: string, model: string|table, accelerator: string|table, ranks: integer, trace?: string|table, placement?: string|fun(request: table): integer[], [string]: any }
---@return moegauge.RunResult
function mg.cluster(t) end

---@param t table
---@param grid { tokens: number[], context: number[] }
---@return moegauge.StepCost
function mg.cluster.step_cost(t, grid) end

---What a recorded trace holds.
---@param path string
---@return { tokens: integer, texts: integer, layers: integer, experts: integer, choices: integer }
function mg.cluster.trace(path) end

---@param t table
---@param path string
function mg.cluster.write_trace(t, path) end

---A released model measured on a segment of a corpus's validation split.
---@param t table  `model`, `data`, and the keys of core/train/README.md, "A model that is there already"
---@return moegauge.RunResult
function mg.evaluate(t) end

---@param path string      config.json, a GGUF file, or a folder that holds one
---@param context? integer tokens of the context that FLOPs and memory are for; default 4096
---@return table           keys as in scripts/README.md
function mg.inspect(path, context) end

---A released model that runs.
---@class Released
---@field path string
---@field family string
---Perplexity, bits per byte and next-token accuracy on a text file, in passes of `context` tokens that move on by `stride`.
---@field perplexity fun(self: Released, options: { text: string, context?: integer, stride?: integer, limit?: integer }): table
---Multiple choice: acc and acc_norm with Wilson's intervals, from lines {"context", "choices", "answer"}.
---@field multiple_choice fun(self: Released, options: { choices: string, limit?: integer }): table
---Goes on from a prompt, a text or ids, as it stands: the likeliest tokens, or with a temperature drawn ones.
---@field generate fun(self: Released, options: { prompt: string|integer[], tokens?: integer, temperature?: number, top_k?: integer, top_p?: number, seed?: integer, each?: fun(id: integer?, piece: string) }): { ids: integer[], text: string?, ended: boolean, prompt_tokens: integer }
---Writes which experts the tokens of a text file (`text`), or of a corpus's validation split (`data`), went to.
---@field trace fun(self: Released, options: { path: string, text?: string, context?: integer, limit?: integer, data?: table, tokens?: integer, sequence?: integer }): table
---Tokens per second: reading `prompt` tokens in one pass, writing `generate` tokens one by one after `depth` others.
---@field speed fun(self: Released, options?: { prompt?: integer, generate?: integer, depth?: integer, repeats?: integer }): table
---Writes the model to a folder under the names of its family, with config.json and tokenizer.json.
---@field save fun(self: Released, folder: string)
---The same weights under another routing; the router alone may stand for the table.
---@field with_router fun(self: Released, swap: moegauge.Swap|moegauge.Value): Released
---Where the parameters of its routers came from: "released", "bias fitted, gate released", "fitted, distilled", "random", "none".
---@field gate_source fun(self: Released): string
---The specification of the n-th mixture: experts, router, capacity.
---@field mixture fun(self: Released, n?: integer): table
---Parameters, active ones, and forward FLOPs per token at a context.
---@field counts fun(self: Released, context?: integer): { total: integer, active: integer, router: integer, routed: integer, flops_per_token: number, flops: table }
---How often another model chooses other experts for the same tokens: metrics.flip_rate.
---@field compare_routing fun(self: Released, t: { with: Released, data: moegauge.Value, [string]: any }): moegauge.RunResult
---Moves the routers' buffers by their own rule on a corpus; with fit = false only counts the experts' load.
---@field calibrate fun(self: Released, options: table): moegauge.RunResult
---Trains the gates until they give the probabilities of the teacher's.
---@field distil fun(self: Released, t: { data: moegauge.Value, teacher: Released, experts?: integer[][], options?: table }): moegauge.RunResult

---@class moegauge.Swap
---@field router? moegauge.Value   in place of the released one
---@field options? table          the released router with these options changed
---@field capacity? number|table  a factor, or { policy =, factor =, ... }
---@field losses? table[]         auxiliary losses, for training
---@field keep? integer|integer[]|integer[][]  the n most loaded experts, those of these numbers (from 0), or a list for each mixture
---@field count? table           options of the pass over text that finds the most loaded: tokens, batch, sequence
---@field gate? "released"|"fitted"|"random"
---@field data? moegauge.Value    text for keep = n, calibrate and distil
---@field calibrate? boolean|table
---@field distil? boolean|table
---@field seed? integer

---Loads the checkpoint in a folder (config.json, weights in safetensors, tokenizer.json), or a GGUF file. Precision is "bf16" unless given.
---@param path string
---@param options? { backend?: string, precision?: "bf16"|"f32", threads?: integer, options?: table<string, any> }
---@return Released
function mg.load(path, options) end

---A model of random weights in the shape of a released one, with the tokenizer of a corpus; model:save makes a checkpoint of it.
---@param t { config: table, data?: moegauge.Value, seed?: integer, precision?: "bf16"|"f32", backend?: string }
---@return Released
function mg.draw(t) end

---@param reason string
function mg.skip(reason) end

---What uniform random routing of so many tokens shows on average.
---@param t { experts: integer, k: integer, tokens: integer }
---@return { cv: number, max_over_mean: number, max_violation: number }
function mg.random_floor(t) end

---@class moegauge.StepCost
---@field tokens number[]
---@field context number[]
---@field seconds number[][]

---Seconds of a step of a serving instance by its tokens and their mean context: a grid, filled from rows or a function.
---@param t { tokens: number[], context?: number[], seconds: number[]|number[][]|fun(tokens: number, context: number): number }
---@return moegauge.StepCost
function mg.step_cost(t) end

---What a scaling policy knows when it decides.
---@class moegauge.ScalingState
---@field hours number                       since midnight of the first day
---@field requests_per_second number         since the last decision
---@field tokens_per_second number           demand since then
---@field utilisation number                 since then, 0 to 1
---@field queued integer
---@field instances integer                  without those that drain
---@field starting integer                   of these, not working yet or failed
---@field forecast_tokens_per_second? number demand that the curve foretells

---@class moegauge.Pool
---@field nodes? integer
---@field step_tokens? integer
---@field sequences? integer
---@field kv_tokens? integer
---@field prefill_step? moegauge.StepCost
---@field decode_step? moegauge.StepCost
---@field scaling? table|fun(state: moegauge.ScalingState): number
---@field [string] any

---A serving cluster under a stream of requests, simulated event by event (core/cluster/README.md).
---@param t { arrivals: table, hours?: number, seed?: integer, group?: integer, mixed?: moegauge.Pool, prefill?: moegauge.Pool, decode?: moegauge.Pool, [string]: any }
---@return moegauge.RunResult
function mg.serving(t) end

---@generic V
---@param t table<any, V>
---@return fun(): any, V
function mg.sorted_pairs(t) end

---@class moegauge.RouterTable
---@field name string
---@field summary? string
---@field paper? string
---@field options? table<string, any>  name -> default, or { default =, min =, max =, choices =, help = }
---@field params? table<string, { shape: (string|integer)[], init?: "zero"|"one"|"normal"|"truncated_fan_in", scale?: number, fixed?: boolean }>
---@field choices? string|integer  the most experts per token: a number, an option's name or "experts"; default: the option k
---@field mean_choices? string|number  experts per token on average, where most tokens choose fewer
---@field slots? string|integer  slots of each expert in a sequence, for a router that returns dispatch and combine
---@field selection? string|integer  scores of a token that top_k looks at, for analytic FLOPs; default: the experts, with slots none
---@field promises? string[]
---@field route fun(r: moegauge.RouterCall, x: moegauge.Var, ids: moegauge.Var?): moegauge.Routing
---@field after_step? fun(r: moegauge.RouterCall, demand: moegauge.Var)  after an optimiser step, with the choices of each expert in it

---@class moegauge.Routing  ids and weights, or dispatch and combine
---@field ids? moegauge.Var
---@field weights? moegauge.Var
---@field dispatch? moegauge.Var
---@field wanted? moegauge.Var  ids before a limit of the router's own; demand and balance losses count these
---@field combine? moegauge.Var
---@field probs? moegauge.Var
---@field logits? moegauge.Var
---@field load? moegauge.Var
---@field loss? moegauge.Var

---@class moegauge.RouterCall
---@field width integer
---@field experts integer
---@field layer integer
---@field tokens integer
---@field sequence_tokens integer
---@field training boolean
---@field [string] any  options by name
local RouterCall = {}

---@param name string
---@return moegauge.Var
function RouterCall:param(name) end

---Overwrites a fixed parameter.
---@param name string
---@param value moegauge.Var
function RouterCall:store(name, value) end

---@param rows integer
---@param columns integer
---@param deviation? number
---@return moegauge.Var
function RouterCall:normal(rows, columns, deviation) end

---@param rows integer
---@param columns integer
---@param low? number
---@param high? number
---@return moegauge.Var
function RouterCall:uniform(rows, columns, low, high) end

---@class moegauge.RouterLibrary
---@field [string] fun(options?: table): moegauge.Value
mg.router = {}

---@param t moegauge.RouterTable
---@return fun(options?: table): moegauge.Value
function mg.router.define(t) end

---@alias Var moegauge.Var

---@class moegauge.Var
---@operator add(Var|number): Var
---@operator sub(Var|number): Var
---@operator mul(Var|number): Var
---@operator div(Var|number): Var
---@operator unm: Var
---@field exp fun(self: Var): Var
---@field log fun(self: Var): Var
---@field square fun(self: Var): Var
---@field sqrt fun(self: Var): Var
---@field sigmoid fun(self: Var): Var
---@field tanh fun(self: Var): Var
---@field relu fun(self: Var): Var
---@field softplus fun(self: Var): Var
---@field normal_cdf fun(self: Var): Var
---@field scale fun(self: Var, factor: number): Var
---@field affine fun(self: Var, factor: number, shift: number): Var
---@field clamp fun(self: Var, low: number, high: number): Var
---@field sign fun(self: Var): Var
---@field ids fun(self: Var): Var
---@field greater fun(self: Var, y: Var): Var
---@field where fun(self: Var, x: Var, otherwise: number): Var
---@field ids_where fun(self: Var, ids: Var): Var
---@field detach fun(self: Var): Var
---@field slice fun(self: Var, first: integer, count: integer): Var
---@field reshape fun(self: Var, rows: integer, columns: integer): Var
---@field concat fun(self: Var, y: Var): Var
---@field transpose fun(self: Var): Var
---@field sum fun(self: Var): Var
---@field mean fun(self: Var): Var
---@field sum_columns fun(self: Var): Var
---@field sum_rows fun(self: Var): Var
---@field mean_rows fun(self: Var): Var
---@field cumsum fun(self: Var): Var
---@field softmax fun(self: Var): Var
---@field log_sum_exp fun(self: Var): Var
---@field shares fun(self: Var): Var
---@field unit_rows fun(self: Var): Var
---@field sqrt_softplus fun(self: Var): Var
---@field matmul fun(self: Var, y: Var, transpose_x?: boolean, transpose_y?: boolean): Var
---@field linear fun(self: Var, weight: Var): Var
---@field gather_dot fun(self: Var, weight: Var, ids: Var): Var
---@field gather_rows fun(self: Var, ids: Var): Var
---@field gather_columns fun(self: Var, ids: Var): Var
---@field scatter_columns fun(self: Var, ids: Var, columns: integer): Var
---@field top_k fun(self: Var, k: integer): Var, Var
---@field histogram fun(self: Var, bins: integer, segments?: integer): Var
---@field rows fun(self: Var): integer
---@field columns fun(self: Var): integer

return mg
