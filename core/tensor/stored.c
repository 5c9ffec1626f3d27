/* Decoding of stored dtypes, for those who need not be fast. */
#include "moegauge/stored.h"

void mg_stored_decode(mg_dtype dtype, const void *blocks, int64_t count, float *out) {
  switch (dtype) {
#define STORED_CASE(NAME, name, values, bytes)                                                                         \
  case MG_##NAME: mg__decode_##name(blocks, count, out); break;
    MG_STORED_LIST(STORED_CASE)
#undef STORED_CASE
  default: break;
  }
}
