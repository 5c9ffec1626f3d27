-- Experiments as values: the order and labels of a sweep, filters, settings from the command line, results.
local mg = require "moegauge"
local experiment = require "moegauge.experiment"

local function nothing() return { metrics = {} } end

local function labels_of(e)
  local labels = {}
  for i, case in ipairs(experiment.cases(e)) do
    assert(case.number == i)
    labels[i] = case.label
  end
  return table.concat(labels, "; ")
end

local function equal(a, b) assert(a == b, ("'%s' is not '%s'"):format(tostring(a), tostring(b))) end

-- run(f, words): f must fail, and its message hold the words.
local function fails(f, words)
  local done, problem = pcall(f)
  assert(not done, "nothing was refused; expected: " .. words)
  assert(tostring(problem):find(words, 1, true), ("'%s' is not in '%s'"):format(words, tostring(problem)))
end

-- Axes by name, the last fastest, the seed after all others; labels hold only what varies.
local e = mg.experiment { title = "t", sweep = { b = { 1, 2 }, seed = { 5, 6 }, a = { "x", "y" }, c = 7 }, run = nothing }
equal(labels_of(e), "a=x b=1 seed=5; a=x b=1 seed=6; a=x b=2 seed=5; a=x b=2 seed=6; a=y b=1 seed=5; a=y b=1 seed=6; a=y b=2 seed=5; a=y b=2 seed=6")
local case = experiment.cases(e)[3]
equal(case.params.c, 7)
equal(case.params.seed, 5)

-- Without a sweep there is one case, with seed 1.
e = mg.experiment { title = "t", run = nothing }
equal(labels_of(e), "single case")
equal(experiment.cases(e)[1].params.seed, 1)

-- Values of a specification are named by what tells them apart.
local function topk(k) return mg.moe { experts = 8, width = 16, router = mg.router.topk { k = k } } end
e = mg.experiment { title = "t", sweep = { ff = { mg.dense { width = 64 }, topk(2), topk(4) } }, run = nothing }
equal(labels_of(e), "dense; topk k=2; topk k=4")

-- A filter sees the parameters; numbers stay without gaps.
e = mg.experiment { title = "t", sweep = { a = { 1, 2, 3 }, b = { 1, 2 } }, run = nothing, filter = function(c) return c.a * c.b <= 3 end }
equal(labels_of(e), "a=1 b=1; a=1 b=2; a=2 b=1; a=3 b=1")
e = mg.experiment { title = "t", run = nothing, filter = function(c) return c.aa end }
fails(function() experiment.cases(e) end, "case.aa: there is no such parameter")

-- Settings: axes, options, run-wide ones.
local function fresh() return mg.experiment { title = "t", sweep = { k = { 1, 2 }, ff = { mg.dense { width = 64 }, topk(2) } }, options = { n = 3, name = "a", on = true }, run = nothing } end
e = fresh()
experiment.configure(e, { k = "4,8", ff = "topk", n = "5", name = "7", on = "false" }, { 2, 3 })
equal(labels_of(e), "k=4 seed=2; k=4 seed=3; k=8 seed=2; k=8 seed=3")
local params = experiment.cases(e)[1].params
equal(params.n, 5)
equal(params.name, "7")
equal(params.on, false)
equal(params.ff.router.name, "topk")
fails(function() experiment.configure(fresh(), { nn = "3" }) end, "did you mean 'n'?")
fails(function() experiment.configure(fresh(), { n = "many" }) end, "a number was expected")
fails(function() experiment.configure(fresh(), { ff = "topkk" }) end, "did you mean 'topk'?")
fails(function() experiment.configure(fresh(), { backend = "cpuu" }) end, "cpuu")
fails(function() experiment.configure(fresh(), { threads = "0" }) end, "from 1 up")
fails(function() experiment.configure(fresh(), nil, { -1 }) end, "from 0 up")

-- Names that would hide others, and sweeps beyond reason.
fails(function() mg.experiment { title = "t", sweep = { backend = { 1 } }, run = nothing } end, "'backend' is taken")
fails(function() mg.experiment { title = "t", sweep = { a = { 1 } }, options = { a = 1 }, run = nothing } end, "axis of that name")
fails(function() mg.experiment { title = "t", sweep = { ["a b"] = { 1 } }, run = nothing } end, "is not a name")
local many = {}
for i = 1, 1000 do many[i] = i end
e = mg.experiment { title = "t", sweep = { a = many, b = many }, run = nothing }
fails(function() experiment.cases(e) end, "1000000 cases")

-- Results are checked where they are made.
local function result(value) return function() return experiment.run_case(mg.experiment { title = "t", run = function() return value end }, 1) end end
equal(result({ metrics = { x = 1 } })().metrics.x, 1)
fails(result(nil), "run must return")
fails(result { metric = {} }, "did you mean 'metrics'?")
fails(result { metrics = { x = "1" } }, "metrics.x must be a number")

-- Values print themselves.
equal(tostring(mg.router.topk { k = 4 }), "topk(k=4)")
equal(tostring(mg.dense { width = 64 }), "dense(width=64)")

-- A router's option table, its refusals, and Vars outside of a call.
local kept
local constructor = mg.router.define { name = "testing", options = { k = { default = 1, min = 1, max = 4, help = "kept" }, soft = true, mode = { default = "a", choices = { "a", "b" } } },
  params = { gate = { shape = { "experts", "width" } } }, promises = { "gives_probs" }, route = function(_, x) kept = x return {} end }
equal(constructor({ k = 3 }).name, "testing")
fails(function() constructor { k = 9 } end, "'k' must be an integer from 1 to 4")
fails(function() constructor { mode = "c" } end, "one of a, b")
fails(function() constructor { q = 1 } end, "unknown key 'q'")
fails(function() mg.moe { experts = 2, width = 4, router = constructor { k = 3 } } end, "chooses 3 experts, but the layer has 2")
fails(function() mg.router.define { name = "x" } end, "'route' must be a function")
fails(function() mg.router.define { name = "bad", params = { g = { shape = {} } }, route = nothing } end, "'shape' is needed")
fails(function() mg.router.define { name = "bad", promises = { "speed" }, route = nothing } end, "promises.speed")
fails(function() mg.router.define { name = "topk", route = nothing } end, "topk")
assert(kept == nil)
