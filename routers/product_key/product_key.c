/* Product keys: expert (i, j) has the sum of two sub-keys as its key, so the k best of n^2 need 2 n products.
 *
 *   q = x W_query^T, cut into halves q1, q2 (each scaled to a root mean square of 1 when normalised)
 *   s1 = q1 . keys1 [n], s2 = q2 . keys2 [n];   score(i n + j) = s1_i + s2_j
 *   the k best of s1 and of s2 make k^2 candidates, among which are the k best experts
 *   w = softmax(s1)_i softmax(s2)_j, the softmax over all experts; divided by the sum of the k when renormalised
 *
 * He 2024, PEER (arXiv 2407.04153); Lample et al. 2019 (arXiv 1907.05242). Expert numbers are computed in f32, which is
 * exact below 2^24. */
#include <moegauge/moegauge.h>

typedef struct product_key_options {
  int64_t k, query;
  bool normalise, renormalise;
} product_key_options;

static const mg_option options[] = {
    MG_OPTION_INT(product_key_options, k, 2, 1, 4096, "experts kept per token"),
    MG_OPTION_INT(product_key_options, query, 32, 2, 65536, "width of the query, an even number"),
    MG_OPTION_BOOL(product_key_options, normalise, true, "scale each half of the query to a root mean square of 1"),
    MG_OPTION_BOOL(product_key_options, renormalise, true, "divide the kept weights by their sum"), MG_OPTION_END};

enum { QUERY, KEYS1, KEYS2 };
static const mg_param_spec params[] = {
    [QUERY] = {"query", {MG_DIM_CUSTOM, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
    [KEYS1] = {"keys1", {MG_DIM_CUSTOM, MG_DIM_CUSTOM}, MG_INIT_TRUNCATED_FAN_IN, 1, false},
    [KEYS2] = {"keys2", {MG_DIM_CUSTOM, MG_DIM_CUSTOM}, MG_INIT_TRUNCATED_FAN_IN, 1, false},
    MG_PARAM_END};

/* n, the largest number with n^2 <= E. */
static int64_t side_of(const mg_router *router) {
  int64_t n = 1;
  while ((n + 1) * (n + 1) <= router->experts) n++;
  return n;
}

static mg_status check(const mg_router *router) {
  const product_key_options *o = router->options;
  const int64_t n = side_of(router);
  if (n * n != router->experts)
    return mg_fail(
        router->context, MG_USAGE, "router product_key: %lld experts are no square; use %lld (%lld^2) or %lld (%lld^2)",
        (long long)router->experts, (long long)n * n, (long long)n, (long long)(n + 1) * (n + 1), (long long)(n + 1));
  if (o->query % 2)
    return mg_fail(router->context, MG_USAGE, "router product_key: query = %lld must be even: it is cut into halves",
                   (long long)o->query);
  return mg_router_check_k(router, o->k, o->renormalise);
}

static int64_t dimension(const mg_router *router, int32_t param, int32_t dim) {
  const int64_t query = ((const product_key_options *)router->options)->query;
  if (param == QUERY) return query;
  return dim == 0 ? side_of(router) : query / 2;
}

static uint32_t promises(const mg_router *router) {
  const uint32_t sum = ((const product_key_options *)router->options)->renormalise ? MG_ROUTER_WEIGHTS_SUM_TO_ONE : 0;
  return sum | MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN | MG_ROUTER_GIVES_PROBS;
}

/* The best sub-keys of one half: their log probabilities among all n, and their numbers, [T,count] both. */
typedef struct half {
  mg_var *logs, *numbers;
} half;

static half best_of_half(mg_router *router, mg_tape *tape, mg_var *query, const char *keys, int64_t count) {
  const product_key_options *o = router->options;
  half best;
  if (o->normalise) query = mg_norm(tape, MG_NORM_RMS, query, NULL, NULL, 1e-6);
  mg_var *score = mg_linear(tape, query, mg_router_param(router, tape, keys));
  mg_var *ids = mg_top_k(tape, mg_sub(tape, score, mg_log_sum_exp(tape, score)), count, &best.logs);
  best.numbers = mg_cast(tape, ids, mg_var_dtype(best.logs));
  return best;
}

/* The places of i and of j in all pairs (i, j) with i, j < count, the same for every token: i32 [T,count^2]. */
typedef struct pair_places {
  mg_var *first, *second;
} pair_places;

static mg_var *for_every_token(mg_tape *tape, mg_var *places, int64_t tokens, int64_t pairs) {
  const int64_t shape[] = {tokens, pairs};
  mg_var *zero = mg_fill(tape, MG_F32, 2, shape, 0);
  return mg_cast(tape, mg_add(tape, zero, mg_reshape(tape, places, 1, &pairs)), MG_I32);
}

static pair_places all_pairs(mg_tape *tape, int64_t tokens, int64_t count) {
  const int64_t row[] = {1, count}, square[] = {count, count};
  mg_var *numbers = mg_affine(tape, mg_cumsum(tape, mg_fill(tape, MG_F32, 2, row, 1)), 1, -1);
  mg_var *zero = mg_fill(tape, MG_F32, 2, square, 0);
  mg_var *first = mg_add(tape, zero, mg_reshape2(tape, numbers, count, 1));
  mg_var *second = mg_add(tape, zero, mg_reshape(tape, numbers, 1, &count));
  return (pair_places){for_every_token(tape, first, tokens, count * count),
                       for_every_token(tape, second, tokens, count * count)};
}

/* a_i + b_j for all pairs of a token: [T,count] twice -> [T,count^2]. */
static mg_var *sum_pairs(mg_tape *tape, pair_places at, mg_var *a, mg_var *b) {
  return mg_add(tape, mg_gather_columns(tape, a, at.first), mg_gather_columns(tape, b, at.second));
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const product_key_options *o = router->options;
  const int64_t n = side_of(router), count = o->k < n ? o->k : n, width = o->query / 2;
  mg_var *query = mg_linear(tape, in->x, mg_router_param(router, tape, "query"));
  half first = best_of_half(router, tape, mg_slice(tape, query, 0, width), "keys1", count);
  half second = best_of_half(router, tape, mg_slice(tape, query, width, width), "keys2", count);
  const pair_places at = all_pairs(tape, in->tokens, count);
  mg_var *logs = sum_pairs(tape, at, first.logs, second.logs);
  mg_var *experts = sum_pairs(tape, at, mg_scale(tape, first.numbers, (double)n), second.numbers);
  mg_var *kept, *best = mg_top_k(tape, logs, o->k, &kept);
  out->ids = mg_cast(tape, mg_gather_columns(tape, experts, best), MG_I32);
  out->weights = o->renormalise ? mg_softmax(tape, kept) : mg_exp(tape, kept);
  out->probs = mg_scatter_columns(tape, mg_exp(tape, logs), mg_cast(tape, experts, MG_I32), router->experts);
  return mg_tape_status(tape);
}

static double gate_flops(const mg_router *router) {
  const double query = (double)((const product_key_options *)router->options)->query;
  return 2 * query * (double)router->width + 2 * query * (double)side_of(router);
}

static double selection_flops(const mg_router *router, const mg_route_input *call) {
  const int64_t n = side_of(router), k = ((const product_key_options *)router->options)->k, count = k < n ? k : n;
  return (double)(call->tokens * (2 * n + count * count));
}

static const mg_router_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_router_plugin),
    .name = "product_key",
    .summary = "The k best of n^2 experts by two sets of n sub-keys.",
    .paper = "He 2024, arXiv 2407.04153",
    .formula = "q1, q2 = x W; score(i, j) = q1 . a_i + q2 . b_j; keep the k best; w = softmax of their scores",
    .options = options,
    .options_size = sizeof(product_key_options),
    .params = params,
    .check = check,
    .dimension = dimension,
    .promises = promises,
    .route = route,
    .gate_flops = gate_flops,
    .selection_flops = selection_flops};
MG_ROUTER_PLUGIN(plugin)
