/* where: out[i] = x[i] where mask[i] != 0, else value. A NaN in the mask counts as not 0. */
#include "reference.h"

mg_status mg__reference_where(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *mask = call->in[0], *x = call->in[1], *out = call->out[0];
  for (int64_t i = 0; i < mg_tensor_count(out); i++)
    put(out, i, at(mask, i) != 0 ? at(x, i) : call->attributes.where.value);
  return MG_OK;
}
