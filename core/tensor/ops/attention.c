/* Attention with grouped heads (Ainslie et al. 2023, arXiv 2305.13245), causal or not, in a window or not, with
 * optional sinks and a bias by distance (Raffel et al. 2020, arXiv 1910.10683): softmax(scale * q k^T + bias) v per
 * head. The backward pass computes the probabilities again from lse, the logarithm of each row's denominator (Dao et
 * al. 2022, arXiv 2205.14135). */
#include "tensor/tape_internal.h"

typedef struct attention_shape {
  int64_t batch, heads, kv_heads;
  int64_t queries, keys;    /* per sequence; of the keys those that count */
  int64_t head, value_head; /* columns per head */
} attention_shape;

static attention_shape shape_of_call(const mg_op_call *call) {
  const int64_t batch = call->attributes.attention.batch, heads = call->attributes.attention.heads;
  const int64_t kv_heads = call->attributes.attention.kv_heads, keys = call->attributes.attention.keys;
  return (attention_shape){.batch = batch,
                           .heads = heads,
                           .kv_heads = kv_heads,
                           .queries = mg_tensor_rows(call->in[0]) / batch,
                           .keys = keys ? keys : mg_tensor_rows(call->in[1]) / batch,
                           .head = mg_tensor_columns(call->in[0]) / heads,
                           .value_head = mg_tensor_columns(call->in[2]) / kv_heads};
}

/* ---- cost ---------------------------------------------------------------------------------------------------- */

/* Keys that the query at `position` sees. */
static int64_t visible_keys(const mg_op_call *call, int64_t position, int64_t keys) {
  const int64_t window = call->attributes.attention.window;
  int64_t end = call->attributes.attention.causal && position + 1 < keys ? position + 1 : keys;
  int64_t first = window > 0 && position - window + 1 > 0 ? position - window + 1 : 0;
  return end > first ? end - first : 0;
}

static double visible_pairs(const mg_op_call *call, const attention_shape *s) {
  double pairs = 0.0;
  for (int64_t i = 0; i < s->queries; i++) pairs += (double)visible_keys(call, s->keys - s->queries + i, s->keys);
  return pairs * (double)s->batch;
}

/* q k^T and p v. */
static double attention_flops(const mg_op_call *call) {
  const attention_shape s = shape_of_call(call);
  return visible_pairs(call, &s) * (double)s.heads * 2.0 * (double)(s.head + s.value_head);
}

/* q k^T again, dp = dout v^T, dv = p^T dout, dq = ds k, dk = ds^T q. */
static double attention_backward_flops(const mg_op_call *call) {
  const attention_shape s = shape_of_call(call);
  return visible_pairs(call, &s) * (double)s.heads * 2.0 * (double)(3 * s.head + 2 * s.value_head);
}

/* ---- shapes -------------------------------------------------------------------------------------------------- */

static mg_status check_settings(const mg_op_check *check) {
  const mg_tensor *q = check->call->in[0], *k = check->call->in[1], *v = check->call->in[2];
  const int64_t batch = check->call->attributes.attention.batch, heads = check->call->attributes.attention.heads;
  const int64_t kv_heads = check->call->attributes.attention.kv_heads;
  if (batch < 1 || mg_tensor_rows(q) % batch != 0 || mg_tensor_rows(k) % batch != 0)
    return mg__refuse(check, "%lld sequences were asked for; they must divide the %lld rows of q and the %lld of k",
                      (long long)batch, (long long)mg_tensor_rows(q), (long long)mg_tensor_rows(k));
  if (heads < 1 || kv_heads < 1 || heads % kv_heads != 0)
    return mg__refuse(check, "%lld heads over %lld key-value heads were asked for; the second must divide the first",
                      (long long)heads, (long long)kv_heads);
  if (mg_tensor_columns(q) % heads != 0 || mg_tensor_columns(v) % kv_heads != 0)
    return mg__refuse(check, "%lld heads must divide the %lld columns of q, and %lld key-value heads the %lld of v",
                      (long long)heads, (long long)mg_tensor_columns(q), (long long)kv_heads,
                      (long long)mg_tensor_columns(v));
  if (check->call->attributes.attention.window < 0) return mg__refuse(check, "the window is negative; 0 means none");
  const int64_t keys = check->call->attributes.attention.keys, most = mg_tensor_rows(k) / batch;
  if (keys < 0 || keys > most)
    return mg__refuse(check, "%lld keys were asked for; each sequence of k has %lld rows", (long long)keys,
                      (long long)most);
  return MG_OK;
}

/* Distances j - i of key and query: from -(queries - 1) to keys - 1. */
static int64_t bias_columns(const attention_shape *s) {
  return s->queries + s->keys > 0 ? s->queries + s->keys - 1 : 0;
}

static mg_status check_inputs(const mg_op_check *check) {
  MG_TRY(mg__want_compute(check, check->call->attributes.attention.compute));
  MG_TRY(check_settings(check));
  const mg_tensor *k = check->call->in[1], *v = check->call->in[2];
  const attention_shape s = shape_of_call(check->call);
  MG_TRY(mg__want_matrix(check, 1, mg_tensor_rows(k), s.kv_heads * s.head, "key-value heads of q's head width"));
  MG_TRY(mg__want_matrix(check, 2, mg_tensor_rows(k), mg_tensor_columns(v), "as many rows as k"));
  MG_TRY(mg__want_count(check, 3, s.heads, "one for each head"));
  return mg__want_matrix(check, 4, s.heads, bias_columns(&s), "heads by distances of query and key");
}

static mg_status attention_shape_rule(const mg_op_check *check) {
  MG_TRY(check_inputs(check));
  const attention_shape s = shape_of_call(check->call);
  const int64_t rows = mg_tensor_rows(check->call->in[0]);
  MG_TRY(mg__out_matrix(check, 0, rows, s.heads * s.value_head));
  return mg__out_matrix(check, 1, s.heads, rows);
}

static mg_status attention_backward_shape(const mg_op_check *check) {
  MG_TRY(check_inputs(check));
  const attention_shape s = shape_of_call(check->call);
  const int64_t rows = mg_tensor_rows(check->call->in[0]);
  MG_TRY(mg__want_matrix(check, 5, rows, s.heads * s.value_head, "the output of attention"));
  MG_TRY(mg__want_matrix(check, 6, s.heads, rows, "the lse of attention"));
  MG_TRY(mg__want_matrix(check, 7, rows, s.heads * s.value_head, "like out"));
  for (int32_t i = 0; i < 3; i++) MG_TRY(mg__out_like(check, i, check->call->in[i]));
  if (check->call->out[3] && !check->call->in[3]) return mg__refuse(check, "dsinks was asked for without sinks");
  if (check->call->out[4] && !check->call->in[4]) return mg__refuse(check, "dbias was asked for without bias");
  MG_TRY(mg__out_vector(check, 3, s.heads));
  return mg__out_matrix(check, 4, s.heads, bias_columns(&s));
}

/* ---- rows ---------------------------------------------------------------------------------------------------- */

static void attention_backward(mg_backward *b) {
  const mg_tensor *const *in = b->call->in;
  mg_op_call call = {.op = MG_OP_ATTENTION_BACKWARD,
                     .in = {in[0], in[1], in[2], in[3], in[4], b->call->out[0], b->call->out[1], b->dout[0]},
                     .out = {NULL, NULL, NULL, in[3] ? mg__blank(b) : NULL, in[4] ? mg__blank(b) : NULL},
                     .attributes = b->call->attributes};
  if (!mg__compute(b, &call)) return;
  for (int32_t i = 0; i < 5; i++) {
    if (in[i]) mg__give(b, i, call.out[i]);
  }
}

const mg_op_info mg__op_attention = {.in = {{"q", MG_OPERAND_REAL},
                                            {"k", MG_OPERAND_REAL},
                                            {"v", MG_OPERAND_REAL},
                                            {"sinks", MG_OPERAND_REAL, true},
                                            {"bias", MG_OPERAND_REAL, true}},
                                     .out = {{"out", MG_OPERAND_REAL}, {"lse", MG_OPERAND_WIDE}},
                                     .shape = attention_shape_rule,
                                     .backward = attention_backward,
                                     .flops = attention_flops};

const mg_op_info mg__op_attention_backward = {.in = {{"q", MG_OPERAND_REAL},
                                                     {"k", MG_OPERAND_REAL},
                                                     {"v", MG_OPERAND_REAL},
                                                     {"sinks", MG_OPERAND_REAL, true},
                                                     {"bias", MG_OPERAND_REAL, true},
                                                     {"out", MG_OPERAND_REAL},
                                                     {"lse", MG_OPERAND_WIDE},
                                                     {"dout", MG_OPERAND_REAL}},
                                              .out = {{"dq", MG_OPERAND_REAL},
                                                      {"dk", MG_OPERAND_REAL},
                                                      {"dv", MG_OPERAND_REAL},
                                                      {"dsinks", MG_OPERAND_REAL, true},
                                                      {"dbias", MG_OPERAND_REAL, true}},
                                              .shape = attention_backward_shape,
                                              .flops = attention_backward_flops};

mg_var *mg_attention(mg_tape *tape, mg_var *q, mg_var *k, mg_var *v, mg_var *sinks, mg_var *bias,
                     mg_attention_settings settings) {
  mg_application attention = {.op = MG_OP_ATTENTION, .in = {q, k, v, sinks, bias}};
  attention.attributes.attention.batch = settings.batch;
  attention.attributes.attention.heads = settings.heads;
  attention.attributes.attention.kv_heads = settings.kv_heads;
  attention.attributes.attention.window = settings.window;
  attention.attributes.attention.causal = settings.causal;
  attention.attributes.attention.scale = settings.scale;
  attention.attributes.attention.keys = settings.keys;
  attention.attributes.attention.compute = mg_var_dtype(q) == MG_F64 ? MG_F64 : tape->compute;
  return mg__apply(tape, &attention);
}
