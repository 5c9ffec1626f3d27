/* A set of names: open addressing with linear probing, at most two thirds full. The hash starts from a random seed, so
 * that nobody can write a file whose names all collide; no result depends on it. */
#include <string.h>
#include <sys/random.h>

#include "base/hash.h"
#include "model/checkpoint/internal.h"

mg_status mg__names_create(mg_context *context, size_t count, mg__names *out) {
  *out = (mg__names){.count = count + count / 2 + 8};
  if (getrandom(&out->seed, sizeof out->seed, GRND_NONBLOCK) != (ssize_t)sizeof out->seed) out->seed = (uintptr_t)out;
  out->slots = mg_alloc(context, out->count * sizeof *out->slots);
  return out->slots ? MG_OK : MG_MEMORY;
}

void mg__names_destroy(mg_context *context, mg__names *names) {
  mg_free(context, names->slots, names->slots ? names->count * sizeof *names->slots : 0);
}

/* The slot that holds `name`, or the free one where it would go. */
static size_t slot_of(const mg__names *names, const void *owner, mg__name_of name_of, const char *name) {
  const uint64_t hash = mg_hash64(name, strlen(name), names->seed);
  size_t slot = (size_t)((__extension__(unsigned __int128) hash * names->count) >> 64);
  while (names->slots[slot] && strcmp(name_of(owner, names->slots[slot] - 1), name) != 0)
    slot = slot + 1 == names->count ? 0 : slot + 1;
  return slot;
}

int64_t mg__names_find(const mg__names *names, const void *owner, mg__name_of name_of, const char *name) {
  if (!names->slots) return -1;
  return (int64_t)names->slots[slot_of(names, owner, name_of, name)] - 1;
}

int64_t mg__names_add(mg__names *names, const void *owner, mg__name_of name_of, size_t index) {
  uint32_t *slot = &names->slots[slot_of(names, owner, name_of, name_of(owner, index))];
  if (*slot) return (int64_t)*slot - 1;
  *slot = (uint32_t)(index + 1);
  return -1;
}
