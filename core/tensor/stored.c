/* Decoding of stored dtypes, for those who need not be fast. */
#include "moegauge/stored.h"

void mg_stored_decode(mg_dtype dtype, const void *blocks, int64_t count, float *out) {
  mg_stored_decode_inline(dtype, blocks, count, out);
}
