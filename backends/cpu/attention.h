/* What the ways to compute attention share: shapes of a call, the keys that a query sees, the softmax of its scores. */
#ifndef MG_CPU_ATTENTION_H
#define MG_CPU_ATTENTION_H

#include "functions.h"
#include "gemm.h"

enum {
  KEY_ALIGN = 32, /* visible keys start at a multiple of this, which every kind of packing can address */
  LANES = 16      /* rows of scores are worked on in whole vectors: what is not seen is -inf or is cleared afterwards */
};

typedef struct attention {
  const mg_op_call *call;
  const mg_tensor *q, *k, *v, *sinks, *bias;
  const cpu_gemm *gemm;
  int64_t batch, heads, kv_heads, group, Sq, Sk, head, value_head, window;
  int64_t key_rows;                           /* rows of a sequence of k and v, of which the first Sk count */
  int64_t head_words, value_words, key_words; /* depths in words */
  int64_t head_pad, value_pad, key_pad;       /* columns rounded up to whole panels */
  bool causal, round;
  float scale;
} attention;

static inline attention attention_of(const mg_backend *backend, const mg_op_call *call) {
  const cpu_state *state = cpu_state_of(backend);
  attention a = {.call = call, .q = call->in[0], .k = call->in[1], .v = call->in[2]};
  a.sinks = call->in[3];
  a.bias = call->in[4];
  a.round = call->attributes.attention.compute == MG_BF16;
  a.gemm = a.round && state->gemm_bf16 ? state->gemm_bf16 : state->gemm_f32;
  a.batch = call->attributes.attention.batch;
  a.heads = call->attributes.attention.heads;
  a.kv_heads = call->attributes.attention.kv_heads;
  a.group = a.heads / a.kv_heads;
  a.Sq = a.batch ? mg_tensor_rows(a.q) / a.batch : 0;
  a.key_rows = a.batch ? mg_tensor_rows(a.k) / a.batch : 0;
  a.Sk = call->attributes.attention.keys ? call->attributes.attention.keys : a.key_rows;
  a.head = mg_tensor_columns(a.q) / a.heads;
  a.value_head = mg_tensor_columns(a.v) / a.kv_heads;
  a.window = call->attributes.attention.window;
  a.causal = call->attributes.attention.causal;
  a.scale = (float)call->attributes.attention.scale;
  a.head_words = gemm_words(a.gemm, a.head);
  a.value_words = gemm_words(a.gemm, a.value_head);
  a.key_words = gemm_words(a.gemm, cpu_round_up(a.Sk, KEY_ALIGN));
  a.head_pad = cpu_round_up(a.head, a.gemm->columns);
  a.value_pad = cpu_round_up(a.value_head, a.gemm->columns);
  a.key_pad = cpu_round_up(a.Sk, KEY_ALIGN);
  return a;
}

/* Head h of sequence b as (row, column of the head); `length` rows per sequence. */
static inline cpu_matrix head_rows(const mg_tensor *x, int64_t heads, int64_t length, int64_t b, int64_t h) {
  const int64_t columns = mg_tensor_columns(x), first = b * length * columns + h * (columns / heads);
  return (cpu_matrix){(const char *)x->data + (size_t)first * mg_dtype_bytes(x->dtype), x->dtype, columns, 1};
}

/* The keys that queries [first, end) of a sequence see at most: [from, to). */
typedef struct key_range {
  int64_t from, to;
} key_range;

static inline key_range visible(const attention *a, int64_t first, int64_t end) {
  const int64_t shift = a->Sk - a->Sq;
  const int64_t to = a->causal ? cpu_min(a->Sk, shift + end) : a->Sk;
  const int64_t from = a->window > 0 ? cpu_max(0, shift + first - a->window + 1) : 0;
  return (key_range){cpu_min(from, cpu_max(to, 0)) / KEY_ALIGN * KEY_ALIGN, cpu_max(to, 0)};
}

static inline key_range visible_to_one(const attention *a, int64_t query) {
  const int64_t place = a->Sk - a->Sq + query;
  const int64_t to = cpu_max(0, a->causal ? cpu_min(a->Sk, place + 1) : a->Sk);
  return (key_range){cpu_min(to, a->window > 0 ? cpu_max(0, place - a->window + 1) : 0), to};
}

static inline void clear(float *x, int64_t from, int64_t to) {
  for (int64_t j = from; j < to; j++) x[j] = 0.0f;
}

/* Where there is a bias by distance, makes products of one row scores. Returns the factor that is still due. */
static inline float add_bias(const attention *a, int64_t h, int64_t query, key_range block, key_range own, float *row) {
  if (!a->bias) return a->scale;
  const int64_t first = h * (a->Sq + a->Sk - 1) + a->Sq - 1 - query;
  for (int64_t j = own.from; j < own.to; j++)
    row[j - block.from] = a->scale * row[j - block.from] + cpu_at(a->bias, first + j);
  return 1.0f;
}

/* One row of scores, times `scale`, to probabilities over the keys it sees; returns lse. */
static inline float softmax_row(float *p, key_range block, key_range own, float scale, float sink) {
  const int64_t from = own.from - block.from, to = own.to - block.from, start = from / LANES * LANES;
  const int64_t end = cpu_round_up(to, LANES);
  float *seen = p + start;
  const int64_t n = end - start;
#pragma omp simd
  for (int64_t j = 0; j < n; j++) seen[j] *= scale;
  for (int64_t j = start; j < from; j++) p[j] = -INFINITY;
  for (int64_t j = to; j < end; j++) p[j] = -INFINITY;
  float largest = sink;
#pragma omp simd reduction(max : largest)
  for (int64_t j = 0; j < n; j++) largest = seen[j] > largest ? seen[j] : largest;
  const bool nothing = largest == -INFINITY; /* nothing seen, or only -inf: all probabilities are 0 */
  if (nothing) largest = 0.0f;
  float sum = nothing || sink == -INFINITY ? 0.0f : cpu_exp(sink - largest);
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; j++) {
    const float e = cpu_exp(seen[j] - largest);
    seen[j] = e;
    sum += e;
  }
  clear(p, 0, start);
  clear(p, end, cpu_round_up(block.to - block.from, KEY_ALIGN));
  if (sum == 0.0f) return -INFINITY;
  const float inverse = 1.0f / sum;
#pragma omp simd
  for (int64_t j = 0; j < n; j++) seen[j] *= inverse;
  return largest + logf(sum);
}

/* Writes n elements, multiplied by `factor`, which also overwrites x. */
static inline void store_scaled(const mg_tensor *out, int64_t at, float *x, int64_t n, float factor) {
  float *target = cpu_write_begin(out, at, x);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) target[i] = factor * x[i];
  cpu_write_end(out, at, n, target);
}

/* Attention of calls with few queries, which read keys and values where they lie. */
bool CPU_NAME(attention_is_few)(const attention *a);
mg_status CPU_NAME(attention_few)(mg_backend *backend, const attention *a);

#endif
