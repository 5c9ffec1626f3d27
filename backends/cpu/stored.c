/* Decoding of stored dtypes with this level's instructions: as moegauge/stored.h writes it, to the bit. Compiled without
 * contraction of products and sums. */
#include "moegauge/stored.h"

#include "stored.h"

void CPU_NAME(decode_stored)(mg_dtype dtype, const void *blocks, int64_t count, float *out) {
  mg_stored_decode_inline(dtype, blocks, count, out);
}
