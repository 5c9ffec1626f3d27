/* cross_entropy: loss[t] = lse[t] - logits[t, target], 0 where the target is -1; lse[t] = log_sum_exp of the row,
 * always. Its backward: dlogits[t,v] = dloss[t] (exp(logits[t,v] - lse[t]) - (v == target)), 0 where the target is -1.
 */
#include "reference.h"

mg_status mg__reference_cross_entropy(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *logits = call->in[0], *targets = call->in[1], *loss = call->out[0], *lse = call->out[1];
  const int64_t T = mg_tensor_rows(logits), V = mg_tensor_columns(logits);
  MG_TRY(mg__reference_check_ids(backend, call->op, targets, V));
  for (int64_t t = 0; t < T; t++) {
    const int64_t target = id_at(targets, t);
    double max = -INFINITY, sum = 0;
    for (int64_t v = 0; v < V; v++) max = larger(max, at(logits, t * V + v));
    for (int64_t v = 0; v < V; v++) sum += exp(at(logits, t * V + v) - max);
    const double whole = isinf(max) ? max : max + log(sum);
    put(lse, t, whole);
    put(loss, t, target < 0 ? 0 : whole - at(logits, t * V + target));
  }
  return MG_OK;
}

mg_status mg__reference_cross_entropy_backward(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *logits = call->in[0], *targets = call->in[1], *lse = call->in[2], *dloss = call->in[3];
  const mg_tensor *dlogits = call->out[0];
  const int64_t T = mg_tensor_rows(logits), V = mg_tensor_columns(logits);
  MG_TRY(mg__reference_check_ids(backend, call->op, targets, V));
  for (int64_t t = 0; t < T; t++) {
    const int64_t target = id_at(targets, t);
    for (int64_t v = 0; v < V; v++) {
      const double p = exp(at(logits, t * V + v) - at(lse, t));
      put(dlogits, t * V + v, target < 0 ? 0 : at(dloss, t) * (p - (v == target)));
    }
  }
  return MG_OK;
}
