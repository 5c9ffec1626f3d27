/* Synthetic routings. A token's experts are drawn one after the other without replacement from the layer's
 * distribution, which equals taking the K largest of ln p - ln(-ln u) (Kool et al. 2019, arXiv 1903.06059): a draw that
 * was had before is repeated. Draws are by position, so that no result depends on threads. */
#include <math.h>

#include "cluster/routing.h"
#include "moegauge/rng.h"

static const char *const kinds[] = {"uniform",  "zipf",  "power_law",     "hot",    "bursty",
                                    "rotating", "shift", "group_limited", "shares", NULL};

const mg_option mg_routing_recipe_options[] = {
    MG_OPTION_CHOICE(mg_routing_recipe, kind, MG_ROUTING_UNIFORM, kinds, "how experts are drawn"),
    MG_OPTION_INT(mg_routing_recipe, tokens, 4096, 1, 1 << 30, "tokens"),
    MG_OPTION_INT(mg_routing_recipe, layers, 1, 1, 4096, "layers"),
    MG_OPTION_INT(mg_routing_recipe, experts, 64, 1, 65536, "experts of a layer"),
    MG_OPTION_INT(mg_routing_recipe, choices, 8, 1, 256, "experts of a token"),
    MG_OPTION_INT(mg_routing_recipe, seed, 1, 0, 1e15, "seed of every draw"),
    MG_OPTION_FLOAT(mg_routing_recipe, exponent, 1, 0, 16, "zipf, power_law, shift: the exponent"),
    MG_OPTION_INT(mg_routing_recipe, hot_experts, 4, 1, 65536, "hot, bursty, rotating: hot experts at a time"),
    MG_OPTION_FLOAT(mg_routing_recipe, hot_share, 0.3, 0, 1, "hot, bursty, rotating: their share of the choices"),
    MG_OPTION_INT(mg_routing_recipe, period, 256, 1, 1 << 30, "bursty, rotating: tokens of a run"),
    MG_OPTION_FLOAT(mg_routing_recipe, shift_at, 0.5, 0, 1, "shift: share of the tokens before the shift"),
    MG_OPTION_INT(mg_routing_recipe, groups, 8, 1, 65536, "group_limited: groups of consecutive experts"),
    MG_OPTION_INT(mg_routing_recipe, groups_kept, 4, 1, 65536, "group_limited: groups that a token may use"),
    MG_OPTION_END};

/* The distribution in force in one layer during one run of tokens. */
typedef struct source {
  const mg_routing_recipe *recipe;
  mg_stream draws; /* one for each token and attempt */
  int64_t layer;
  int32_t *order;     /* [experts]: a permutation of the layer (and of its run) */
  double *cumulative; /* [experts] */
} source;

/* Attempts that one token may take before the lowest experts left are given to it. */
enum { ATTEMPTS = 1 << 14 };

static void permute(source *s, const char *purpose, uint64_t run) {
  const mg_stream stream = mg_stream_named((uint64_t)s->recipe->seed, purpose, (uint64_t)s->layer, run);
  for (int64_t e = 0; e < s->recipe->experts; e++) s->order[e] = (int32_t)e;
  for (int64_t e = s->recipe->experts - 1; e > 0; e--) {
    const int64_t other = (int64_t)mg_random_below(stream, (uint64_t)e, (uint64_t)e + 1);
    const int32_t held = s->order[e];
    s->order[e] = s->order[other];
    s->order[other] = held;
  }
}

static void weigh_zipf(source *s, uint64_t run) {
  permute(s, "zipf", run);
  for (int64_t i = 0; i < s->recipe->experts; i++)
    s->cumulative[s->order[i]] = pow((double)(i + 1), -s->recipe->exponent);
}

static void weigh_power_law(source *s) {
  const mg_stream stream = mg_stream_named((uint64_t)s->recipe->seed, "power law", (uint64_t)s->layer, 0);
  for (int64_t e = 0; e < s->recipe->experts; e++)
    s->cumulative[e] = pow(mg_random_uniform(stream, (uint64_t)e), -1 / fmax(s->recipe->exponent, 1e-3));
}

/* The experts from place `first` of the order are hot; `share` of the choices goes to them. */
static void weigh_hot(source *s, int64_t first, double share) {
  const int64_t experts = s->recipe->experts, hot = s->recipe->hot_experts;
  for (int64_t e = 0; e < experts; e++) s->cumulative[e] = hot < experts ? (1 - share) / (double)(experts - hot) : 0;
  for (int64_t i = 0; i < hot; i++) s->cumulative[s->order[(first + i) % experts]] = share / (double)hot;
}

static void weigh_uniform(source *s) {
  for (int64_t e = 0; e < s->recipe->experts; e++) s->cumulative[e] = 1;
}

static void weigh_shares(source *s) {
  const double *row = s->recipe->shares + s->layer % s->recipe->shares_layers * s->recipe->experts;
  for (int64_t e = 0; e < s->recipe->experts; e++) s->cumulative[e] = row[e];
}

/* The distribution of run `run`, as a cumulative sum. */
static void begin_run(source *s, int64_t run) {
  switch ((mg_routing_kind)s->recipe->kind) {
  case MG_ROUTING_ZIPF: weigh_zipf(s, 0); break;
  case MG_ROUTING_SHIFT: weigh_zipf(s, (uint64_t)run); break;
  case MG_ROUTING_POWER_LAW: weigh_power_law(s); break;
  case MG_ROUTING_HOT:
    permute(s, "hot", 0);
    weigh_hot(s, 0, s->recipe->hot_share);
    break;
  case MG_ROUTING_BURSTY:
    permute(s, "hot", (uint64_t)run);
    weigh_hot(s, 0, s->recipe->hot_share);
    break;
  case MG_ROUTING_ROTATING:
    permute(s, "hot", 0);
    weigh_hot(s, run * s->recipe->hot_experts, s->recipe->hot_share);
    break;
  case MG_ROUTING_SHARES: weigh_shares(s); break;
  case MG_ROUTING_UNIFORM:
  case MG_ROUTING_GROUP_LIMITED: weigh_uniform(s); break;
  }
  if (s->recipe->kind == MG_ROUTING_BURSTY && run % 2 == 1) weigh_uniform(s);
  for (int64_t e = 1; e < s->recipe->experts; e++) s->cumulative[e] += s->cumulative[e - 1];
}

/* The first expert whose cumulative weight exceeds u of the whole. */
static int32_t pick(const source *s, double u) {
  int64_t low = 0, high = s->recipe->experts - 1;
  const double wanted = u * s->cumulative[high];
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (s->cumulative[middle] > wanted)
      high = middle;
    else
      low = middle + 1;
  }
  return (int32_t)low;
}

static bool taken(const int32_t *ids, int64_t count, int32_t id) {
  for (int64_t i = 0; i < count; i++)
    if (ids[i] == id) return true;
  return false;
}

/* Distinct draws until `wanted` are had; then, should chance never give them, the lowest that are left. */
static void draw_distinct(const source *s, int64_t token, int64_t wanted, int32_t *ids) {
  int64_t count = 0;
  for (uint64_t attempt = 0; count < wanted && attempt < ATTEMPTS; attempt++) {
    const int32_t id = pick(s, mg_random_uniform(s->draws, (uint64_t)token * ATTEMPTS + attempt));
    if (!taken(ids, count, id)) ids[count++] = id;
  }
  for (int32_t id = 0; count < wanted; id++)
    if (!taken(ids, count, id)) ids[count++] = id;
}

/* A random group for each attempt until `groups_kept` are had, then experts of those groups alone. */
static void draw_limited(const source *s, int64_t token, int32_t *ids) {
  const mg_routing_recipe *r = s->recipe;
  const int64_t size = r->experts / r->groups;
  int32_t groups[256];
  int64_t kept = 0, count = 0;
  uint64_t at = (uint64_t)token * ATTEMPTS;
  for (; kept < r->groups_kept; at++) {
    const int32_t group = (int32_t)(mg_random_uniform(s->draws, at) * (double)r->groups);
    if (!taken(groups, kept, group)) groups[kept++] = group;
  }
  for (; count < r->choices; at++) {
    const int64_t place = (int64_t)(mg_random_uniform(s->draws, at) * (double)(kept * size));
    const int32_t id = (int32_t)(groups[place / size] * size + place % size);
    if (!taken(ids, count, id)) ids[count++] = id;
  }
}

/* Tokens of a run of one distribution. */
static int64_t run_tokens(const mg_routing_recipe *r) {
  if (r->kind == MG_ROUTING_BURSTY || r->kind == MG_ROUTING_ROTATING) return r->period;
  if (r->kind == MG_ROUTING_SHIFT) {
    const int64_t before = (int64_t)(r->shift_at * (double)r->tokens);
    return before > 0 ? before : r->tokens;
  }
  return r->tokens;
}

static void generate_layer(source *s, mg_routing *routing) {
  const int64_t period = run_tokens(s->recipe), choices = routing->choices, first = s->layer * routing->tokens;
  for (int64_t t = 0; t < routing->tokens; t++) {
    /* A shift happens once. */
    if (t % period == 0 && (s->recipe->kind != MG_ROUTING_SHIFT || t <= period)) begin_run(s, t / period);
    int32_t *ids = routing->ids + (first + t) * choices;
    if (s->recipe->kind == MG_ROUTING_GROUP_LIMITED)
      draw_limited(s, t, ids);
    else
      draw_distinct(s, t, choices, ids);
    for (int64_t c = 0; c < choices; c++) routing->weights[(first + t) * choices + c] = 1 / (float)choices;
  }
  routing->blocks[s->layer] = (int32_t)s->layer;
}

mg_status mg_routing_check(mg_context *context, const mg_routing_recipe *r) {
  if (r->choices > r->experts)
    return mg_fail(context, MG_USAGE, "trace: %lld choices of %lld experts", (long long)r->choices,
                   (long long)r->experts);
  const bool hot = r->kind == MG_ROUTING_HOT || r->kind == MG_ROUTING_BURSTY || r->kind == MG_ROUTING_ROTATING;
  if (hot && r->hot_experts > r->experts)
    return mg_fail(context, MG_USAGE, "trace: %lld hot experts of %lld", (long long)r->hot_experts,
                   (long long)r->experts);
  if (r->kind == MG_ROUTING_SHARES && !r->shares)
    return mg_fail(context, MG_USAGE, "trace: 'shares' are needed: a list of %lld shares for each layer",
                   (long long)r->experts);
  if (r->kind != MG_ROUTING_GROUP_LIMITED) return MG_OK;
  if (r->experts % r->groups != 0 || r->groups_kept > r->groups || r->groups_kept > 256)
    return mg_fail(context, MG_USAGE, "trace: %lld experts, %lld groups of which a token keeps %lld do not fit",
                   (long long)r->experts, (long long)r->groups, (long long)r->groups_kept);
  if (r->groups_kept * (r->experts / r->groups) < r->choices)
    return mg_fail(context, MG_USAGE, "trace: %lld groups of %lld experts are too few for %lld choices",
                   (long long)r->groups_kept, (long long)(r->experts / r->groups), (long long)r->choices);
  return MG_OK;
}

mg_status mg_routing_generate(mg_context *context, const mg_routing_recipe *recipe, mg_routing **out) {
  MG_TRY(mg_routing_check(context, recipe));
  MG_TRY(mg__routing_create(context, recipe->tokens, recipe->layers, recipe->experts, recipe->choices, 1, out));
  const size_t experts = (size_t)recipe->experts, layers = (size_t)recipe->layers;
  int32_t *order = mg_alloc(context, layers * experts * sizeof *order);
  double *cumulative = mg_alloc(context, layers * experts * sizeof *cumulative);
  if (order && cumulative) {
#pragma omp parallel for schedule(dynamic)
    for (int64_t layer = 0; layer < recipe->layers; layer++) {
      source s = {.recipe = recipe,
                  .draws = mg_stream_named((uint64_t)recipe->seed, "trace", (uint64_t)layer, 0),
                  .layer = layer,
                  .order = order + layer * recipe->experts,
                  .cumulative = cumulative + layer * recipe->experts};
      generate_layer(&s, *out);
    }
  }
  const bool good = order && cumulative;
  mg_free(context, order, layers * experts * sizeof *order);
  mg_free(context, cumulative, layers * experts * sizeof *cumulative);
  if (good) return MG_OK;
  mg_routing_destroy(*out);
  *out = NULL;
  return MG_MEMORY;
}
