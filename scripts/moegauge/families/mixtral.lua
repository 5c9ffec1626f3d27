--- Mixtral (Jiang et al. 2024, arXiv 2401.04088): grouped heads, softmax over the two largest logits.

local common = require "moegauge.families.common"

local here <const> = "model.layers.{layer}.block_sparse_moe"
local experts <const> = "layers.{layer}.feed_forward.experts"

return {
  name = "mixtral", types = { "mixtral" }, runs = true, paper = "arXiv 2401.04088",
  ignored = "",
  spec = function(c)
    local spec = common.decoder(c, false, 1e-5)
    local experts_count = c:integer("num_local_experts", "experts")
    spec.attention.window = c:integer("sliding_window", "window", false)
    spec.attention.rope = common.rope(c, common.rotated(c, spec.attention.head_width), 1e6)
    spec.feed_forward = {
      kind = "moe", experts = experts_count, width = c:integer("intermediate_size", "hidden"),
      activation = c:choice("hidden_act", "silu", common.activations),
      router = { name = "topk", k = c:chosen("num_experts_per_tok", experts_count), order = "after" },
    }
    return spec
  end,
  config = function(spec)
    local c, moe = common.config(spec, "MixtralForCausalLM")
    if not c then return c, moe end
    c.num_local_experts, c.intermediate_size = moe.experts, moe.width
    if spec.attention[1].window > 0 then c.sliding_window = spec.attention[1].window end
    return c
  end,
  tensors = common.append(common.decoder_tensors(common.attention_tensors()), {
    { here .. ".gate.weight", "layers.{layer}.feed_forward.router.gate" },
    { here .. ".experts.{expert}.w1.weight", experts .. ".gate" },
    { here .. ".experts.{expert}.w3.weight", experts .. ".up" },
    { here .. ".experts.{expert}.w2.weight", experts .. ".down" },
  }),
}
