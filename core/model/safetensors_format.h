/* What writing and verifying safetensors files share. */
#ifndef MG_MODEL_SAFETENSORS_FORMAT_H
#define MG_MODEL_SAFETENSORS_FORMAT_H

#include <stdio.h>

#define XXH_INLINE_ALL
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <xxhash.h>
#pragma GCC diagnostic pop

#include "model/safetensors.h"

/* The checksum covers the whole file with its own digits read as zeros. */
#define MG__CHECKSUM_KEY "moegauge.checksum"
#define MG__CHECKSUM_EMPTY "00000000000000000000000000000000"
enum { MG__CHECKSUM_DIGITS = 32, MG__SAFETENSORS_BLOCK = 1 << 20 };

static inline void mg__hash_text(XXH128_hash_t hash, char text[MG__CHECKSUM_DIGITS + 1]) {
  snprintf(text, MG__CHECKSUM_DIGITS + 1, "%016llx%016llx", (unsigned long long)hash.high64,
           (unsigned long long)hash.low64);
}

#endif
