/* Which expert lies in which slot of which rank: one signature for every policy, whether in C or in Lua.
 *
 * R slots lie on D ranks, R / D each, rank after rank; ranks lie on N nodes, D / N each. An expert in several slots has
 * copies, among which its load is split evenly. */
#ifndef MG_CLUSTER_PLACEMENT_H
#define MG_CLUSTER_PLACEMENT_H

#include "moegauge/context.h"

/* What a policy is asked for one layer. */
typedef struct mg_place_request {
  const double *load; /* [experts], at least 0: assignments of each expert */
  int64_t experts, slots, ranks, nodes;
  int64_t groups; /* of consecutive experts that routing keeps together; 1 = none */
  int64_t layer;
  uint64_t seed;
} mg_place_request;

/* Writes the expert of each slot into expert [slots]. */
typedef mg_status (*mg_place_function)(mg_context *context, void *user, const mg_place_request *request,
                                       int32_t *expert);

/* A policy by name. */
typedef struct mg_place_policy {
  const char *name;
  mg_place_function place;
  const char *help;
} mg_place_policy;
extern const mg_place_policy mg_place_policies[]; /* ends with a NULL name */
/* MG_USAGE with the nearest name. */
mg_status mg_place_find(mg_context *context, const char *name, mg_place_function *out);

/* MG_USAGE unless ranks divide over nodes, slots over ranks, experts over groups, and every expert has a slot. */
mg_status mg_place_check_request(mg_context *context, const mg_place_request *request);
/* Checks the request, calls `place`, and checks what it wrote: MG_USAGE names the slot or the lost expert. */
mg_status mg_place(mg_context *context, mg_place_function place, void *user, const mg_place_request *request,
                   int32_t *expert);

mg_status mg_place_contiguous(mg_context *context, void *user, const mg_place_request *request, int32_t *expert);
mg_status mg_place_round_robin(mg_context *context, void *user, const mg_place_request *request, int32_t *expert);
mg_status mg_place_random(mg_context *context, void *user, const mg_place_request *request, int32_t *expert);
mg_status mg_place_greedy(mg_context *context, void *user, const mg_place_request *request, int32_t *expert);
/* DeepSeek's EPLB: hierarchical where groups % nodes = 0, else global. */
mg_status mg_place_eplb(mg_context *context, void *user, const mg_place_request *request, int32_t *expert);
/* The same, then no rank holds an expert twice where an exchange inside its node can help it. */
mg_status mg_place_eplb_distinct(mg_context *context, void *user, const mg_place_request *request, int32_t *expert);

/* Loads of the ranks [ranks] when every copy of an expert takes an equal share. */
mg_status mg_place_rank_loads(mg_context *context, const mg_place_request *request, const int32_t *expert,
                              double *rank_load);

/* Orders the slots of each rank in `to` so that what `from` has on that rank already keeps its slot; received[d] is the
 * number of experts that rank d must get from elsewhere. Returns their sum. */
mg_status mg_placement_moves(mg_context *context, const mg_place_request *request, const int32_t *from, int32_t *to,
                             int64_t *received, int64_t *moves);
/* Improves `expert` in place for new loads by exchanging slots between ranks, at most `most_moves` experts moved: each
 * exchange lowers the heavier of its two ranks most. *moves is how many moved. */
mg_status mg_replan(mg_context *context, const mg_place_request *request, int64_t most_moves, int32_t *expert,
                    int64_t *moves);

#endif
