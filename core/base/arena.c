/* Bump allocation in a list of chunks; a reset rewinds to the first chunk. */
#include "base/arena.h"

#include <string.h>

typedef struct chunk {
  struct chunk *next;
  size_t size; /* of the whole block, header included */
  size_t used; /* header included */
} chunk;

struct mg_arena {
  mg_context *context;
  size_t chunk_bytes;
  chunk *first;
  chunk *current;
};

enum { ALIGNMENT = 16 };

static size_t round_up(size_t bytes) {
  return (bytes + (ALIGNMENT - 1)) & ~(size_t)(ALIGNMENT - 1);
}

static const size_t header_bytes = (sizeof(chunk) + (ALIGNMENT - 1)) & ~(size_t)(ALIGNMENT - 1);

mg_status mg_arena_create(mg_context *context, size_t chunk_bytes, mg_arena **out) {
  *out = NULL;
  mg_arena *arena = mg_alloc(context, sizeof *arena);
  if (!arena) return MG_MEMORY;
  arena->context = context;
  arena->chunk_bytes = chunk_bytes;
  *out = arena;
  return MG_OK;
}

void mg_arena_destroy(mg_arena *arena) {
  if (!arena) return;
  for (chunk *c = arena->first; c;) {
    chunk *next = c->next;
    mg_free(arena->context, c, c->size);
    c = next;
  }
  mg_free(arena->context, arena, sizeof *arena);
}

/* Makes a chunk with room for `bytes` the current one: the next kept chunk if it fits, else a new one after it. */
static bool advance(mg_arena *arena, size_t bytes) {
  chunk *next = arena->current ? arena->current->next : arena->first;
  if (next && next->size - header_bytes >= bytes) {
    next->used = header_bytes;
    arena->current = next;
    return true;
  }
  size_t size = header_bytes + (bytes > arena->chunk_bytes ? bytes : arena->chunk_bytes);
  if (size < bytes) {
    mg_fail(arena->context, MG_MEMORY, "an allocation of %zu bytes is too large", bytes);
    return false;
  }
  chunk *fresh = mg_alloc(arena->context, size);
  if (!fresh) return false;
  fresh->size = size;
  fresh->used = header_bytes;
  fresh->next = next;
  if (arena->current)
    arena->current->next = fresh;
  else
    arena->first = fresh;
  arena->current = fresh;
  return true;
}

void *mg_arena_alloc(mg_arena *arena, size_t bytes) {
  if (bytes > SIZE_MAX - ALIGNMENT) {
    mg_fail(arena->context, MG_MEMORY, "an allocation of %zu bytes is too large", bytes);
    return NULL;
  }
  size_t need = round_up(bytes ? bytes : 1);
  chunk *c = arena->current;
  if (!c || c->size - c->used < need) {
    if (!advance(arena, need)) return NULL;
    c = arena->current;
  }
  void *result = (char *)c + c->used;
  c->used += need;
  return memset(result, 0, need);
}

void mg_arena_reset(mg_arena *arena) {
  arena->current = arena->first;
  if (arena->first) arena->first->used = header_bytes;
}
