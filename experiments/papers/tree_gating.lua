-- What does a tree of gates cost and save against one flat gate, as the experts grow from 16 to 4096?
--
-- Hierarchical gating goes back to Shazeer et al. 2017 (arXiv 1701.06538), whose two-level MoE-256-h learns nearly as much
-- as the flat MoE-256 (table 7). A flat gate costs 2 D E FLOPs per token; a tree evaluates only the gates below the nodes
-- it keeps, so its cost grows with the logarithm of E. Experts are tiny (8 hidden units), so that the gate is what grows;
-- every node of the trees has four children: 16 = 4^2, 64 = 4^3, 256 = 4^4, 1024 = 4^5,
-- 4096 = 4^6. Quality is compared where the experts get enough tokens to learn (up to 256).
--
-- What the noise hides, and why. At each size the tree is a little behind the flat gate (0.1 to 0.4 % of the loss, as in the
-- paper's table), but three seeds of 98 steps cannot show that it is less than 1 %. Below 256 experts a tree of small
-- products is no faster than one matrix product: it takes about twice the time at 16.

local mg <const> = require "moegauge"

local branching <const> = { [16] = { 4, 4 }, [64] = { 4, 4, 4 }, [256] = { 4, 4, 4, 4 }, [1024] = { 4, 4, 4, 4, 4 }, [4096] = { 4, 4, 4, 4, 4, 4 } }

return mg.experiment {
  title = "Tree gating against flat gating, 16 to 4096 experts",
  sweep = { gating = { "flat", "tree" }, experts = { 16, 64, 256, 1024, 4096 }, seed = { 1, 2, 3 } },
  options = { tokens = 200000, corpus = "manpages" },
  run = function(case)
    local router = case.gating == "flat" and mg.router.topk { k = 2 } or mg.router.tree { k = 2, branching = branching[case.experts] }
    local moe = mg.moe { experts = case.experts, width = 8, router = router, losses = { { kind = "balance", weight = 0.01 } } }
    local model = mg.model { layers = 2, width = 64, heads = 4, embedding_scale = 8, feed_forward = { mg.dense { width = 128 }, moe }, seed = case.seed }
    local data = mg.corpus { corpus = case.corpus, tokenizer = "bpe", vocabulary = 1024 }
    return mg.train { model = model, data = data, tokens = case.tokens, batch = 16, sequence = 128, rate = 0.016, warmup = 0.3, router_rate = 0.1, timing_steps = 8 }
  end,
  report = function(r)
    local function at_both(experts) return "experts=" .. experts .. " gating=flat", "experts=" .. experts .. " gating=tree" end
    local flat16, tree16 = at_both(16)
    local flat64, tree64 = at_both(64)
    local flat256, tree256 = at_both(256)
    local flat4096, tree4096 = at_both(4096)
    return {
      r:table(nil, { "loss", "cv", "dead_experts", "flops_per_token_gate", "gate_ns_per_token", "forward_ns_per_token_gate" }),
      r:paper { source = "Shazeer et al. 2017, arXiv 1701.06538", table = "Table 7 (10 epochs)", sourcing = "P2", columns = { "perplexity" },
        rows = { { flat256, paper = "MoE-256", perplexity = "35.7" }, { tree256, paper = "MoE-256-h", perplexity = "36.0" } } },
      r:expect {
        { "A flat gate's work grows with E: from 16 to 4096 more than a hundredfold", function(at) return at(flat4096, "flops_per_token_gate") / at(flat16, "flops_per_token_gate") - 100 end },
        { "A tree's work grows with the logarithm: from 16 to 4096 less than sixfold", function(at) return 6 - at(tree4096, "flops_per_token_gate") / at(tree16, "flops_per_token_gate") end },
        { "At 4096 experts the tree takes less time, forward and backward", "gate_ns_per_token", tree4096, "<", flat4096 },
        { "At 16 experts the flat gate takes less time", "gate_ns_per_token", flat16, "<", tree16 },
        { "Quality at 16 experts: no worse than flat, within 1 % of the loss", "loss", tree16, "<=", flat16, within = 0.01 },
        { "Quality at 64 experts: no worse than flat, within 1 % of the loss", "loss", tree64, "<=", flat64, within = 0.01 },
        { "Quality at 256 experts: no worse than flat, within 1 % of the loss", "loss", tree256, "<=", flat256, within = 0.01 },
        { "A beam sees fewer leaves, so a tree is less even at 256 experts", "cv", tree256, ">", flat256 },
      },
      r:text [[Reading. The flat gate's work grows with the experts, the tree's with their logarithm. Forward and backward the tree takes 4.3 microseconds a token at 4096 experts where the flat gate takes 15.5, and 1.1 against 0.5 at 16, where many small products lose to one. At 16 experts the tree is no worse in loss by 1 %; at 64 and 256 it is a little behind, as in the paper's table, and three seeds of 98 steps cannot show that it is less than 1 %.]],
      r:curve { x = "experts", y = "gate_ns_per_token", by = "gating", log_x = true, log_y = true },
      r:curve { x = "experts", y = "flops_per_token_gate", by = "gating", log_x = true, log_y = true },
      r:curve { x = "experts", y = "loss", by = "gating", log_x = true },
    }
  end,
}
