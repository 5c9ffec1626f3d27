--- DeepSeek-V3.2 and GLM-5: DeepSeek-V3 whose queries attend to the keys that a small indexer selects (sparse attention,
--- DeepSeek-AI 2025, arXiv 2512.02556).

local common = require "moegauge.families.common"
local deepseek = require "moegauge.families.deepseek_common"

local function indexed(c, latent, width)
  local heads, columns = c:integer("index_n_heads", "heads"), c:integer("index_head_dim", "width")
  local matrices = (latent.query_rank or width) * heads * columns + width * columns + width * heads
  latent.selected, latent.scores = c:integer("index_topk", "positions"), heads * columns
  latent.counted = { { part = "attention", parameters = matrices }, { part = "attention", parameters = 2 * columns, products = false } }
  return latent
end

local function family(name, copies)
  return {
    name = name, types = { name }, runs = false, paper = "arXiv 2512.02556",
    ignored = "indexer_rope_interleave",
    spec = function(c)
      local spec = deepseek.decoder(c)
      spec.attention = indexed(c, deepseek.latent(c), spec.width)
      spec.feed_forward = common.dense_first(c, spec.layers, deepseek.dense(c), deepseek.mixture(c, deepseek.biased_router(c)))
      spec.prediction = common.prediction(c, "num_nextn_predict_layers")
      return spec
    end,
    module_copies_ends = copies,
  }
end

local here = family("deepseek_v32", true)
here.sibling = family
return here
