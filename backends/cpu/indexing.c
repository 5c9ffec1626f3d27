/* Primitives that follow ids: gathers, scatters, dot products of chosen rows, top-k, and histograms. */
#include "stored.h"

static inline void row_copy(const mg_tensor *from, int64_t from_row, const mg_tensor *to, int64_t to_row,
                            size_t bytes) {
  memcpy((char *)to->data + (size_t)to_row * bytes, (const char *)from->data + (size_t)from_row * bytes, bytes);
}

static inline void row_decode(const mg_tensor *from, int64_t from_row, const mg_tensor *to, int64_t to_row) {
  const int64_t columns = mg_tensor_columns(from);
  const char *row = (const char *)from->data + mg_dtype_run_bytes(from->dtype, from_row * columns);
  CPU_NAME(decode_stored)(from->dtype, row, columns, (float *)to->data + to_row * columns, false);
}

mg_status CPU_NAME(gather_rows)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *table = call->in[0], *out = call->out[0];
  const int32_t *ids = call->in[1]->data;
  const int64_t rows = mg_tensor_count(call->in[1]), columns = mg_tensor_columns(table), work = rows * columns;
  const size_t bytes = mg_dtype_run_bytes(out->dtype, columns);
  const bool stored = mg_dtype_is_stored(table->dtype);
  MG_TRY(cpu_check_ids(backend, call->op, call->in[1], mg_tensor_rows(table)));
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++) {
    if (ids[row] < 0)
      memset((char *)out->data + (size_t)row * bytes, 0, bytes);
    else if (stored)
      row_decode(table, ids[row], out, row);
    else
      row_copy(table, ids[row], out, row, bytes);
  }
  return MG_OK;
}

enum { SCATTER_COLUMNS = 64 }; /* a thread owns columns, so that every row is added in token order */

/* Adds columns [first, first + n) of all rows of dout to sum [V, columns]. */
static void scatter_columns_of_rows(const mg_tensor *dout, const int32_t *ids, int64_t rows, int64_t columns,
                                    int64_t first, int64_t n, float *sum) {
  for (int64_t row = 0; row < rows; row++) {
    float buffer[SCATTER_COLUMNS];
    if (ids[row] < 0) continue;
    const float *source = cpu_read(dout, row * columns + first, n, buffer);
    float *target = sum + ids[row] * columns + first;
#pragma omp simd
    for (int64_t c = 0; c < n; c++) target[c] += source[c];
  }
}

mg_status CPU_NAME(scatter_add_rows)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *dout = call->in[0], *out = call->out[0];
  const int32_t *ids = call->in[1]->data;
  const int64_t rows = mg_tensor_count(call->in[1]), columns = mg_tensor_columns(out), count = mg_tensor_count(out);
  MG_TRY(cpu_check_ids(backend, call->op, call->in[1], mg_tensor_rows(out)));
  float *sum = out->data;
  if (out->dtype != MG_F32) sum = mg__cpu_scratch(backend, (size_t)count * sizeof(float));
  if (!sum && count) return MG_MEMORY;
  const int64_t work = cpu_max(count, rows * columns);
  CPU_PARALLEL(backend, work)
  for (int64_t first = 0; first < count; first += CPU_CHUNK)
    memset(sum + first, 0, (size_t)cpu_min(CPU_CHUNK, count - first) * sizeof(float));
  CPU_PARALLEL(backend, work)
  for (int64_t first = 0; first < columns; first += SCATTER_COLUMNS)
    scatter_columns_of_rows(dout, ids, rows, columns, first, cpu_min(SCATTER_COLUMNS, columns - first), sum);
  cpu_write_end(out, 0, count, sum);
  return MG_OK;
}

mg_status CPU_NAME(gather_columns)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int32_t *ids = call->in[1]->data;
  const int64_t choices = mg_tensor_columns(call->in[1]), count = mg_tensor_count(call->in[1]);
  const int64_t columns = mg_tensor_columns(x);
  MG_TRY(cpu_check_ids(backend, call->op, call->in[1], columns));
  CPU_PARALLEL(backend, count)
  for (int64_t i = 0; i < count; i++) cpu_set(out, i, ids[i] < 0 ? 0.0f : cpu_at(x, i / choices * columns + ids[i]));
  return MG_OK;
}

mg_status CPU_NAME(scatter_columns)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *dout = call->in[0], *out = call->out[0];
  const int32_t *ids = call->in[1]->data;
  const int64_t choices = mg_tensor_columns(call->in[1]), columns = mg_tensor_columns(out);
  const int64_t work = mg_tensor_count(out), rows = columns ? work / columns : 0;
  MG_TRY(cpu_check_ids(backend, call->op, call->in[1], columns));
  float *buffers = cpu_row_buffers(backend, columns);
  if (!buffers) return MG_MEMORY;
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++) {
    float *buffer = cpu_row_buffer(buffers, columns);
    float *target = cpu_write_begin(out, row * columns, buffer);
    memset(target, 0, (size_t)columns * sizeof(float));
    for (int64_t s = row * choices; s < (row + 1) * choices; s++)
      if (ids[s] >= 0) target[ids[s]] += cpu_at(dout, s);
    cpu_write_end(out, row * columns, columns, buffer);
  }
  return MG_OK;
}

static float dot(const float *a, const float *b, int64_t n) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

static void add_scaled_row(float factor, const float *x, float *sum, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) sum[i] += factor * x[i];
}

mg_status CPU_NAME(gather_dot)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *w = call->in[1], *out = call->out[0];
  const int32_t *ids = call->in[2]->data;
  const int64_t width = mg_tensor_columns(x), choices = mg_tensor_columns(call->in[2]);
  const int64_t rows = mg_tensor_rows(call->in[2]), work = rows * choices * width;
  MG_TRY(cpu_check_ids(backend, call->op, call->in[2], mg_tensor_rows(w)));
  float *buffers = cpu_row_buffers(backend, 2 * width);
  if (!buffers) return MG_MEMORY;
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++) {
    float *buffer = cpu_row_buffer(buffers, 2 * width);
    const float *token = cpu_read(x, row * width, width, buffer);
    for (int64_t m = row * choices; m < (row + 1) * choices; m++)
      cpu_set(out, m, ids[m] < 0 ? 0.0f : dot(token, cpu_read(w, ids[m] * width, width, buffer + width), width));
  }
  return MG_OK;
}

mg_status CPU_NAME(gather_dot_backward_x)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *dout = call->in[0], *w = call->in[1], *dx = call->out[0];
  const int32_t *ids = call->in[2]->data;
  const int64_t width = mg_tensor_columns(dx), choices = mg_tensor_columns(call->in[2]);
  const int64_t rows = mg_tensor_rows(call->in[2]), work = rows * choices * width;
  MG_TRY(cpu_check_ids(backend, call->op, call->in[2], mg_tensor_rows(w)));
  float *buffers = cpu_row_buffers(backend, 2 * width);
  if (!buffers) return MG_MEMORY;
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++) {
    float *buffer = cpu_row_buffer(buffers, 2 * width);
    float *target = cpu_write_begin(dx, row * width, buffer);
    memset(target, 0, (size_t)width * sizeof(float));
    for (int64_t m = row * choices; m < (row + 1) * choices; m++)
      if (ids[m] >= 0)
        add_scaled_row(cpu_at(dout, m), cpu_read(w, ids[m] * width, width, buffer + width), target, width);
    cpu_write_end(dx, row * width, width, buffer);
  }
  return MG_OK;
}

/* Columns [first, first + n) of dw, token by token. */
static void gather_dot_weight_columns(const mg_op_call *call, int64_t first, int64_t n, float *sum) {
  const mg_tensor *dout = call->in[0], *x = call->in[1];
  const int32_t *ids = call->in[2]->data;
  const int64_t width = mg_tensor_columns(x), choices = mg_tensor_columns(call->in[2]);
  const int64_t rows = mg_tensor_rows(call->in[2]);
  for (int64_t row = 0; row < rows; row++) {
    float buffer[SCATTER_COLUMNS];
    const float *source = cpu_read(x, row * width + first, n, buffer);
    for (int64_t m = row * choices; m < (row + 1) * choices; m++)
      if (ids[m] >= 0) add_scaled_row(cpu_at(dout, m), source, sum + ids[m] * width + first, n);
  }
}

mg_status CPU_NAME(gather_dot_backward_w)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *dw = call->out[0];
  const int64_t width = mg_tensor_columns(dw), count = mg_tensor_count(dw);
  const int64_t work = cpu_max(count, mg_tensor_count(call->in[0]) * width);
  MG_TRY(cpu_check_ids(backend, call->op, call->in[2], mg_tensor_rows(dw)));
  float *sum = dw->data;
  if (dw->dtype != MG_F32) sum = mg__cpu_scratch(backend, (size_t)count * sizeof(float));
  if (!sum && count) return MG_MEMORY;
  if (count) memset(sum, 0, (size_t)count * sizeof(float));
  CPU_PARALLEL(backend, work)
  for (int64_t first = 0; first < width; first += SCATTER_COLUMNS)
    gather_dot_weight_columns(call, first, cpu_min(SCATTER_COLUMNS, width - first), sum);
  cpu_write_end(dw, 0, count, sum);
  return MG_OK;
}

mg_status CPU_NAME(histogram)(mg_backend *backend, const mg_op_call *call) {
  const int32_t *ids = call->in[0]->data;
  float *out = call->out[0]->data;
  const int64_t segments = call->attributes.histogram.segments, bins = mg_tensor_columns(call->out[0]);
  const int64_t count = mg_tensor_count(call->in[0]), each = segments ? count / segments : 0;
  MG_TRY(cpu_check_ids(backend, call->op, call->in[0], bins));
  CPU_PARALLEL(backend, count)
  for (int64_t segment = 0; segment < segments; segment++) {
    float *counts = out + segment * bins;
    memset(counts, 0, (size_t)bins * sizeof(float));
    for (int64_t i = segment * each; i < (segment + 1) * each; i++)
      if (ids[i] >= 0) counts[ids[i]] += 1.0f;
  }
  return MG_OK;
}
