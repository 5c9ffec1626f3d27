/* cumsum: out[r,c] = sum of x[r,0..c], the element itself included. */
#include "reference.h"

mg_status mg__reference_cumsum(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int64_t rows = mg_tensor_rows(x), columns = mg_tensor_columns(x);
  for (int64_t r = 0; r < rows; r++) {
    double sum = 0;
    for (int64_t c = 0; c < columns; c++) {
      sum += at(x, r * columns + c);
      put(out, r * columns + c, sum);
    }
  }
  return MG_OK;
}
