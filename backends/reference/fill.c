/* fill: out[i] = value. */
#include "reference.h"

mg_status mg__reference_fill(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *out = call->out[0];
  for (int64_t i = 0; i < mg_tensor_count(out); i++) put(out, i, call->attributes.fill.value);
  return MG_OK;
}
