/* Capacity policies: which choices reach an expert when experts take at most C tokens each.
 *
 *   C = max(1, floor(factor * T * S / E))     (Fedus et al. 2021, eq. 3, with S choices per token), or a given number
 *
 * none     keep every choice
 * drop     keep the first C of each expert: by position, all first choices before any second one (Lepikhin et al. 2020);
 *          the same with the tokens sorted by their largest weight (Riquelme et al. 2021); or those of largest weight
 * pad      as drop, and fill every expert to exactly C rows with zero rows, as fixed-shape implementations do
 * reroute  a choice that finds its expert full goes to the token's most probable expert with room */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "moe/internal.h"

/* Row numbers are computed in f32, which holds every integer up to this one. */
static const int64_t f32_integers = 1 << 24;

/* ---- the capacity ------------------------------------------------------------------------------------------ */

/* A batch smaller than one token per expert gets capacity 1; a factor that asks for less is refused. */
static mg_status capacity_of(const mg_moe *moe, mg_tape *tape, int64_t tokens, int64_t choices, int64_t *out) {
  if (moe->spec.capacity.tokens > 0) {
    *out = moe->spec.capacity.tokens < tokens ? moe->spec.capacity.tokens : tokens;
    return MG_OK;
  }
  const double wide = (double)mg__computing_experts(&moe->spec) / mg__computing_share(&moe->spec);
  const double mean = (double)tokens * (double)choices / wide;
  const double wanted = floor(moe->spec.capacity.factor * mean * (1 + 1e-12)); /* 0.1 * 10 is one token */
  if (wanted < 1 && mean >= 1) {
    mg_tape_fail(tape, MG_USAGE,
                 "moe: capacity factor %g leaves less than one token per expert (%lld tokens * %lld "
                 "choices / %g experts); use at least %g",
                 moe->spec.capacity.factor, (long long)tokens, (long long)choices, wide, 1 / mean);
    return mg_tape_status(tape);
  }
  const double most = tokens > 1 ? (double)tokens : 1; /* choices are distinct, so no expert gets more */
  *out = (int64_t)fmin(fmax(wanted, 1), most);
  return MG_OK;
}

/* ---- padding ----------------------------------------------------------------------------------------------- */

/* 0, step, 2 step, ... as a row of `count`. */
static mg_var *arithmetic_row(mg_tape *tape, int64_t count, double step) {
  const int64_t shape[] = {1, count};
  return mg_affine(tape, mg_cumsum(tape, mg_fill(tape, MG_F32, 2, shape, 1)), step, -step);
}

static mg_var *flat(mg_tape *tape, mg_var *x, mg_dtype dtype) {
  const int64_t shape[] = {-1};
  return mg_cast(tape, mg_reshape(tape, x, 1, shape), dtype);
}

/* The rows' new places: expert e begins at e * C instead of at offsets[e]; -1 stays. */
static mg_var *padded_position(mg_tape *tape, mg_var *ids, const mg_assignment *packed, int64_t capacity) {
  const int64_t experts = packed->experts, slots = packed->tokens * packed->choices;
  mg_var *begin = mg_reshape2(tape, mg_cast(tape, packed->offsets, MG_F32), 1, experts + 1);
  mg_var *shift = mg_sub(tape, arithmetic_row(tape, experts, (double)capacity), mg_slice(tape, begin, 0, experts));
  const int64_t id_shape[] = {slots};
  mg_var *shifts =
      mg_gather_rows(tape, mg_reshape2(tape, shift, experts, 1), mg_reshape(tape, ids, 1, id_shape)); /* [T*S,1] */
  mg_var *place = mg_reshape2(tape, mg_cast(tape, packed->position, MG_F32), slots, 1);
  mg_var *kept = mg_unary_op(tape, MG_UNARY_STEP, mg_affine(tape, place, 1, 0.5), 0, 0);
  return mg_cast(tape, mg_where(tape, kept, mg_add(tape, place, shifts), -1), MG_I32);
}

/* Replaces a packed assignment by one of exactly `capacity` rows per expert. */
static mg_status pad(mg_tape *tape, mg_var *ids, int64_t capacity, mg_assignment *assignment) {
  const int64_t slots = assignment->tokens * assignment->choices, rows = assignment->experts * capacity;
  if (slots >= f32_integers || rows >= f32_integers) {
    mg_tape_fail(tape, MG_USAGE,
                 "moe: capacity policy 'pad' handles fewer than %lld rows; use 'drop', smaller batches, "
                 "or a smaller factor",
                 (long long)f32_integers);
    return mg_tape_status(tape);
  }
  mg_var *place = padded_position(tape, ids, assignment, capacity);
  /* Slot numbers go to their rows; counted from 1, so that empty rows end as -1. */
  mg_var *numbers = mg_affine(tape, arithmetic_row(tape, slots, 1), 1, 1);
  mg_var *owners = mg_scatter_columns(tape, numbers, mg_reshape2(tape, place, 1, slots), rows);
  assignment->slots = flat(tape, mg_affine(tape, owners, 1, -1), MG_I32);
  assignment->position = mg_reshape2(tape, place, assignment->tokens, assignment->choices);
  assignment->offsets = flat(tape, arithmetic_row(tape, assignment->experts + 1, (double)capacity), MG_I32);
  assignment->rows = rows;
  return mg_tape_status(tape);
}

/* ---- re-routing -------------------------------------------------------------------------------------------- */

typedef struct reroute {
  int64_t tokens, choices, experts, computing, capacity;
  int32_t *ids;  /* [T,S], changed in place */
  float *probs;  /* [T,E] */
  float *moved;  /* [T,S]: 1 where the choice changed */
  int64_t *load; /* [E] */
} reroute;

static bool chosen(const reroute *r, int64_t token, int32_t expert) {
  for (int64_t s = 0; s < r->choices; s++)
    if (r->ids[token * r->choices + s] == expert) return true;
  return false;
}

/* Null experts have no limit. */
static bool has_room(const reroute *r, int32_t expert) {
  return expert >= r->computing || r->load[expert] < r->capacity;
}

/* The token's most probable expert with room that it has not chosen; -1 if there is none. Ties to the lowest id. */
static int32_t next_best(const reroute *r, int64_t token) {
  int32_t best = -1;
  float highest = 0;
  for (int32_t e = 0; e < r->experts; e++) {
    const float prob = r->probs[token * r->experts + e];
    if (prob > highest && has_room(r, e) && !chosen(r, token, e)) {
      best = e;
      highest = prob;
    }
  }
  return best;
}

static void place_choice(reroute *r, int64_t token, int64_t slot) {
  const int32_t wanted = r->ids[slot];
  if (wanted < 0) return;
  if (has_room(r, wanted)) {
    r->load[wanted]++;
    return;
  }
  const int32_t other = next_best(r, token);
  r->ids[slot] = other;
  r->moved[slot] = 1;
  if (other >= 0) r->load[other]++;
}

/* One block of scratch memory cut into the arrays. */
static mg_status reroute_memory(mg_moe *moe, reroute *r) {
  const size_t slots = (size_t)(r->tokens * r->choices), scores = (size_t)(r->tokens * r->experts);
  const size_t bytes = (size_t)r->experts * sizeof(int64_t) + (2 * slots + scores) * sizeof(float);
  char *memory = mg__moe_scratch(moe, bytes);
  if (!memory) return MG_MEMORY;
  memset(memory, 0, bytes);
  r->load = (int64_t *)(void *)memory;
  r->ids = (int32_t *)(void *)(memory + (size_t)r->experts * sizeof(int64_t));
  r->moved = (float *)(void *)(r->ids + slots);
  r->probs = r->moved + slots;
  return MG_OK;
}

/* All first choices before any second one, tokens in order: the order that `drop` keeps them in. */
static mg_status reroute_choices(mg_moe *moe, mg_tape *tape, const mg_moe_record *record, reroute *r) {
  MG_TRY(reroute_memory(moe, r));
  const size_t slots = (size_t)(r->tokens * r->choices);
  MG_TRY(mg_tape_download(tape, record->ids, r->ids, slots * sizeof *r->ids));
  mg_var *probs = mg_cast(tape, mg_detach(tape, record->route.probs), MG_F32);
  MG_TRY(mg_tape_download(tape, probs, r->probs, (size_t)(r->tokens * r->experts) * sizeof *r->probs));
  for (int64_t s = 0; s < r->choices; s++)
    for (int64_t t = 0; t < r->tokens; t++) place_choice(r, t, t * r->choices + s);
  return MG_OK;
}

/* A moved choice weighs w * p(new) / p(lost): what the router would have given the new expert in its scale. */
static mg_var *rerouted_weights(mg_tape *tape, const mg_route_output *route, mg_var *ids, const reroute *r) {
  const int64_t shape[] = {r->tokens, r->choices};
  const mg_dtype dtype = mg_var_dtype(route->weights);
  mg_var *moved = mg_cast(tape, mg_tape_upload(tape, MG_F32, 2, shape, r->moved), dtype);
  mg_var *lost = mg_unary_op(tape, MG_UNARY_CLAMP, mg_gather_columns(tape, route->probs, route->ids), 1e-15, 1);
  mg_var *ratio = mg_cast(tape, mg_div(tape, mg_gather_columns(tape, route->probs, ids), lost), dtype);
  return mg_mul(tape, route->weights, mg_where(tape, moved, ratio, 1));
}

static mg_status apply_reroute(mg_moe *moe, mg_tape *tape, mg_moe_record *record) {
  const mg_route_output *route = &record->route;
  reroute r = {.tokens = mg_var_rows(route->ids),
               .choices = mg_var_columns(route->ids),
               .experts = moe->spec.experts,
               .computing = mg__computing_experts(&moe->spec),
               .capacity = record->capacity};
  MG_TRY(reroute_choices(moe, tape, record, &r));
  const int64_t shape[] = {r.tokens, r.choices};
  record->ids = mg_tape_upload(tape, MG_I32, 2, shape, r.ids);
  record->weights = rerouted_weights(tape, route, record->ids, &r);
  return mg_assign(tape, mg__computing_ids(moe, tape, record->ids), NULL, r.computing, 0, MG_ORDER_POSITION,
                   &record->assignment);
}

/* ---- batch priority ---------------------------------------------------------------------------------------- */

typedef struct urgency {
  float weight; /* the largest of the token */
  int32_t token;
} urgency;

/* Largest weight first, equal ones by position. */
static int more_urgent(const void *a, const void *b) {
  const urgency *x = a, *y = b;
  if (x->weight < y->weight || x->weight > y->weight) return x->weight > y->weight ? -1 : 1;
  return x->token < y->token ? -1 : 1;
}

/* weights [T,S] becomes the priorities: minus the place of each choice when tokens are sorted and all first choices come
 * before any second one. */
static void number_choices(float *weights, urgency *order, int64_t tokens, int64_t choices) {
  for (int64_t t = 0; t < tokens; t++) {
    order[t] = (urgency){-INFINITY, (int32_t)t};
    for (int64_t s = 0; s < choices; s++) order[t].weight = fmaxf(order[t].weight, weights[t * choices + s]);
  }
  qsort(order, (size_t)tokens, sizeof *order, more_urgent);
  for (int64_t rank = 0; rank < tokens; rank++)
    for (int64_t s = 0; s < choices; s++) weights[order[rank].token * choices + s] = -(float)(s * tokens + rank);
}

/* Riquelme et al. 2021, algorithm 2 (arXiv 2106.05974): priorities [T,S], made on the host. */
static mg_var *batch_priority(mg_moe *moe, mg_tape *tape, mg_var *weights) {
  const int64_t tokens = mg_var_rows(weights), choices = mg_var_columns(weights), shape[] = {tokens, choices};
  if (tokens * choices >= f32_integers)
    return mg_tape_fail(tape, MG_USAGE,
                        "moe: capacity order 'batch_priority' handles fewer than %lld choices; use order 'priority' or "
                        "smaller batches",
                        (long long)f32_integers);
  if (tokens == 0) return mg_detach(tape, weights);
  const size_t bytes = (size_t)(tokens * choices) * sizeof(float);
  urgency *order = mg__moe_scratch(moe, (size_t)tokens * sizeof *order + bytes);
  if (!order) return mg_tape_fail(tape, MG_MEMORY, "%s", mg_context_message(moe->context));
  float *numbers = (float *)(void *)(order + tokens);
  mg_tape_download(tape, mg_cast(tape, mg_detach(tape, weights), MG_F32), numbers, bytes);
  if (mg_tape_status(tape) != MG_OK) return NULL;
  number_choices(numbers, order, tokens, choices);
  return mg_tape_upload(tape, MG_F32, 2, shape, numbers);
}

/* What decides which choices an expert keeps; NULL where it is their position. */
static mg_var *priority_of(mg_moe *moe, mg_tape *tape, mg_var *weights) {
  switch ((mg__order)moe->spec.capacity.order) {
  case MG__ORDER_POSITION: return NULL;
  case MG__ORDER_PRIORITY: return mg_detach(tape, weights);
  case MG__ORDER_BATCH_PRIORITY: return batch_priority(moe, tape, weights);
  }
  return NULL;
}

/* ---- all policies ------------------------------------------------------------------------------------------ */

mg_status mg__capacity_apply(mg_moe *moe, mg_tape *tape, mg_moe_record *record) {
  const mg__capacity *rule = &moe->spec.capacity;
  record->ids = mg__surviving_ids(moe, tape, record->route.ids);
  record->weights = record->route.weights;
  record->capacity = 0;
  if (rule->policy != MG__POLICY_NONE)
    MG_TRY(capacity_of(moe, tape, mg_var_rows(record->ids), mg_var_columns(record->ids), &record->capacity));
  if (rule->policy == MG__POLICY_REROUTE) return apply_reroute(moe, tape, record);
  mg_var *priority = priority_of(moe, tape, record->weights);
  const mg_capacity_order order = rule->order == MG__ORDER_POSITION ? MG_ORDER_POSITION : MG_ORDER_PRIORITY;
  mg_var *ids = mg__computing_ids(moe, tape, record->ids);
  const int64_t experts = mg__computing_experts(&moe->spec);
  MG_TRY(mg_assign(tape, ids, priority, experts, record->capacity, order, &record->assignment));
  return rule->policy == MG__POLICY_PAD ? pad(tape, ids, record->capacity, &record->assignment) : MG_OK;
}
