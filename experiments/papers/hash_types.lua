-- What may a fixed hash look at? Token, position, previous token, both, or (cheating) the token to be predicted.
--
-- Roller et al. 2021 (arXiv 2106.04426), the table of hash types: 64 experts in one layer. Theirs is a 751M model on
-- Reddit; here two decoder layers with 64 experts in the second, on manual pages with a vocabulary of 1024. The `future`
-- row is an oracle and a self-test of this laboratory: its expert tells which 64th of the vocabulary comes next, so its
-- loss must fall far below every other. The clusters are of how tokens stand beside each other, not of a trained model's
-- embeddings (routers/hash/README.md).
--
-- What does not come out, and why. Experts by position are worse than a dense layer, where the paper has them near it: each
-- sees two places of every sequence, a 64th of the text, and is starved after so few tokens. The token before, and both
-- tokens, are as good a key as the token itself: two layers after 0.3 million tokens hardly attend to the token before, so
-- an expert that knows it is worth something. A gate learned in 300 steps (Switch) is not yet worth more than none.

local mg <const> = require "moegauge"

local function moe(router) return mg.moe { experts = 64, width = 128, router = router, losses = router.name == "switch" and { { kind = "balance", weight = 0.01 } } or nil } end
local function hash(kind) return moe(mg.router.hash { kind = kind }) end

local feed_forwards <const> = { balanced = hash "balanced", random = hash "random", clustered = hash "clustered", dispersed = hash "dispersed", previous = hash "previous", bigram = hash "bigram",
  position = hash "position", future = hash "future", switch = moe(mg.router.switch {}), dense = mg.dense { width = 128 } }

return mg.experiment {
  title = "Roller et al. 2021: types of hash",
  sweep = { routing = { "balanced", "random", "clustered", "dispersed", "previous", "bigram", "position", "future", "switch", "dense" }, seed = { 1, 2, 3 } },
  options = { tokens = 300000, corpus = "manpages" },
  run = function(case)
    local model = mg.model { layers = 2, width = 64, heads = 4, embedding_scale = 8, feed_forward = { mg.dense { width = 128 }, feed_forwards[case.routing] }, seed = case.seed }
    local data = mg.corpus { corpus = case.corpus, tokenizer = "bpe", vocabulary = 1024 }
    return mg.train { model = model, data = data, tokens = case.tokens, batch = 8, sequence = 128, rate = 0.016, warmup = 0.3, router_rate = 0.1 }
  end,
  report = function(r)
    return {
      r:paper { source = "Roller et al. 2021, arXiv 2106.04426", table = "Table of hash types (test)", sourcing = "S", axis = "routing",
        columns = { "perplexity", "loss", "max_violation" },
        rows = {
          { "balanced", paper = "Balanced assignment", perplexity = "23.23" }, { "random", paper = "Fixed random", perplexity = "23.27" },
          { "clustered", paper = "Token clustering", perplexity = "23.99" }, { "dispersed", paper = "Dispersed hash", perplexity = "23.22" },
          { "position", paper = "Hash on position", perplexity = "25.14" }, { "bigram", paper = "Bigram", perplexity = "24.28" },
          { "previous", paper = "Previous token", perplexity = "24.22" }, { "future", paper = "Future token", perplexity = "1.97" },
          { "switch", paper = "Switch", perplexity = "23.73" }, { "dense", paper = "dense of the same active size", perplexity = "24.9", sourcing = "M" },
        } },
      r:expect { axis = "routing",
        { "Self-test: an expert that knows the next token's hash leaves less than half the loss", function(at) return at("random", "loss") / 2 - at("future", "loss") end },
        { "Random and balanced hash are alike, within 2 % of perplexity", "perplexity", "random", "~", "balanced", within = 0.02 },
        { "Spreading tokens that are used alike is as good as chance, within 2 % of perplexity", "perplexity", "dispersed", "~", "random", within = 0.02 },
        { "Keeping tokens that are used alike together is worse than spreading them", "loss", "clustered", ">", "dispersed" },
        { "The balanced hash is more even than the random one", "max_violation", "balanced", "<", "random" },
        { "The token itself is a better key than the token before", "loss", "random", "<", "previous" },
        { "The token itself is a better key than both tokens together", "loss", "random", "<", "bigram" },
        { "The position is the worst key", function(at) return at("position", "loss") - math.max(at("previous", "loss"), at("bigram", "loss"), at("random", "loss")) end },
        { "Experts by position are worth no more than none, within 2 % of perplexity", "perplexity", "position", "~", "dense", within = 0.02 },
        { "Hashing tokens beats a dense layer", "loss", "random", "<", "dense" },
        { "Hashing tokens beats Switch", "loss", "random", "<", "switch" },
      },
      r:text [[Reading. The oracle passes: what it knows is worth three nats. Order and distances of the hashes of the token are the paper's (balanced, random and dispersed alike; clusters worse in the mean, which three seeds do not set apart), and all beat a dense layer and Switch. Experts by position are worse than a dense layer, where the paper has them near it: each sees two places of every sequence, a 64th of the text, and is starved after so few tokens. The token before, and both tokens, are as good a key as the token itself: two layers after 0.3 million tokens hardly attend to the token before, so an expert that knows it is worth something. A gate learned in 300 steps (Switch) is not yet worth more than none.]],
      r:chart("loss", "tokens", { axis = "routing" }),
    }
  end,
}
