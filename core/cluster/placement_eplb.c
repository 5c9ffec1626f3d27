/* DeepSeek's expert-parallelism load balancer (github.com/deepseek-ai/EPLB), from its description: groups are packed
 * onto nodes, experts are copied within their node where the load per copy is highest, and the copies are packed onto
 * the node's ranks. Loads are single precision, as there, so that ties fall alike. */
#include <string.h>

#include "cluster/placement.h"

/* Scratch for one layer; every array has room for the larger of slots and experts. */
typedef struct eplb {
  float *weight, *pack_weight, *node_load;
  int32_t *order, *pack, *place; /* of balanced packing */
  int32_t *middle;               /* [experts]: the expert at each middle index */
  int32_t *copied;               /* [slots of a node]: local expert of each slot before packing */
  int32_t *copies;               /* [local experts] */
} eplb;

enum { ARRAYS = 9 };

static mg_status eplb_alloc(mg_context *context, size_t room, void **memory, eplb *e) {
  char *at = mg_alloc(context, room * ARRAYS * sizeof(float));
  *memory = at;
  if (!at) return MG_MEMORY;
  const size_t step = room * sizeof(float);
  e->weight = (float *)(void *)at;
  e->pack_weight = (float *)(void *)(at + step);
  e->node_load = (float *)(void *)(at + 2 * step);
  e->order = (int32_t *)(void *)(at + 3 * step);
  e->pack = (int32_t *)(void *)(at + 4 * step);
  e->place = (int32_t *)(void *)(at + 5 * step);
  e->middle = (int32_t *)(void *)(at + 6 * step);
  e->copied = (int32_t *)(void *)(at + 7 * step);
  e->copies = (int32_t *)(void *)(at + 8 * step);
  return MG_OK;
}

/* Item numbers by descending weight, the lower number first among equals. */
static void sort_items(eplb *e, int64_t items) {
  for (int64_t i = 0; i < items; i++) {
    int64_t at = i;
    for (; at > 0 && e->weight[e->order[at - 1]] < e->weight[i]; at--) e->order[at] = e->order[at - 1];
    e->order[at] = (int32_t)i;
  }
}

/* Packs e->weight [items] into `packs` of equal size: e->pack and e->place of each item. */
static void balanced_pack(eplb *e, int64_t items, int64_t packs) {
  const int64_t room = items / packs;
  if (room == 1) { /* item i is pack i, whatever its weight */
    for (int64_t i = 0; i < items; i++) {
      e->pack[i] = (int32_t)i;
      e->place[i] = 0;
    }
    return;
  }
  sort_items(e, items);
  int32_t *filled = e->copies; /* not in use yet */
  memset(filled, 0, (size_t)packs * sizeof *filled);
  memset(e->pack_weight, 0, (size_t)packs * sizeof *e->pack_weight);
  for (int64_t i = 0; i < items; i++) {
    const int32_t item = e->order[i];
    int64_t lightest = -1;
    for (int64_t p = 0; p < packs; p++)
      if (filled[p] < room && (lightest < 0 || e->pack_weight[p] < e->pack_weight[lightest])) lightest = p;
    e->pack[item] = (int32_t)lightest;
    e->place[item] = filled[lightest]++;
    e->pack_weight[lightest] += e->weight[item];
  }
}

/* Step 1: groups to nodes; e->middle lists the experts node after node. */
static void pack_groups(const mg_place_request *r, int64_t groups, int64_t nodes, eplb *e) {
  const int64_t size = r->experts / groups, per_node = groups / nodes;
  for (int64_t g = 0; g < groups; g++) {
    e->weight[g] = 0;
    for (int64_t i = 0; i < size; i++) e->weight[g] += (float)r->load[g * size + i];
  }
  balanced_pack(e, groups, nodes);
  for (int64_t g = 0; g < groups; g++)
    for (int64_t i = 0; i < size; i++)
      e->middle[(e->pack[g] * per_node + e->place[g]) * size + i] = (int32_t)(g * size + i);
}

/* Step 2: local experts of one node to its slots, one each and then to the heaviest load per copy. */
static void replicate(eplb *e, int64_t experts, int64_t slots) {
  for (int64_t i = 0; i < experts; i++) {
    e->copied[i] = (int32_t)i;
    e->copies[i] = 1;
  }
  for (int64_t s = experts; s < slots; s++) {
    int64_t heaviest = 0;
    for (int64_t i = 1; i < experts; i++)
      if (e->node_load[i] / (float)e->copies[i] > e->node_load[heaviest] / (float)e->copies[heaviest]) heaviest = i;
    e->copied[s] = (int32_t)heaviest;
    e->copies[heaviest]++;
  }
}

/* Steps 2 and 3 of one node: its slots filled. */
static void fill_node(const mg_place_request *r, int64_t node, int64_t nodes, eplb *e, int32_t *expert) {
  const int64_t local = r->experts / nodes, slots = r->slots / nodes, ranks = r->ranks / nodes, room = slots / ranks;
  for (int64_t i = 0; i < local; i++) e->node_load[i] = (float)r->load[e->middle[node * local + i]];
  replicate(e, local, slots);
  for (int64_t s = 0; s < slots; s++) e->weight[s] = e->node_load[e->copied[s]] / (float)e->copies[e->copied[s]];
  balanced_pack(e, slots, ranks);
  for (int64_t s = 0; s < slots; s++)
    expert[node * slots + e->pack[s] * room + e->place[s]] = e->middle[node * local + e->copied[s]];
}

mg_status mg_place_eplb(mg_context *context, void *user, const mg_place_request *r, int32_t *expert) {
  (void)user;
  const bool hierarchical = r->groups % r->nodes == 0;
  const int64_t groups = hierarchical ? r->groups : 1, nodes = hierarchical ? r->nodes : 1;
  const size_t room = (size_t)(r->slots > r->experts ? r->slots : r->experts);
  void *memory;
  eplb e;
  MG_TRY(eplb_alloc(context, room, &memory, &e));
  pack_groups(r, groups, nodes, &e);
  for (int64_t node = 0; node < nodes; node++) fill_node(r, node, nodes, &e, expert);
  mg_free(context, memory, room * ARRAYS * sizeof(float));
  return MG_OK;
}
