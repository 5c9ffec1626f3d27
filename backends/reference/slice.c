/* slice: out[r,c] = x[r, first + c], and its backward, which puts dout there and 0 in the other columns. */
#include "reference.h"

mg_status mg__reference_slice(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int64_t rows = mg_tensor_rows(out), count = mg_tensor_columns(out), columns = mg_tensor_columns(x);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < count; c++) put(out, r * count + c, at(x, r * columns + call->attributes.slice.first + c));
  return MG_OK;
}

mg_status mg__reference_slice_backward(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *dout = call->in[0], *dx = call->out[0];
  const int64_t rows = mg_tensor_rows(dx), columns = mg_tensor_columns(dx), count = mg_tensor_columns(dout);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < columns; c++) {
      const int64_t from = c - call->attributes.slice.first;
      put(dx, r * columns + c, from >= 0 && from < count ? at(dout, r * count + from) : 0);
    }
  return MG_OK;
}
