--- MiMo-V2-Flash (Xiaomi 2025): windows of 128 tokens with sinks in most layers, value heads narrower than query heads,
--- routing as DeepSeek-V3.

local common = require "moegauge.families.common"
local deepseek = require "moegauge.families.deepseek_common"

local function binary(value) return value == 0 or value == 1 end

-- The heads of the full layers, or with the prefix "swa_" of those with a window.
local function heads(c, prefix, base)
  local width = c:integer(prefix .. "head_dim", "width")
  return {
    heads = c:integer(prefix .. "num_attention_heads", "heads"), kv_heads = c:integer(prefix .. "num_key_value_heads", "heads"),
    head_width = width, value_width = c:integer(prefix .. "v_head_dim", "width"),
    sinks = c:flag(prefix == "" and "add_full_attention_sink_bias" or "add_swa_attention_sink_bias", false),
    rope = { base = c:number(prefix .. "rope_theta", base, 1, 1e12), columns = common.rotated(c, width) },
  }
end

return {
  name = "mimo_v2_flash", types = { "mimo_v2_flash" }, runs = false, paper = "Xiaomi 2025, MiMo-V2-Flash",
  ignored = "sliding_window_size attention_chunk_size attention_value_scale hybrid_block_size",
  spec = function(c)
    local layers = c:integer("num_hidden_layers", "layers")
    local pattern = c:list("hybrid_layer_pattern", nil, "0 or 1", layers, binary)
    local sparse = c:list("moe_layer_freq", nil, "0 or 1", layers, binary)
    local full, slides = heads(c, "", 5e6), heads(c, "swa_", 10000)
    local biased = c:flag("attention_bias", false) and "qkv" or "none"
    slides.window, full.biases, slides.biases = c:integer("sliding_window", "window"), biased, biased
    local dense, moe = deepseek.dense(c), deepseek.mixture(c, deepseek.biased_router(c))
    return {
      layers = layers, width = c:integer("hidden_size", "width"), vocabulary = c:integer("vocab_size", "vocabulary"),
      norm_epsilon = c:number("layernorm_epsilon", 1e-5, 0, 1), tie_embeddings = c:flag("tie_word_embeddings", false),
      attention = common.each(layers, function(i) return pattern[i + 1] == 1 and slides or full end),
      feed_forward = common.each(layers, function(i) return sparse[i + 1] == 1 and moe or dense end),
    }
  end,
}
