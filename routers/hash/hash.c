/* Hash layers: experts chosen by a fixed function of token ids or positions; nothing is learned.
 *
 *   choice s of token t:  e = s E/k + h_s(key),  h_s: a random function into 0 .. E/k - 1;  w = 1, or 1/k
 *   key   random: x_t   position: place of t in its sequence   previous: x_(t-1)   bigram: (x_(t-1), x_t)
 *         future: x_(t+1), the token to be predicted
 *   balanced: e = table[x_t]; ids in order of falling frequency in the training data each go to the expert that has the
 *         fewest tokens so far
 *
 * Roller et al. 2021. Several choices are their MultiHash: a feed-forward cut into k segments, each picked by its own
 * hash from its own E/k candidates. The segments' outputs add up, as those of a concatenated hidden layer do, hence a
 * weight of 1. The functions differ from layer to layer. */
#include <stdlib.h>

#include <moegauge/moegauge.h>

enum { RANDOM, BALANCED, POSITION, PREVIOUS, BIGRAM, FUTURE };

typedef struct hash_options {
  int64_t k, kind, seed;
  bool renormalise;
} hash_options;

static const char *const kinds[] = {"random", "balanced", "position", "previous", "bigram", "future", NULL};

static const mg_option options[] = {
    MG_OPTION_CHOICE(hash_options, kind, RANDOM, kinds, "what is hashed; 'future' is an oracle that sees the answer"),
    MG_OPTION_INT(hash_options, k, 1, 1, 65536, "experts per token, each from its own k-th of the experts"),
    MG_OPTION_BOOL(hash_options, renormalise, false, "weights of 1/k instead of 1"),
    MG_OPTION_INT(hash_options, seed, 1, 0, 1e15, "of the hash functions"), MG_OPTION_END};

/* balanced: the expert of each id, counted from 1; 0 = not prepared. */
static const mg_param_spec params[] = {{"table", {MG_DIM_CUSTOM}, MG_INIT_ZERO, 0, true}, MG_PARAM_END};

static mg_status check(const mg_router *router) {
  const hash_options *o = router->options;
  MG_TRY(mg_router_check_k(router, o->k, false));
  if (router->experts % o->k != 0)
    return mg_fail(router->context, MG_USAGE, "router hash: the %lld experts must be a multiple of k = %lld",
                   (long long)router->experts, (long long)o->k);
  if (o->kind == BALANCED && o->k > 1)
    return mg_fail(router->context, MG_USAGE,
                   "router hash: kind 'balanced' has one table, so k must be 1, not %lld; several hashes need kind "
                   "'random'",
                   (long long)o->k);
  if (o->kind != POSITION && router->vocabulary == 0)
    return mg_fail(router->context, MG_USAGE,
                   "router hash: kind '%s' needs token ids, which this layer does not get; use kind 'position'",
                   kinds[o->kind]);
  return MG_OK;
}

static int64_t dimension(const mg_router *router, int32_t param, int32_t dim) {
  (void)param, (void)dim;
  return ((const hash_options *)router->options)->kind == BALANCED ? router->vocabulary : 0;
}

static uint32_t promises(const mg_router *router) {
  const hash_options *o = router->options;
  uint32_t kept = MG_ROUTER_WEIGHTS_NONNEGATIVE;
  if (o->k == 1 || o->renormalise) kept |= MG_ROUTER_WEIGHTS_SUM_TO_ONE;
  if (o->kind != FUTURE) kept |= MG_ROUTER_CAUSAL;
  if (o->kind == RANDOM || o->kind == BALANCED) kept |= MG_ROUTER_PER_TOKEN;
  return kept;
}

/* ---- the balanced table ------------------------------------------------------------------------------------ */

typedef struct frequency {
  int64_t count;
  int32_t id;
} frequency;

/* Most frequent first, equal ones by id. */
static int more_frequent(const void *a, const void *b) {
  const frequency *x = a, *y = b;
  if (x->count != y->count) return x->count > y->count ? -1 : 1;
  return x->id < y->id ? -1 : 1;
}

/* Each id counts once more than it occurs, so that unseen ids spread too. Equal loads: the lowest expert. */
static void balance(const mg_router *router, frequency *order, int64_t *load, const int64_t *counts, float *table) {
  for (int64_t id = 0; id < router->vocabulary; id++) order[id] = (frequency){counts[id] + 1, (int32_t)id};
  qsort(order, (size_t)router->vocabulary, sizeof *order, more_frequent);
  for (int64_t e = 0; e < router->experts; e++) load[e] = 0;
  for (int64_t i = 0; i < router->vocabulary; i++) {
    int64_t least = 0;
    for (int64_t e = 1; e < router->experts; e++) least = load[e] < load[least] ? e : least;
    load[least] += order[i].count;
    table[order[i].id] = (float)(least + 1);
  }
}

/* Replaces an empty table; one that came with a checkpoint stays. */
static mg_status fill_table(mg_router *router, mg_tape *tape, const int64_t *counts, frequency *order, int64_t *load,
                            float *table) {
  const int64_t vocabulary = router->vocabulary;
  mg_var *stored = mg_cast(tape, mg_router_param(router, tape, "table"), MG_F32);
  MG_TRY(mg_tape_status(tape));
  MG_TRY(mg_tape_download(tape, stored, table, (size_t)vocabulary * sizeof *table));
  if (table[0] > 0) return MG_OK;
  balance(router, order, load, counts, table);
  return mg_router_store(router, tape, "table", mg_tape_upload(tape, MG_F32, 1, &vocabulary, table));
}

static mg_status prepare(mg_router *router, mg_tape *tape, const int64_t *token_counts) {
  if (((const hash_options *)router->options)->kind != BALANCED) return MG_OK;
  const size_t ids = (size_t)router->vocabulary, experts = (size_t)router->experts;
  frequency *order = mg_alloc(router->context, ids * sizeof *order);
  int64_t *load = mg_alloc(router->context, experts * sizeof *load);
  float *table = mg_alloc(router->context, ids * sizeof *table);
  const bool got = order && load && table;
  const mg_status status = got ? fill_table(router, tape, token_counts, order, load, table) : MG_MEMORY;
  mg_free(router->context, order, order ? ids * sizeof *order : 0);
  mg_free(router->context, load, load ? experts * sizeof *load : 0);
  mg_free(router->context, table, table ? ids * sizeof *table : 0);
  return status;
}

/* ---- routing ----------------------------------------------------------------------------------------------- */

/* A neighbour beyond the ends of the sequence has the id `vocabulary`, which no token has. */
static int64_t key_of(const mg_router *router, const mg_route_input *in, const int32_t *ids, int64_t t) {
  const int64_t place = t % in->sequence_tokens, none = router->vocabulary;
  switch (((const hash_options *)router->options)->kind) {
  case POSITION: return place;
  case PREVIOUS: return place > 0 ? ids[t - 1] : none;
  case BIGRAM: return (place > 0 ? ids[t - 1] : none) * (none + 1) + ids[t];
  case FUTURE: return place + 1 < in->sequence_tokens ? ids[t + 1] : none;
  default: return ids[t];
  }
}

/* Fills chosen [T,k] from ids [T]. */
static void choose(const mg_router *router, const mg_route_input *in, const int32_t *ids, int32_t *chosen) {
  const hash_options *o = router->options;
  const int64_t candidates = router->experts / o->k;
  for (int64_t s = 0; s < o->k; s++) {
    const mg_stream stream = mg_stream_named((uint64_t)o->seed, "hash", (uint64_t)router->layer, (uint64_t)s);
    for (int64_t t = 0; t < in->tokens; t++) {
      const uint64_t key = (uint64_t)key_of(router, in, ids, t);
      chosen[t * o->k + s] = (int32_t)(s * candidates + (int64_t)mg_random_below(stream, key, (uint64_t)candidates));
    }
  }
}

/* [T,1]; -1 while the table is empty. */
static mg_var *look_up(mg_router *router, mg_tape *tape, const mg_route_input *in) {
  mg_var *table = mg_reshape2(tape, mg_router_param(router, tape, "table"), router->vocabulary, 1);
  mg_var *numbers = mg_gather_rows(tape, table, mg_reshape(tape, in->token_ids, 1, &in->tokens));
  return mg_cast(tape, mg_affine(tape, numbers, 1, -1), MG_I32);
}

/* [T,k], computed on the host. */
static mg_var *hashed(mg_router *router, mg_tape *tape, const mg_route_input *in) {
  const hash_options *o = router->options;
  const int64_t shape[] = {in->tokens, o->k};
  const size_t tokens = (size_t)in->tokens, bytes = (tokens * (size_t)(o->k + 1) + 1) * sizeof(int32_t);
  int32_t *ids = mg_alloc(router->context, bytes), *chosen = ids + tokens;
  if (!ids) return mg_tape_fail(tape, MG_MEMORY, "no memory for the choices of %zu tokens", tokens);
  if (tokens && o->kind != POSITION) mg_tape_download(tape, in->token_ids, ids, tokens * sizeof *ids);
  if (mg_tape_status(tape) == MG_OK) choose(router, in, ids, chosen);
  mg_var *out = mg_tape_upload(tape, MG_I32, 2, shape, chosen);
  mg_free(router->context, ids, bytes);
  return out;
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const hash_options *o = router->options;
  const int64_t shape[] = {in->tokens, o->k};
  if (o->kind != POSITION && !in->token_ids)
    return mg_fail(router->context, MG_USAGE, "kind '%s' needs token ids, and none came", kinds[o->kind]);
  out->ids = o->kind == BALANCED ? look_up(router, tape, in) : hashed(router, tape, in);
  out->weights = mg_fill(tape, mg_var_dtype(in->x), 2, shape, o->renormalise ? 1 / (double)o->k : 1);
  return mg_tape_status(tape);
}

static const mg_router_plugin plugin = {.abi = MG_ABI,
                                        .size = sizeof(mg_router_plugin),
                                        .name = "hash",
                                        .summary = "Experts by a fixed hash of token ids or positions.",
                                        .paper = "Roller et al. 2021, arXiv 2106.04426",
                                        .formula = "e_s = s E/k + hash_s(key), hash_s in 0 .. E/k - 1; w = 1",
                                        .options = options,
                                        .options_size = sizeof(hash_options),
                                        .params = params,
                                        .check = check,
                                        .dimension = dimension,
                                        .promises = promises,
                                        .route = route,
                                        .prepare = prepare};
MG_ROUTER_PLUGIN(plugin)
