/* gather_rows: out[t] = table[ids[t]], a zero row where the id is -1, and its backward scatter_add_rows:
 * out[v] = sum over the t with ids[t] == v of dout[t]. */
#include "reference.h"

mg_status mg__reference_gather_rows(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *table = call->in[0], *ids = call->in[1], *out = call->out[0];
  const int64_t T = mg_tensor_count(ids), D = mg_tensor_columns(table);
  MG_TRY(mg__reference_check_ids(backend, call->op, ids, mg_tensor_rows(table)));
  for (int64_t t = 0; t < T; t++) {
    const int64_t v = id_at(ids, t);
    for (int64_t d = 0; d < D; d++) put(out, t * D + d, v >= 0 ? at(table, v * D + d) : 0);
  }
  return MG_OK;
}

mg_status mg__reference_scatter_add_rows(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *dout = call->in[0], *ids = call->in[1], *out = call->out[0];
  const int64_t T = mg_tensor_count(ids), V = mg_tensor_rows(out), D = mg_tensor_columns(out);
  MG_TRY(mg__reference_check_ids(backend, call->op, ids, V));
  double *sums = mg__reference_scratch(backend, V * D);
  if (!sums) return MG_MEMORY;
  for (int64_t i = 0; i < V * D; i++) sums[i] = 0;
  for (int64_t t = 0; t < T; t++) {
    const int64_t v = id_at(ids, t);
    for (int64_t d = 0; d < D && v >= 0; d++) sums[v * D + d] += at(dout, t * D + d);
  }
  for (int64_t i = 0; i < V * D; i++) put(out, i, sums[i]);
  return MG_OK;
}
