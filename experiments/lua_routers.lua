-- Routers written in Lua beside the same ones in C: do they route alike, to the last bit?
--
-- Each calls the primitives that its twin in routers/ calls, in the same order, and its parameters have the twin's names,
-- shapes and starts, so both begin as the same numbers.

local mg <const> = require "moegauge"

local gate <const> = { shape = { "experts", "width" }, init = "normal", scale = 0.02 }
local kept <const> = { "weights_nonnegative", "causal", "per_token", "experts_exchangeable", "gives_probs", "gives_logits" }

local topk <const> = mg.router.define {
  name = "lua_topk",
  summary = "Softmax top-k, in Lua.",
  options = { k = { default = 2, min = 1, max = 64, help = "experts kept per token" } },
  params = { gate = gate },
  promises = { "weights_sum_to_one", table.unpack(kept) },
  route = function(r, x)
    local logits = x:linear(r:param "gate")
    local probs = logits:softmax()
    local ids, weights = probs:top_k(r.k)
    return { ids = ids, weights = weights:shares(), probs = probs, logits = logits }
  end,
}

local switch <const> = mg.router.define {
  name = "lua_switch",
  summary = "The one expert of highest probability, in Lua.",
  options = { jitter = { default = 0.01, min = 0, max = 0.99, help = "half width of the factor on the gate's input" } },
  params = { gate = { shape = { "experts", "width" }, init = "truncated_fan_in", scale = 0.1 } },
  promises = kept,
  route = function(r, x)
    if r.training and r.jitter > 0 then x = x * r:uniform(x:rows(), x:columns(), 1 - r.jitter, 1 + r.jitter) end
    local logits = x:linear(r:param "gate")
    local probs = logits:softmax()
    local ids, weights = probs:top_k(1)
    return { ids = ids, weights = weights, probs = probs, logits = logits }
  end,
}

local deepseek <const> = mg.router.define {
  name = "lua_deepseek",
  summary = "Sigmoid affinities, selected with a bias that balances load, in Lua.",
  options = { k = { default = 2, min = 1, max = 64, help = "experts kept per token" },
    rate = { default = 0.001, min = 0, max = 1, help = "how far the bias moves in a step" } },
  params = { gate = gate, bias = { shape = { "experts" }, init = "zero", fixed = true } },
  promises = { "weights_sum_to_one", table.unpack(kept) },
  route = function(r, x)
    local logits = x:linear(r:param "gate")
    local affinity = logits:sigmoid()
    local probs = affinity:shares()
    local ids = (affinity:detach() + r:param "bias"):top_k(r.k)
    return { ids = ids, weights = affinity:gather_columns(ids):shares(), probs = probs, logits = logits }
  end,
  after_step = function(r, demand)
    r:store("bias", r:param "bias" - (demand - demand:mean()):sign() * r.rate)
  end,
}

-- Among all tokens of the batch; not causal, so it promises less.
local expert_choice <const> = mg.router.define {
  name = "lua_expert_choice",
  summary = "Each expert takes the tokens that want it most, in Lua.",
  options = { factor = { default = 2, float = true, min = 0.001, max = 65536, help = "experts per token on average" } },
  params = { gate = gate },
  choices = "experts",
  mean_choices = "factor",
  promises = { "weights_nonnegative", "experts_exchangeable", "gives_probs", "gives_logits" },
  route = function(r, x)
    local logits = x:linear(r:param "gate")
    local probs = logits:softmax()
    local take = math.min(math.max(math.floor(r.factor * r.tokens / r.experts * (1 + 1e-12)), 1), r.tokens)
    local taken = probs:detach()
    if r.tokens > 0 then
      local best, values = taken:transpose():top_k(take)
      taken = (values * 0 + 1):scatter_columns(best, r.tokens):transpose()
    end
    local numbers = (taken * 0 + 1):cumsum() - 1
    return { ids = taken:ids_where(numbers), weights = taken:where(probs, 0), probs = probs, logits = logits }
  end,
}

local function moe(router) return mg.moe { experts = 8, width = 64, router = router, losses = { { kind = "balance", weight = 0.01 } } } end

return mg.experiment {
  title = "Routers in Lua and the same ones in C",
  sweep = {
    feed_forward = {
      moe(mg.router.topk {}), moe(topk {}), moe(mg.router.switch {}), moe(switch {}),
      moe(mg.router.deepseek {}), moe(deepseek {}), moe(mg.router.expert_choice {}), moe(expert_choice {}),
    },
    seed = { 1, 2 },
  },
  options = { tokens = 16384 },
  run = function(case)
    local model = mg.model { layers = 2, width = 64, heads = 4, feed_forward = case.feed_forward, seed = case.seed }
    return mg.train { model = model, data = mg.corpus "synthetic", tokens = case.tokens, batch = 8, sequence = 128 }
  end,
  report = function(r)
    return { r:table("feed_forward", { "loss", "accuracy", "cv", "flops_per_token", "gate_ns_per_token" }), r:differences("feed_forward", "loss"), r:chart("loss", "tokens") }
  end,
}
