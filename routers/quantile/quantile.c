/* Quantile balancing: each expert's threshold is set so that it takes its fair share of the last batch.
 *
 *   s = softmax(x W_gate^T) or sigmoid(x W_gate^T);  expert e's threshold b_e is a buffer
 *   'top_k':      the k largest s_te - b_e of each token      'threshold':  every expert with s_te > b_e
 *   w = s of the chosen (divided by their sum when renormalised)
 *   for the next step, from this batch, with q = k T / E:
 *   a_t = the (k+1)-th largest of s_te - b_e over e ('threshold': 0)
 *   b_e = halfway between the q-th and the (q+1)-th largest of s_te - a_t over t
 *
 * These are steps of coordinate descent on the dual of the assignment problem max sum x s with k experts per token and q
 * tokens per expert (Su 2026, kexue.fm/archives/11619 and 11626). */
#include <math.h>
#include <moegauge/moegauge.h>

enum { TOP_K, THRESHOLD };
enum { SOFTMAX, SIGMOID };

typedef struct quantile_options {
  int64_t k, selection, score, iterations;
  bool renormalise;
} quantile_options;

static const char *const selections[] = {"top_k", "threshold", NULL};
static const char *const scores[] = {"softmax", "sigmoid", NULL};

static const mg_option options[] = {
    MG_OPTION_INT(quantile_options, k, 2, 1, 65536, "experts per token; on average with selection 'threshold'"),
    MG_OPTION_CHOICE(quantile_options, selection, TOP_K, selections,
                     "k experts per token, or all above their threshold"),
    MG_OPTION_CHOICE(quantile_options, score, SOFTMAX, scores, "how logits become scores"),
    MG_OPTION_INT(quantile_options, iterations, 1, 1, 1000, "descent steps on each batch; only 'top_k' needs several"),
    MG_OPTION_BOOL(quantile_options, renormalise, false, "divide the kept weights by their sum"),
    MG_OPTION_END};

static const mg_param_spec params[] = {{"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       {"thresholds", {MG_DIM_EXPERTS}, MG_INIT_ZERO, 0, true},
                                       {"next", {MG_DIM_EXPERTS}, MG_INIT_ZERO, 0, true},
                                       MG_PARAM_END};

static mg_status check(const mg_router *router) {
  const quantile_options *o = router->options;
  return mg_router_check_k(router, o->k, o->selection == TOP_K && o->renormalise);
}

static int64_t choices(const mg_router *router) {
  const quantile_options *o = router->options;
  return o->selection == TOP_K ? o->k : router->experts;
}

static double mean_choices(const mg_router *router) {
  return (double)((const quantile_options *)router->options)->k;
}

static uint32_t promises(const mg_router *router) {
  const uint32_t sum = ((const quantile_options *)router->options)->renormalise ? MG_ROUTER_WEIGHTS_SUM_TO_ONE : 0;
  return sum | MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN | MG_ROUTER_EXPERTS_EXCHANGEABLE |
         MG_ROUTER_GIVES_PROBS | MG_ROUTER_GIVES_LOGITS;
}

/* Halfway between the share-th and the next largest of each row [R,C] -> [R]; beyond the ends, the end. */
static mg_var *cut_above(mg_tape *tape, mg_var *x, int64_t share) {
  const int64_t rows = mg_var_rows(x), last = mg_var_columns(x) - 1;
  const int64_t above = share > last + 1 ? last : share > 0 ? share - 1 : 0, below = share < last ? share : last;
  mg_var *sorted;
  mg_top_k(tape, x, below + 1, &sorted);
  mg_var *sum = mg_add(tape, mg_slice(tape, sorted, above, 1), mg_slice(tape, sorted, below, 1));
  return mg_reshape(tape, mg_scale(tape, sum, 0.5), 1, &rows);
}

/* The thresholds that share out this batch; score [T,E] and thresholds [E] are constants. */
static mg_var *descend(mg_tape *tape, const quantile_options *o, mg_var *score, mg_var *thresholds) {
  const int64_t tokens = mg_var_rows(score), experts = mg_var_columns(score);
  const int64_t share = (int64_t)floor((double)o->k * (double)tokens / (double)experts + 0.5);
  if (o->selection == THRESHOLD) return cut_above(tape, mg_transpose(tape, score), share);
  if (o->k == experts) return thresholds;
  for (int64_t i = 0; i < o->iterations; i++) {
    mg_var *best;
    mg_top_k(tape, mg_sub(tape, score, thresholds), o->k + 1, &best);
    mg_var *margin = mg_sub(tape, score, mg_slice(tape, best, o->k, 1));
    thresholds = cut_above(tape, mg_transpose(tape, margin), share);
  }
  return thresholds;
}

/* 1, 2, ... as a row of `count`. */
static mg_var *numbers(mg_tape *tape, mg_dtype dtype, int64_t count) {
  const int64_t shape[] = {1, count};
  return mg_reshape(tape, mg_cumsum(tape, mg_fill(tape, dtype, 2, shape, 1)), 1, &count);
}

static void choose(mg_tape *tape, const quantile_options *o, mg_var *score, mg_var *biased, mg_route_output *out) {
  if (o->selection == TOP_K) {
    out->ids = mg_top_k(tape, biased, o->k, NULL);
    out->weights = mg_gather_columns(tape, score, out->ids);
  } else {
    mg_var *chosen = mg_unary_op(tape, MG_UNARY_STEP, biased, 0, 0);
    mg_var *names = mg_mul(tape, chosen, numbers(tape, mg_var_dtype(chosen), mg_var_columns(chosen)));
    out->ids = mg_cast(tape, mg_affine(tape, names, 1, -1), MG_I32);
    out->weights = mg_where(tape, chosen, score, 0);
  }
  if (o->renormalise) out->weights = mg_shares(tape, out->weights);
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const quantile_options *o = router->options;
  out->logits = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
  mg_var *score = o->score == SOFTMAX ? mg_softmax(tape, out->logits) : mg_sigmoid(tape, out->logits);
  out->probs = o->score == SOFTMAX ? score : mg_shares(tape, score);
  mg_var *fixed = mg_detach(tape, score);
  mg_var *thresholds = mg_cast(tape, mg_router_param(router, tape, "thresholds"), mg_var_dtype(score));
  choose(tape, o, score, mg_sub(tape, fixed, thresholds), out);
  /* Kept apart until the step is over: a pass must not change the routing of the next one. */
  if (in->training && in->tokens) MG_TRY(mg_router_store(router, tape, "next", descend(tape, o, fixed, thresholds)));
  return mg_tape_status(tape);
}

static mg_status after_step(mg_router *router, mg_tape *tape, const int32_t *demand) {
  (void)demand;
  return mg_router_store(router, tape, "thresholds", mg_router_param(router, tape, "next"));
}

/* Of T E scores each: the choice, and in training a cut, or cuts and the best of the others by turns. */
static double selection_flops(const mg_router *router, const mg_route_input *call) {
  const quantile_options *o = router->options;
  int64_t looks = o->selection == TOP_K;
  if (call->training && o->selection == THRESHOLD) looks++;
  if (call->training && o->selection == TOP_K && o->k < router->experts) looks += 2 * o->iterations;
  return (double)(looks * call->tokens * router->experts);
}

static const mg_router_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_router_plugin),
    .name = "quantile",
    .summary = "Thresholds at each expert's quantile of the last batch balance the load without a loss.",
    .paper = "Su 2026, kexue.fm/archives/11619",
    .formula = "s = softmax(x W); keep the k largest s - b; w = s; b_e = the quantile of s_e - a that leaves k T / E",
    .options = options,
    .options_size = sizeof(quantile_options),
    .params = params,
    .check = check,
    .choices = choices,
    .mean_choices = mean_choices,
    .promises = promises,
    .route = route,
    .after_step = after_step,
    .selection_flops = selection_flops};
MG_ROUTER_PLUGIN(plugin)
