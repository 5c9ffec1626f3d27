/* Placements improved by exchanging slots between ranks: without two copies of an expert on one rank, or for new loads
 * at a bounded number of moved experts. */
#include <math.h>
#include <string.h>

#include "cluster/placement.h"

/* One layer's slots with the load of each copy and of each rank. */
typedef struct exchange {
  const mg_place_request *request;
  int32_t *expert;
  int64_t room; /* slots of a rank */
  int64_t *copies;
  double *rank_load;
} exchange;

static mg_status exchange_open(mg_context *context, const mg_place_request *r, int32_t *expert, exchange *x) {
  *x = (exchange){.request = r, .expert = expert, .room = r->slots / r->ranks};
  if (x->room < 1)
    return mg_fail(context, MG_USAGE, "placement: slots = %lld must be at least one for each of %lld ranks",
                   (long long)r->slots, (long long)r->ranks);
  x->copies = mg_alloc(context, (size_t)r->experts * sizeof *x->copies);
  x->rank_load = mg_alloc(context, (size_t)r->ranks * sizeof *x->rank_load);
  if (!x->copies || !x->rank_load) return MG_MEMORY;
  for (int64_t s = 0; s < r->slots; s++) x->copies[expert[s]]++;
  return mg_place_rank_loads(context, r, expert, x->rank_load);
}

static void exchange_close(mg_context *context, exchange *x) {
  mg_free(context, x->copies, (size_t)x->request->experts * sizeof *x->copies);
  mg_free(context, x->rank_load, (size_t)x->request->ranks * sizeof *x->rank_load);
}

static double share(const exchange *x, int64_t slot) {
  const int32_t e = x->expert[slot];
  return x->request->load[e] / (double)x->copies[e];
}

/* How often the rank holds the expert. */
static int64_t held(const exchange *x, int64_t rank, int32_t expert) {
  int64_t count = 0;
  for (int64_t s = rank * x->room; s < (rank + 1) * x->room; s++) count += x->expert[s] == expert;
  return count;
}

static void swap(exchange *x, int64_t a, int64_t b) {
  const double change = share(x, b) - share(x, a);
  x->rank_load[a / x->room] += change;
  x->rank_load[b / x->room] -= change;
  const int32_t kept = x->expert[a];
  x->expert[a] = x->expert[b];
  x->expert[b] = kept;
}

/* The heavier of both ranks after the exchange. */
static double heavier_after(const exchange *x, int64_t a, int64_t b) {
  const double change = share(x, b) - share(x, a);
  return fmax(x->rank_load[a / x->room] + change, x->rank_load[b / x->room] - change);
}

/* True when the exchange leaves no expert twice on either rank that was not there before. */
static bool stays_distinct(const exchange *x, int64_t a, int64_t b) {
  return held(x, a / x->room, x->expert[b]) == 0 && held(x, b / x->room, x->expert[a]) == 0;
}

/* The slot of another rank in [first, last) whose exchange with `slot` leaves the heavier rank lightest; -1 = none. */
static int64_t best_partner(const exchange *x, int64_t slot, int64_t first, int64_t last, double *after) {
  int64_t best = -1;
  *after = INFINITY;
  for (int64_t other = first; other < last; other++) {
    if (other / x->room == slot / x->room || !stays_distinct(x, slot, other)) continue;
    const double here = heavier_after(x, slot, other);
    if (here < *after) {
      *after = here;
      best = other;
    }
  }
  return best;
}

mg_status mg_place_eplb_distinct(mg_context *context, void *user, const mg_place_request *r, int32_t *expert) {
  MG_TRY(mg_place_eplb(context, user, r, expert));
  const int64_t nodes = r->groups % r->nodes == 0 ? r->nodes : 1, per_node = r->slots / nodes;
  exchange x;
  const mg_status status = exchange_open(context, r, expert, &x);
  for (int64_t s = 0; s < r->slots && status == MG_OK; s++) {
    if (held(&x, s / x.room, expert[s]) < 2) continue;
    double after;
    const int64_t node = s / per_node, other = best_partner(&x, s, node * per_node, (node + 1) * per_node, &after);
    if (other >= 0) swap(&x, s, other);
  }
  exchange_close(context, &x);
  return status;
}

mg_status mg_replan(mg_context *context, const mg_place_request *r, int64_t most_moves, int32_t *expert,
                    int64_t *moves) {
  exchange x;
  mg_status status = exchange_open(context, r, expert, &x);
  *moves = 0;
  while (status == MG_OK && *moves + 2 <= most_moves) {
    int64_t heaviest = 0, from = -1, to = -1;
    for (int64_t d = 1; d < r->ranks; d++)
      if (x.rank_load[d] > x.rank_load[heaviest]) heaviest = d;
    double least = x.rank_load[heaviest];
    for (int64_t s = heaviest * x.room; s < (heaviest + 1) * x.room; s++) {
      double after;
      const int64_t other = best_partner(&x, s, 0, r->slots, &after);
      if (other >= 0 && after < least * (1 - 1e-12)) {
        least = after;
        from = s;
        to = other;
      }
    }
    if (from < 0) break;
    swap(&x, from, to);
    *moves += 2;
  }
  exchange_close(context, &x);
  return status;
}

/* ---- moves ---------------------------------------------------------------------------------------------------- */

static bool holds(const int32_t *slots, int64_t count, int32_t expert) {
  for (int64_t s = 0; s < count; s++)
    if (slots[s] == expert) return true;
  return false;
}

/* Puts what both have into the slot where `from` has it; returns how many of `to`'s experts are new to this rank. A second
 * copy of an expert that the rank has is not. */
static int64_t align_rank(const int32_t *from, int32_t *to, int64_t room) {
  int64_t received = 0;
  for (int64_t s = 0; s < room; s++) {
    if (to[s] == from[s]) continue;
    for (int64_t other = 0; other < room; other++)
      if (to[other] == from[s] && from[other] != from[s]) {
        to[other] = to[s];
        to[s] = from[s];
        break;
      }
  }
  for (int64_t s = 0; s < room; s++) received += !holds(from, room, to[s]) && !holds(to, s, to[s]);
  return received;
}

mg_status mg_placement_moves(mg_context *context, const mg_place_request *r, const int32_t *from, int32_t *to,
                             int64_t *received, int64_t *moves) {
  MG_TRY(mg_place_check_request(context, r));
  const int64_t room = r->slots / r->ranks;
  *moves = 0;
  for (int64_t d = 0; d < r->ranks; d++) {
    received[d] = align_rank(from + d * room, to + d * room, room);
    *moves += received[d];
  }
  return MG_OK;
}
