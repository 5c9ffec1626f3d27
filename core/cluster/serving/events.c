/* A binary heap of events by time, then by order of scheduling. */
#include "cluster/serving/internal.h"

static bool before(const mg__event *a, const mg__event *b) {
  return a->seconds != b->seconds ? a->seconds < b->seconds : a->order < b->order;
}

mg_status mg__events_add(mg__events *events, mg__event event) {
  MG_TRY(MG_VECTOR_RESERVE(events->context, events->items, events->room, events->count + 1));
  event.order = events->scheduled++;
  size_t at = events->count++;
  for (size_t parent; at > 0 && before(&event, &events->items[parent = (at - 1) / 2]); at = parent)
    events->items[at] = events->items[parent];
  events->items[at] = event;
  return MG_OK;
}

mg__event mg__events_pop(mg__events *events) {
  mg__event *items = events->items;
  const mg__event first = items[0], last = items[--events->count];
  size_t at = 0;
  for (size_t child; (child = 2 * at + 1) < events->count; at = child) {
    if (child + 1 < events->count && before(&items[child + 1], &items[child])) child++;
    if (!before(&items[child], &last)) break;
    items[at] = items[child];
  }
  items[at] = last;
  return first;
}
