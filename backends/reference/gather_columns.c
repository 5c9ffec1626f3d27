/* gather_columns: out[t,s] = x[t, ids[t,s]], 0 where the id is -1, and its backward scatter_columns:
 * out[t,c] = sum over the s with ids[t,s] == c of dout[t,s]. */
#include "reference.h"

mg_status mg__reference_gather_columns(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *ids = call->in[1], *out = call->out[0];
  const int64_t T = mg_tensor_rows(ids), S = mg_tensor_columns(ids), C = mg_tensor_columns(x);
  MG_TRY(mg__reference_check_ids(backend, call->op, ids, C));
  for (int64_t t = 0; t < T; t++)
    for (int64_t s = 0; s < S; s++) {
      const int64_t c = id_at(ids, t * S + s);
      put(out, t * S + s, c >= 0 ? at(x, t * C + c) : 0);
    }
  return MG_OK;
}

mg_status mg__reference_scatter_columns(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *dout = call->in[0], *ids = call->in[1], *out = call->out[0];
  const int64_t T = mg_tensor_rows(out), C = mg_tensor_columns(out), S = mg_tensor_columns(ids);
  MG_TRY(mg__reference_check_ids(backend, call->op, ids, C));
  for (int64_t t = 0; t < T; t++)
    for (int64_t c = 0; c < C; c++) {
      double sum = 0;
      for (int64_t s = 0; s < S; s++)
        if (id_at(ids, t * S + s) == c) sum += at(dout, t * S + s);
      put(out, t * C + c, sum);
    }
  return MG_OK;
}
