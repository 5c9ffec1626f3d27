--- DBRX (Databricks 2024): layer norms without a shift, clamped projections in one matrix, experts packed in one.

local common = require "moegauge.families.common"

local block <const> = "transformer.blocks.{layer}"
local attention <const> = "layers.{layer}.attention"
local feed <const> = "layers.{layer}.feed_forward"

local function activation(ffn)
  local named = ffn:table "ffn_act_fn"
  return named and named:choice("name", "silu", common.activations) or "silu"
end

return {
  name = "dbrx", types = { "dbrx" }, runs = true, paper = "Databricks 2024, DBRX",
  ignored = "attn_pdrop moe_jitter_eps moe_loss_weight uniform_expert_assignment hidden_size",
  spec = function(c)
    local a = c:table "attn_config" or c:refuse("attn_config", "is missing; a table is needed")
    local f = c:table "ffn_config" or c:refuse("ffn_config", "is missing; a table is needed")
    local width, heads = c:integer("d_model", "width"), c:integer("n_heads", "heads")
    local kv_heads = a:integer("kv_n_heads", "heads", 1)
    if width % heads ~= 0 then c:refuse("n_heads", ("must divide d_model = %d, not be %d"):format(width, heads)) end
    if heads % kv_heads ~= 0 then a:refuse("kv_n_heads", ("must divide the %d heads, not be %d"):format(heads, kv_heads)) end
    local experts = f:integer("moe_num_experts", "experts", 4)
    local power = f:number("moe_normalize_expert_weights", 1, 0, 1e3)
    if power ~= 1 then f:refuse("moe_normalize_expert_weights", ("must be 1 (weights sum to 1), not %g"):format(power)) end
    local rope = common.rope(c, width // heads, a:number("rope_theta", 10000, 1, 1e12))
    return {
      layers = c:integer("n_layers", "layers"), width = width, vocabulary = c:integer("vocab_size", "vocabulary"),
      norm = "layer", norm_shift = false, norm_epsilon = 1e-5, tie_embeddings = c:flag("tie_word_embeddings", false),
      attention = { heads = heads, kv_heads = kv_heads, head_width = width // heads, clip = a:number("clip_qkv", 0, 0, 1e6), rope = rope },
      feed_forward = {
        kind = "moe", experts = experts, width = f:integer("ffn_hidden_size", "hidden", 3584), activation = activation(f),
        router = { name = "topk", k = f:chosen("moe_top_k", experts, 1), order = "before", renormalise = true },
      },
    }
  end,
  tensors = {
    { "transformer.wte.weight", "embedding.weight" },
    { "transformer.norm_f.weight", "final_norm.scale" },
    { "lm_head.weight", "head.weight" },
    { block .. ".norm_attn_norm.norm_1.weight", "layers.{layer}.attention_norm.scale" },
    { block .. ".norm_attn_norm.norm_2.weight", "layers.{layer}.feed_norm.scale" },
    { block .. ".norm_attn_norm.attn.Wqkv.weight", { attention .. ".query.weight", attention .. ".key.weight", attention .. ".value.weight" }, "split_rows" },
    { block .. ".norm_attn_norm.attn.out_proj.weight", attention .. ".output.weight" },
    { block .. ".ffn.router.layer.weight", feed .. ".router.gate" },
    { block .. ".ffn.experts.mlp.w1", feed .. ".experts.gate", "unpack" },
    { block .. ".ffn.experts.mlp.v1", feed .. ".experts.up", "unpack" },
    { block .. ".ffn.experts.mlp.w2", feed .. ".experts.down", "unpack", "transpose" },
  },
}
