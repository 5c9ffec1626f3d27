/* Counts what each rank computes, sends and receives. Without de-duplication only the number of choices of each
 * (source rank, expert) matters; with it every token is looked at. Layers are independent and run on several threads. */
#include "cluster/traffic.h"

#include <math.h>
#include <string.h>

mg_status mg_placement_create(mg_context *context, int64_t layers, int64_t experts, int64_t slots, int64_t ranks,
                              int64_t nodes, mg_placement *out) {
  *out = (mg_placement){.layers = layers, .experts = experts, .slots = slots, .ranks = ranks, .nodes = nodes};
  out->expert = mg_alloc(context, (size_t)(layers * slots) * sizeof *out->expert);
  return out->expert ? MG_OK : MG_MEMORY;
}

void mg_placement_destroy(mg_context *context, mg_placement *p) {
  mg_free(context, p->expert, (size_t)(p->layers * p->slots) * sizeof *p->expert);
  p->expert = NULL;
}

double *mg_traffic_of(const mg_traffic *traffic, int64_t layer, mg_traffic_kind kind) {
  return traffic->value + (layer * MG_TRAFFIC_KINDS + (int64_t)kind) * traffic->ranks;
}

static size_t values_of(const mg_traffic *t) {
  return (size_t)(t->layers * MG_TRAFFIC_KINDS * t->ranks);
}

void mg_traffic_destroy(mg_traffic *t) {
  if (!t) return;
  mg_free(t->context, t->value, values_of(t) * sizeof *t->value);
  mg_free(t->context, t->dropped, (size_t)t->layers * sizeof *t->dropped);
  mg_free(t->context, t->assigned, (size_t)t->layers * sizeof *t->assigned);
  mg_free(t->context, t, sizeof *t);
}

static mg_status create_empty(mg_context *context, int64_t layers, int64_t ranks, mg_traffic **out) {
  *out = NULL;
  mg_traffic *t = mg_alloc(context, sizeof *t);
  if (!t) return MG_MEMORY;
  *t = (mg_traffic){.context = context, .layers = layers, .ranks = ranks};
  t->value = mg_alloc(context, values_of(t) * sizeof *t->value);
  t->dropped = mg_alloc(context, (size_t)layers * sizeof *t->dropped);
  t->assigned = mg_alloc(context, (size_t)layers * sizeof *t->assigned);
  if (t->value && t->dropped && t->assigned) {
    *out = t;
    return MG_OK;
  }
  mg_traffic_destroy(t);
  return MG_MEMORY;
}

/* ---- one layer ------------------------------------------------------------------------------------------------ */

/* Scratch of one layer's count. */
typedef struct counting {
  const mg_traffic_request *request;
  mg_traffic *traffic;
  int64_t layer;
  int32_t *copies;      /* [experts] */
  int32_t *first_slot;  /* [experts + 1]: where its slots begin in `slots` */
  int32_t *slots;       /* [slots]: slots by expert */
  int32_t *destination; /* [experts]: slot that the present source rank uses */
  int32_t *counts;      /* [2, experts + 1]: choices of the present source rank's even and odd tokens, -1 first */
  int32_t *chosen;      /* [experts]: their sum, less what was dropped */
  int32_t *total;       /* [experts]: of all source ranks */
  int32_t *target;      /* [experts]: rank of its destination */
  int64_t *room;        /* [experts]: assignments that still fit */
  int32_t *slot_rows;   /* [slots] */
  int64_t *token_rank;  /* [ranks]: last token (of the whole step) that was sent there */
  int64_t *token_node;  /* [nodes] */
  int32_t *messages;    /* [ranks]: of the present source rank to each other */
  int32_t *slot_rank;   /* [slots] */
  int32_t *rank_node;   /* [ranks] */
  int32_t *copied;      /* [experts]: those with several slots */
  int64_t copied_count;
} counting;

/* Bytes of all arrays of one layer. */
static size_t counting_bytes(const mg_placement *p) {
  const size_t experts = (size_t)p->experts, slots = (size_t)p->slots, ranks = (size_t)p->ranks;
  return (experts + ranks + (size_t)p->nodes) * sizeof(int64_t) +
         (9 * (experts + 1) + 3 * slots + 2 * ranks) * sizeof(int32_t);
}

static void counting_cut(counting *c, char *memory) {
  const mg_placement *p = c->request->placement;
  c->room = (int64_t *)(void *)memory;
  c->token_rank = c->room + p->experts;
  c->token_node = c->token_rank + p->ranks;
  c->copies = (int32_t *)(void *)(c->token_node + p->nodes);
  c->first_slot = c->copies + p->experts;
  c->destination = c->first_slot + p->experts + 1;
  c->copied = c->destination + p->experts;
  c->slots = c->copied + p->experts;
  c->slot_rank = c->slots + p->slots;
  c->rank_node = c->slot_rank + p->slots;
  c->counts = c->rank_node + p->ranks;
  c->chosen = c->counts + 2 * (p->experts + 1);
  c->total = c->chosen + p->experts;
  c->target = c->total + p->experts;
  c->slot_rows = c->target + p->experts;
  c->messages = c->slot_rows + p->slots;
}

/* Slots sorted by expert. */
static void index_slots(counting *c, const int32_t *expert) {
  const mg_placement *p = c->request->placement;
  for (int64_t s = 0; s < p->slots; s++) c->copies[expert[s]]++;
  for (int64_t e = 0; e < p->experts; e++) c->first_slot[e + 1] = c->first_slot[e] + c->copies[e];
  memset(c->destination, 0, (size_t)p->experts * sizeof *c->destination);
  for (int64_t s = 0; s < p->slots; s++) {
    const int32_t e = expert[s];
    c->slots[c->first_slot[e] + c->destination[e]++] = (int32_t)s;
  }
}

/* Where every slot and rank lies; experts with one slot have the same destination from everywhere. */
static void index_places(counting *c) {
  const mg_placement *p = c->request->placement;
  const int64_t per_rank = p->slots / p->ranks, per_node = p->ranks / p->nodes;
  for (int64_t s = 0; s < p->slots; s++) c->slot_rank[s] = (int32_t)(s / per_rank);
  for (int64_t d = 0; d < p->ranks; d++) c->rank_node[d] = (int32_t)(d / per_node);
  for (int64_t e = 0; e < p->experts; e++) {
    c->destination[e] = c->slots[c->first_slot[e]];
    c->target[e] = c->slot_rank[c->destination[e]];
    if (c->copies[e] > 1) c->copied[c->copied_count++] = (int32_t)e;
  }
}

static void choose_destinations(counting *c, int64_t source) {
  for (int64_t i = 0; i < c->copied_count; i++) {
    const int32_t e = c->copied[i];
    c->destination[e] = c->slots[c->first_slot[e] + (int32_t)(source % c->copies[e])];
    c->target[e] = c->slot_rank[c->destination[e]];
  }
}

static void set_room(counting *c) {
  const mg_traffic_request *q = c->request;
  const int64_t experts = q->placement->experts;
  const double mean = (double)(q->count * q->placement->ranks) * q->routing->mean_choices / (double)experts;
  const int64_t room = q->capacity > 0 ? (int64_t)fmax(1, floor(q->capacity * mean * (1 + 1e-12))) : INT64_MAX;
  for (int64_t e = 0; e < experts; e++) c->room[e] = room;
}

static double *counted(const counting *c, mg_traffic_kind kind) {
  return mg_traffic_of(c->traffic, c->layer, kind);
}

/* The choices of the source rank's tokens, by expert; returns how many they are. Neighbouring tokens like the same experts:
 * with counters of their own they need not wait for each other. A batch is a part of every rank's tokens, and what the
 * next rank has lies too far away for the processor to foresee. */
static int64_t count_choices(counting *c, int64_t source) {
  const mg_traffic_request *q = c->request;
  const mg_routing *r = q->routing;
  const int64_t experts = r->experts;
  const int32_t *ids = mg_routing_layer(r, c->layer);
  int32_t *even = c->counts + 1, *odd = even + experts + 1, *chosen = c->chosen;
  int64_t token = (q->offset + source * q->tokens + q->first) % r->tokens;
  memset(c->counts, 0, (size_t)(2 * (experts + 1)) * sizeof *c->counts);
  for (int64_t i = 0; i < q->count; i++) {
    const int32_t *at = ids + token * r->choices;
    int32_t *counter = i % 2 ? odd : even;
    if (token + q->tokens < r->tokens) __builtin_prefetch(at + q->tokens * r->choices);
    for (int64_t k = 0; k < r->choices; k++) counter[at[k]]++;
    if (++token == r->tokens) token = 0;
  }
  for (int64_t e = 0; e < experts; e++) chosen[e] = even[e] + odd[e];
  return q->count * r->choices - even[-1] - odd[-1];
}

/* Cuts the choices down to what still fits each expert; returns how many were dropped. */
static int64_t drop_choices(counting *c) {
  int64_t dropped = 0;
  for (int64_t e = 0; e < c->request->placement->experts; e++) {
    const int64_t asked = c->chosen[e], kept = asked < c->room[e] ? asked : c->room[e];
    c->room[e] -= kept;
    c->chosen[e] = (int32_t)kept;
    dropped += asked - kept;
  }
  return dropped;
}

/* Adds the messages of the source rank to ranks [first, last). */
static void receive(const counting *c, mg_traffic_kind kind, int64_t first, int64_t last) {
  double *received = counted(c, kind);
  const int32_t *messages = c->messages;
  for (int64_t d = first; d < last; d++) received[d] += messages[d];
}

/* Every kept choice to its rank, and those of experts with copies to their slot; the other slots are summed up later. */
static void place_choices(counting *c) {
  const int32_t *target = c->target, *chosen = c->chosen;
  int32_t *messages = c->messages, *total = c->total;
  const int64_t experts = c->request->placement->experts;
  memset(messages, 0, (size_t)c->request->placement->ranks * sizeof *messages);
  for (int64_t e = 0; e < experts; e++) messages[target[e]] += chosen[e];
  for (int64_t e = 0; e < experts; e++) total[e] += chosen[e];
  for (int64_t i = 0; i < c->copied_count; i++) {
    const int32_t e = c->copied[i];
    c->slot_rows[c->destination[e]] += chosen[e];
    total[e] = 0;
  }
}

/* One message for each assignment to another rank. */
static void count_source(counting *c, int64_t source) {
  const mg_placement *p = c->request->placement;
  const int64_t per_node = p->ranks / p->nodes, first = c->rank_node[source] * per_node, last = first + per_node;
  const int64_t asked = count_choices(c, source), dropped = c->request->capacity > 0 ? drop_choices(c) : 0;
  place_choices(c);
  double near = 0;
  const double away = (double)(asked - dropped) - c->messages[source];
  c->messages[source] = 0;
  for (int64_t d = first; d < last; d++) near += c->messages[d];
  c->traffic->assigned[c->layer] += (double)asked;
  c->traffic->dropped[c->layer] += (double)dropped;
  counted(c, MG_TRAFFIC_NEAR_SENT)[source] += near;
  counted(c, MG_TRAFFIC_FAR_SENT)[source] += away - near;
  receive(c, MG_TRAFFIC_NEAR_RECEIVED, first, last);
  receive(c, MG_TRAFFIC_FAR_RECEIVED, 0, first);
  receive(c, MG_TRAFFIC_FAR_RECEIVED, last, p->ranks);
}

static void send(const counting *c, int64_t from, int64_t to, double messages) {
  const bool near = c->rank_node[from] == c->rank_node[to];
  counted(c, near ? MG_TRAFFIC_NEAR_SENT : MG_TRAFFIC_FAR_SENT)[from] += messages;
  counted(c, near ? MG_TRAFFIC_NEAR_RECEIVED : MG_TRAFFIC_FAR_RECEIVED)[to] += messages;
}

/* The first arrival of a token at a rank: over its node's forwarding rank if it comes from another node. */
static void deliver(counting *c, int64_t source, int64_t rank, int64_t mark) {
  const mg_placement *p = c->request->placement;
  const int64_t per_node = p->ranks / p->nodes, node = c->rank_node[rank];
  if (c->token_rank[rank] == mark) return;
  c->token_rank[rank] = mark;
  counted(c, MG_TRAFFIC_DISTINCT)[rank]++;
  if (node == c->rank_node[source]) {
    if (rank != source) send(c, source, rank, 1);
    return;
  }
  const int64_t forwarder = node * per_node + source % per_node;
  if (c->token_node[node] != mark) {
    c->token_node[node] = mark;
    send(c, source, forwarder, 1);
  }
  if (rank != forwarder) send(c, forwarder, rank, 1);
}

/* One message for each other node, then one for each rank. */
static void count_source_distinct(counting *c, int64_t source) {
  const mg_traffic_request *q = c->request;
  const mg_routing *r = q->routing;
  const int32_t *ids = mg_routing_layer(r, c->layer);
  for (int64_t i = 0; i < q->count; i++) {
    const int64_t position = q->offset + source * q->tokens + q->first + i;
    const int32_t *at = ids + position % r->tokens * r->choices;
    const int64_t mark = source * q->count + i + 1;
    for (int64_t k = 0; k < r->choices; k++) {
      if (at[k] < 0) continue;
      c->traffic->assigned[c->layer]++;
      if (c->room[at[k]] == 0) {
        c->traffic->dropped[c->layer]++;
        continue;
      }
      c->room[at[k]]--;
      const int32_t slot = c->destination[at[k]];
      c->slot_rows[slot]++;
      deliver(c, source, c->slot_rank[slot], mark);
    }
  }
}

static void sum_slots(const counting *c) {
  const mg_placement *p = c->request->placement;
  for (int64_t e = 0; e < p->experts; e++) c->slot_rows[c->destination[e]] += c->total[e];
  for (int64_t s = 0; s < p->slots; s++) {
    counted(c, MG_TRAFFIC_ROWS)[c->slot_rank[s]] += c->slot_rows[s];
    counted(c, MG_TRAFFIC_ACTIVE)[c->slot_rank[s]] += c->slot_rows[s] > 0;
  }
}

static void count_layer(counting *c, char *memory) {
  const mg_placement *p = c->request->placement;
  counting_cut(c, memory);
  index_slots(c, p->expert + c->layer * p->slots);
  index_places(c);
  set_room(c);
  for (int64_t source = 0; source < p->ranks; source++) {
    choose_destinations(c, source);
    if (c->request->deduplicate)
      count_source_distinct(c, source);
    else
      count_source(c, source);
  }
  sum_slots(c);
}

/* ---- all layers ----------------------------------------------------------------------------------------------- */

static mg_status check(mg_context *context, const mg_traffic_request *q) {
  const mg_placement *p = q->placement;
  if (q->routing->experts != p->experts || q->routing->layers != p->layers)
    return mg_fail(context, MG_USAGE,
                   "cluster: the trace has %lld layers of %lld experts, the placement %lld of %lld: they belong to "
                   "different models",
                   (long long)q->routing->layers, (long long)q->routing->experts, (long long)p->layers,
                   (long long)p->experts);
  return MG_OK;
}

mg_status mg_traffic_create(mg_context *context, const mg_traffic_request *request, mg_traffic **out) {
  const mg_placement *p = request->placement;
  *out = NULL;
  MG_TRY(check(context, request));
  MG_TRY(create_empty(context, p->layers, p->ranks, out));
  const size_t bytes = counting_bytes(p) + 64, all = bytes * (size_t)p->layers;
  char *memory = mg_alloc(context, all);
  if (!memory) {
    mg_traffic_destroy(*out);
    *out = NULL;
    return MG_MEMORY;
  }
  mg_traffic *traffic = *out;
#pragma omp parallel for schedule(static)
  for (int64_t layer = 0; layer < p->layers; layer++) {
    counting c = {.request = request, .traffic = traffic, .layer = layer};
    count_layer(&c, memory + (size_t)layer * (bytes & ~(size_t)7));
  }
  mg_free(context, memory, all);
  return MG_OK;
}

mg_status mg_traffic_balanced(const mg_traffic *from, mg_traffic **out) {
  MG_TRY(create_empty(from->context, from->layers, from->ranks, out));
  for (int64_t layer = 0; layer < from->layers; layer++) {
    (*out)->dropped[layer] = from->dropped[layer];
    (*out)->assigned[layer] = from->assigned[layer];
    for (int kind = 0; kind < MG_TRAFFIC_KINDS; kind++) {
      const double *given = mg_traffic_of(from, layer, (mg_traffic_kind)kind);
      double *even = mg_traffic_of(*out, layer, (mg_traffic_kind)kind), sum = 0;
      for (int64_t d = 0; d < from->ranks; d++) sum += given[d];
      for (int64_t d = 0; d < from->ranks; d++) even[d] = sum / (double)from->ranks;
    }
  }
  return MG_OK;
}
