/* A host arena: many small allocations that die together. */
#ifndef MG_BASE_ARENA_H
#define MG_BASE_ARENA_H

#include "moegauge/context.h"

typedef struct mg_arena mg_arena;

/* Chunks of at least `chunk_bytes` come from the context's allocator. */
mg_status mg_arena_create(mg_context *context, size_t chunk_bytes, mg_arena **out);
void mg_arena_destroy(mg_arena *arena);

/* Zeroed memory aligned for any type; NULL on failure (the context holds the message). Lives until reset. */
void *mg_arena_alloc(mg_arena *arena, size_t bytes);

/* Forgets all allocations and keeps the chunks, so that a repeated step allocates nothing new. */
void mg_arena_reset(mg_arena *arena);

#endif
