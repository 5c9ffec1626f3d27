/* combine: out[t] = sum over s of weights[t,s] y[position[t,s]], skipping position -1; without weights each is 1.
 *
 * combine_backward: for row a of slot i = slots[a], token t = i / S:
 *   dy[a] = weights[i] dout[t], dweights[i] = dout[t] . y[a].
 * dweights is 0 for choices without a row; dy is 0 where the slot is -1 and from row offsets[E] on. Without weights there is no dweights. */
#include "reference.h"

mg_status mg__reference_combine(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *y = call->in[0], *weights = call->in[1], *position = call->in[2], *out = call->out[0];
  const int64_t T = mg_tensor_rows(position), S = mg_tensor_columns(position), D = mg_tensor_columns(out);
  MG_TRY(mg__reference_check_ids(backend, call->op, position, mg_tensor_rows(y)));
  for (int64_t t = 0; t < T; t++)
    for (int64_t d = 0; d < D; d++) {
      double sum = 0;
      for (int64_t s = 0; s < S; s++) {
        const int64_t a = id_at(position, t * S + s);
        if (a >= 0) sum += (weights ? at(weights, t * S + s) : 1) * at(y, a * D + d);
      }
      put(out, t * D + d, sum);
    }
  return MG_OK;
}

mg_status mg__reference_combine_backward(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *dout = call->in[0], *y = call->in[1], *weights = call->in[2];
  const mg_tensor *slots = call->in[3], *offsets = call->in[4];
  const mg_tensor *dy = call->out[0], *dweights = call->out[1];
  const int64_t A = mg_tensor_rows(dy), D = mg_tensor_columns(dy), used = last_offset(offsets);
  const int64_t S = call->attributes.dispatch.choices;
  MG_TRY(mg__reference_check_ids(backend, call->op, slots, mg_tensor_rows(dout) * S));
  for (int64_t i = 0; dweights && i < mg_tensor_count(dweights); i++) put(dweights, i, 0);
  for (int64_t a = 0; a < A; a++) {
    const int64_t slot = a < used ? id_at(slots, a) : -1;
    double dot = 0;
    for (int64_t d = 0; d < D; d++) {
      const double gradient = slot >= 0 ? at(dout, slot / S * D + d) : 0;
      put(dy, a * D + d, (weights && slot >= 0 ? at(weights, slot) : 1) * gradient);
      if (dweights && slot >= 0) dot += gradient * at(y, a * D + d);
    }
    if (dweights && slot >= 0) put(dweights, slot, dot);
  }
  return MG_OK;
}
