/* Decoding of stored dtypes with this level's instructions: what moegauge/stored.h says, to the bit. Compiled without
 * contraction of products and sums. */
#include "stored.h"

#if defined(CPU_VECTOR_AVX512)
#include "stored_avx512.h"
#define STORED_DECODE(name) stored_##name
#else
#include "moegauge/stored.h"
#define STORED_DECODE(name) mg__decode_##name
#endif

void CPU_NAME(decode_stored)(mg_dtype dtype, const void *blocks, int64_t count, float *out) {
  switch (dtype) {
#define STORED_CASE(NAME, name, values, bytes)                                                                         \
  case MG_##NAME: STORED_DECODE(name)(blocks, count, out); break;
    MG_STORED_LIST(STORED_CASE)
#undef STORED_CASE
  default: break;
  }
}
