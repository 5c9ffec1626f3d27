/* random: out[i] = draw first + i of the stream: uniform on (low, high), or normal with mean low and standard
 * deviation high (moegauge/rng.h). */
#include "reference.h"

mg_status mg__reference_random(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *out = call->out[0];
  const mg_stream stream = call->attributes.random.stream;
  const uint64_t first = call->attributes.random.first;
  const double low = call->attributes.random.low, high = call->attributes.random.high;
  for (int64_t i = 0; i < mg_tensor_count(out); i++) {
    const uint64_t index = first + (uint64_t)i;
    if (call->attributes.random.kind == MG_RANDOM_UNIFORM)
      put(out, i, low + (high - low) * mg_random_uniform(stream, index));
    else
      put(out, i, low + high * mg_random_normal(stream, index));
  }
  return MG_OK;
}
