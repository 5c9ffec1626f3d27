--- JetMoE (Shen et al. 2024, arXiv 2404.07413): experts of attention as well: each holds the query and output projections of
--- a set of heads, and all share keys and values.

local common = require "moegauge.families.common"

-- A key that older files call otherwise.
local function either(c, key, older, kind)
  local value = c:integer(older, kind, false)
  return c:integer(key, kind, value)
end

return {
  name = "jetmoe", types = { "jetmoe" }, runs = false, paper = "arXiv 2404.07413",
  ignored = "activation_function glu bias",
  spec = function(c)
    local width, kv_heads, columns = c:integer("hidden_size", "width"), c:integer("num_key_value_heads", "heads"), c:integer("kv_channels", "width")
    local experts = c:integer("num_local_experts", "experts")
    local k = c:chosen("num_experts_per_tok", experts)
    local hidden, kept = either(c, "intermediate_size", "ffn_hidden_size", "hidden"), kv_heads * columns
    local heads = c:integer("num_attention_heads", "heads", k * kv_heads)
    local routed = experts * 2 * width * kept
    return {
      layers = c:integer("num_hidden_layers", "layers"), width = width, vocabulary = c:integer("vocab_size", "vocabulary"),
      norm_epsilon = c:number("rms_norm_eps", 1e-6, 0, 1), tie_embeddings = c:flag("tie_word_embeddings", true),
      attention = {
        kind = "counted", cache = 2 * kept, scores = heads * 2 * columns, rope = common.rope(c, 0),
        counted = {
          { part = "attention", parameters = width * 2 * kept }, { part = "attention", parameters = width, products = false },
          { part = "routed", parameters = routed, active = routed // experts * k }, { part = "router", parameters = width * experts },
          { part = "other", parameters = width, products = false }, -- the bias of the mixture's output
        },
      },
      feed_forward = { kind = "moe", experts = experts, width = hidden, router = { name = "topk", k = k, order = "after" } },
    }
  end,
}
