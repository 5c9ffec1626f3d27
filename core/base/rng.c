/* Philox4x32-10 by position (Salmon et al. 2011), on Random123. */
#include "moegauge/rng.h"

#include <math.h>
#include <string.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <Random123/philox.h>
#pragma GCC diagnostic pop
#define XXH_INLINE_ALL
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <xxhash.h>
#pragma GCC diagnostic pop

mg_stream mg_stream_named(uint64_t seed, const char *purpose, uint64_t first, uint64_t second) {
  const uint64_t numbers[2] = {first, second};
  const uint64_t name = XXH3_64bits(purpose, strlen(purpose));
  return (mg_stream){seed, XXH3_64bits_withSeed(numbers, sizeof numbers, name)};
}

uint32_t mg_random_bits(mg_stream stream, uint64_t index) {
  const uint64_t block = index / 4;
  const philox4x32_ctr_t counter = {
      {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)stream.stream, (uint32_t)(stream.stream >> 32)}};
  const philox4x32_key_t key = {{(uint32_t)stream.seed, (uint32_t)(stream.seed >> 32)}};
  return philox4x32(counter, key).v[index % 4];
}

double mg_random_uniform(mg_stream stream, uint64_t index) {
  static const double most = 1.0 - 1.0 / 16777216.0; /* the largest f32 below 1 */
  return fmin(((double)mg_random_bits(stream, index) + 0.5) / 4294967296.0, most);
}

double mg_random_normal(mg_stream stream, uint64_t index) {
  static const double two_pi = 6.283185307179586476925;
  const double u0 = mg_random_uniform(stream, 2 * index);
  const double u1 = mg_random_uniform(stream, 2 * index + 1);
  return sqrt(-2.0 * log(u0)) * cos(two_pi * u1);
}

uint64_t mg_random_below(mg_stream stream, uint64_t index, uint64_t bound) {
  const uint64_t high = mg_random_bits(stream, 2 * index);
  const uint64_t low = mg_random_bits(stream, 2 * index + 1);
  return (uint64_t)(((__extension__(unsigned __int128)((high << 32) | low)) * bound) >> 64);
}
