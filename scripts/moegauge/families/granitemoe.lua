--- Granite 3 MoE (IBM): multipliers on embeddings, residuals, scores and logits; softmax over the chosen logits. The shared
--- variant has one more expert that every token uses.

local common = require "moegauge.families.common"

local moe <const> = "model.layers.{layer}.block_sparse_moe"
local shared <const> = "model.layers.{layer}.shared_mlp"
local feed <const> = "layers.{layer}.feed_forward"

return {
  name = "granitemoe", types = { "granitemoe", "granitemoeshared" }, runs = true, paper = "IBM 2024, Granite 3.0 Language Models",
  ignored = "",
  spec = function(c)
    local spec = common.decoder(c, true, 1e-6)
    local experts = c:integer("num_local_experts", "experts")
    local common_width = c:integer("shared_intermediate_size", "hidden_or_none", 0)
    spec.embedding_scale = c:number("embedding_multiplier", 1, 0, 1e6)
    spec.residual_scale = c:number("residual_multiplier", 1, 0, 1e6)
    spec.logit_scale = 1 / c:number("logits_scaling", 1, 1e-6, 1e6)
    spec.attention.scale = c:number("attention_multiplier", 1, 0, 1e6)
    spec.attention.biases = c:flag("attention_bias", false) and "all" or "none"
    spec.attention.rope = common.rope(c, common.rotated(c, spec.attention.head_width))
    spec.feed_forward = {
      kind = "moe", experts = experts, width = c:integer("intermediate_size", "hidden"),
      activation = c:choice("hidden_act", "silu", common.activations),
      router = { name = "topk", k = c:chosen("num_experts_per_tok", experts), order = "after" },
      shared = common_width > 0 and { experts = 1, width = common_width } or nil,
    }
    return spec
  end,
  config = function(spec)
    local c, moe = common.config(spec, "GraniteMoeForCausalLM")
    if not c then return c, moe end
    local a, shared = spec.attention[1], moe.shared
    c.num_local_experts, c.intermediate_size = moe.experts, moe.width
    c.embedding_multiplier, c.residual_multiplier, c.logits_scaling = spec.embedding_scale, spec.residual_scale, 1 / spec.logit_scale
    c.attention_multiplier = a.scale > 0 and a.scale or a.head_width ^ -0.5
    c.attention_bias, c.head_dim = a.biases == "all", nil
    if shared.experts > 0 then return nil, "shared experts are another class, GraniteMoeShared" end
    return c
  end,
  tensors = common.append(common.decoder_tensors(common.attention_tensors()), {
    { moe .. ".router.layer.weight", feed .. ".router.gate" },
    { moe .. ".input_linear.weight", { feed .. ".experts.gate", feed .. ".experts.up" }, "split_rows" },
    { moe .. ".output_linear.weight", feed .. ".experts.down" },
    { shared .. ".input_linear.weight", { feed .. ".shared.gate", feed .. ".shared.up" }, "split_rows" },
    { shared .. ".output_linear.weight", feed .. ".shared.down" },
  }),
}
