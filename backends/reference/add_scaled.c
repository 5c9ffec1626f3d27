/* add_scaled: out[i] += factor * x[i], rounded once. */
#include "reference.h"

mg_status mg__reference_add_scaled(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *x = call->in[0], *out = call->out[0];
  for (int64_t i = 0; i < mg_tensor_count(out); i++)
    put(out, i, at(out, i) + call->attributes.add_scaled.factor * at(x, i));
  return MG_OK;
}
