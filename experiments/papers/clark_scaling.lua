-- How much does the loss fall as experts are added, for a balanced assignment, a hash and a softmax with a balance loss?
--
-- Clark et al. 2022 (arXiv 2202.01169): log10 L = a log10 N + b log10 E' + c log10 N log10 E' + d with a saturating count
-- of experts 1/E' = 1/(E - 1 + (1/E_start - 1/E_max)^-1) + 1/E_max. The slope of log10 L against log10 E' is b + c log10 N,
-- negative and shallower for larger models. Theirs are 15M to 1.3B parameters after 130 billion tokens; here N is about 0.1M
-- after 0.3M tokens, far below the fitted range, so signs and order are what can be compared. Their third router is trained
-- by reinforcement (RL-R); ours, a softmax with a balance loss, stands beside its figures as the other learned router.

local mg <const> = require "moegauge"

local balance <const> = { { kind = "balance", weight = 0.01 } }
local routers <const> = { sinkhorn = mg.router.sinkhorn {}, hash = mg.router.hash { kind = "balanced" }, softmax = mg.router.switch {} }

-- b, c, E_start and E_max of the paper's fits.
local fits <const> = { sinkhorn = { b = -0.108, c = 0.009, start = 1.847, most = 314.478 }, softmax = { b = -0.126, c = 0.012, start = 1.880, most = 469.982 },
  hash = { b = -0.136, c = 0.012, start = 4.175, most = 477.741 } }

local function saturated(experts, fit) return 1 / (1 / (experts - 1 + 1 / (1 / fit.start - 1 / fit.most)) + 1 / fit.most) end

-- The least-squares slope of log10 loss against log10 E' over the cases of one router, width and seed, and the paper's.
local function slope(cases)
  local n, sx, sy, sxx, sxy, params = 0, 0, 0, 0, 0, 0
  local fit = fits[cases[1].params.router]
  for _, case in ipairs(cases) do
    local x, y = math.log(saturated(case.params.experts, fit), 10), math.log(case.result.metrics.loss, 10)
    n, sx, sy, sxx, sxy, params = n + 1, sx + x, sy + y, sxx + x * x, sxy + x * y, case.result.metrics.params_active
  end
  return { slope = (n * sxy - sx * sy) / (n * sxx - sx * sx), paper_slope = fit.b + fit.c * math.log(params, 10) }
end

return mg.experiment {
  title = "Clark et al. 2022: loss as experts are added",
  sweep = { router = { "sinkhorn", "hash", "softmax" }, experts = { 2, 8, 32 }, width = { 32, 64 }, seed = { 1, 2, 3 } },
  options = { tokens = 300000, corpus = "manpages" },
  run = function(case)
    local moe = mg.moe { experts = case.experts, width = 2 * case.width, router = routers[case.router], losses = case.router == "softmax" and balance or nil }
    local model = mg.model { layers = 2, width = case.width, heads = 4, embedding_scale = 8, feed_forward = { mg.dense { width = 2 * case.width }, moe }, seed = case.seed }
    local data = mg.corpus { corpus = case.corpus, tokenizer = "bpe", vocabulary = 1024 }
    return mg.train { model = model, data = data, tokens = case.tokens, batch = 8, sequence = 128, rate = 0.016, router_rate = 0.1 }
  end,
  report = function(r)
    local fitted = r:fold("experts", slope)
    local blocks = {
      fitted:paper { source = "Clark et al. 2022, arXiv 2202.01169", table = "Fit of eq. 5 (slope b + c log10 N)", sourcing = "S", columns = { "slope", "paper_slope" }, rows = {},
        note = "The paper's slope is its fit continued down to our N, the parameters active per token." },
      fitted:expect {
        { "Balanced assignment: the loss falls as experts are added (N = smaller)", "slope", "router=sinkhorn width=32", "<", 0 },
        { "Balanced assignment: the loss falls as experts are added (N = larger)", "slope", "router=sinkhorn width=64", "<", 0 },
        { "Hash: the loss falls as experts are added (N = smaller)", "slope", "router=hash width=32", "<", 0 },
        { "Hash: the loss falls as experts are added (N = larger)", "slope", "router=hash width=64", "<", 0 },
        { "Softmax: the loss falls as experts are added (N = smaller)", "slope", "router=softmax width=32", "<", 0 },
        { "Softmax: the loss falls as experts are added (N = larger)", "slope", "router=softmax width=64", "<", 0 },
        { "Hash: shallower for the larger model", "slope", "router=hash width=32", "<", "router=hash width=64" },
        { "Softmax: shallower for the larger model", "slope", "router=softmax width=32", "<", "router=softmax width=64" },
      },
      r:expect {
        { "At few experts hash is weaker than balanced assignment (width 64)", "loss", "experts=2 router=hash width=64", ">", "experts=2 router=sinkhorn width=64" },
      },
      r:table(nil, { "loss", "params_active", "params_total", "cv" }),
      r:curve { x = "experts", y = "loss", by = "router", log_x = true, log_y = true },
    }
    return blocks
  end,
}
