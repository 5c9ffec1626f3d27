--- Hunyuan-Large (Sun et al. 2024, arXiv 2411.02265) and Hunyuan-A13B: one shared expert beside the routed ones; in the large
--- model every second layer uses the keys and values of the one before.

local common = require "moegauge.families.common"

-- One integer, or a list that says the same for every layer.
local function uniform(c, key, kind, default)
  local value = c:any(key)
  if type(value) ~= "table" then return c:integer(key, kind, default) end
  for _, entry in ipairs(value) do
    if entry ~= value[1] then c:refuse(key, "must say the same for every layer") end
  end
  if math.type(value[1]) ~= "integer" or value[1] < 0 then c:refuse(key, "must be an integer or a list of integers") end
  return value[1]
end

return {
  name = "hunyuan", types = { "hunyuan", "hunyuan_v1_moe" }, runs = false, paper = "arXiv 2411.02265",
  ignored = [[mlp_bias kv_lora_rank q_lora_rank qk_rope_head_dim qk_nope_head_dim v_head_dim use_mla capacity_factor moe_drop_tokens
    moe_random_routing_dropped_token num_media_embeds pool_type anyres_vit_max_image_size n_group topk_group group_limited_greedy
    norm_type position_embedding_xdrope use_rotary_pos_emb add_classification_head dense_list class_num mask_init_id moe_layer_num_skipped]],
  spec = function(c)
    local head_width = c:integer("attention_head_dim", "width", false)
    local spec = common.decoder(c, true, 1e-5)
    if head_width then spec.attention.head_width = head_width end
    local experts = c:integer("num_experts", "experts")
    local hidden = c:integer("intermediate_size", "hidden")
    local width, shared = uniform(c, "moe_intermediate_size", "hidden", hidden), uniform(c, "num_shared_expert", "count", 1)
    local k = uniform(c, "moe_topk", "experts")
    if k > experts then c:refuse("moe_topk", ("must be at most the %d experts, not %d"):format(experts, k)) end
    local shares, factor = c:flag("use_cla", false), c:integer("cla_share_factor", "layers", 2)
    local mixed = c:flag("use_mixed_mlp_moe", true)
    c:flag("norm_topk_prob", true)
    c:number("routed_scaling_factor", 1, 1e-6, 1e6)
    spec.attention.qk_norm = c:flag("use_qk_norm", false) and "head" or "none"
    spec.attention.biases = c:flag("attention_bias", false) and "all" or "none"
    spec.attention.rope = common.rope(c, spec.attention.head_width)
    spec.feed_forward = {
      kind = "moe", experts = experts, width = width, activation = c:choice("hidden_act", "silu", common.activations),
      router = { name = "topk", k = k, renormalise = k > 1 },
      shared = mixed and shared > 0 and { experts = 1, width = shared * hidden } or nil,
    }
    local own, borrowed = spec.attention, common.copy(spec.attention, { shares_kv = true })
    spec.attention = common.each(spec.layers, function(i) return shares and i % factor ~= 0 and borrowed or own end)
    return spec
  end,
}
