/* dispatch: row a of out is the token of slot slots[a], x[slots[a] / S]; rows whose slot is -1 and rows from offsets[E]
 * on are zero. Its backward is combine without weights. */
#include "reference.h"

mg_status mg__reference_dispatch(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *slots = call->in[1], *offsets = call->in[2], *out = call->out[0];
  const int64_t A = mg_tensor_rows(out), D = mg_tensor_columns(out), S = call->attributes.dispatch.choices;
  const int64_t used = last_offset(offsets);
  MG_TRY(mg__reference_check_ids(backend, call->op, slots, mg_tensor_rows(x) * S));
  for (int64_t a = 0; a < A; a++) {
    const int64_t slot = a < used ? id_at(slots, a) : -1;
    for (int64_t d = 0; d < D; d++) put(out, a * D + d, slot >= 0 ? at(x, slot / S * D + d) : 0);
  }
  return MG_OK;
}
