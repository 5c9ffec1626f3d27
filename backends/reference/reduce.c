/* reduce: sum, mean, max or sum of squares of each row (-> [R,1]) or each column (-> [C]).
 * Over nothing: sum, mean and sum of squares are 0, max is -inf. A NaN makes the max NaN. */
#include "reference.h"

/* Of `count` elements from `first` on, `stride` apart. */
static double reduced(mg_reduce kind, const mg_tensor *x, int64_t first, int64_t stride, int64_t count) {
  double result = kind == MG_REDUCE_MAX ? -INFINITY : 0;
  for (int64_t i = 0; i < count; i++) {
    const double value = at(x, first + i * stride);
    switch (kind) {
    case MG_REDUCE_SUM:
    case MG_REDUCE_MEAN: result += value; break;
    case MG_REDUCE_MAX: result = larger(result, value); break;
    case MG_REDUCE_SUM_SQUARES: result += value * value; break;
    }
  }
  return kind == MG_REDUCE_MEAN && count ? result / (double)count : result;
}

mg_status mg__reference_reduce(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const int64_t rows = mg_tensor_rows(x), columns = mg_tensor_columns(x);
  const mg_reduce kind = call->attributes.reduce.kind;
  if (call->attributes.reduce.axis == MG_OVER_COLUMNS)
    for (int64_t r = 0; r < rows; r++) put(out, r, reduced(kind, x, r * columns, 1, columns));
  else
    for (int64_t c = 0; c < columns; c++) put(out, c, reduced(kind, x, c, columns, rows));
  return MG_OK;
}
