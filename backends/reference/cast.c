/* cast: out[i] = x[i] in out's dtype. Real dtypes round to nearest even; to i32 the fraction is cut off, values out of
 * range go to the nearest end and NaN to 0. */
#include "reference.h"

mg_status mg__reference_cast(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *x = call->in[0], *out = call->out[0];
  for (int64_t i = 0; i < mg_tensor_count(out); i++) put(out, i, at(x, i));
  return MG_OK;
}
