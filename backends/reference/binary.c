/* binary: out[r,c] = f(a[r,c], b at (r,c)), where b is like a, one element, one column [R,1] or one row [C].
 *
 * b is like a when it has as many elements, else one element when it has one, else a column when it is [R,1], else a
 * row. max and min give NaN when either side is NaN. */
#include "reference.h"

static double combine(mg_binary kind, double a, double b) {
  switch (kind) {
  case MG_BINARY_ADD: return a + b;
  case MG_BINARY_SUB: return a - b;
  case MG_BINARY_MUL: return a * b;
  case MG_BINARY_DIV: return a / b;
  case MG_BINARY_MAX: return larger(a, b);
  case MG_BINARY_MIN: return -larger(-a, -b);
  case MG_BINARY_GREATER: return a > b ? 1 : 0;
  case MG_BINARY_COUNT: break;
  }
  return NAN;
}

static int64_t element_of_b(const mg_tensor *a, const mg_tensor *b, int64_t r, int64_t c) {
  if (mg_tensor_count(b) == mg_tensor_count(a)) return r * mg_tensor_columns(a) + c;
  if (mg_tensor_count(b) == 1) return 0;
  return mg_tensor_columns(b) == 1 && b->dims > 1 ? r : c;
}

mg_status mg__reference_binary(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *a = call->in[0], *b = call->in[1], *out = call->out[0];
  const int64_t rows = mg_tensor_rows(a), columns = mg_tensor_columns(a);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < columns; c++) {
      const int64_t i = r * columns + c;
      put(out, i, combine(call->attributes.binary.kind, at(a, i), at(b, element_of_b(a, b, r, c))));
    }
  return MG_OK;
}
