/* Slots for requests, and the lists that thread through them. */
#include "cluster/serving/internal.h"

mg_status mg__requests_take(mg__requests *requests, int32_t *id) {
  if (requests->free != MG__NOBODY) {
    *id = requests->free;
    requests->free = requests->items[*id].next;
    return MG_OK;
  }
  if (requests->used >= INT32_MAX)
    return mg_fail(requests->context, MG_USAGE, "serving: more than %d requests wait at once; use a larger 'group'",
                   INT32_MAX);
  MG_TRY(MG_VECTOR_RESERVE(requests->context, requests->items, requests->room, requests->used + 1));
  *id = (int32_t)requests->used++;
  return MG_OK;
}

void mg__requests_give(mg__requests *requests, int32_t id) {
  requests->items[id].next = requests->free;
  requests->free = id;
}

void mg__list_clear(mg__list *list) {
  *list = (mg__list){MG__NOBODY, MG__NOBODY, 0};
}

void mg__list_append(mg__requests *requests, mg__list *list, int32_t id) {
  mg__request *items = requests->items;
  items[id].previous = list->last;
  items[id].next = MG__NOBODY;
  *(list->last == MG__NOBODY ? &list->first : &items[list->last].next) = id;
  list->last = id;
  list->count++;
}

void mg__list_prepend(mg__requests *requests, mg__list *list, int32_t id) {
  mg__request *items = requests->items;
  items[id].previous = MG__NOBODY;
  items[id].next = list->first;
  *(list->first == MG__NOBODY ? &list->last : &items[list->first].previous) = id;
  list->first = id;
  list->count++;
}

void mg__list_remove(mg__requests *requests, mg__list *list, int32_t id) {
  mg__request *items = requests->items;
  const int32_t before = items[id].previous, after = items[id].next;
  *(before == MG__NOBODY ? &list->first : &items[before].next) = after;
  *(after == MG__NOBODY ? &list->last : &items[after].previous) = before;
  list->count--;
}
