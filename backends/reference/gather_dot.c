/* gather_dot: out[t,m] = x[t] . w[ids[t,m]], 0 where the id is -1, and its backwards
 *   dx[t] = sum over m of dout[t,m] w[ids[t,m]]
 *   dw[n] = sum over the (t,m) with ids[t,m] == n of dout[t,m] x[t]. */
#include "reference.h"

mg_status mg__reference_gather_dot(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *w = call->in[1], *ids = call->in[2], *out = call->out[0];
  const int64_t T = mg_tensor_rows(ids), M = mg_tensor_columns(ids), D = mg_tensor_columns(x);
  MG_TRY(mg__reference_check_ids(backend, call->op, ids, mg_tensor_rows(w)));
  for (int64_t t = 0; t < T; t++)
    for (int64_t m = 0; m < M; m++) {
      const int64_t n = id_at(ids, t * M + m);
      double sum = 0;
      for (int64_t d = 0; d < D && n >= 0; d++) sum += at(x, t * D + d) * at(w, n * D + d);
      put(out, t * M + m, sum);
    }
  return MG_OK;
}

mg_status mg__reference_gather_dot_backward_x(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *dout = call->in[0], *w = call->in[1], *ids = call->in[2], *dx = call->out[0];
  const int64_t T = mg_tensor_rows(ids), M = mg_tensor_columns(ids), D = mg_tensor_columns(w);
  MG_TRY(mg__reference_check_ids(backend, call->op, ids, mg_tensor_rows(w)));
  for (int64_t t = 0; t < T; t++)
    for (int64_t d = 0; d < D; d++) {
      double sum = 0;
      for (int64_t m = 0; m < M; m++) {
        const int64_t n = id_at(ids, t * M + m);
        if (n >= 0) sum += at(dout, t * M + m) * at(w, n * D + d);
      }
      put(dx, t * D + d, sum);
    }
  return MG_OK;
}

mg_status mg__reference_gather_dot_backward_w(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *dout = call->in[0], *x = call->in[1], *ids = call->in[2], *dw = call->out[0];
  const int64_t N = mg_tensor_rows(dw), M = mg_tensor_columns(ids), D = mg_tensor_columns(x);
  MG_TRY(mg__reference_check_ids(backend, call->op, ids, N));
  double *sums = mg__reference_scratch(backend, N * D);
  if (!sums) return MG_MEMORY;
  for (int64_t i = 0; i < N * D; i++) sums[i] = 0;
  for (int64_t i = 0; i < mg_tensor_count(ids); i++) {
    const int64_t n = id_at(ids, i);
    for (int64_t d = 0; d < D && n >= 0; d++) sums[n * D + d] += at(dout, i) * at(x, i / M * D + d);
  }
  for (int64_t i = 0; i < N * D; i++) put(dw, i, sums[i]);
  return MG_OK;
}
