/* Reductions over rows or columns, running sums and softmax. Sums are split in a way that depends on the shape alone,
 * never on the number of threads. */
#include <float.h>

#include "functions.h"
#include "kernels.h"

enum {
  SPAN = 8192,    /* elements of a row summed at once; longer rows add the sums of their spans in order */
  ROW_BLOCKS = 16 /* a reduction over rows adds this many partial results in order */
};

static float span_sum(const float *x, int64_t n) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += x[i];
  return sum;
}

static float span_sum_squares(const float *x, int64_t n) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
  return sum;
}

/* NaN when one is. */
static float span_max(const float *x, int64_t n) {
  float largest = -INFINITY;
  int32_t bad = 0;
#pragma omp simd reduction(max : largest) reduction(| : bad)
  for (int64_t i = 0; i < n; i++) {
    largest = x[i] > largest ? x[i] : largest;
    bad |= x[i] != x[i];
  }
  if (bad) return NAN;
  if (largest > -FLT_MAX) return largest;
  for (int64_t i = 0; i < n; i++) /* OpenMP lets a reduction start from -FLT_MAX; clang does */
    if (x[i] > -INFINITY) return -FLT_MAX;
  return -INFINITY;
}

/* One span of x from element `first` on. */
static float reduce_span(mg_reduce kind, const mg_tensor *x, int64_t first, int64_t n) {
  float buffer[SPAN];
  const float *values = cpu_read(x, first, n, buffer);
  switch (kind) {
  case MG_REDUCE_MAX: return span_max(values, n);
  case MG_REDUCE_SUM_SQUARES: return span_sum_squares(values, n);
  case MG_REDUCE_SUM:
  case MG_REDUCE_MEAN: break;
  }
  return span_sum(values, n);
}

static double start_of(mg_reduce kind) {
  return kind == MG_REDUCE_MAX ? -INFINITY : 0.0;
}

static double join(mg_reduce kind, double a, double b) {
  if (kind != MG_REDUCE_MAX) return a + b;
  return b > a || isnan(b) ? b : a;
}

static double finish(mg_reduce kind, double value, int64_t count) {
  return kind == MG_REDUCE_MEAN && count ? value / (double)count : value;
}

static mg_status reduce_columns(mg_backend *backend, const mg_op_call *call, int64_t rows, int64_t columns) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const mg_reduce kind = call->attributes.reduce.kind;
  const int64_t spans = cpu_max(1, cpu_ceil_div(columns, SPAN)), pieces = rows * spans, work = rows * columns;
  if (spans == 1) {
    CPU_PARALLEL(backend, work)
    for (int64_t row = 0; row < rows; row++)
      cpu_set(out, row, (float)finish(kind, (double)reduce_span(kind, x, row * columns, columns), columns));
    return MG_OK;
  }
  float *partial = mg__cpu_scratch(backend, (size_t)pieces * sizeof(float));
  if (!partial) return MG_MEMORY;
  CPU_PARALLEL(backend, work)
  for (int64_t piece = 0; piece < pieces; piece++) {
    const int64_t first = piece % spans * SPAN;
    partial[piece] = reduce_span(kind, x, piece / spans * columns + first, cpu_min(SPAN, columns - first));
  }
  for (int64_t row = 0; row < rows; row++) {
    double value = start_of(kind);
    for (int64_t span = 0; span < spans; span++) value = join(kind, value, (double)partial[row * spans + span]);
    cpu_set(out, row, (float)finish(kind, value, columns));
  }
  return MG_OK;
}

static void accumulate_row(mg_reduce kind, const float *x, float *sum, int64_t n) {
  if (kind == MG_REDUCE_MAX) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) sum[i] = sum[i] >= x[i] || sum[i] != sum[i] ? sum[i] : x[i];
  } else if (kind == MG_REDUCE_SUM_SQUARES) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) sum[i] += x[i] * x[i];
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) sum[i] += x[i];
  }
}

/* Rows [row, row_end) of x into sum [columns]. */
static void accumulate_rows(mg_reduce kind, const mg_tensor *x, int64_t row, int64_t row_end, int64_t columns,
                            float *sum) {
  for (int64_t c = 0; c < columns; c++) sum[c] = (float)start_of(kind);
  for (; row < row_end; row++)
    for (int64_t c = 0; c < columns; c += CPU_CHUNK) {
      float buffer[CPU_CHUNK];
      const int64_t n = cpu_min(CPU_CHUNK, columns - c);
      accumulate_row(kind, cpu_read(x, row * columns + c, n, buffer), sum + c, n);
    }
}

static mg_status reduce_rows(mg_backend *backend, const mg_op_call *call, int64_t rows, int64_t columns) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const mg_reduce kind = call->attributes.reduce.kind;
  const int64_t block = cpu_max(1, cpu_ceil_div(rows, ROW_BLOCKS)), blocks = cpu_ceil_div(rows, block);
  const int64_t work = rows * columns;
  float *partial = mg__cpu_scratch(backend, (size_t)(ROW_BLOCKS * columns) * sizeof(float));
  if (!partial) return MG_MEMORY;
  CPU_PARALLEL(backend, work)
  for (int64_t b = 0; b < blocks; b++)
    accumulate_rows(kind, x, b * block, cpu_min(rows, (b + 1) * block), columns, partial + b * columns);
  for (int64_t c = 0; c < columns; c++) {
    double value = start_of(kind);
    for (int64_t b = 0; b < blocks; b++) value = join(kind, value, (double)partial[b * columns + c]);
    cpu_set(out, c, (float)finish(kind, value, rows));
  }
  return MG_OK;
}

mg_status CPU_NAME(reduce)(mg_backend *backend, const mg_op_call *call) {
  const int64_t rows = mg_tensor_rows(call->in[0]), columns = mg_tensor_columns(call->in[0]);
  if (mg_tensor_count(call->out[0]) == 0) return MG_OK;
  if (call->attributes.reduce.axis == MG_OVER_COLUMNS) return reduce_columns(backend, call, rows, columns);
  if (columns == 1) return reduce_columns(backend, call, 1, rows); /* one column lies in memory like one row */
  return reduce_rows(backend, call, rows, columns);
}

mg_status CPU_NAME(cumsum)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int64_t columns = mg_tensor_columns(x), work = mg_tensor_count(x), rows = columns ? work / columns : 0;
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++) {
    double sum = 0.0;
    for (int64_t c = 0; c < columns; c++) {
      sum += (double)cpu_at(x, row * columns + c);
      cpu_set(out, row * columns + c, (float)sum);
    }
  }
  return MG_OK;
}

/* out = e^(x - largest); returns its sum. */
static float exp_row(const float *x, float largest, float *out, int64_t n) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) {
    const float e = cpu_exp(x[i] - largest);
    out[i] = e;
    sum += e;
  }
  return sum;
}

static float exp_sum(const float *x, float largest, int64_t n) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += cpu_exp(x[i] - largest);
  return sum;
}

static void softmax_row(const float *x, int64_t columns, float *out) {
  const float largest = span_max(x, columns);
  if (largest == -INFINITY) { /* nothing is chosen */
    memset(out, 0, (size_t)columns * sizeof(float));
    return;
  }
  const float scale = 1.0f / exp_row(x, largest, out, columns);
#pragma omp simd
  for (int64_t c = 0; c < columns; c++) out[c] *= scale;
}

enum { TOGETHER = 16, TOGETHER_COLUMNS_MAX = 512 }; /* narrow rows that are normalised at once */

#if defined(CPU_VECTOR_AVX512)
#include "pack_avx512.h"

/* The largest, or the sum, of each of sixteen vectors. */
static __m512 across(const __m512 part[TOGETHER], bool sum) {
  __m512i row[TOGETHER];
  for (int32_t i = 0; i < TOGETHER; i++) row[i] = _mm512_castps_si512(part[i]);
  pack_transpose(row);
#pragma GCC unroll 4
  for (int32_t half = TOGETHER / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int32_t i = 0; i < half; i++) {
      const __m512 a = _mm512_castsi512_ps(row[i]), b = _mm512_castsi512_ps(row[i + half]);
      row[i] = _mm512_castps_si512(sum ? _mm512_add_ps(a, b) : _mm512_max_ps(a, b));
    }
  return _mm512_castsi512_ps(row[0]);
}

/* Sixteen columns or, under a mask, fewer; `whole` is known where this is called. */
typedef struct columns_at {
  int64_t first;
  bool whole;
  __mmask16 mask;
} columns_at;

static inline __m512 load_or(const float *x, columns_at at, __m512 otherwise) {
  return at.whole ? _mm512_loadu_ps(x + at.first) : _mm512_mask_loadu_ps(otherwise, at.mask, x + at.first);
}

static inline void store_columns(float *x, columns_at at, __m512 value) {
  if (at.whole)
    _mm512_storeu_ps(x + at.first, value);
  else
    _mm512_mask_storeu_ps(x + at.first, at.mask, value);
}

#define EACH_COLUMNS(columns, statement)                                                                               \
  do {                                                                                                                 \
    columns_at at = {0, true, 0xffff};                                                                                 \
    for (; at.first + 16 <= (columns); at.first += 16) statement;                                                      \
    at = (columns_at){at.first, false, pack_mask((columns)-at.first)};                                                 \
    if (at.mask) statement;                                                                                            \
  } while (0)

static inline __m512 exp_columns(const float *x, float shift, float *out, columns_at at, __m512 sum) {
  const __m512 e = cpu_exp_16(_mm512_sub_ps(load_or(x, at, _mm512_setzero_ps()), _mm512_set1_ps(shift)));
  store_columns(out, at, e);
  return at.whole ? _mm512_add_ps(sum, e) : _mm512_mask_add_ps(sum, at.mask, sum, e);
}

/* Up to sixteen rows in three passes, none of which waits for the lanes of one row to be brought together. A NaN spoils
 * its row's sum, and so the row. */
static void softmax_together(const float *x, int64_t rows, int64_t columns, float *out) {
  const __m512 least = _mm512_set1_ps(-INFINITY);
  float shift[TOGETHER], scale[TOGETHER];
  __m512 part[TOGETHER];
  for (int64_t r = 0; r < TOGETHER; r++) part[r] = least;
  for (int64_t r = 0; r < rows; r++)
    EACH_COLUMNS(columns, part[r] = _mm512_max_ps(load_or(x + r * columns, at, least), part[r]));
  const __m512 largest = across(part, false);
  const __mmask16 some = _mm512_cmp_ps_mask(largest, least, _CMP_NEQ_UQ); /* else nothing is chosen */
  _mm512_storeu_ps(shift, _mm512_maskz_mov_ps(some, largest));
  for (int64_t r = 0; r < TOGETHER; r++) part[r] = _mm512_setzero_ps();
  for (int64_t r = 0; r < rows; r++)
    EACH_COLUMNS(columns, part[r] = exp_columns(x + r * columns, shift[r], out + r * columns, at, part[r]));
  _mm512_storeu_ps(scale, _mm512_maskz_div_ps(some, _mm512_set1_ps(1.0f), across(part, true)));
  for (int64_t r = 0; r < rows; r++) {
    float *row = out + r * columns;
    EACH_COLUMNS(columns, store_columns(row, at, _mm512_mul_ps(load_or(row, at, least), _mm512_set1_ps(scale[r]))));
  }
}
#undef EACH_COLUMNS
#else
static void softmax_together(const float *x, int64_t rows, int64_t columns, float *out) {
  for (int64_t r = 0; r < rows; r++) softmax_row(x + r * columns, columns, out + r * columns);
}
#endif

mg_status CPU_NAME(softmax)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int64_t columns = mg_tensor_columns(x), work = mg_tensor_count(x), rows = columns ? work / columns : 0;
  const bool narrow = columns <= TOGETHER_COLUMNS_MAX;
  const int64_t step = narrow ? TOGETHER : 1;
  float *buffers = cpu_row_buffers(backend, step * columns);
  if (!buffers) return MG_MEMORY;
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t here = cpu_min(step, rows - row), first = row * columns, count = here * columns;
    float *buffer = cpu_row_buffer(buffers, step * columns);
    const float *values = cpu_read(x, first, count, buffer);
    float *target = cpu_write_begin(out, first, buffer);
    if (narrow)
      softmax_together(values, here, columns, target);
    else
      softmax_row(values, columns, target);
    cpu_write_end(out, first, count, buffer);
  }
  return MG_OK;
}

/* dx = out * (dout - sum(out * dout)) */
mg_status CPU_NAME(softmax_backward)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *out = call->in[0], *dout = call->in[1], *dx = call->out[0];
  const int64_t columns = mg_tensor_columns(out), work = mg_tensor_count(out), rows = columns ? work / columns : 0;
  float *buffers = cpu_row_buffers(backend, 2 * columns);
  if (!buffers) return MG_MEMORY;
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++) {
    float *buffer = cpu_row_buffer(buffers, 2 * columns);
    const float *p = cpu_read(out, row * columns, columns, buffer);
    const float *g = cpu_read(dout, row * columns, columns, buffer + columns);
    float *target = cpu_write_begin(dx, row * columns, buffer);
    float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
    for (int64_t c = 0; c < columns; c++) dot += p[c] * g[c];
#pragma omp simd
    for (int64_t c = 0; c < columns; c++) target[c] = p[c] * (g[c] - dot);
    cpu_write_end(dx, row * columns, columns, buffer);
  }
  return MG_OK;
}

/* ln sum e^x of one row; -inf when every element is, inf when one is. */
static float row_log_sum_exp(const float *x, int64_t n) {
  const float largest = span_max(x, n);
  return isinf(largest) ? largest : largest + logf(exp_sum(x, largest, n));
}

mg_status CPU_NAME(log_sum_exp)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int64_t columns = mg_tensor_columns(x), rows = mg_tensor_rows(x), work = rows * columns;
  float *buffers = cpu_row_buffers(backend, columns);
  if (!buffers) return MG_MEMORY;
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++)
    cpu_set(out, row, row_log_sum_exp(cpu_read(x, row * columns, columns, cpu_row_buffer(buffers, columns)), columns));
  return MG_OK;
}

mg_status CPU_NAME(cross_entropy)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *logits = call->in[0];
  const int32_t *targets = call->in[1]->data;
  float *loss = call->out[0]->data, *lse = call->out[1]->data;
  const int64_t columns = mg_tensor_columns(logits), work = mg_tensor_count(logits);
  const int64_t rows = mg_tensor_count(call->in[1]);
  MG_TRY(cpu_check_ids(backend, call->op, call->in[1], columns));
  float *buffers = cpu_row_buffers(backend, columns);
  if (!buffers) return MG_MEMORY;
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++) {
    const float *x = cpu_read(logits, row * columns, columns, cpu_row_buffer(buffers, columns));
    lse[row] = row_log_sum_exp(x, columns);
    loss[row] = targets[row] < 0 ? 0.0f : lse[row] - x[targets[row]];
  }
  return MG_OK;
}

/* dlogits = dloss * (softmax - [column is the target]) */
mg_status CPU_NAME(cross_entropy_backward)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *logits = call->in[0], *dlogits = call->out[0];
  const int32_t *targets = call->in[1]->data;
  const float *lse = call->in[2]->data;
  const mg_tensor *dloss = call->in[3];
  const int64_t columns = mg_tensor_columns(logits), work = mg_tensor_count(logits);
  const int64_t rows = mg_tensor_count(call->in[1]);
  MG_TRY(cpu_check_ids(backend, call->op, call->in[1], columns));
  float *buffers = cpu_row_buffers(backend, columns);
  if (!buffers) return MG_MEMORY;
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++) {
    float *buffer = cpu_row_buffer(buffers, columns);
    const float *x = cpu_read(logits, row * columns, columns, buffer);
    float *target = cpu_write_begin(dlogits, row * columns, buffer);
    const float scale = targets[row] < 0 ? 0.0f : cpu_at(dloss, row), shift = lse[row];
    if (targets[row] < 0) {
      memset(target, 0, (size_t)columns * sizeof(float));
    } else {
#pragma omp simd
      for (int64_t c = 0; c < columns; c++) target[c] = scale * cpu_exp(x[c] - shift);
      target[targets[row]] -= scale;
    }
    cpu_write_end(dlogits, row * columns, columns, buffer);
  }
  return MG_OK;
}
