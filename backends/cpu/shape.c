/* Primitives that move elements without computing: slices, concatenation, transposes. */
#include "kernels.h"

/* Copies rows of `bytes` bytes between two strides. */
static void copy_rows(mg_backend *backend, char *target, size_t target_stride, const char *source, size_t source_stride,
                      size_t bytes, int64_t rows) {
  const int64_t work = rows * (int64_t)bytes / 4;
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++)
    memcpy(target + (size_t)row * target_stride, source + (size_t)row * source_stride, bytes);
}

mg_status CPU_NAME(slice)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const size_t element = mg_dtype_bytes(x->dtype);
  const size_t x_bytes = (size_t)mg_tensor_columns(x) * element, out_bytes = (size_t)mg_tensor_columns(out) * element;
  if (mg_tensor_count(out) == 0) return MG_OK;
  copy_rows(backend, out->data, out_bytes, (const char *)x->data + (size_t)call->attributes.slice.first * element,
            x_bytes, out_bytes, mg_tensor_rows(out));
  return MG_OK;
}

mg_status CPU_NAME(slice_backward)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *dout = call->in[0], *dx = call->out[0];
  const size_t element = mg_dtype_bytes(dx->dtype);
  const size_t bytes = (size_t)mg_tensor_columns(dx) * element, taken = (size_t)mg_tensor_columns(dout) * element;
  const size_t before = (size_t)call->attributes.slice.first * element;
  const int64_t rows = mg_tensor_rows(dx), work = mg_tensor_count(dx);
  CPU_PARALLEL(backend, work)
  for (int64_t row = 0; row < rows; row++) {
    char *target = (char *)dx->data + (size_t)row * bytes;
    memset(target, 0, before);
    if (taken) memcpy(target + before, (const char *)dout->data + (size_t)row * taken, taken);
    memset(target + before + taken, 0, bytes - before - taken);
  }
  return MG_OK;
}

mg_status CPU_NAME(concat)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *a = call->in[0], *b = call->in[1], *out = call->out[0];
  const size_t element = mg_dtype_bytes(out->dtype), bytes = (size_t)mg_tensor_columns(out) * element;
  const size_t a_bytes = (size_t)mg_tensor_columns(a) * element, b_bytes = (size_t)mg_tensor_columns(b) * element;
  if (a_bytes) copy_rows(backend, out->data, bytes, a->data, a_bytes, a_bytes, mg_tensor_rows(out));
  if (b_bytes) copy_rows(backend, (char *)out->data + a_bytes, bytes, b->data, b_bytes, b_bytes, mg_tensor_rows(out));
  return MG_OK;
}

enum { TILE = 32 }; /* both sides of a transposed tile stay in the L1 cache */

#define TRANSPOSE_TILE(type)                                                                                           \
  do {                                                                                                                 \
    const type *from = (const type *)source;                                                                           \
    type *to = (type *)target;                                                                                         \
    for (int64_t c = column; c < column_end; c++)                                                                      \
      for (int64_t r = row; r < row_end; r++) to[c * rows + r] = from[r * columns + c];                                \
  } while (0)

static void transpose_tile(size_t element, const void *source, void *target, int64_t rows, int64_t columns, int64_t row,
                           int64_t column) {
  const int64_t row_end = cpu_min(rows, row + TILE), column_end = cpu_min(columns, column + TILE);
  if (element == 2)
    TRANSPOSE_TILE(uint16_t);
  else
    TRANSPOSE_TILE(uint32_t);
}

mg_status CPU_NAME(transpose)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const size_t element = mg_dtype_bytes(x->dtype);
  const int64_t columns = x->shape[x->dims - 1], rows = x->dims > 1 ? x->shape[x->dims - 2] : 1;
  const int64_t count = mg_tensor_count(x);
  if (count == 0) return MG_OK;
  const int64_t matrices = count / (rows * columns), tile_rows = cpu_ceil_div(rows, TILE);
  const int64_t stripes = matrices * tile_rows;
  CPU_PARALLEL(backend, count)
  for (int64_t stripe = 0; stripe < stripes; stripe++) {
    const size_t base = (size_t)(stripe / tile_rows * rows * columns) * element;
    for (int64_t column = 0; column < columns; column += TILE)
      transpose_tile(element, (const char *)x->data + base, (char *)out->data + base, rows, columns,
                     stripe % tile_rows * TILE, column);
  }
  return MG_OK;
}
