/* log_sum_exp of each row: max + ln sum exp(x - max). -inf for a row that is -inf everywhere or has no columns. */
#include "reference.h"

mg_status mg__reference_log_sum_exp(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int64_t rows = mg_tensor_rows(x), columns = mg_tensor_columns(x);
  for (int64_t r = 0; r < rows; r++) {
    double max = -INFINITY, sum = 0;
    for (int64_t c = 0; c < columns; c++) max = larger(max, at(x, r * columns + c));
    for (int64_t c = 0; c < columns; c++) sum += exp(at(x, r * columns + c) - max);
    put(out, r, isinf(max) ? max : max + log(sum));
  }
  return MG_OK;
}
