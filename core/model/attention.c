/* Attention of a block: grouped heads with rotary positions (Ainslie et al. 2023, arXiv 2305.13245; Su et al. 2021, arXiv
 * 2104.09864), norms of queries and keys (Dehghani et al. 2023, arXiv 2302.05442), or heads over a latent (DeepSeek-AI
 * 2024, arXiv 2405.04434):
 *
 *   c = norm(x W_down), r = rope(x W_rope);  k_h = [c U_h, r], v_h = c V_h;  q_h = [q_h', rope(q_h'')]
 *
 * A cache keeps [c, r] alone. Where there is a past, scores are taken in the latent instead, which is the same sum in
 * another order: q_h . k_h = [q_h' U_h^T, q_h''] . [c, r], and sum p v_h = (sum p c) V_h. */
#include "model/attention.h"

#include <math.h>

#include "model/cache_internal.h"
#include "model/rope.h"

/* ---- parts --------------------------------------------------------------------------------------------------- */

static mg_var *weight(mg_model *model, mg_tape *tape, mg__linear linear) {
  return mg_params_var(model->params, tape, linear.weight);
}

static mg_var *rotate(mg_tape *tape, const mg__pass *pass, const mg__rope *rope, int64_t head, mg_var *x) {
  if (rope->columns == 0) return x;
  const mg__table *table = pass->tables;
  while (!mg__rope_same(table->rope, rope)) table++; /* the pass has one for every layer */
  const mg_rope_settings settings = {
      .head = head, .rotary = rope->columns, .interleaved = rope->interleaved, .scale = table->scale};
  return mg_rope(tape, x, pass->positions, table->frequencies, settings);
}

static double scale_of(const mg__attention_settings *a) {
  const double plain = a->scale > 0.0 ? a->scale : 1.0 / sqrt((double)mg__query_width(a));
  return plain * mg__rope_score_factor(&a->rope);
}

static mg_attention_settings settings_of(const mg__pass *pass, const mg__attention_settings *a) {
  return (mg_attention_settings){.batch = pass->batch->sequences,
                                 .heads = a->heads,
                                 .kv_heads = a->kv_heads,
                                 .window = a->window,
                                 .causal = pass->causal,
                                 .scale = scale_of(a)};
}

/* Attention of the tokens to each other and to their past, with what the layer adds to scores. */
static mg_var *attend(mg_model *model, mg_tape *tape, const mg__pass *pass, const mg__attention *own, mg_var *query,
                      mg_var *key, mg_var *value, mg_attention_settings settings) {
  mg_var *sinks = own->sinks < 0 ? NULL : mg_params_var(model->params, tape, own->sinks);
  if (sinks) sinks = mg_cast(tape, sinks, mg_var_dtype(query));
  mg_var *bias = pass->bias ? mg_cast(tape, pass->bias, mg_var_dtype(query)) : NULL;
  return mg_attention(tape, query, key, value, sinks, bias, settings);
}

/* ---- grouped heads ------------------------------------------------------------------------------------------- */

static mg_var *clip(mg_tape *tape, const mg__attention_settings *a, mg_var *x) {
  return a->clip > 0.0 ? mg_unary_op(tape, MG_UNARY_CLAMP, x, -a->clip, a->clip) : x;
}

/* Norm (where asked) and rotation of queries or keys [T, heads * head]. */
static mg_var *place_heads(mg_model *model, mg_tape *tape, const mg__pass *pass, const mg__attention_settings *a,
                           mg__norm norm, mg_var *x) {
  if (norm.scale >= 0) {
    const int64_t columns = mg_var_columns(x);
    x = mg_reshape2(tape, x, -1, a->qk_norm == MG__QK_NORM_WHOLE ? columns : a->head_width);
    x = mg_reshape2(tape, mg__norm_forward(model, tape, norm, x), pass->tokens, columns);
  }
  return rotate(tape, pass, &a->rope, a->head_width, x);
}

/* The pass of the tokens that give keys and values. */
static const mg__pass *seen_by(const mg__pass *pass) {
  return pass->seen ? pass->seen : pass;
}

static mg_var *grouped(mg_model *model, mg_tape *tape, const mg__pass *pass, int64_t index, mg_var *x, mg_var *seen) {
  const mg__attention_settings *a = &pass->stack->layers[index].attention;
  const mg__attention *own = &pass->blocks[index].attention;
  mg_var *query = clip(tape, a, mg__linear_forward(model, tape, own->query, x));
  mg_var *key = clip(tape, a, mg__linear_forward(model, tape, own->key, seen));
  mg_var *value = clip(tape, a, mg__linear_forward(model, tape, own->value, seen));
  query = place_heads(model, tape, pass, a, own->query_norm, query);
  key = place_heads(model, tape, seen_by(pass), a, own->key_norm, key);
  mg_attention_settings settings = settings_of(pass, a);
  if (pass->cache) settings.keys = mg__cache_extend(pass->cache, tape, index, &key, &value);
  return attend(model, tape, pass, own, query, key, value, settings);
}

/* ---- heads over a latent ------------------------------------------------------------------------------------- */

/* x [T*heads, C] with the heads of each token together, or the tokens of each head when `by_head`, in the other order. */
static mg_var *reorder(mg_tape *tape, mg_var *x, int64_t tokens, int64_t heads, bool by_head) {
  if (tokens == 1 || heads == 1) return x;
  const int64_t rows = tokens * heads, outer = by_head ? tokens : heads, inner = by_head ? heads : tokens;
  mg_context *context = mg_tape_context(tape);
  int32_t *ids = mg_alloc(context, (size_t)rows * sizeof *ids);
  if (!ids) return mg_tape_fail(tape, MG_MEMORY, "attention: no memory for the order of %lld rows", (long long)rows);
  for (int64_t o = 0; o < outer; o++)
    for (int64_t i = 0; i < inner; i++) ids[o * inner + i] = (int32_t)(i * outer + o);
  mg_var *order = mg_tape_upload(tape, MG_I32, 1, &rows, ids);
  mg_free(context, ids, (size_t)rows * sizeof *ids);
  return mg_gather_rows(tape, x, order);
}

/* Each row of x [T,C] `times` times: [T*times, C]. */
static mg_var *repeat_rows(mg_tape *tape, mg_var *x, int64_t times) {
  const int64_t rows = mg_var_rows(x) * times;
  mg_context *context = mg_tape_context(tape);
  int32_t *ids = mg_alloc(context, (size_t)rows * sizeof *ids);
  if (!ids) return mg_tape_fail(tape, MG_MEMORY, "attention: no memory for the order of %lld rows", (long long)rows);
  for (int64_t i = 0; i < rows; i++) ids[i] = (int32_t)(i / times);
  mg_var *order = mg_tape_upload(tape, MG_I32, 1, &rows, ids);
  mg_free(context, ids, (size_t)rows * sizeof *ids);
  return mg_gather_rows(tape, x, order);
}

/* Queries [T*heads, nope] and [T*heads, rope], the second rotated. */
typedef struct latent_query {
  mg_var *plain, *turned;
} latent_query;

static latent_query latent_queries(mg_model *model, mg_tape *tape, const mg__pass *pass,
                                   const mg__attention_settings *a, const mg__attention *own, mg_var *x) {
  mg_var *q;
  if (a->query_rank) {
    mg_var *low = mg__linear_forward(model, tape, own->query_down, x);
    q = mg__linear_forward(model, tape, own->query_up, mg__norm_forward(model, tape, own->query_norm, low));
  } else {
    q = mg__linear_forward(model, tape, own->query, x);
  }
  q = mg_reshape2(tape, q, -1, a->head_width);
  mg_var *turned = mg_reshape2(tape, mg_slice(tape, q, a->nope_width, a->rope_width), pass->tokens, -1);
  turned = rotate(tape, pass, &a->rope, a->rope_width, turned);
  return (latent_query){mg_slice(tape, q, 0, a->nope_width), mg_reshape2(tape, turned, -1, a->rope_width)};
}

/* Keys and values of every head from the latent. */
static mg_var *latent_expanded(mg_model *model, mg_tape *tape, const mg__pass *pass, int64_t index, latent_query q,
                               mg_var *latent, mg_var *turned) {
  const mg__attention_settings *a = &pass->stack->layers[index].attention;
  const mg__attention *own = &pass->blocks[index].attention;
  mg_var *up =
      mg_reshape2(tape, mg__linear_forward(model, tape, own->kv_up, latent), -1, a->nope_width + a->value_width);
  mg_var *key = mg_concat(tape, mg_slice(tape, up, 0, a->nope_width), repeat_rows(tape, turned, a->heads));
  mg_var *value = mg_slice(tape, up, a->nope_width, a->value_width);
  mg_var *query = mg_concat(tape, q.plain, q.turned);
  return attend(model, tape, pass, own, mg_reshape2(tape, query, pass->tokens, -1),
                mg_reshape2(tape, key, seen_by(pass)->tokens, -1), mg_reshape2(tape, value, seen_by(pass)->tokens, -1),
                settings_of(pass, a));
}

/* x [T*heads, C] times the matrix of its head, or its transpose: [heads, out, in] -> [T*heads, in or out]. */
static mg_var *by_heads(mg_tape *tape, mg_var *x, int64_t heads, mg_var *matrices, bool transpose) {
  const int64_t tokens = mg_var_rows(x) / heads, shape[] = {heads, tokens, mg_var_columns(x)};
  mg_var *rows = mg_reshape(tape, reorder(tape, x, tokens, heads, false), 3, shape);
  mg_var *y = mg_matmul(tape, rows, false, matrices, transpose);
  return reorder(tape, mg_reshape2(tape, y, heads * tokens, mg_var_columns(y)), tokens, heads, true);
}

/* Scores and sums in the latent: `keys` rows [c, r] of the cache stand for keys and values of all heads. Columns of the
 * up projection that a product does not need meet zeros, or are cut off, so that the weight is used as it lies. */
static mg_var *latent_absorbed(mg_model *model, mg_tape *tape, const mg__pass *pass, int64_t index, latent_query q,
                               mg_var *cached, int64_t keys) {
  const mg__attention_settings *a = &pass->stack->layers[index].attention;
  const mg__attention *own = &pass->blocks[index].attention;
  const int64_t each = a->nope_width + a->value_width, shape[] = {a->heads, each, a->kv_rank};
  const int64_t zeros[] = {mg_var_rows(q.plain), a->value_width};
  mg_var *up = mg_reshape(tape, weight(model, tape, own->kv_up), 3, shape);
  mg_var *padded = mg_concat(tape, q.plain, mg_fill(tape, mg_var_dtype(q.plain), 2, zeros, 0.0));
  mg_var *query = mg_concat(tape, by_heads(tape, padded, a->heads, up, false), q.turned);
  mg_attention_settings settings = settings_of(pass, a);
  settings.kv_heads = 1;
  settings.keys = keys;
  mg_var *mixed = attend(model, tape, pass, own, mg_reshape2(tape, query, pass->tokens, -1), cached, cached, settings);
  mixed = mg_slice(tape, mg_reshape2(tape, mixed, -1, a->kv_rank + a->rope_width), 0, a->kv_rank);
  mg_var *values = mg_slice(tape, by_heads(tape, mixed, a->heads, up, true), a->nope_width, a->value_width);
  return mg_reshape2(tape, values, pass->tokens, -1);
}

static mg_var *latent(mg_model *model, mg_tape *tape, const mg__pass *pass, int64_t index, mg_var *x, mg_var *seen) {
  const mg__attention_settings *a = &pass->stack->layers[index].attention;
  const mg__attention *own = &pass->blocks[index].attention;
  const latent_query q = latent_queries(model, tape, pass, a, own, x);
  mg_var *down = mg__linear_forward(model, tape, own->kv_down, seen);
  mg_var *c = mg__norm_forward(model, tape, own->key_norm, mg_slice(tape, down, 0, a->kv_rank));
  mg_var *turned = mg_slice(tape, down, a->kv_rank, a->rope_width);
  turned = rotate(tape, seen_by(pass), &a->rope, a->rope_width, turned);
  if (!pass->cache) return latent_expanded(model, tape, pass, index, q, c, turned);
  mg_var *row = mg_concat(tape, c, turned);
  const int64_t keys = mg__cache_extend(pass->cache, tape, index, &row, NULL);
  if (seen_by(pass)->past == 0) return latent_expanded(model, tape, pass, index, q, c, turned);
  return latent_absorbed(model, tape, pass, index, q, row, keys);
}

/* ---- what blocks call ---------------------------------------------------------------------------------------- */

mg_var *mg__attend(mg_model *model, mg_tape *tape, const mg__pass *pass, int64_t index, mg_var *x, mg_var *seen) {
  const bool is_latent = pass->stack->layers[index].attention.kind == MG__ATTENTION_LATENT;
  mg_var *mixed = is_latent ? latent(model, tape, pass, index, x, seen) : grouped(model, tape, pass, index, x, seen);
  return mg__linear_forward(model, tape, pass->blocks[index].attention.output, mixed);
}

mg_var *mg__attend_across(mg_model *model, mg_tape *tape, const mg__pass *pass, int64_t index, mg_var *x) {
  const mg__attention_settings *a = &pass->stack->layers[index].attention;
  const mg__attention *cross = &pass->blocks[index].cross;
  mg_var *query = mg__linear_forward(model, tape, cross->query, x), *key = NULL, *value = NULL;
  if (pass->source) {
    mg_var *source = mg_cast(tape, pass->source, mg_var_dtype(x));
    key = mg__linear_forward(model, tape, cross->key, source);
    value = mg__linear_forward(model, tape, cross->value, source);
  }
  if (pass->cache) mg__cache_cross(pass->cache, tape, index, &key, &value);
  mg_attention_settings settings = settings_of(pass, a);
  settings.causal = false;
  settings.window = 0;
  mg_var *mixed = mg_attention(tape, query, key, value, NULL, NULL, settings);
  return mg__linear_forward(model, tape, cross->output, mixed);
}
