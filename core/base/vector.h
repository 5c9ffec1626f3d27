/* Room for growing arrays, from the context's allocator and with checked arithmetic. */
#ifndef MG_BASE_VECTOR_H
#define MG_BASE_VECTOR_H

#include "moegauge/context.h"

/* Makes *items (of *room elements of `item_bytes` each) hold at least `wanted` elements; room doubles. New elements are
 * not initialised. Release with mg_free(context, *items, *room * item_bytes). */
mg_status mg_vector_reserve(mg_context *context, void **items, size_t *room, size_t wanted, size_t item_bytes);

/* The same for a typed pointer. */
#define MG_VECTOR_RESERVE(context, items, room, wanted)                                                                \
  mg_vector_reserve((context), (void **)&(items), &(room), (wanted), sizeof *(items))
#define MG_VECTOR_FREE(context, items, room) mg_free((context), (items), (room) * sizeof *(items))

#endif
