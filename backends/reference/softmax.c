/* softmax of each row: out = exp(x - max) / sum exp(x - max), and its backward dx = out (dout - sum out dout).
 * A row that is -inf everywhere gives zeros: nothing is chosen. A NaN or +inf makes its row NaN. */
#include "reference.h"

static double row_max(const mg_tensor *x, int64_t first, int64_t columns) {
  double max = -INFINITY;
  for (int64_t c = 0; c < columns; c++) max = larger(max, at(x, first + c));
  return max;
}

mg_status mg__reference_softmax(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int64_t rows = mg_tensor_rows(x), columns = mg_tensor_columns(x);
  for (int64_t r = 0; r < rows; r++) {
    const int64_t first = r * columns;
    const double max = row_max(x, first, columns);
    double sum = 0;
    for (int64_t c = 0; c < columns; c++) sum += exp(at(x, first + c) - max);
    for (int64_t c = 0; c < columns; c++) put(out, first + c, max == -INFINITY ? 0 : exp(at(x, first + c) - max) / sum);
  }
  return MG_OK;
}

mg_status mg__reference_softmax_backward(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *out = call->in[0], *dout = call->in[1], *dx = call->out[0];
  const int64_t rows = mg_tensor_rows(out), columns = mg_tensor_columns(out);
  for (int64_t r = 0; r < rows; r++) {
    const int64_t first = r * columns;
    double dot = 0;
    for (int64_t c = 0; c < columns; c++) dot += at(out, first + c) * at(dout, first + c);
    for (int64_t c = 0; c < columns; c++) put(dx, first + c, at(out, first + c) * (at(dout, first + c) - dot));
  }
  return MG_OK;
}
