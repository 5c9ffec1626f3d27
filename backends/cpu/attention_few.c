/* Attention of few queries, as when tokens are decoded one by one: its time is that of reading keys and values, so each is
 * read once, row by row, where it lies. A task takes some neighbouring key heads of one sequence, whose columns of a row
 * are one piece of memory; what a head computes does not depend on the heads beside it. */
#include "attention.h"
#include "dots.h"

enum {
  FEW_ROWS = 16,      /* most queries that share a key head */
  RUN_BYTES = 512,    /* of a row of keys that one task reads */
  VALUES_AT_ONCE = 4, /* rows of values that are added while a sum is in registers */
  AHEAD_ROWS = 16
};

bool CPU_NAME(attention_is_few)(const attention *a) {
  return a->group * a->Sq <= FEW_ROWS && (!a->round || a->k->dtype == MG_BF16);
}

/* Key heads [head, head + heads) of a sequence, and the memory for them: rows of queries, scores and sums of each. */
typedef struct few_task {
  const attention *a;
  int64_t sequence, head, heads, rows; /* `rows` queries for each key head: those of its first head, then the next */
  key_range keys;
  float *queries, *scores, *sums;
} few_task;

static int64_t task_floats(const attention *a, int64_t heads) {
  return heads * a->group * a->Sq * (a->head + a->key_pad + a->value_head) + 64;
}

static void round_row(float *x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) x[i] = cpu_bf16_to_f32(cpu_bf16_from_f32(x[i]));
}

/* Element of head `head` of the row of query or output (key head h of the task, row r). */
static int64_t place_of(const few_task *t, const mg_tensor *x, int64_t h, int64_t r) {
  const attention *a = t->a;
  const int64_t columns = mg_tensor_columns(x), head = (t->head + h) * a->group + r / a->Sq;
  return (t->sequence * a->Sq + r % a->Sq) * columns + head * (columns / a->heads);
}

static void read_queries(const few_task *t) {
  const attention *a = t->a;
  for (int64_t h = 0; h < t->heads; h++)
    for (int64_t r = 0; r < t->rows; r++) {
      float *target = t->queries + (h * t->rows + r) * a->head;
      const float *values = cpu_read(a->q, place_of(t, a->q, h, r), a->head, target);
      if (values != target) memcpy(target, values, (size_t)a->head * sizeof *target);
      if (a->round) round_row(target, a->head);
    }
}

/* Row j of keys or values from the task's first head on. */
static const char *row_of(const few_task *t, const mg_tensor *x, int64_t j) {
  const attention *a = t->a;
  const int64_t columns = mg_tensor_columns(x);
  const int64_t first = (t->sequence * a->key_rows + j) * columns + t->head * (columns / a->kv_heads);
  return (const char *)x->data + (size_t)first * mg_dtype_bytes(x->dtype);
}

/* A row's piece is too short for the processor to see a stream: the one `AHEAD_ROWS` later is asked for, and at the end of
 * the keys the first ones of the values. */
static void ask_ahead(const few_task *t, const mg_tensor *x, int64_t j, int64_t head_bytes) {
  j += AHEAD_ROWS;
  if (j >= t->keys.to && x == t->a->k) {
    x = t->a->v;
    j += t->keys.from - t->keys.to;
  }
  if (j >= t->keys.to) return;
  const char *row = row_of(t, x, j);
  for (int64_t at = 0; at < t->heads * head_bytes; at += LINE_BYTES) __builtin_prefetch(row + at, 0, 2);
}

/* scores[h][r][j - keys.from] = q . k[j], for some neighbouring heads h at once. */
static void take_scores(const few_task *t) {
  const attention *a = t->a;
  cpu_dots dots = {.stride = a->head, .depth = a->head, .dtype = a->k->dtype};
  dots.x_step = t->rows * a->head;
  dots.w_bytes = a->head * (int64_t)mg_dtype_bytes(a->k->dtype);
  for (int64_t j = t->keys.from; j < t->keys.to; j++) {
    const char *key = row_of(t, a->k, j);
    ask_ahead(t, a->k, j, dots.w_bytes);
    for (int64_t h = 0; h < t->heads; h += DOTS_COLUMNS)
      for (int64_t r = 0; r < t->rows; r += DOTS_ROWS) {
        float sums[DOTS_ROWS][DOTS_COLUMNS];
        dots.rows = (int32_t)cpu_min(DOTS_ROWS, t->rows - r);
        dots.columns = (int32_t)cpu_min(DOTS_COLUMNS, t->heads - h);
        dots.x = t->queries + (h * t->rows + r) * a->head;
        dots.w = key + h * dots.w_bytes;
        cpu_dots_run(&dots, sums);
        float *scores = t->scores + (h * t->rows + r) * a->key_pad + j - t->keys.from;
        for (int64_t c = 0; c < dots.columns; c++)
          for (int64_t i = 0; i < dots.rows; i++) scores[(c * t->rows + i) * a->key_pad] = sums[i][c];
      }
  }
}

/* Scores to probabilities, which a product in bf16 rounds. */
static void take_probabilities(const few_task *t) {
  const attention *a = t->a;
  const mg_tensor *lse = a->call->out[1];
  for (int64_t h = 0; h < t->heads; h++)
    for (int64_t r = 0; r < t->rows; r++) {
      const int64_t head = (t->head + h) * a->group + r / a->Sq, query = r % a->Sq;
      const key_range own = visible_to_one(a, query);
      float *scores = t->scores + (h * t->rows + r) * a->key_pad;
      const float sink = a->sinks ? cpu_at(a->sinks, head) : -INFINITY;
      const float scale = add_bias(a, head, query, t->keys, own, scores);
      cpu_set(lse, head * mg_tensor_columns(lse) + t->sequence * a->Sq + query,
              softmax_row(scores, t->keys, own, scale, sink));
      if (a->round) round_row(scores, t->keys.to - t->keys.from);
    }
}

static void take_sums(const few_task *t) {
  const attention *a = t->a;
  const int64_t head_bytes = a->value_head * (int64_t)mg_dtype_bytes(a->v->dtype);
  const int64_t row_bytes = head_bytes * a->kv_heads;
  memset(t->sums, 0, (size_t)(t->heads * t->rows * a->value_head) * sizeof *t->sums);
  for (int64_t j = t->keys.from; j < t->keys.to; j += VALUES_AT_ONCE) {
    const char *values = row_of(t, a->v, j);
    const int32_t here = (int32_t)cpu_min(VALUES_AT_ONCE, t->keys.to - j);
    for (int32_t i = 0; i < here; i++) ask_ahead(t, a->v, j + i, head_bytes);
    for (int64_t h = 0; h < t->heads; h++, values += head_bytes)
      for (int64_t row = h * t->rows; row < (h + 1) * t->rows; row++)
        cpu_add_rows(here, t->sums + row * a->value_head, t->scores + row * a->key_pad + j - t->keys.from, values,
                     row_bytes, a->v->dtype, a->value_head);
  }
  for (int64_t h = 0; h < t->heads; h++)
    for (int64_t r = 0; r < t->rows; r++)
      store_scaled(a->call->out[0], place_of(t, a->call->out[0], h, r), t->sums + (h * t->rows + r) * a->value_head,
                   a->value_head, 1.0f);
}

static void run_few(const attention *a, int64_t sequence, int64_t head, int64_t heads, float *memory) {
  few_task t = {.a = a, .sequence = sequence, .head = head, .heads = heads, .rows = a->group * a->Sq};
  t.keys = visible(a, 0, a->Sq);
  t.scores = memory;
  t.queries = t.scores + heads * t.rows * a->key_pad;
  t.sums = t.queries + heads * t.rows * a->head;
  read_queries(&t);
  take_scores(&t);
  take_probabilities(&t);
  take_sums(&t);
}

mg_status CPU_NAME(attention_few)(mg_backend *backend, const attention *a) {
  const int32_t threads = cpu_state_of(backend)->threads;
  const int64_t head_bytes = a->head * (int64_t)mg_dtype_bytes(a->k->dtype);
  const int64_t fair = cpu_ceil_div(a->batch * a->kv_heads, threads);
  const int64_t run = cpu_min(a->kv_heads, cpu_max(1, cpu_min(fair, RUN_BYTES / cpu_max(1, head_bytes))));
  const int64_t runs = cpu_ceil_div(a->kv_heads, run), floats = cpu_round_up(task_floats(a, run), 16);
  float *memory = mg__cpu_scratch(backend, (size_t)(threads * floats) * sizeof *memory);
  if (!memory) return MG_MEMORY;
#pragma omp parallel for schedule(dynamic, 1)                                                                          \
    num_threads(threads) if (CPU_WORTH_THREADS(a->batch * a->kv_heads * a->Sk * a->head, CPU_PARALLEL_MIN))
  for (int64_t task = 0; task < a->batch * runs; task++) {
    const int64_t head = task % runs * run;
    run_few(a, task / runs, head, cpu_min(run, a->kv_heads - head), memory + omp_get_thread_num() * floats);
  }
  return MG_OK;
}
