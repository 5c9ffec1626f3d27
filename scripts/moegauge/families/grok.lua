--- Grok-1 (xAI 2024): norms before and after each branch, embedding and head in one.

return {
  name = "grok-1", types = { "grok-1" }, runs = false, paper = "xAI 2024, Grok-1",
  ignored = "sequence_len",
  spec = function(c)
    local experts, width = c:integer("num_experts", "experts"), c:integer("emb_size", "width")
    c:any "widening_factor" -- what ffn_size was made from
    return {
      layers = c:integer("num_layers", "layers"), width = width, vocabulary = c:integer("vocab_size", "vocabulary"),
      tie_embeddings = true, post_norms = true, norm_epsilon = 1e-5,
      attention = { heads = c:integer("num_q_heads", "heads"), kv_heads = c:integer("num_kv_heads", "heads"), head_width = c:integer("key_size", "width") },
      feed_forward = {
        kind = "moe", experts = experts, width = c:integer("ffn_size", "hidden"), activation = "gelu",
        router = { name = "topk", k = c:chosen("num_selected_experts", experts), renormalise = false },
      },
    }
  end,
}
