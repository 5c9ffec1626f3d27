--- What DeepSeek's models and their heirs share: latent attention, shared experts, dense layers first, and tensors.

local core = require "moegauge.core"
local common = require "moegauge.families.common"

local deepseek = {}
local layer <const> = "model.layers.{layer}"
local attention <const> = "layers.{layer}.attention"

--- Latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1).
function deepseek.latent(c, base)
  local rotated = c:integer("qk_rope_head_dim", "width")
  local latent = {
    kind = "latent", heads = c:integer("num_attention_heads", "heads"),
    query_rank = c:integer("q_lora_rank", "width", false), kv_rank = c:integer("kv_lora_rank", "width"),
    nope_width = c:integer("qk_nope_head_dim", "width"), rope_width = rotated, value_width = c:integer("v_head_dim", "width"),
    biases = c:flag("attention_bias", false) and "all" or "none",
    rope = common.rope(c, rotated, base),
  }
  if rotated % 2 ~= 0 then c:refuse("qk_rope_head_dim", ("must be even, not %d"):format(rotated)) end
  latent.rope.interleaved = c:flag("rope_interleave", true)
  c:any "num_key_value_heads"
  c:any "head_dim"
  c:any "qk_head_dim"
  return latent
end

--- The mixture beside its shared experts; `router` is the family's.
function deepseek.mixture(c, router)
  local width = c:integer("moe_intermediate_size", "hidden")
  return {
    kind = "moe", experts = c:integer("n_routed_experts", "experts"), width = width,
    activation = c:choice("hidden_act", "silu", common.activations),
    shared = common.shared(c, "n_shared_experts", width), router = router,
  }
end

function deepseek.dense(c)
  return { kind = "dense", width = c:integer("intermediate_size", "hidden"), activation = c:choice("hidden_act", "silu", common.activations) }
end

--- The decoder without its attention.
function deepseek.decoder(c, tied)
  return {
    layers = c:integer("num_hidden_layers", "layers"), width = c:integer("hidden_size", "width"),
    vocabulary = c:integer("vocab_size", "vocabulary"), norm_epsilon = c:number("rms_norm_eps", 1e-6, 0, 1),
    tie_embeddings = c:flag("tie_word_embeddings", tied or false),
  }
end

--- Groups of experts: n_group of them, topk_group kept.
function deepseek.groups(c, experts)
  local groups = c:integer("n_group", "experts", 1)
  local kept = c:integer("topk_group", "experts", 1)
  if experts % groups ~= 0 then c:refuse("n_group", ("must divide the %d experts, not be %d"):format(experts, groups)) end
  if kept > groups then c:refuse("topk_group", ("must be at most the %d groups, not %d"):format(groups, kept)) end
  return groups, kept
end

--- Selection by sigmoid scores plus a bias that training moved and a checkpoint holds; it stays where it is.
function deepseek.biased_router(c)
  local experts = c:integer("n_routed_experts", "experts")
  local groups, kept = deepseek.groups(c, experts)
  c:choice("scoring_func", "sigmoid", { sigmoid = true, ["noaux_tc/sigmoid"] = true })
  c:choice("topk_method", "noaux_tc", { noaux_tc = true })
  return {
    name = "deepseek", k = c:chosen("num_experts_per_tok", experts), score = "sigmoid", bias = "sign", rate = 0,
    groups = groups, groups_kept = kept, group_score = "top2",
    renormalise = c:flag("norm_topk_prob", true), scale = c:number("routed_scaling_factor", 1, 1e-6, 1e6),
  }
end

-- ---- the way back -------------------------------------------------------------------------------------------------

--- The keys of a latent, in place of those of grouped heads.
function deepseek.latent_config(c, spec)
  local a = spec.attention[1]
  c.head_dim, c.num_key_value_heads = nil, a.heads
  c.q_lora_rank, c.kv_lora_rank = a.query_rank > 0 and a.query_rank or core.null, a.kv_rank
  c.qk_rope_head_dim, c.qk_nope_head_dim, c.v_head_dim = a.rope_width, a.nope_width, a.value_width
  c.attention_bias, c.rope_interleave = a.biases == "all", a.rope.interleaved
  return c
end

--- The keys of a mixture whose experts are chosen by a sigmoid and a bias, beside shared ones.
function deepseek.config(c, spec, moe, dense)
  local r, first = moe.router, 0
  if r.name ~= "deepseek" then return nil, ("its router is %s"):format(r.name) end
  while first < spec.layers and spec.feed_forward[first + 1].kind ~= "moe" do first = first + 1 end
  c.n_routed_experts, c.moe_intermediate_size, c.n_shared_experts = moe.experts, moe.width, moe.shared.experts
  c.intermediate_size, c.first_k_dense_replace = dense and dense.width or 4 * spec.width, first
  c.n_group, c.topk_group, c.norm_topk_prob, c.routed_scaling_factor = r.groups, r.groups_kept, r.renormalise, r.scale
  c.scoring_func = r.score
  return c
end

deepseek.latent_tensors = {
  { layer .. ".self_attn.q_proj.weight", attention .. ".query.weight" },
  { layer .. ".self_attn.q_a_proj.weight", attention .. ".query_down.weight" },
  { layer .. ".self_attn.q_a_proj.bias", attention .. ".query_down.bias" },
  { layer .. ".self_attn.q_a_layernorm.weight", attention .. ".query_norm.scale" },
  { layer .. ".self_attn.q_b_proj.weight", attention .. ".query_up.weight" },
  { layer .. ".self_attn.kv_a_proj_with_mqa.weight", attention .. ".kv_down.weight" },
  { layer .. ".self_attn.kv_a_proj_with_mqa.bias", attention .. ".kv_down.bias" },
  { layer .. ".self_attn.kv_a_layernorm.weight", attention .. ".kv_norm.scale" },
  { layer .. ".self_attn.kv_b_proj.weight", attention .. ".kv_up.weight" },
  { layer .. ".self_attn.o_proj.weight", attention .. ".output.weight" },
  { layer .. ".self_attn.o_proj.bias", attention .. ".output.bias" },
}

--- Dense layers, routed and shared experts, the gate and its bias.
function deepseek.feed_tensors()
  local mlp <const> = layer .. ".mlp"
  local list = common.expert_tensors(mlp)
  common.append(list, common.gated_tensors(mlp, "layers.{layer}.feed_forward", ".weight"))
  common.append(list, common.gated_tensors(mlp .. ".shared_experts", "layers.{layer}.feed_forward.shared", ""))
  return common.append(list, {
    { mlp .. ".gate.weight", "layers.{layer}.feed_forward.router.gate" },
    { mlp .. ".gate.e_score_correction_bias", "layers.{layer}.feed_forward.router.bias" },
  })
end

--- Matrices in 8 bits with one scale for each block of 128 rows and columns.
deepseek.scaled = { weight = ".weight", scales = ".weight_scale_inv", transform = "fp8_blocks" }

return deepseek
