/* The simple placement policies, the list of all, and the checks that hold for each. */
#include "cluster/placement.h"

#include <string.h>

#include "base/options.h"
#include "moegauge/rng.h"

const mg_place_policy mg_place_policies[] = {
    {"contiguous", mg_place_contiguous, "expert e in slot e"},
    {"round_robin", mg_place_round_robin, "expert e on rank e mod ranks"},
    {"random", mg_place_random, "a permutation drawn from the seed"},
    {"greedy", mg_place_greedy, "heaviest first, to the least loaded rank"},
    {"eplb", mg_place_eplb, "DeepSeek's balancer, hierarchical where the groups divide over the nodes"},
    {"eplb_distinct", mg_place_eplb_distinct, "the same without two copies of an expert on a rank"},
    {NULL, NULL, NULL}};

mg_status mg_place_find(mg_context *context, const char *name, mg_place_function *out) {
  const char *names[MG_COUNT(mg_place_policies)];
  size_t count = 0;
  for (; mg_place_policies[count].name; count++) {
    names[count] = mg_place_policies[count].name;
    if (strcmp(names[count], name) == 0) {
      *out = mg_place_policies[count].place;
      return MG_OK;
    }
  }
  const char *nearest = mg_nearest_name(name, names, count);
  return mg_fail(context, MG_USAGE, "placement: there is no policy '%s'; %s%s%s", name,
                 nearest ? "did you mean '" : "`moegauge help` and core/cluster/README.md list them",
                 nearest ? nearest : "", nearest ? "'?" : "");
}

/* ---- checks --------------------------------------------------------------------------------------------------- */

mg_status mg_place_check_request(mg_context *context, const mg_place_request *r) {
  if (r->experts < 1 || r->ranks < 1 || r->nodes < 1 || r->groups < 1)
    return mg_fail(context, MG_USAGE, "placement: experts, ranks, nodes and groups must be at least 1");
  if (r->ranks % r->nodes != 0)
    return mg_fail(context, MG_USAGE, "placement: %lld ranks do not divide over %lld nodes", (long long)r->ranks,
                   (long long)r->nodes);
  if (r->slots % r->ranks != 0)
    return mg_fail(context, MG_USAGE,
                   "placement: %lld slots do not divide over %lld ranks; add redundant experts or change the ranks",
                   (long long)r->slots, (long long)r->ranks);
  if (r->slots < r->experts)
    return mg_fail(context, MG_USAGE, "placement: %lld slots are too few for %lld experts", (long long)r->slots,
                   (long long)r->experts);
  if (r->experts % r->groups != 0)
    return mg_fail(context, MG_USAGE, "placement: %lld experts do not divide into %lld groups", (long long)r->experts,
                   (long long)r->groups);
  return MG_OK;
}

static mg_status check_result(mg_context *context, const mg_place_request *r, const int32_t *expert, bool *present) {
  memset(present, 0, (size_t)r->experts * sizeof *present);
  for (int64_t s = 0; s < r->slots; s++) {
    if (expert[s] < 0 || expert[s] >= r->experts)
      return mg_fail(context, MG_USAGE, "placement: layer %lld, slot %lld holds %ld, which is no expert of 0 to %lld",
                     (long long)r->layer, (long long)s, (long)expert[s], (long long)r->experts - 1);
    present[expert[s]] = true;
  }
  for (int64_t e = 0; e < r->experts; e++)
    if (!present[e])
      return mg_fail(context, MG_USAGE, "placement: layer %lld has no slot for expert %lld", (long long)r->layer,
                     (long long)e);
  return MG_OK;
}

mg_status mg_place(mg_context *context, mg_place_function place, void *user, const mg_place_request *request,
                   int32_t *expert) {
  MG_TRY(mg_place_check_request(context, request));
  MG_TRY(place(context, user, request, expert));
  bool *present = mg_alloc(context, (size_t)request->experts * sizeof *present);
  if (!present) return MG_MEMORY;
  const mg_status status = check_result(context, request, expert, present);
  mg_free(context, present, (size_t)request->experts * sizeof *present);
  return status;
}

/* ---- policies without loads ----------------------------------------------------------------------------------- */

mg_status mg_place_contiguous(mg_context *context, void *user, const mg_place_request *r, int32_t *expert) {
  (void)context;
  (void)user;
  for (int64_t s = 0; s < r->slots; s++) expert[s] = (int32_t)(s % r->experts);
  return MG_OK;
}

mg_status mg_place_round_robin(mg_context *context, void *user, const mg_place_request *r, int32_t *expert) {
  (void)context;
  (void)user;
  const int64_t room = r->slots / r->ranks;
  for (int64_t s = 0; s < r->slots; s++) {
    const int64_t rank = s % r->ranks, place = s / r->ranks;
    expert[rank * room + place] = (int32_t)(s % r->experts);
  }
  return MG_OK;
}

mg_status mg_place_random(mg_context *context, void *user, const mg_place_request *r, int32_t *expert) {
  MG_TRY(mg_place_contiguous(context, user, r, expert));
  const mg_stream stream = mg_stream_named(r->seed, "placement", (uint64_t)r->layer, 0);
  for (int64_t s = r->slots - 1; s > 0; s--) {
    const int64_t other = (int64_t)mg_random_below(stream, (uint64_t)s, (uint64_t)s + 1);
    const int32_t held = expert[s];
    expert[s] = expert[other];
    expert[other] = held;
  }
  return MG_OK;
}

/* ---- greedy --------------------------------------------------------------------------------------------------- */

typedef struct greedy {
  double *share;     /* [slots]: load of a copy */
  int32_t *order;    /* [slots]: experts, one for each copy */
  double *rank_load; /* [ranks] */
  int64_t *filled;   /* [ranks] */
  int64_t *copies;   /* [experts] */
} greedy;

/* One slot for each expert, the others to the heaviest load per copy; ties to the lower expert. */
static void choose_copies(const mg_place_request *r, greedy *g) {
  for (int64_t e = 0; e < r->experts; e++) g->copies[e] = 1;
  for (int64_t s = r->experts; s < r->slots; s++) {
    int64_t heaviest = 0;
    for (int64_t e = 1; e < r->experts; e++)
      if (r->load[e] / (double)g->copies[e] > r->load[heaviest] / (double)g->copies[heaviest]) heaviest = e;
    g->copies[heaviest]++;
  }
  int64_t at = 0;
  for (int64_t e = 0; e < r->experts; e++)
    for (int64_t c = 0; c < g->copies[e]; c++, at++) {
      g->order[at] = (int32_t)e;
      g->share[at] = r->load[e] / (double)g->copies[e];
    }
}

/* Insertion by descending share, stable: layers have a few hundred slots. */
static void sort_slots(int64_t slots, greedy *g) {
  for (int64_t i = 1; i < slots; i++) {
    const double share = g->share[i];
    const int32_t expert = g->order[i];
    int64_t at = i;
    for (; at > 0 && g->share[at - 1] < share; at--) {
      g->share[at] = g->share[at - 1];
      g->order[at] = g->order[at - 1];
    }
    g->share[at] = share;
    g->order[at] = expert;
  }
}

static void fill_ranks(const mg_place_request *r, greedy *g, int32_t *expert) {
  const int64_t room = r->slots / r->ranks;
  for (int64_t i = 0; i < r->slots; i++) {
    int64_t lightest = -1;
    for (int64_t d = 0; d < r->ranks; d++)
      if (g->filled[d] < room && (lightest < 0 || g->rank_load[d] < g->rank_load[lightest])) lightest = d;
    expert[lightest * room + g->filled[lightest]++] = g->order[i];
    g->rank_load[lightest] += g->share[i];
  }
}

mg_status mg_place_greedy(mg_context *context, void *user, const mg_place_request *r, int32_t *expert) {
  (void)user;
  const size_t slots = (size_t)r->slots, ranks = (size_t)r->ranks, experts = (size_t)r->experts;
  greedy g = {.share = mg_alloc(context, slots * sizeof *g.share),
              .order = mg_alloc(context, slots * sizeof *g.order),
              .rank_load = mg_alloc(context, ranks * sizeof *g.rank_load),
              .filled = mg_alloc(context, ranks * sizeof *g.filled),
              .copies = mg_alloc(context, experts * sizeof *g.copies)};
  const bool good = g.share && g.order && g.rank_load && g.filled && g.copies;
  if (good) {
    choose_copies(r, &g);
    sort_slots(r->slots, &g);
    fill_ranks(r, &g, expert);
  }
  mg_free(context, g.share, slots * sizeof *g.share);
  mg_free(context, g.order, slots * sizeof *g.order);
  mg_free(context, g.rank_load, ranks * sizeof *g.rank_load);
  mg_free(context, g.filled, ranks * sizeof *g.filled);
  mg_free(context, g.copies, experts * sizeof *g.copies);
  return good ? MG_OK : MG_MEMORY;
}

/* ---- loads ---------------------------------------------------------------------------------------------------- */

mg_status mg_place_rank_loads(mg_context *context, const mg_place_request *r, const int32_t *expert,
                              double *rank_load) {
  int64_t *copies = mg_alloc(context, (size_t)r->experts * sizeof *copies);
  if (!copies) return MG_MEMORY;
  for (int64_t s = 0; s < r->slots; s++) copies[expert[s]]++;
  const int64_t room = r->slots / r->ranks;
  for (int64_t d = 0; d < r->ranks; d++) {
    rank_load[d] = 0;
    for (int64_t s = d * room; s < (d + 1) * room; s++) rank_load[d] += r->load[expert[s]] / (double)copies[expert[s]];
  }
  mg_free(context, copies, (size_t)r->experts * sizeof *copies);
  return MG_OK;
}
