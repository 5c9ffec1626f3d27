/* Growing arrays: doubling, so that appending n elements copies at most 2n. */
#include "base/vector.h"

mg_status mg_vector_reserve(mg_context *context, void **items, size_t *room, size_t wanted, size_t item_bytes) {
  if (wanted <= *room) return MG_OK;
  size_t larger = *room ? *room : 16;
  while (larger < wanted)
    if (__builtin_mul_overflow(larger, 2, &larger)) larger = wanted;
  size_t bytes;
  if (__builtin_mul_overflow(larger, item_bytes, &bytes))
    return mg_fail(context, MG_MEMORY, "%zu elements of %zu bytes do not fit in memory", larger, item_bytes);
  void *moved = mg_resize(context, *items, *room * item_bytes, bytes);
  if (!moved) return MG_MEMORY;
  *items = moved;
  *room = larger;
  return MG_OK;
}
