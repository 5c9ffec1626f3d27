/* Decoding of stored dtypes with this level's instructions: what moegauge/stored.h says, to the bit. Compiled without
 * contraction of products and sums. */
#include "stored.h"

static void stored_round(float *values, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; i++) values[i] = cpu_bf16_to_f32(cpu_bf16_from_f32(values[i]));
}

#if defined(CPU_VECTOR_AVX512)
#include "stored_avx512.h"
#define STORED_DECODE(name) stored_##name(blocks, count, out, round)
#else
#include "moegauge/stored.h"
#define STORED_DECODE(name)                                                                                            \
  mg__decode_##name(blocks, count, out);                                                                               \
  if (round) stored_round(out, count)
#endif

void CPU_NAME(decode_stored)(mg_dtype dtype, const void *blocks, int64_t count, float *out, bool round) {
  switch (dtype) {
#define STORED_CASE(NAME, name, values, bytes)                                                                         \
  case MG_##NAME: STORED_DECODE(name); break;
    MG_STORED_LIST(STORED_CASE)
#undef STORED_CASE
  default: break;
  }
}
