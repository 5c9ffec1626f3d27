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

mg_status CPU_NAME(softmax)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int64_t columns = mg_tensor_columns(x), work = mg_tensor_count(x), rows = columns ? work / columns : 0;
  float *buffers = cpu_row_buffers(backend, columns);
  if (!buffers) return MG_MEMORY;
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++) {
    float *buffer = cpu_row_buffer(buffers, columns);
    const float *values = cpu_read(x, row * columns, columns, buffer);
    float *target = cpu_write_begin(out, row * columns, buffer);
    const float largest = span_max(values, columns);
    if (largest == -INFINITY) { /* nothing is chosen */
      memset(target, 0, (size_t)columns * sizeof(float));
      cpu_write_end(out, row * columns, columns, buffer);
      continue;
    }
    const float scale = 1.0f / exp_row(values, largest, target, columns);
#pragma omp simd
    for (int64_t c = 0; c < columns; c++) target[c] *= scale;
    cpu_write_end(out, row * columns, columns, buffer);
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
