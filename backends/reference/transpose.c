/* transpose: out[b,c,r] = x[b,r,c]; the dimensions before the last two are the batch b. */
#include "reference.h"

mg_status mg__reference_transpose(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int64_t rows = x->shape[x->dims - 2], columns = x->shape[x->dims - 1];
  const int64_t matrix = rows * columns, batches = matrix > 0 ? mg_tensor_count(x) / matrix : 0;
  for (int64_t b = 0; b < batches; b++)
    for (int64_t r = 0; r < rows; r++)
      for (int64_t c = 0; c < columns; c++) put(out, (b * columns + c) * rows + r, at(x, (b * rows + r) * columns + c));
  return MG_OK;
}
