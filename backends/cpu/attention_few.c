/* Attention of few queries, as when tokens are decoded one by one: its time is that of reading keys and values, so each is
 * read once, where it lies, and rows follow each other as they do in memory.
 *
 * The keys are cut into pieces, as many as the shapes ask for whatever the number of threads. A task takes one piece and
 * attends to it alone; then the pieces are joined in their order (Dao et al. 2023, Flash-Decoding):
 *   lse = log(sum_i e^lse_i + e^sink),  out = sum_i e^(lse_i - lse) out_i */
#include "attention.h"
#include "dots.h"

enum {
  FEW_ROWS = 16,    /* most queries that share a key head */
  PIECES = 8,       /* or a multiple, unless they would be too short */
  PIECE_KEYS = 128, /* most keys of a piece */
  PIECE_KEYS_MIN = 32,
  KEYS_AT_ONCE = 4,
  ROWS_AT_ONCE = 4,
  PAIR = 2 * VECTOR_FLOATS,
  AHEAD_ROWS = 16
};

#define PAIR_BYTES(half) ((int64_t)(PAIR * ((half) ? sizeof(uint16_t) : sizeof(float))))

bool CPU_NAME(attention_is_few)(const attention *a) {
  return a->group * a->Sq <= FEW_ROWS && (!a->round || a->k->dtype == MG_BF16);
}

/* How the keys of each sequence are cut. */
typedef struct few_plan {
  const attention *a;
  key_range keys;
  int64_t pieces, groups; /* of KEYS_AT_ONCE keys */
  int64_t score_pad;      /* keys of the longest piece, rounded up */
  int64_t rows;           /* queries for each key head: those of its first head, then the next */
  int64_t runs, run; /* runs of `run` neighbouring key heads: more than one where threads would find nothing to do */
  float *out, *lse;  /* of pieces: [batch, pieces, kv_heads, rows, padded value_head] and without the last */
  int64_t task_floats;
} few_plan;

static few_plan plan_pieces(const attention *a, int64_t threads) {
  few_plan p = {.a = a, .keys = visible(a, 0, a->Sq), .rows = a->group * a->Sq};
  const int64_t keys = p.keys.to - p.keys.from;
  const int64_t least = cpu_ceil_div(PIECES, a->batch), wanted = least * cpu_ceil_div(keys, least * PIECE_KEYS);
  p.pieces = cpu_max(1, cpu_min(wanted, keys / PIECE_KEYS_MIN));
  p.groups = cpu_ceil_div(keys, KEYS_AT_ONCE);
  p.score_pad = cpu_round_up(KEYS_AT_ONCE * cpu_ceil_div(p.groups, p.pieces), KEY_ALIGN);
  p.run = cpu_ceil_div(a->kv_heads, cpu_min(a->kv_heads, cpu_ceil_div(threads, a->batch * p.pieces)));
  p.runs = cpu_ceil_div(a->kv_heads, p.run);
  p.task_floats = cpu_round_up(p.run * p.rows * (cpu_round_up(a->head, PAIR) + p.score_pad), 16);
  return p;
}

/* Keys or values of a task: row j stands at data + j * row_bytes, and each head has `width` elements of it. */
typedef struct few_rows {
  const char *data;
  int64_t row_bytes, head_bytes, width, pad; /* `pad`: the width in whole pairs of vectors */
  bool half;                                 /* bf16, not f32 */
} few_rows;

/* One piece of the keys of one sequence, and key heads [head, head + heads). */
typedef struct few_task {
  const attention *a;
  int64_t sequence, head, heads, rows;
  key_range piece;
  few_rows keys, values;
  int64_t score_pad; /* floats between rows of scores */
  float *queries, *scores, *out, *lse;
} few_task;

static few_rows rows_of(const few_task *t, const mg_tensor *x) {
  const attention *a = t->a;
  const int64_t columns = mg_tensor_columns(x), element = (int64_t)mg_dtype_bytes(x->dtype);
  few_rows rows = {.row_bytes = columns * element, .width = columns / a->kv_heads, .half = x->dtype == MG_BF16};
  rows.pad = cpu_round_up(rows.width, PAIR);
  rows.head_bytes = rows.width * element;
  rows.data = (const char *)x->data + t->sequence * a->key_rows * rows.row_bytes + t->head * rows.head_bytes;
  return rows;
}

/* ---- pairs of vectors ---------------------------------------------------------------------------------------- */

/* 2 VECTOR_FLOATS elements. Of bf16 the first vector has the even ones, the second the odd ones: so they become f32
 * without being moved. Queries and results, which meet them, are unzipped likewise. */
typedef struct pair {
  vector first, second;
} pair;

static inline __attribute__((always_inline)) pair load_pair(const char *w, bool half) {
  if (half) return (pair){vector_load_even((const uint16_t *)w), vector_load_odd((const uint16_t *)w)};
  return (pair){vector_load((const float *)w), vector_load((const float *)w + VECTOR_FLOATS)};
}

static void unzip(float *x, int64_t n, bool half) {
  float as_was[PAIR];
  for (int64_t k = 0; half && k < n; k += PAIR, x += PAIR) {
    memcpy(as_was, x, sizeof as_was);
    for (int32_t i = 0; i < VECTOR_FLOATS; i++) x[i] = as_was[2 * i], x[VECTOR_FLOATS + i] = as_was[2 * i + 1];
  }
}

static void zip(float *x, int64_t n, bool half) {
  float as_was[PAIR];
  for (int64_t k = 0; half && k < n; k += PAIR, x += PAIR) {
    memcpy(as_was, x, sizeof as_was);
    for (int32_t i = 0; i < VECTOR_FLOATS; i++) x[2 * i] = as_was[i], x[2 * i + 1] = as_was[VECTOR_FLOATS + i];
  }
}

/* ---- pieces -------------------------------------------------------------------------------------------------- */

static void round_row(float *x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) x[i] = cpu_bf16_to_f32(cpu_bf16_from_f32(x[i]));
}

/* Element of row `row` of key head `head` in the row of query or output that it belongs to. */
static int64_t place_of(const attention *a, const mg_tensor *x, int64_t sequence, int64_t head, int64_t row) {
  const int64_t columns = mg_tensor_columns(x);
  return (sequence * a->Sq + row % a->Sq) * columns + (head * a->group + row / a->Sq) * (columns / a->heads);
}

static void read_queries(const few_task *t) {
  const attention *a = t->a;
  for (int64_t i = 0; i < t->heads * t->rows; i++) {
    float *target = t->queries + i * t->keys.pad;
    const int64_t first = place_of(a, a->q, t->sequence, t->head + i / t->rows, i % t->rows);
    const float *values = cpu_read(a->q, first, a->head, target);
    if (values != target) memcpy(target, values, (size_t)a->head * sizeof *target);
    clear(target, a->head, t->keys.pad);
    if (a->round) round_row(target, a->head);
    unzip(target, t->keys.pad, t->keys.half);
  }
}

/* What KEYS_AT_ONCE rows hold of one head, and what is asked for meanwhile: as much of rows that are read later. */
typedef struct few_view {
  const char *row[KEYS_AT_ONCE], *ahead[KEYS_AT_ONCE];
  char rest[KEYS_AT_ONCE]
           [PAIR * sizeof(float)]; /* the last elements of each, and zeros, where they are no whole pair */
} few_view;

/* The rows from j on; beyond the piece its last one stands in. What is read AHEAD_ROWS later: after the keys come the
 * values, after these the keys of the piece behind this one. */
static few_view view_rows(const few_task *t, const few_rows *rows, int64_t j) {
  few_view view;
  for (int32_t i = 0; i < KEYS_AT_ONCE; i++)
    view.row[i] = rows->data + cpu_min(j + i, t->piece.to - 1) * rows->row_bytes;
  j += AHEAD_ROWS;
  if (j >= t->piece.to) {
    if (rows == &t->keys) j += t->piece.from - t->piece.to;
    rows = rows == &t->keys ? &t->values : &t->keys;
  }
  for (int32_t i = 0; i < KEYS_AT_ONCE; i++)
    view.ahead[i] = rows->data + cpu_min(j + i, t->a->key_rows - 1) * rows->row_bytes;
  return view;
}

/* Asks for one head of the rows ahead: more at once would hold up what is computed meanwhile. */
static inline __attribute__((always_inline)) void ask_ahead(const few_view *view, int64_t from, int64_t bytes) {
  for (int64_t at = from; at < from + bytes; at += LINE_BYTES)
#pragma GCC unroll 4
    for (int32_t i = 0; i < KEYS_AT_ONCE; i++) __builtin_prefetch(view->ahead[i] + at, 0, 2);
}

static void copy_rest(few_view *view, int64_t from, int64_t bytes) {
  for (int32_t i = 0; i < KEYS_AT_ONCE; i++) {
    memset(view->rest[i], 0, sizeof view->rest[i]);
    memcpy(view->rest[i], view->row[i] + from, (size_t)bytes);
  }
}

/* sum[c][r] grows by pairs of query r times those of key c, `at` bytes into its row. */
static inline __attribute__((always_inline)) void multiply_pairs(const int32_t rows, const bool half,
                                                                 const char *const row[KEYS_AT_ONCE], int64_t at,
                                                                 const float *x, int64_t stride,
                                                                 vector sum[KEYS_AT_ONCE][ROWS_AT_ONCE]) {
#pragma GCC unroll 4
  for (int32_t c = 0; c < KEYS_AT_ONCE; c++) {
    const pair w = load_pair(row[c] + at, half);
#pragma GCC unroll 4
    for (int32_t r = 0; r < rows; r++) {
      sum[c][r] = vector_fma(vector_load(x + r * stride), w.first, sum[c][r]);
      sum[c][r] = vector_fma(vector_load(x + r * stride + VECTOR_FLOATS), w.second, sum[c][r]);
    }
  }
}

/* Scores of `rows` queries of each head from `first` on with KEYS_AT_ONCE keys from j on. */
static inline __attribute__((always_inline)) void score_form(const int32_t rows, const bool half, const few_task *t,
                                                             few_view *view, int64_t first, int64_t j) {
  const int64_t pad = t->keys.pad, bytes = t->keys.head_bytes, whole = bytes / PAIR_BYTES(half) * PAIR_BYTES(half);
  const float *queries = t->queries + first * pad;
  float *scores = t->scores + first * t->score_pad + j - t->piece.from;
  for (int64_t h = 0; h < t->heads; h++, queries += t->rows * pad, scores += t->rows * t->score_pad) {
    vector sum[KEYS_AT_ONCE][ROWS_AT_ONCE];
    const float *x = queries;
    int64_t at = h * bytes;
    const int64_t end = at + whole;
    if (first == 0) ask_ahead(view, at, bytes);
#pragma GCC unroll 4
    for (int32_t c = 0; c < KEYS_AT_ONCE; c++)
#pragma GCC unroll 4
      for (int32_t r = 0; r < rows; r++) sum[c][r] = vector_all(0.0f);
    for (; at < end; at += PAIR_BYTES(half), x += PAIR) multiply_pairs(rows, half, view->row, at, x, pad, sum);
    if (whole < bytes) {
      copy_rest(view, at, bytes - whole);
      const char *const rest[] = {view->rest[0], view->rest[1], view->rest[2], view->rest[3]};
      multiply_pairs(rows, half, rest, 0, x, pad, sum);
    }
#pragma GCC unroll 4
    for (int32_t r = 0; r < rows; r++)
      vector_sum_four(sum[0][r], sum[1][r], sum[2][r], sum[3][r], scores + r * t->score_pad);
  }
}

/* Pairs of out[r] grow by sum_c p[r][c] * value c. */
static inline __attribute__((always_inline)) void add_pairs(const int32_t rows, const bool half,
                                                            const char *const row[KEYS_AT_ONCE], int64_t at,
                                                            const float *p, int64_t p_stride, float *out,
                                                            int64_t stride) {
  pair sum[ROWS_AT_ONCE];
#pragma GCC unroll 4
  for (int32_t r = 0; r < rows; r++)
    sum[r] = (pair){vector_load(out + r * stride), vector_load(out + r * stride + VECTOR_FLOATS)};
#pragma GCC unroll 4
  for (int32_t c = 0; c < KEYS_AT_ONCE; c++) {
    const pair w = load_pair(row[c] + at, half);
#pragma GCC unroll 4
    for (int32_t r = 0; r < rows; r++) {
      const vector factor = vector_all(p[r * p_stride + c]);
      sum[r] = (pair){vector_fma(factor, w.first, sum[r].first), vector_fma(factor, w.second, sum[r].second)};
    }
  }
#pragma GCC unroll 4
  for (int32_t r = 0; r < rows; r++) {
    vector_store(out + r * stride, sum[r].first);
    vector_store(out + r * stride + VECTOR_FLOATS, sum[r].second);
  }
}

static inline __attribute__((always_inline)) void add_form(const int32_t rows, const bool half, const few_task *t,
                                                           few_view *view, int64_t first, int64_t j) {
  const int64_t pad = t->values.pad, bytes = t->values.head_bytes, whole = bytes / PAIR_BYTES(half) * PAIR_BYTES(half);
  const float *p = t->scores + first * t->score_pad + j - t->piece.from;
  float *out = t->out + first * pad;
  for (int64_t h = 0; h < t->heads; h++, out += t->rows * pad, p += t->rows * t->score_pad) {
    float *x = out;
    int64_t at = h * bytes;
    const int64_t end = at + whole;
    if (first == 0) ask_ahead(view, at, bytes);
    for (; at < end; at += PAIR_BYTES(half), x += PAIR) add_pairs(rows, half, view->row, at, p, t->score_pad, x, pad);
    if (whole < bytes) {
      copy_rest(view, at, bytes - whole);
      const char *const rest[] = {view->rest[0], view->rest[1], view->rest[2], view->rest[3]};
      add_pairs(rows, half, rest, 0, p, t->score_pad, x, pad);
    }
  }
}

/* Calls form(rows, half, ...) for all rows of queries, up to ROWS_AT_ONCE at a time, with both known at compile time. */
#define FEW_CASE(form, n, half, ...)                                                                                   \
  case n:                                                                                                              \
    if (half)                                                                                                          \
      form(n, true, __VA_ARGS__);                                                                                      \
    else                                                                                                               \
      form(n, false, __VA_ARGS__);                                                                                     \
    break
#define FEW_FORM(form, rows, half, ...)                                                                                \
  switch (rows) {                                                                                                      \
    FEW_CASE(form, 1, half, __VA_ARGS__);                                                                              \
    FEW_CASE(form, 2, half, __VA_ARGS__);                                                                              \
    FEW_CASE(form, 3, half, __VA_ARGS__);                                                                              \
    FEW_CASE(form, 4, half, __VA_ARGS__);                                                                              \
  }

/* scores[h][r][j - piece.from] = q . k[j]. */
static void take_scores(const few_task *t) {
  for (int64_t j = t->piece.from; j < t->piece.to; j += KEYS_AT_ONCE) {
    few_view view = view_rows(t, &t->keys, j);
    for (int64_t r = 0; r < t->rows; r += ROWS_AT_ONCE)
      FEW_FORM(score_form, cpu_min(ROWS_AT_ONCE, t->rows - r), t->keys.half, t, &view, r, j);
  }
}

/* Scores to probabilities within the piece, which a product in bf16 rounds. */
static void take_probabilities(const few_task *t) {
  const attention *a = t->a;
  for (int64_t i = 0; i < t->heads * t->rows; i++) {
    const int64_t head = t->head * a->group + i / a->Sq, query = i % a->Sq;
    const key_range all = visible_to_one(a, query);
    const int64_t from = cpu_min(cpu_max(all.from, t->piece.from), t->piece.to);
    const key_range own = {from, cpu_max(from, cpu_min(all.to, t->piece.to))};
    float *scores = t->scores + i * t->score_pad;
    const float scale = add_bias(a, head, query, t->piece, own, scores);
    t->lse[i] = softmax_row(scores, t->piece, own, scale, -INFINITY);
    if (a->round) round_row(scores, t->piece.to - t->piece.from);
  }
}

static void take_sums(const few_task *t) {
  memset(t->out, 0, (size_t)(t->heads * t->rows * t->values.pad) * sizeof *t->out);
  for (int64_t j = t->piece.from; j < t->piece.to; j += KEYS_AT_ONCE) {
    few_view view = view_rows(t, &t->values, j);
    for (int64_t r = 0; r < t->rows; r += ROWS_AT_ONCE)
      FEW_FORM(add_form, cpu_min(ROWS_AT_ONCE, t->rows - r), t->values.half, t, &view, r, j);
  }
}

static void attend_piece(const few_plan *p, int64_t task, float *memory) {
  const attention *a = p->a;
  const int64_t piece = task % p->pieces, run = task / p->pieces % p->runs;
  few_task t = {.a = a, .sequence = task / p->pieces / p->runs, .head = run * p->run, .rows = p->rows};
  t.heads = cpu_min(p->run, a->kv_heads - t.head);
  t.piece.from = p->keys.from + p->groups * piece / p->pieces * KEYS_AT_ONCE;
  t.piece.to = cpu_min(p->keys.to, p->keys.from + p->groups * (piece + 1) / p->pieces * KEYS_AT_ONCE);
  t.keys = rows_of(&t, a->k);
  t.values = rows_of(&t, a->v);
  t.score_pad = p->score_pad;
  t.scores = memory;
  t.queries = t.scores + t.heads * t.rows * t.score_pad;
  t.lse = p->lse + ((t.sequence * p->pieces + piece) * a->kv_heads + t.head) * t.rows;
  t.out = p->out + (t.lse - p->lse) * t.values.pad;
  read_queries(&t);
  take_scores(&t);
  take_probabilities(&t);
  take_sums(&t);
}

/* Joins the pieces of one row: row `row` of all key heads' rows of a sequence. */
static void join_pieces(const few_plan *p, int64_t sequence, int64_t row) {
  const attention *a = p->a;
  const int64_t all = a->kv_heads * p->rows, n = a->value_head, head = row / a->Sq, pad = cpu_round_up(n, PAIR);
  const float *lse = p->lse + sequence * p->pieces * all + row;
  float *out = p->out + (lse - p->lse) * pad;
  const float sink = a->sinks ? cpu_at(a->sinks, head) : -INFINITY;
  float largest = sink;
  for (int64_t i = 0; i < p->pieces; i++) largest = lse[i * all] > largest ? lse[i * all] : largest;
  if (largest == -INFINITY) largest = 0.0f;
  float sum = cpu_exp(sink - largest);
  for (int64_t i = 0; i < p->pieces; i++) sum += cpu_exp(lse[i * all] - largest);
  const float inverse = sum > 0.0f ? 1.0f / sum : sum;
  for (int64_t i = 0; i < p->pieces; i++) {
    const float factor = cpu_exp(lse[i * all] - largest) * inverse;
    const float *from = out + i * all * pad;
#pragma omp simd
    for (int64_t d = 0; d < pad; d++) out[d] = factor * from[d] + (i > 0 ? out[d] : 0.0f);
  }
  zip(out, pad, a->v->dtype == MG_BF16);
  const mg_tensor *lse_out = a->call->out[1];
  cpu_set(lse_out, head * mg_tensor_columns(lse_out) + sequence * a->Sq + row % a->Sq,
          sum == 0.0f ? -INFINITY : largest + logf(sum));
  store_scaled(a->call->out[0], place_of(a, a->call->out[0], sequence, row / p->rows, row % p->rows), out, n, 1.0f);
}

mg_status CPU_NAME(attention_few)(mg_backend *backend, const attention *a) {
  const int32_t threads = cpu_state_of(backend)->threads;
  few_plan p = plan_pieces(a, threads);
  const int64_t rows = a->kv_heads * p.rows, results = cpu_round_up(a->batch * p.pieces * rows, 16);
  const int64_t pad = cpu_round_up(a->value_head, PAIR);
  p.out = mg__cpu_scratch(backend, (size_t)(results * (pad + 1) + threads * p.task_floats) * sizeof(float));
  if (!p.out) return MG_MEMORY;
  p.lse = p.out + results * pad;
  float *scratch = p.lse + results;
#pragma omp parallel num_threads(                                                                                      \
    threads) if (CPU_WORTH_THREADS(a->batch * a->kv_heads * a->Sk * a->head, CPU_PARALLEL_MIN))
  {
#pragma omp for schedule(static)
    for (int64_t task = 0; task < a->batch * p.runs * p.pieces; task++)
      attend_piece(&p, task, scratch + omp_get_thread_num() * p.task_floats);
#pragma omp for schedule(static)
    for (int64_t row = 0; row < a->batch * rows; row++) join_pieces(&p, row / rows, row % rows);
  }
  return MG_OK;
}
