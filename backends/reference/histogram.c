/* histogram: out[g,b] = how often id b occurs in segment g, which is rows g T/segments up to (g+1) T/segments of the
 * ids [T,S]; -1 is skipped. */
#include "reference.h"

mg_status mg__reference_histogram(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *ids = call->in[0], *out = call->out[0];
  const int64_t segments = call->attributes.histogram.segments, bins = mg_tensor_columns(out);
  const int64_t count = segments ? mg_tensor_count(ids) / segments : 0; /* ids in each segment */
  MG_TRY(mg__reference_check_ids(backend, call->op, ids, bins));
  for (int64_t g = 0; g < segments; g++)
    for (int64_t b = 0; b < bins; b++) {
      int64_t found = 0;
      for (int64_t i = g * count; i < (g + 1) * count; i++) found += id_at(ids, i) == b;
      put(out, g * bins + b, (double)found);
    }
  return MG_OK;
}
