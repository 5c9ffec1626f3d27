/* A 64-bit hash for tables in memory and for choices that must not depend on order (XXH3). */
#ifndef MG_BASE_HASH_H
#define MG_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH3-64 of the bytes under `seed`: the same on every machine. */
uint64_t mg_hash64(const void *data, size_t bytes, uint64_t seed);

/* A cheap bijection of 64 bits whose every output bit depends on every input bit (the finaliser of SplitMix64). */
static inline uint64_t mg_mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
  return x ^ (x >> 31);
}

#endif
