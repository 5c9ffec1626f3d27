/* Arithmetic on numbers that come from a file: unsigned 64 bits, and every operation says whether it fitted. The files
 * that parse use nothing else (tests/checked_arithmetic.sh). */
#ifndef MG_MODEL_CHECKPOINT_CHECKED_H
#define MG_MODEL_CHECKPOINT_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

static inline bool mg__add(uint64_t a, uint64_t b, uint64_t *out) {
  return !__builtin_add_overflow(a, b, out);
}

static inline bool mg__multiply(uint64_t a, uint64_t b, uint64_t *out) {
  return !__builtin_mul_overflow(a, b, out);
}

/* The next multiple of `alignment`, a power of two. */
static inline bool mg__align_up(uint64_t value, uint64_t alignment, uint64_t *out) {
  if (!mg__add(value, alignment - 1, out)) return false;
  *out &= ~(alignment - 1);
  return true;
}

#endif
