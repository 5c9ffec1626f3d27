/* Counts what the parts of a layer compute and move; DeepSeek-V3 (arXiv 2412.19437) for multi-head latent attention. */
#include "cluster/shape.h"

#include "base/options.h"

static const char *const attention_kinds[] = {"mla", "gqa", NULL};

#define COUNT(field, default_, least, most, help) MG_OPTION_INT(mg_shape, field, default_, least, most, help)
#define SIZE(field, default_, least, help) COUNT(field, default_, least, 1 << 24, help)

const mg_option mg_shape_options[] = {
    COUNT(layers, 1, 1, 4096, "layers"),
    COUNT(dense_layers, 0, 0, 4096, "of them, from the first on, with a dense feed-forward"),
    SIZE(width, 1024, 1, "width of the model"),
    SIZE(heads, 16, 1, "query heads"),
    MG_OPTION_CHOICE(mg_shape, attention, MG_ATTENTION_GQA, attention_kinds, "latent or grouped-query attention"),
    SIZE(kv_heads, 1, 1, "gqa: heads of keys and values"),
    SIZE(head_width, 64, 1, "gqa: width of a head"),
    SIZE(query_rank, 0, 0, "mla: rank of the query projection; 0 = full"),
    SIZE(latent, 512, 1, "mla: width of the compressed keys and values"),
    SIZE(plain_width, 128, 0, "mla: part of a head's key without positions"),
    SIZE(rope_width, 64, 0, "mla: part of a head's key with positions"),
    SIZE(value_width, 128, 1, "mla: width of a head's value"),
    COUNT(experts, 8, 1, 4096, "routed experts of a layer"),
    COUNT(choices, 2, 1, 256, "experts of a token"),
    SIZE(expert_hidden, 1024, 1, "hidden width of an expert"),
    SIZE(shared_hidden, 0, 0, "hidden width of the shared experts together"),
    SIZE(dense_hidden, 0, 0, "hidden width of the dense layers"),
    SIZE(vocabulary, 32000, 1, "vocabulary"),
    COUNT(prediction_layers, 0, 0, 64, "further blocks that training runs to predict later tokens"),
    MG_OPTION_END};

mg_status mg_shape_read(mg_context *context, const json_t *json, mg_shape *out) {
  mg_options_defaults(mg_shape_options, out);
  MG_TRY(mg_options_from_json(context, mg_shape_options, json, "model", out));
  if (out->dense_layers > out->layers)
    return mg_fail(context, MG_USAGE, "model: %lld dense layers of %lld", (long long)out->dense_layers,
                   (long long)out->layers);
  if (out->dense_layers > 0 && out->dense_hidden == 0)
    return mg_fail(context, MG_USAGE, "model: dense layers need 'dense_hidden'");
  if (out->choices > out->experts)
    return mg_fail(context, MG_USAGE, "model: %lld choices of %lld experts", (long long)out->choices,
                   (long long)out->experts);
  return MG_OK;
}

static double kv_heads_of_rank(const mg_shape *s, int64_t parallel) {
  const int64_t heads = (s->kv_heads + parallel - 1) / parallel;
  return (double)heads;
}

int mg_shape_projections(const mg_shape *s, bool absorbed, int64_t parallel, mg_product *out) {
  const double width = (double)s->width, heads = (double)s->heads / (double)parallel;
  int count = 0;
  if (s->attention == MG_ATTENTION_GQA) {
    const double keys = kv_heads_of_rank(s, parallel), head = (double)s->head_width;
    out[count++] = (mg_product){(heads + 2 * keys) * head, width, 1};
    out[count++] = (mg_product){width, heads * head, 1};
    return count;
  }
  const double latent = (double)s->latent, rope = (double)s->rope_width, rank = (double)s->query_rank;
  const double query = heads * (double)(s->plain_width + s->rope_width), value = (double)s->value_width;
  out[count++] = (mg_product){rank + latent + rope, width, 1};
  out[count++] = (mg_product){query, rank > 0 ? rank : width, 1};
  if (absorbed) {
    out[count++] = (mg_product){latent, (double)s->plain_width, heads};
    out[count++] = (mg_product){value, latent, heads};
  } else {
    out[count++] = (mg_product){heads * ((double)s->plain_width + value), latent, 1};
  }
  out[count++] = (mg_product){width, heads * value, 1};
  return count;
}

int mg_shape_feed_forward(const mg_shape *s, int64_t hidden, int64_t parallel, mg_product *out) {
  const double own = (double)hidden / (double)parallel;
  out[0] = (mg_product){2 * own, (double)s->width, 1};
  out[1] = (mg_product){(double)s->width, own, 1};
  return 2;
}

static double parameters(const mg_product *products, int count) {
  double sum = 0;
  for (int i = 0; i < count; i++) sum += products[i].outputs * products[i].inputs * products[i].matrices;
  return sum;
}

double mg_shape_attention_parameters(const mg_shape *s, int64_t parallel) {
  mg_product products[MG_PRODUCTS_MAX];
  return parameters(products, mg_shape_projections(s, false, parallel, products));
}

double mg_shape_expert_parameters(const mg_shape *s) {
  return 3 * (double)s->width * (double)s->expert_hidden;
}

double mg_shape_block_parameters(const mg_shape *s, int64_t block, int64_t parallel) {
  const double width = (double)s->width;
  const double attention = mg_shape_attention_parameters(s, parallel), join = block < s->layers ? 0 : 2 * width * width;
  if (block < s->dense_layers) return attention + 3 * width * (double)s->dense_hidden / (double)parallel;
  const double gate = width * (double)s->experts, shared = 3 * width * (double)s->shared_hidden / (double)parallel;
  return attention + join + gate + shared;
}

double mg_shape_cache_elements(const mg_shape *s, int64_t parallel) {
  if (s->attention == MG_ATTENTION_MLA) return (double)(s->latent + s->rope_width);
  return 2 * kv_heads_of_rank(s, parallel) * (double)s->head_width;
}

double mg_shape_core_flops(const mg_shape *s, bool absorbed) {
  const double heads = (double)s->heads;
  if (s->attention == MG_ATTENTION_GQA) return 4 * heads * (double)s->head_width;
  if (absorbed) return 2 * heads * (double)(2 * s->latent + s->rope_width);
  return 2 * heads * (double)(s->plain_width + s->rope_width + s->value_width);
}

double mg_shape_norm_bytes(const mg_shape *s) {
  return 2 * (2 + 2) * (double)s->width;
}

/* Two norms, two residual sums, quantised inputs of the products, positions of queries and keys, the output of
 * attention quantised, and either the gate's input and the sum of shared and routed outputs, or the activation of the
 * dense feed-forward. The activation of routed experts belongs to their form. */
double mg_shape_moved_bytes(const mg_shape *s, bool expert_layer) {
  const double width = (double)s->width, heads = (double)s->heads;
  const double norms = mg_shape_norm_bytes(s), residuals = 2 * (2 + 2 + 2) * width, quantised = 2 * (2 + 1) * width;
  double attention;
  if (s->attention == MG_ATTENTION_MLA)
    attention = heads * (4 * (double)s->rope_width + 2 * (double)(2 * s->plain_width + s->rope_width) +
                         3 * (double)s->value_width) +
                7 * (double)(s->query_rank + s->latent);
  else
    attention = 4 * (heads + (double)s->kv_heads) * (double)s->head_width + 3 * heads * (double)s->head_width;
  const double hidden = (double)(expert_layer ? s->shared_hidden : s->dense_hidden);
  const double own = expert_layer ? (2 + 6) * width : 0;
  return norms + residuals + quantised + attention + 5 * hidden + own;
}

int64_t mg_shape_moving_kernels(bool expert_layer) {
  return expert_layer ? 9 : 7;
}

double mg_shape_token_flops(const mg_shape *s, double keys) {
  const double expert_layers = (double)(s->layers - s->dense_layers), width = (double)s->width;
  const double attention = 2 * mg_shape_attention_parameters(s, 1) + keys * mg_shape_core_flops(s, false);
  const double routed = 2 * (double)s->choices * mg_shape_expert_parameters(s) + 2 * width * (double)s->experts;
  const double shared = 6 * width * (double)s->shared_hidden, dense = 6 * width * (double)s->dense_hidden;
  return (double)s->layers * attention + expert_layers * (routed + shared) + (double)s->dense_layers * dense +
         2 * width * (double)s->vocabulary;
}
