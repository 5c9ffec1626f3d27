/* Attention forward and backward, block by block of queries; memory grows with Sk, never with Sq * Sk.
 *
 * A task is one key head of one sequence and some of the rows that read it. Keys and values are packed once per task;
 * a block of queries then needs three steps: scores = q k^T over the keys it may see, softmax of each row, and
 * out = p v, with the same register-blocked kernels as every other product. Formulas: backends/reference/attention.c. */
#include "attention.h"

static cpu_matrix transposed(cpu_matrix x) {
  return (cpu_matrix){x.data, x.dtype, x.column, x.row};
}

static cpu_matrix float_rows(const float *data, int64_t stride) {
  return (cpu_matrix){data, MG_F32, stride, 1};
}

/* Panels of b packed with `panel_words` depth words each, of which `words` are used. */
typedef struct packed_panels {
  const uint32_t *data;
  int64_t panel_words, words;
} packed_panels;

/* The panels from depth `first` on, over `depth` depths; both multiples of KEY_ALIGN, or the end. */
static packed_panels panels_from(const attention *a, packed_panels b, int64_t first, int64_t depth) {
  return (packed_panels){b.data + first / a->gemm->pack * a->gemm->columns, b.panel_words, gemm_words(a->gemm, depth)};
}

/* c [rows, columns] (+)= x b for at most gemm->rows rows of x from `row` on. */
static void multiply_rows(const attention *a, const cpu_matrix *x, int64_t row, int32_t rows, int64_t depth,
                          packed_panels b, int64_t columns, float *c, int64_t stride, bool accumulate,
                          uint32_t *block) {
  const cpu_gemm *gemm = a->gemm;
  const cpu_words place = gemm_holds_words(gemm, x, depth, a->round)
                              ? gemm_words_as_stored(gemm, x, row)
                              : gemm_pack_block(gemm, x, row, rows, depth, 0, b.words, a->round, block);
  for (int64_t column = 0; column < columns; column += gemm->columns) {
    const cpu_result result = {c + column, stride, accumulate, false};
    gemm->multiply(rows, (int32_t)cpu_min(gemm->columns, columns - column), b.words, &place,
                   b.data + column * b.panel_words, gemm->columns, &result, (const char *)b.data, 0);
  }
}

/* Rows of a block when `rows` are cut into blocks of nearly one size. */
static int64_t even_block(const attention *a, int64_t rows) {
  return a->gemm->tiles ? a->gemm->rows : cpu_ceil_div(rows, cpu_ceil_div(rows, a->gemm->rows));
}

/* The scratch memory of one thread. */
typedef struct attention_scratch {
  uint32_t *keys, *values, *block; /* packed k as (key, depth), packed v as (column, key), one block of a */
  float *scores, *out;
} attention_scratch;

static int64_t forward_scratch_words(const attention *a) {
  const int64_t rows = a->gemm->rows, deepest = cpu_max(a->head_words, a->key_words);
  return a->key_pad * a->head_words + a->value_pad * a->key_words + gemm_rows_words(a->gemm, rows, deepest) +
         rows * (a->key_pad + a->value_pad) + 64;
}

static attention_scratch forward_scratch(const attention *a, uint32_t *memory) {
  const int64_t rows = a->gemm->rows;
  attention_scratch s;
  s.keys = memory;
  s.values = s.keys + a->key_pad * a->head_words;
  s.block = s.values + a->value_pad * a->key_words;
  s.scores = (float *)(void *)(s.block + gemm_rows_words(a->gemm, rows, cpu_max(a->head_words, a->key_words)));
  s.out = s.scores + rows * a->key_pad;
  return s;
}

/* Queries [first, first + rows) of one head. */
static void attend_block(const attention *a, const attention_scratch *s, int64_t b, int64_t h, int64_t first,
                         int32_t rows) {
  const mg_tensor *out = a->call->out[0], *lse_tensor = a->call->out[1];
  float *lse = (float *)lse_tensor->data + h * mg_tensor_columns(lse_tensor) + b * a->Sq;
  const float sink = a->sinks ? cpu_at(a->sinks, h) : -INFINITY;
  const key_range keys = visible(a, first, first + rows);
  const int64_t padded = cpu_round_up(keys.to - keys.from, KEY_ALIGN);
  const cpu_matrix q = head_rows(a->q, a->heads, a->Sq, b, h), p = float_rows(s->scores, a->key_pad);
  const packed_panels k = {s->keys + keys.from * a->head_words, a->head_words, a->head_words};
  const packed_panels v = {s->values, a->key_words, a->key_words};
  multiply_rows(a, &q, first, rows, a->head, k, padded, s->scores, a->key_pad, false, s->block);
  for (int64_t i = 0; i < rows; i++) {
    const key_range own = visible_to_one(a, first + i);
    const float scale = add_bias(a, h, first + i, keys, own, s->scores + i * a->key_pad);
    lse[first + i] = softmax_row(s->scores + i * a->key_pad, keys, own, scale, sink);
  }
  multiply_rows(a, &p, 0, rows, padded, panels_from(a, v, keys.from, padded), a->value_head, s->out, a->value_pad,
                false, s->block);
  for (int64_t i = 0; i < rows; i++)
    store_scaled(out, (b * a->Sq + first + i) * mg_tensor_columns(out) + h * a->value_head, s->out + i * a->value_pad,
                 a->value_head, 1.0f);
}

/* Rows [row, row_end) of the group's heads laid end to end, Sq rows each. */
static void attend_task(const attention *a, int64_t b, int64_t kv_head, int64_t row, int64_t row_end,
                        uint32_t *memory) {
  const attention_scratch s = forward_scratch(a, memory);
  const cpu_matrix keys = head_rows(a->k, a->kv_heads, a->key_rows, b, kv_head);
  const cpu_matrix values = transposed(head_rows(a->v, a->kv_heads, a->key_rows, b, kv_head));
  gemm_pack_panels(a->gemm, &keys, 0, a->Sk, a->head, 0, a->head_words, a->head_words, a->round, s.keys);
  gemm_pack_panels(a->gemm, &values, 0, a->value_head, a->Sk, 0, a->key_words, a->key_words, a->round, s.values);
  while (row < row_end) {
    const int64_t first = row % a->Sq, left = cpu_min(a->Sq - first, row_end - row);
    const int64_t rows = cpu_min(even_block(a, left), left);
    attend_block(a, &s, b, kv_head * a->group + row / a->Sq, first, (int32_t)rows);
    row += rows;
  }
}

mg_status CPU_NAME(attention)(mg_backend *backend, const mg_op_call *call) {
  if (mg_tensor_count(call->out[0]) == 0) return MG_OK;
  const attention a = attention_of(backend, call);
  if (CPU_NAME(attention_is_few)(&a)) return CPU_NAME(attention_few)(backend, &a);
  const int32_t threads = cpu_state_of(backend)->threads;
  const int64_t rows = a.group * a.Sq, pairs = a.batch * a.kv_heads;
  const int64_t pieces = cpu_max(1, cpu_min(cpu_ceil_div(rows, 64), cpu_ceil_div(2 * threads, pairs)));
  const int64_t piece = cpu_ceil_div(rows, pieces), words = cpu_round_up(forward_scratch_words(&a), 16);
  uint32_t *memory = mg__cpu_scratch(backend, (size_t)(threads * words) * sizeof(uint32_t));
  if (!memory) return MG_MEMORY;
#pragma omp parallel num_threads(threads) if (CPU_WORTH_THREADS(rows * pairs * a.Sk, 4096))
  {
    if (a.gemm->enter) a.gemm->enter();
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < pairs * pieces; task++) {
      const int64_t pair = task / pieces, first = task % pieces * piece;
      attend_task(&a, pair / a.kv_heads, pair % a.kv_heads, first, cpu_min(rows, first + piece),
                  memory + omp_get_thread_num() * words);
    }
    if (a.gemm->leave) a.gemm->leave();
  }
  return MG_OK;
}

/* ---- backward --------------------------------------------------------------------------------------------- */

enum { QUERY_BLOCK = 128, QUERY_BLOCK_MIN = 32, SCORES_MAX = 64 * 1024 };

/* Queries whose p and ds are held at once, as many as leave both in the L2 cache; the depth of the sums for dk and dv. */
static int64_t query_block(const attention *a) {
  const int64_t fit = SCORES_MAX / cpu_max(1, a->key_pad) / KEY_ALIGN * KEY_ALIGN;
  return cpu_max(QUERY_BLOCK_MIN, cpu_min(QUERY_BLOCK, cpu_min(fit, cpu_round_up(a->Sq, KEY_ALIGN))));
}

typedef struct backward_scratch {
  uint32_t *keys, *values, *keys_across, *queries, *douts, *block;
  float *p, *ds, *dq, *dk, *dv, *row;
  float *dbias; /* of one sequence and key head: [group, Sq + Sk - 1]; its own for each task */
} backward_scratch;

/* The next `words` of `memory`, or NULL while only counting. */
static uint32_t *take(uint32_t *memory, int64_t *used, int64_t words) {
  uint32_t *start = memory ? memory + *used : NULL;
  *used += cpu_round_up(words, 16);
  return start;
}

/* Lays the arrays out from `memory` on and returns the words used; with NULL only the number matters. */
static int64_t lay_out_backward(const attention *a, uint32_t *memory, backward_scratch *s) {
  int64_t used = 0;
  const int64_t queries = query_block(a), query_words = gemm_words(a->gemm, queries);
  const int64_t deepest = cpu_max(cpu_max(a->head_words, a->value_words), cpu_max(a->key_words, query_words));
  s->keys = take(memory, &used, a->key_pad * a->head_words);
  s->values = take(memory, &used, a->key_pad * a->value_words);
  s->keys_across = take(memory, &used, a->head_pad * a->key_words);
  s->queries = take(memory, &used, a->head_pad * query_words);
  s->douts = take(memory, &used, a->value_pad * query_words);
  s->block = take(memory, &used, gemm_rows_words(a->gemm, a->gemm->rows, deepest));
  s->p = (float *)(void *)take(memory, &used, queries * a->key_pad);
  s->ds = (float *)(void *)take(memory, &used, queries * a->key_pad);
  s->dq = (float *)(void *)take(memory, &used, a->gemm->rows * a->head_pad);
  s->dk = (float *)(void *)take(memory, &used, a->key_pad * a->head_pad);
  s->dv = (float *)(void *)take(memory, &used, a->key_pad * a->value_pad);
  s->row = (float *)(void *)take(memory, &used, 2 * cpu_max(a->head, a->value_head));
  return used;
}

/* out . dout of one query; `buffer` holds two rows of a head. */
static float row_delta(const attention *a, int64_t b, int64_t h, int64_t query, float *buffer) {
  const mg_tensor *out = a->call->in[5], *dout = a->call->in[7];
  const int64_t n = a->value_head, first = (b * a->Sq + query) * mg_tensor_columns(out) + h * n;
  const float *x = cpu_read(out, first, n, buffer), *g = cpu_read(dout, first, n, buffer + n);
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t d = 0; d < n; d++) sum += x[d] * g[d];
  return sum;
}

/* Scores and dout v^T of one row to p and ds, zero where the key is not seen. */
static void gradient_row(float *p, float *ds, key_range block, key_range own, float scale, float lse, float delta) {
  const int64_t from = own.from - block.from, to = own.to - block.from;
  const int64_t start = from / LANES * LANES, end = cpu_round_up(to, LANES);
  const int64_t padded = cpu_round_up(block.to - block.from, KEY_ALIGN);
#pragma omp simd
  for (int64_t j = start; j < end; j++) {
    const float probability = cpu_exp(p[j] * scale - lse);
    p[j] = probability;
    ds[j] = probability * (ds[j] - delta);
  }
  clear(p, 0, from);
  clear(ds, 0, from);
  clear(p, to, padded);
  clear(ds, to, padded);
}

/* The gradient of the bias is summed per task, and over tasks at the end. */
static void add_bias_gradient(const attention *a, const backward_scratch *s, int64_t h, int64_t query, key_range block,
                              key_range own, const float *ds) {
  if (!a->call->out[4]) return;
  float *sums = s->dbias + h % a->group * (a->Sq + a->Sk - 1) + a->Sq - 1 - query;
  for (int64_t j = own.from; j < own.to; j++) sums[j] += ds[j - block.from];
}

/* Rows [row, row + rows) of a block of queries that begins at `first` and sees `keys`: p and ds are kept, dq written. */
static void backward_rows(const attention *a, const backward_scratch *s, int64_t b, int64_t h, int64_t first,
                          key_range keys, int64_t row, int32_t rows) {
  const mg_tensor *dq = a->call->out[0], *lse_tensor = a->call->in[6];
  const float *lse = (const float *)lse_tensor->data + h * mg_tensor_columns(lse_tensor) + b * a->Sq + first;
  const key_range own = visible(a, first + row, first + row + rows);
  const int64_t padded = cpu_round_up(own.to - own.from, KEY_ALIGN);
  float *p = s->p + row * a->key_pad + own.from - keys.from, *ds = s->ds + (p - s->p);
  const cpu_matrix q = head_rows(a->q, a->heads, a->Sq, b, h), ds_rows = float_rows(ds, a->key_pad);
  const cpu_matrix dout = head_rows(a->call->in[7], a->heads, a->Sq, b, h);
  const packed_panels k = {s->keys + own.from * a->head_words, a->head_words, a->head_words};
  const packed_panels v = {s->values + own.from * a->value_words, a->value_words, a->value_words};
  const packed_panels k_across = {s->keys_across, a->key_words, a->key_words};
  multiply_rows(a, &q, first + row, rows, a->head, k, padded, p, a->key_pad, false, s->block);
  multiply_rows(a, &dout, first + row, rows, a->value_head, v, padded, ds, a->key_pad, false, s->block);
  for (int64_t i = row; i < row + rows; i++) {
    const key_range seen = visible_to_one(a, first + i);
    const float scale = add_bias(a, h, first + i, keys, seen, s->p + i * a->key_pad);
    gradient_row(s->p + i * a->key_pad, s->ds + i * a->key_pad, keys, seen, scale, lse[i],
                 row_delta(a, b, h, first + i, s->row));
    add_bias_gradient(a, s, h, first + i, keys, seen, s->ds + i * a->key_pad);
  }
  multiply_rows(a, &ds_rows, 0, rows, padded, panels_from(a, k_across, own.from, padded), a->head, s->dq, a->head_pad,
                false, s->block);
  for (int64_t i = 0; i < rows; i++)
    store_scaled(dq, (b * a->Sq + first + row + i) * mg_tensor_columns(dq) + h * a->head, s->dq + i * a->head_pad,
                 a->head, a->scale);
}

/* sum [keys, width] += x^T g over the queries of a block: x [queries, keys] are its p or ds, g its douts or queries.
 * Keys are seen by the queries from their own position on. */
static void add_key_gradients(const attention *a, const backward_scratch *s, int64_t first, key_range keys,
                              int64_t queries, const float *x, packed_panels g, int64_t width, float *sum,
                              int64_t stride) {
  const int64_t count = keys.to - keys.from, step = even_block(a, count);
  for (int64_t key = 0; key < count; key += step) {
    const int64_t sees = keys.from + key - (a->Sk - a->Sq) - first;
    const int64_t from = a->causal ? cpu_min(queries, cpu_max(0, sees)) / KEY_ALIGN * KEY_ALIGN : 0;
    if (from == queries) continue;
    const cpu_matrix across = {x + from * a->key_pad, MG_F32, 1, a->key_pad};
    multiply_rows(a, &across, key, (int32_t)cpu_min(step, count - key), queries - from,
                  panels_from(a, g, from, queries - from), width, sum + (keys.from + key) * stride, stride, true,
                  s->block);
  }
}

/* Queries [first, first + rows) of one head: dq is written, dk and dv grow. */
static void backward_block(const attention *a, const backward_scratch *s, int64_t b, int64_t h, int64_t first,
                           int64_t rows) {
  const key_range keys = visible(a, first, first + rows);
  const int64_t step = even_block(a, rows), words = gemm_words(a->gemm, rows);
  for (int64_t row = 0; row < rows; row += step)
    backward_rows(a, s, b, h, first, keys, row, (int32_t)cpu_min(step, rows - row));
  cpu_matrix q = head_rows(a->q, a->heads, a->Sq, b, h), dout = head_rows(a->call->in[7], a->heads, a->Sq, b, h);
  q.data = (const char *)q.data + (size_t)(first * q.row) * mg_dtype_bytes(q.dtype);
  dout.data = (const char *)dout.data + (size_t)(first * dout.row) * mg_dtype_bytes(dout.dtype);
  const cpu_matrix q_across = transposed(q), dout_across = transposed(dout);
  gemm_pack_panels(a->gemm, &q_across, 0, a->head, rows, 0, words, words, a->round, s->queries);
  gemm_pack_panels(a->gemm, &dout_across, 0, a->value_head, rows, 0, words, words, a->round, s->douts);
  add_key_gradients(a, s, first, keys, rows, s->ds, (packed_panels){s->queries, words, words}, a->head, s->dk,
                    a->head_pad);
  add_key_gradients(a, s, first, keys, rows, s->p, (packed_panels){s->douts, words, words}, a->value_head, s->dv,
                    a->value_pad);
}

static void store_gradient(const attention *a, const mg_tensor *out, int64_t b, int64_t kv_head, float *sum,
                           int64_t stride, float scale) {
  const int64_t columns = mg_tensor_columns(out), width = columns / a->kv_heads;
  for (int64_t j = 0; j < a->Sk; j++)
    store_scaled(out, (b * a->key_rows + j) * columns + kv_head * width, sum + j * stride, width, scale);
  for (int64_t j = a->Sk; j < a->key_rows; j++)
    for (int64_t d = 0; d < width; d++) cpu_set(out, (b * a->key_rows + j) * columns + kv_head * width + d, 0.0f);
}

static void backward_task(const attention *a, int64_t b, int64_t kv_head, uint32_t *memory, float *dbias) {
  backward_scratch s = {.dbias = dbias};
  lay_out_backward(a, memory, &s);
  if (a->call->out[4]) memset(dbias, 0, (size_t)(a->group * (a->Sq + a->Sk - 1)) * sizeof(float));
  const cpu_matrix keys = head_rows(a->k, a->kv_heads, a->key_rows, b, kv_head), keys_across = transposed(keys);
  const cpu_matrix values = head_rows(a->v, a->kv_heads, a->key_rows, b, kv_head);
  gemm_pack_panels(a->gemm, &keys, 0, a->Sk, a->head, 0, a->head_words, a->head_words, a->round, s.keys);
  gemm_pack_panels(a->gemm, &values, 0, a->Sk, a->value_head, 0, a->value_words, a->value_words, a->round, s.values);
  gemm_pack_panels(a->gemm, &keys_across, 0, a->head, a->Sk, 0, a->key_words, a->key_words, a->round, s.keys_across);
  memset(s.dk, 0, (size_t)(a->key_pad * a->head_pad) * sizeof(float));
  memset(s.dv, 0, (size_t)(a->key_pad * a->value_pad) * sizeof(float));
  const int64_t queries = query_block(a);
  for (int64_t g = 0; g < a->group; g++)
    for (int64_t first = 0; first < a->Sq; first += queries)
      backward_block(a, &s, b, kv_head * a->group + g, first, cpu_min(queries, a->Sq - first));
  store_gradient(a, a->call->out[1], b, kv_head, s.dk, a->head_pad, a->scale);
  store_gradient(a, a->call->out[2], b, kv_head, s.dv, a->value_pad, 1.0f);
}

/* `buffer` holds two rows of a head. */
static void sink_gradients(const attention *a, float *buffer) {
  const mg_tensor *lse = a->call->in[6], *dsinks = a->call->out[3];
  for (int64_t h = 0; h < a->heads; h++) {
    double sum = 0.0;
    for (int64_t row = 0; row < a->batch * a->Sq; row++) {
      const float p = cpu_exp(cpu_at(a->sinks, h) - ((const float *)lse->data)[h * mg_tensor_columns(lse) + row]);
      sum -= (double)(p * row_delta(a, row / a->Sq, h, row % a->Sq, buffer));
    }
    cpu_set(dsinks, h, (float)sum);
  }
}

/* Sums the gradients of the bias over the sequences, in their order. */
static void bias_gradients(const attention *a, const float *sums) {
  const mg_tensor *dbias = a->call->out[4];
  const int64_t each = a->heads * (a->Sq + a->Sk - 1);
  for (int64_t i = 0; i < each; i++) {
    double sum = 0.0;
    for (int64_t b = 0; b < a->batch; b++) sum += (double)sums[b * each + i];
    cpu_set(dbias, i, (float)sum);
  }
}

mg_status CPU_NAME(attention_backward)(mg_backend *backend, const mg_op_call *call) {
  const attention a = attention_of(backend, call);
  const int32_t threads = cpu_state_of(backend)->threads;
  const int64_t pairs = a.batch * a.kv_heads;
  backward_scratch unused;
  const int64_t words = lay_out_backward(&a, NULL, &unused);
  const int64_t distances = call->out[4] ? a.group * (a.Sq + a.Sk - 1) : 0;
  uint32_t *memory = mg__cpu_scratch(backend, (size_t)(threads * words + pairs * distances) * sizeof(uint32_t));
  if (!memory) return MG_MEMORY;
  float *dbias = (float *)(void *)(memory + threads * words);
#pragma omp parallel num_threads(threads) if (CPU_WORTH_THREADS(pairs * a.Sq * a.Sk, 1024))
  {
    if (a.gemm->enter) a.gemm->enter();
#pragma omp for schedule(dynamic, 1)
    for (int64_t pair = 0; pair < pairs; pair++)
      backward_task(&a, pair / a.kv_heads, pair % a.kv_heads, memory + omp_get_thread_num() * words,
                    dbias + pair * distances);
    if (a.gemm->leave) a.gemm->leave();
  }
  if (call->out[3] && a.sinks) sink_gradients(&a, (float *)(void *)memory);
  if (call->out[4]) bias_gradients(&a, dbias);
  return MG_OK;
}
