/* TOP_K: the k largest of each row, descending, equal values by lowest id, NaN as -inf.
 *
 * A sorted list of k is filled from the first columns; from then on only columns above its last value enter, found
 * many at a time. A later column never displaces an equal earlier one, which gives the order of ties. */
#include "kernels.h"

static inline float nan_as_least(float value) {
  return isnan(value) ? -INFINITY : value;
}

/* Inserts behind all values not below it; `used` entries are in the list. */
static void insert(float *values, int32_t *ids, int64_t used, int64_t k, float value, int32_t id) {
  int64_t place = used < k ? used : k - 1;
  for (; place > 0 && values[place - 1] < value; place--) {
    values[place] = values[place - 1];
    ids[place] = ids[place - 1];
  }
  values[place] = value;
  ids[place] = id;
}

enum { GROUP = 32 }; /* columns tested at once */

static bool any_above(const float *x, float threshold) {
  int32_t any = 0;
#pragma omp simd reduction(| : any)
  for (int32_t i = 0; i < GROUP; i++) any |= x[i] > threshold;
  return any != 0;
}

static void top_k_row(const float *x, int64_t columns, int64_t k, float *values, int32_t *ids) {
  int64_t c = 0;
  for (; c < k; c++) insert(values, ids, c, k, nan_as_least(x[c]), (int32_t)c);
  while (c < columns) {
    if (c + GROUP <= columns && !any_above(x + c, values[k - 1])) {
      c += GROUP;
      continue;
    }
    const int64_t end = cpu_min(columns, c + GROUP);
    for (; c < end; c++)
      if (x[c] > values[k - 1]) insert(values, ids, k, k, x[c], (int32_t)c);
  }
}

mg_status CPU_NAME(top_k)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *values_out = call->out[0];
  int32_t *ids = call->out[1]->data;
  const int64_t columns = mg_tensor_columns(x), k = mg_tensor_columns(values_out);
  const int64_t rows = mg_tensor_rows(x), work = rows * columns;
  if (k == 0) return MG_OK;
  float *buffers = cpu_row_buffers(backend, columns + k);
  if (!buffers) return MG_MEMORY;
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++) {
    float *buffer = cpu_row_buffer(buffers, columns + k);
    float *values = cpu_write_begin(values_out, row * k, buffer + columns);
    top_k_row(cpu_read(x, row * columns, columns, buffer), columns, k, values, ids + row * k);
    cpu_write_end(values_out, row * k, k, values);
  }
  return MG_OK;
}
