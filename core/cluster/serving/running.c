/* The running sequences of an instance: a heap by the step with which each ends, so that a step costs time only for those
 * that end with it, and a list by admission, whose last is the first to be preempted. */
#include "cluster/serving/internal.h"

static bool before(const mg__request *items, int32_t a, int32_t b) {
  return items[a].last_step != items[b].last_step ? items[a].last_step < items[b].last_step : a < b;
}

static void put(mg__request *items, int32_t *heap, size_t at, int32_t id) {
  heap[at] = id;
  items[id].place = (int32_t)at;
}

static void rise(mg__request *items, int32_t *heap, size_t at) {
  const int32_t id = heap[at];
  for (size_t parent; at > 0 && before(items, id, heap[parent = (at - 1) / 2]); at = parent)
    put(items, heap, at, heap[parent]);
  put(items, heap, at, id);
}

static void sink(mg__request *items, int32_t *heap, size_t count, size_t at) {
  const int32_t id = heap[at];
  for (size_t child; (child = 2 * at + 1) < count; at = child) {
    if (child + 1 < count && before(items, heap[child + 1], heap[child])) child++;
    if (!before(items, heap[child], id)) break;
    put(items, heap, at, heap[child]);
  }
  put(items, heap, at, id);
}

/* What is set aside for it: all that it can come to, or what it has. */
static int64_t kv_of(const mg__pool *pool, const mg__request *r) {
  return pool->plan->set.reserve ? (int64_t)r->prompt + r->output - 1 : r->present;
}

mg_status mg__running_add(mg__simulation *sim, const mg__pool *pool, mg__instance *instance, int32_t id) {
  const size_t count = (size_t)instance->running.count;
  MG_TRY(MG_VECTOR_RESERVE(sim->context, instance->heap, instance->heap_room, count + 1));
  mg__request *items = sim->requests.items, *r = &items[id];
  r->last_step = instance->steps + r->output - r->generated;
  mg__list_append(&sim->requests, &instance->running, id);
  put(items, instance->heap, count, id);
  rise(items, instance->heap, count);
  instance->kv_tokens += kv_of(pool, r);
  instance->context_tokens += r->present;
  return MG_OK;
}

void mg__running_remove(mg__simulation *sim, const mg__pool *pool, mg__instance *instance, int32_t id) {
  mg__request *items = sim->requests.items, *r = &items[id];
  r->generated = (int32_t)(r->output - (r->last_step - instance->steps));
  r->present = r->prompt + r->generated - 1;
  mg__list_remove(&sim->requests, &instance->running, id);
  const size_t count = (size_t)instance->running.count, place = (size_t)r->place;
  if (place < count) {
    const int32_t moved = instance->heap[count];
    put(items, instance->heap, place, moved);
    rise(items, instance->heap, place);
    sink(items, instance->heap, count, (size_t)items[moved].place);
  }
  instance->kv_tokens -= kv_of(pool, r);
  instance->context_tokens -= r->present;
}

int32_t mg__running_ended(const mg__simulation *sim, const mg__instance *instance) {
  if (instance->running.count == 0) return MG__NOBODY;
  const int32_t next = instance->heap[0];
  return sim->requests.items[next].last_step <= instance->steps ? next : MG__NOBODY;
}
