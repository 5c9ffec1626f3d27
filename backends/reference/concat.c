/* concat: out[r] is row r of a, then row r of b. */
#include "reference.h"

mg_status mg__reference_concat(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *a = call->in[0], *b = call->in[1], *out = call->out[0];
  const int64_t rows = mg_tensor_rows(out), columns = mg_tensor_columns(out);
  const int64_t A = mg_tensor_columns(a), B = mg_tensor_columns(b);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < columns; c++) put(out, r * columns + c, c < A ? at(a, r * A + c) : at(b, r * B + c - A));
  return MG_OK;
}
