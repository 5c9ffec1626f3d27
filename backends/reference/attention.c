/* attention: for each head and each query i, over the keys j that it sees,
 *   p[j] = exp(s[i,j] - lse[i]),  s[i,j] = scale q[i] . k[j] + bias[j - i + Sq - 1],
 *   lse[i] = ln(sum over j of exp(s[i,j]) + exp(sink)),
 *   out[i] = sum over j of p[j] v[j].                                       Vaswani et al. 2017, "Attention is all you
 * need" Head h reads key head h / (heads / kv_heads). A sink is one logit per head that takes probability and gives no
 * value. Sk keys of each sequence count. Query i stands at Sk - Sq + i; it sees keys up to there when causal, and the
 * last `window` of those when window > 0 (without causal, also all later ones). A query that sees nothing gives zeros; its lse is the sink, or
 * -inf.
 *
 * attention_backward, from the stored lse, with D[i] = dout[i] . out[i]:
 *   ds[i,j] = p[i,j] (dout[i] . v[j] - D[i]),        dsink = - sum over i of exp(sink - lse[i]) D[i],
 *   dbias[d] = sum of ds[i,j] over sequences and j - i + Sq - 1 = d,
 *   dq[i] = scale sum over j of ds[i,j] k[j],  dk[j] = scale sum over i of ds[i,j] q[i],  dv[j] = sum over i of p[i,j]
 * dout[i]. `compute` rounds both operands of each product, p and ds among them. */
#include "reference.h"

typedef struct attention {
  const mg_tensor *q, *k, *v, *sinks, *bias;
  int64_t batch, heads, kv_heads, group;              /* group = heads that share a key head */
  int64_t Sq, Sk, key_rows, head, value_head, window; /* key_rows: rows of a sequence of k, of which Sk count */
  bool causal;
  double scale;
  mg_dtype compute;
} attention;

static attention attention_of(const mg_op_call *call) {
  const mg_tensor *q = call->in[0], *k = call->in[1], *v = call->in[2];
  attention a = {.q = q, .k = k, .v = v, .sinks = call->in[3], .bias = call->in[4]};
  a.batch = call->attributes.attention.batch;
  a.heads = call->attributes.attention.heads;
  a.kv_heads = call->attributes.attention.kv_heads;
  a.group = a.heads / a.kv_heads;
  a.Sq = a.batch ? mg_tensor_rows(q) / a.batch : 0;
  a.key_rows = a.batch ? mg_tensor_rows(k) / a.batch : 0;
  a.Sk = call->attributes.attention.keys ? call->attributes.attention.keys : a.key_rows;
  a.head = mg_tensor_columns(q) / a.heads;
  a.value_head = mg_tensor_columns(v) / a.kv_heads;
  a.window = call->attributes.attention.window;
  a.causal = call->attributes.attention.causal;
  a.scale = call->attributes.attention.scale;
  a.compute = call->attributes.attention.compute;
  return a;
}

/* The first element of head h of row i of sequence b, in a tensor of `heads` heads and `length` rows per sequence. */
static int64_t head_row(const mg_tensor *x, int64_t heads, int64_t length, int64_t b, int64_t i, int64_t h) {
  const int64_t columns = mg_tensor_columns(x);
  return (b * length + i) * columns + h * (columns / heads);
}

static bool sees(const attention *a, int64_t i, int64_t j) {
  const int64_t place = a->Sk - a->Sq + i;
  return (!a->causal || j <= place) && (a->window <= 0 || j > place - a->window);
}

/* x[first_x ..] . y[first_y ..], operands rounded to the compute dtype. */
static double dot(const attention *a, const mg_tensor *x, int64_t first_x, const mg_tensor *y, int64_t first_y,
                  int64_t count) {
  double sum = 0;
  for (int64_t d = 0; d < count; d++)
    sum += operand(at(x, first_x + d), a->compute) * operand(at(y, first_y + d), a->compute);
  return sum;
}

static int64_t bias_place(const attention *a, int64_t h, int64_t i, int64_t j) {
  return h * (a->Sq + a->Sk - 1) + j - i + a->Sq - 1;
}

/* The score of query i and key j, -inf where it is not seen. */
static double score(const attention *a, int64_t b, int64_t h, int64_t i, int64_t j) {
  if (!sees(a, i, j)) return -INFINITY;
  const double product = dot(a, a->q, head_row(a->q, a->heads, a->Sq, b, i, h), a->k,
                             head_row(a->k, a->kv_heads, a->key_rows, b, j, h / a->group), a->head);
  return a->scale * product + (a->bias ? at(a->bias, bias_place(a, h, i, j)) : 0);
}

/* Fills p[0 .. Sk) for one query and returns its lse. */
static double probabilities(const attention *a, int64_t b, int64_t h, int64_t i, double *p) {
  const double sink = a->sinks ? at(a->sinks, h) : -INFINITY;
  double max = sink;
  for (int64_t j = 0; j < a->Sk; j++) max = larger(max, p[j] = score(a, b, h, i, j));
  double sum = max == -INFINITY ? 0 : exp(sink - max);
  for (int64_t j = 0; j < a->Sk; j++) sum += p[j] = max == -INFINITY ? 0 : exp(p[j] - max);
  for (int64_t j = 0; j < a->Sk && sum != 0; j++) p[j] /= sum;
  return sum == 0 ? -INFINITY : max + log(sum);
}

static void attend(const attention *a, const mg_op_call *call, int64_t b, int64_t h, int64_t i, double *p) {
  const mg_tensor *out = call->out[0], *lse = call->out[1];
  const int64_t first = head_row(out, a->heads, a->Sq, b, i, h);
  put(lse, h * mg_tensor_columns(lse) + b * a->Sq + i, probabilities(a, b, h, i, p));
  for (int64_t d = 0; d < a->value_head; d++) {
    double sum = 0;
    for (int64_t j = 0; j < a->Sk; j++)
      if (sees(a, i, j))
        sum += operand(p[j], a->compute) *
               operand(at(a->v, head_row(a->v, a->kv_heads, a->key_rows, b, j, h / a->group) + d), a->compute);
    put(out, first + d, sum);
  }
}

mg_status mg__reference_attention(mg_backend *backend, const mg_op_call *call) {
  const attention a = attention_of(call);
  double *p = mg__reference_scratch(backend, a.Sk);
  if (!p) return MG_MEMORY;
  for (int64_t b = 0; b < a.batch; b++)
    for (int64_t h = 0; h < a.heads; h++)
      for (int64_t i = 0; i < a.Sq; i++) attend(&a, call, b, h, i, p);
  return MG_OK;
}

/* What the backward of one key head of one sequence works on: p and ds of [group * Sq, Sk], query heads outermost. */
typedef struct gradients {
  attention a;
  const mg_tensor *out, *lse, *dout, *dq, *dk, *dv, *dbias;
  int64_t b, kv_head;
  double *p, *ds, *bias_sums;
} gradients;

/* Where query head `g` of the group has its row i. */
static int64_t query_row(const gradients *s, const mg_tensor *x, int64_t g, int64_t i) {
  return head_row(x, s->a.heads, s->a.Sq, s->b, i, s->kv_head * s->a.group + g);
}

static int64_t key_row(const gradients *s, const mg_tensor *x, int64_t j) {
  return head_row(x, s->a.kv_heads, s->a.key_rows, s->b, j, s->kv_head);
}

/* D[i] = dout[i] . out[i] for query head h. */
static double row_delta(const attention *a, const mg_tensor *out, const mg_tensor *dout, int64_t b, int64_t h,
                        int64_t i) {
  const int64_t first = head_row(out, a->heads, a->Sq, b, i, h);
  double sum = 0;
  for (int64_t d = 0; d < a->value_head; d++) sum += at(dout, first + d) * at(out, first + d);
  return sum;
}

static void fill_p_and_ds(const gradients *s, int64_t g, int64_t i) {
  const attention *a = &s->a;
  const int64_t h = s->kv_head * a->group + g, first = (g * a->Sq + i) * a->Sk;
  const double lse = at(s->lse, h * mg_tensor_columns(s->lse) + s->b * a->Sq + i);
  const double delta = row_delta(a, s->out, s->dout, s->b, h, i);
  for (int64_t j = 0; j < a->Sk; j++) {
    const double dp = dot(a, s->dout, query_row(s, s->dout, g, i), a->v, key_row(s, a->v, j), a->value_head);
    s->p[first + j] = sees(a, i, j) ? exp(score(a, s->b, h, i, j) - lse) : 0;
    s->ds[first + j] = s->p[first + j] * (dp - delta);
    if (s->dbias) s->bias_sums[bias_place(a, h, i, j)] += s->ds[first + j];
  }
}

static void write_dq(const gradients *s, int64_t g, int64_t i) {
  const attention *a = &s->a;
  for (int64_t d = 0; d < a->head; d++) {
    double sum = 0;
    for (int64_t j = 0; j < a->Sk; j++)
      sum += operand(s->ds[(g * a->Sq + i) * a->Sk + j], a->compute) *
             operand(at(a->k, key_row(s, a->k, j) + d), a->compute);
    put(s->dq, query_row(s, s->dq, g, i) + d, a->scale * sum);
  }
}

/* Sum over the queries of the group of matrix[i,j] x[i, column]. */
static double sum_over_queries(const gradients *s, const double *matrix, const mg_tensor *x, int64_t j,
                               int64_t column) {
  const attention *a = &s->a;
  if (j >= a->Sk) return 0;
  double sum = 0;
  for (int64_t g = 0; g < a->group; g++)
    for (int64_t i = 0; i < a->Sq; i++)
      sum += operand(matrix[(g * a->Sq + i) * a->Sk + j], a->compute) *
             operand(at(x, query_row(s, x, g, i) + column), a->compute);
  return sum;
}

static void write_dk_and_dv(const gradients *s, int64_t j) {
  const attention *a = &s->a;
  for (int64_t d = 0; d < a->head; d++)
    put(s->dk, key_row(s, s->dk, j) + d, a->scale * sum_over_queries(s, s->ds, a->q, j, d));
  for (int64_t d = 0; d < a->value_head; d++)
    put(s->dv, key_row(s, s->dv, j) + d, sum_over_queries(s, s->p, s->dout, j, d));
}

static void write_dsinks(const attention *a, const mg_op_call *call) {
  const mg_tensor *out = call->in[5], *lse = call->in[6], *dout = call->in[7], *dsinks = call->out[3];
  for (int64_t h = 0; dsinks && h < a->heads; h++) {
    double sum = 0;
    for (int64_t b = 0; b < a->batch; b++)
      for (int64_t i = 0; i < a->Sq; i++)
        sum -= exp(at(a->sinks, h) - at(lse, h * mg_tensor_columns(lse) + b * a->Sq + i)) *
               row_delta(a, out, dout, b, h, i);
    put(dsinks, h, sum);
  }
}

mg_status mg__reference_attention_backward(mg_backend *backend, const mg_op_call *call) {
  gradients s = {.a = attention_of(call), .out = call->in[5], .lse = call->in[6], .dout = call->in[7]};
  s.dq = call->out[0], s.dk = call->out[1], s.dv = call->out[2], s.dbias = call->out[4];
  const int64_t cells = s.a.group * s.a.Sq * s.a.Sk, distances = s.dbias ? mg_tensor_count(s.dbias) : 0;
  s.p = mg__reference_scratch(backend, 2 * cells + distances);
  if (!s.p) return MG_MEMORY;
  s.ds = s.p + cells;
  s.bias_sums = s.ds + cells;
  for (int64_t i = 0; i < distances; i++) s.bias_sums[i] = 0;
  for (s.b = 0; s.b < s.a.batch; s.b++)
    for (s.kv_head = 0; s.kv_head < s.a.kv_heads; s.kv_head++) {
      for (int64_t g = 0; g < s.a.group; g++)
        for (int64_t i = 0; i < s.a.Sq; i++) fill_p_and_ds(&s, g, i);
      for (int64_t g = 0; g < s.a.group; g++)
        for (int64_t i = 0; i < s.a.Sq; i++) write_dq(&s, g, i);
      for (int64_t j = 0; j < s.a.key_rows; j++) write_dk_and_dv(&s, j);
    }
  write_dsinks(&s.a, call);
  for (int64_t i = 0; i < distances; i++) put(s.dbias, i, s.bias_sums[i]);
  return MG_OK;
}
