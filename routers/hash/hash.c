/* Hash layers: experts chosen by a fixed function of token ids or positions; nothing is learned.
 *
 *   choice s of token t:  e = s E/k + h_s(key),  h_s: a random function into 0 .. E/k - 1;  w = 1, or 1/k
 *   key   random: x_t   position: place of t in its sequence   previous: x_(t-1)   bigram: (x_(t-1), x_t)
 *         future: x_(t+1), the token to be predicted
 *   balanced: e = table[x_t]; ids in order of falling frequency in the training data each go to the expert that has the
 *         fewest tokens so far
 *   clustered: e = table[x_t]; k-means of token vectors, one cluster for each expert
 *   dispersed: e = table[x_t]; ids in order of their clusters are dealt out to the experts in turn
 *
 * Roller et al. 2021. Several choices are their MultiHash: a feed-forward cut into k segments, each picked by its own
 * hash from its own E/k candidates. The segments' outputs add up, as those of a concatenated hidden layer do, hence a
 * weight of 1. The functions differ from layer to layer.
 *
 * The paper clusters the embeddings of a model trained before, which a router does not have. Here a token's vector is its
 * row of n_ij / sqrt(n_i n_j), n_ij how often i and j stand within two places of each other, projected to 32 random
 * directions (random indexing; Sahlgren 2005) and brought to length 1: the matrix whose factors are word embeddings
 * (Levy and Goldberg 2014; Stratos et al. 2015). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <moegauge/moegauge.h>

enum { RANDOM, BALANCED, POSITION, PREVIOUS, BIGRAM, FUTURE, CLUSTERED, DISPERSED };

typedef struct hash_options {
  int64_t k, kind, seed;
  bool renormalise;
} hash_options;

static const char *const kinds[] = {"random", "balanced",  "position",  "previous", "bigram",
                                    "future", "clustered", "dispersed", NULL};

static const mg_option options[] = {
    MG_OPTION_CHOICE(hash_options, kind, RANDOM, kinds, "what is hashed; 'future' is an oracle that sees the answer"),
    MG_OPTION_INT(hash_options, k, 1, 1, 65536, "experts per token, each from its own k-th of the experts"),
    MG_OPTION_BOOL(hash_options, renormalise, false, "weights of 1/k instead of 1"),
    MG_OPTION_INT(hash_options, seed, 1, 0, 1e15, "of the hash functions"), MG_OPTION_END};

/* The expert of each id, counted from 1; 0 = not prepared. */
static const mg_param_spec params[] = {{"table", {MG_DIM_CUSTOM}, MG_INIT_ZERO, 0, true}, MG_PARAM_END};

static bool has_table(const mg_router *router) {
  const int64_t kind = ((const hash_options *)router->options)->kind;
  return kind == BALANCED || kind == CLUSTERED || kind == DISPERSED;
}

static mg_status check(const mg_router *router) {
  const hash_options *o = router->options;
  MG_TRY(mg_router_check_k(router, o->k, false));
  if (router->experts % o->k != 0)
    return mg_fail(router->context, MG_USAGE, "router hash: the %lld experts must be a multiple of k = %lld",
                   (long long)router->experts, (long long)o->k);
  if (has_table(router) && o->k > 1)
    return mg_fail(router->context, MG_USAGE,
                   "router hash: kind '%s' has one table, so k must be 1, not %lld; several hashes need kind 'random'",
                   kinds[o->kind], (long long)o->k);
  if (o->kind != POSITION && router->vocabulary == 0)
    return mg_fail(router->context, MG_USAGE,
                   "router hash: kind '%s' needs token ids, which this layer does not get; use kind 'position'",
                   kinds[o->kind]);
  return MG_OK;
}

static int64_t dimension(const mg_router *router, int32_t param, int32_t dim) {
  (void)param, (void)dim;
  return has_table(router) ? router->vocabulary : 0;
}

static uint32_t promises(const mg_router *router) {
  const hash_options *o = router->options;
  uint32_t kept = MG_ROUTER_WEIGHTS_NONNEGATIVE;
  if (o->k == 1 || o->renormalise) kept |= MG_ROUTER_WEIGHTS_SUM_TO_ONE;
  if (o->kind != FUTURE) kept |= MG_ROUTER_CAUSAL;
  if (o->kind == RANDOM || has_table(router)) kept |= MG_ROUTER_PER_TOKEN;
  return kept;
}

/* ---- tables ------------------------------------------------------------------------------------------------ */

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

/* Host memory of one preparation, freed as a whole. */
typedef struct workshop {
  int64_t vocabulary, experts;
  frequency *order; /* [V] */
  int64_t *load;    /* [E] */
  float *table;     /* [V] */
  float *vectors;   /* [V, DIRECTIONS] */
  float *other;     /* [V, DIRECTIONS]: random directions, then the centres [E, DIRECTIONS] */
} workshop;

enum { WINDOW = 2, DIRECTIONS = 32, ROUNDS = 20 };

static void *take(mg_context *context, size_t count, size_t bytes, bool *failed) {
  void *memory = mg_alloc(context, count * bytes);
  *failed |= !memory;
  return memory;
}

static void drop(mg_context *context, void *memory, size_t count, size_t bytes) {
  mg_free(context, memory, memory ? count * bytes : 0);
}

/* Fills the table of expert numbers from 1. */
typedef void (*table_maker)(const mg_router *router, workshop *w, const void *data, int64_t count);

/* Replaces an empty table; one that came with a checkpoint stays. */
static mg_status fill_table(mg_router *router, mg_tape *tape, workshop *w, table_maker make, const void *data,
                            int64_t count) {
  mg_var *stored = mg_cast(tape, mg_router_param(router, tape, "table"), MG_F32);
  MG_TRY(mg_tape_status(tape));
  MG_TRY(mg_tape_download(tape, stored, w->table, (size_t)w->vocabulary * sizeof *w->table));
  if (w->table[0] > 0) return MG_OK;
  make(router, w, data, count);
  return mg_router_store(router, tape, "table", mg_tape_upload(tape, MG_F32, 1, &w->vocabulary, w->table));
}

static mg_status make_table(mg_router *router, mg_tape *tape, table_maker make, const void *data, int64_t count) {
  workshop w = {.vocabulary = router->vocabulary, .experts = router->experts};
  const size_t ids = (size_t)w.vocabulary, experts = (size_t)w.experts, most = ids > experts ? ids : experts;
  mg_context *context = router->context;
  bool failed = false;
  w.order = take(context, ids, sizeof *w.order, &failed);
  w.load = take(context, experts, sizeof *w.load, &failed);
  w.table = take(context, ids, sizeof *w.table, &failed);
  w.vectors = take(context, ids * DIRECTIONS, sizeof *w.vectors, &failed);
  w.other = take(context, most * DIRECTIONS, sizeof *w.other, &failed);
  const mg_status status = failed ? MG_MEMORY : fill_table(router, tape, &w, make, data, count);
  drop(context, w.other, most * DIRECTIONS, sizeof *w.other);
  drop(context, w.vectors, ids * DIRECTIONS, sizeof *w.vectors);
  drop(context, w.table, ids, sizeof *w.table);
  drop(context, w.load, experts, sizeof *w.load);
  drop(context, w.order, ids, sizeof *w.order);
  return status;
}

/* Each id counts once more than it occurs, so that unseen ids spread too. Equal loads: the lowest expert. */
static void balance(const mg_router *router, workshop *w, const void *data, int64_t count) {
  (void)router, (void)count;
  const int64_t *counts = data;
  for (int64_t id = 0; id < w->vocabulary; id++) w->order[id] = (frequency){counts[id] + 1, (int32_t)id};
  qsort(w->order, (size_t)w->vocabulary, sizeof *w->order, more_frequent);
  for (int64_t e = 0; e < w->experts; e++) w->load[e] = 0;
  for (int64_t i = 0; i < w->vocabulary; i++) {
    int64_t least = 0;
    for (int64_t e = 1; e < w->experts; e++) least = w->load[e] < w->load[least] ? e : least;
    w->load[least] += w->order[i].count;
    w->table[w->order[i].id] = (float)(least + 1);
  }
}

static mg_status prepare(mg_router *router, mg_tape *tape, const int64_t *token_counts) {
  if (((const hash_options *)router->options)->kind != BALANCED) return MG_OK;
  return make_table(router, tape, balance, token_counts, 0);
}

/* ---- token vectors ----------------------------------------------------------------------------------------- */

/* Ids by falling frequency, and the direction of each over sqrt of its count; returns how many occur. */
static int64_t count_text(const mg_router *router, workshop *w, const int32_t *text, int64_t length) {
  const mg_stream stream = mg_stream_named((uint64_t)((const hash_options *)router->options)->seed, "directions", 0, 0);
  int64_t seen = 0;
  for (int64_t id = 0; id < w->vocabulary; id++) w->order[id] = (frequency){0, (int32_t)id};
  for (int64_t i = 0; i < length; i++)
    if (text[i] >= 0 && text[i] < w->vocabulary) seen += w->order[text[i]].count++ == 0;
  for (int64_t i = 0; i < w->vocabulary * DIRECTIONS; i++) {
    const int64_t id = i / DIRECTIONS;
    const double count = (double)w->order[id].count;
    w->other[i] = count > 0 ? (float)(mg_random_normal(stream, (uint64_t)i) / sqrt(count)) : 0;
  }
  qsort(w->order, (size_t)w->vocabulary, sizeof *w->order, more_frequent);
  return seen;
}

static void add(float *vector, const float *direction) {
  for (int64_t d = 0; d < DIRECTIONS; d++) vector[d] += direction[d];
}

/* Each id's vector: the directions of its neighbours added up, of length 1. */
static void make_vectors(workshop *w, const int32_t *text, int64_t length) {
  memset(w->vectors, 0, (size_t)(w->vocabulary * DIRECTIONS) * sizeof *w->vectors);
  for (int64_t i = 0; i < length; i++)
    for (int64_t j = i + 1; text[i] >= 0 && j <= i + WINDOW && j < length && text[j] >= 0; j++) {
      if (text[i] >= w->vocabulary || text[j] >= w->vocabulary) continue;
      add(w->vectors + text[i] * DIRECTIONS, w->other + text[j] * DIRECTIONS);
      add(w->vectors + text[j] * DIRECTIONS, w->other + text[i] * DIRECTIONS);
    }
  for (int64_t id = 0; id < w->vocabulary; id++) {
    float *vector = w->vectors + id * DIRECTIONS, squares = 0;
    for (int64_t d = 0; d < DIRECTIONS; d++) squares += vector[d] * vector[d];
    for (int64_t d = 0; squares > 0 && d < DIRECTIONS; d++) vector[d] /= sqrtf(squares);
  }
}

/* ---- clusters ---------------------------------------------------------------------------------------------- */

/* Equally near centres: the lowest. */
static int64_t nearest(const float *centres, int64_t count, const float *vector) {
  int64_t best = 0;
  float least = INFINITY;
  for (int64_t e = 0; e < count; e++) {
    float distance = 0;
    for (int64_t d = 0; d < DIRECTIONS; d++) {
      const float apart = centres[e * DIRECTIONS + d] - vector[d];
      distance += apart * apart;
    }
    if (distance < least) {
      least = distance;
      best = e;
    }
  }
  return best;
}

/* Every id that occurs to its nearest centre; false when nothing moved. */
static bool assign_ids(workshop *w, int64_t seen, int64_t centres) {
  bool moved = false;
  for (int64_t i = 0; i < seen; i++) {
    const int32_t id = w->order[i].id;
    const float cluster = (float)(nearest(w->other, centres, w->vectors + id * DIRECTIONS) + 1);
    moved |= cluster != w->table[id];
    w->table[id] = cluster;
  }
  return moved;
}

/* Every centre to the mean of its ids; one without ids stays. */
static void move_centres(workshop *w, int64_t seen, int64_t centres) {
  memset(w->load, 0, (size_t)centres * sizeof *w->load);
  for (int64_t i = 0; i < seen; i++) w->load[(int64_t)w->table[w->order[i].id] - 1]++;
  for (int64_t e = 0; e < centres; e++)
    if (w->load[e]) memset(w->other + e * DIRECTIONS, 0, DIRECTIONS * sizeof *w->other);
  for (int64_t i = 0; i < seen; i++) {
    const int32_t id = w->order[i].id;
    const int64_t e = (int64_t)w->table[id] - 1;
    for (int64_t d = 0; d < DIRECTIONS; d++)
      w->other[e * DIRECTIONS + d] += w->vectors[id * DIRECTIONS + d] / (float)w->load[e];
  }
}

/* Lloyd's k-means, begun at the most frequent ids; ids that do not occur are dealt out to the experts in turn. */
static void cluster(const mg_router *router, workshop *w, const void *data, int64_t length) {
  const int64_t seen = count_text(router, w, data, length), centres = seen < w->experts ? seen : w->experts;
  make_vectors(w, data, length);
  for (int64_t e = 0; e < centres; e++)
    memcpy(w->other + e * DIRECTIONS, w->vectors + w->order[e].id * DIRECTIONS, DIRECTIONS * sizeof *w->other);
  for (int64_t i = seen; i < w->vocabulary; i++) w->table[w->order[i].id] = (float)(i % w->experts + 1);
  for (int64_t round = 0; round < ROUNDS && assign_ids(w, seen, centres); round++) move_centres(w, seen, centres);
}

/* By cluster (kept in `count`), then as before. */
static int by_cluster(const void *a, const void *b) {
  const frequency *x = a, *y = b;
  if (x->count != y->count) return x->count < y->count ? -1 : 1;
  return x->id < y->id ? -1 : 1;
}

static void disperse(const mg_router *router, workshop *w, const void *data, int64_t length) {
  cluster(router, w, data, length);
  for (int64_t id = 0; id < w->vocabulary; id++) w->order[id] = (frequency){(int64_t)w->table[id], (int32_t)id};
  qsort(w->order, (size_t)w->vocabulary, sizeof *w->order, by_cluster);
  for (int64_t i = 0; i < w->vocabulary; i++) w->table[w->order[i].id] = (float)(i % w->experts + 1);
}

static mg_status prepare_text(mg_router *router, mg_tape *tape, const int32_t *ids, int64_t count) {
  const int64_t kind = ((const hash_options *)router->options)->kind;
  if (kind != CLUSTERED && kind != DISPERSED) return MG_OK;
  return make_table(router, tape, kind == CLUSTERED ? cluster : disperse, ids, count);
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
  out->ids = has_table(router) ? look_up(router, tape, in) : hashed(router, tape, in);
  out->weights = mg_fill(tape, mg_var_dtype(in->x), 2, shape, o->renormalise ? 1 / (double)o->k : 1);
  return mg_tape_status(tape);
}

/* Nothing is compared. */
static double selection_flops(const mg_router *router, const mg_route_input *call) {
  (void)router, (void)call;
  return 0;
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
                                        .prepare = prepare,
                                        .prepare_text = prepare_text,
                                        .selection_flops = selection_flops};
MG_ROUTER_PLUGIN(plugin)
