/* Expert choice: each expert takes the tokens that want it most, so every expert works equally.
 *
 *   S = softmax(x W_gate^T);  expert e takes the C = factor * n / E tokens of highest S[., e] among n tokens
 *   w[t,e] = S[t,e], divided by the sum over the experts that took t when renormalised
 *   inference "threshold":  e takes t if S[t,e] >= T_e, T_e a running mean of the lowest S that e took in training
 *
 * Zhou et al. 2022, eqs 1-2. Renormalised it is the batchwise gating of Shazeer et al. 2017, appendix F, eqs 16-19. Which
 * tokens an expert takes depends on all n, later ones too: the router is not causal. */
#include <math.h>

#include <moegauge/moegauge.h>

enum { BATCH, SEQUENCE };
enum { CHOICE, THRESHOLD };

typedef struct expert_choice_options {
  double factor, decay;
  int64_t scope, inference;
  bool renormalise;
} expert_choice_options;

static const char *const scopes[] = {"batch", "sequence", NULL};
static const char *const inferences[] = {"choice", "threshold", NULL};

static const mg_option options[] = {
    MG_OPTION_FLOAT(expert_choice_options, factor, 2, 1e-3, 65536, "experts per token on average"),
    MG_OPTION_CHOICE(expert_choice_options, scope, BATCH, scopes, "tokens among which an expert takes its best"),
    MG_OPTION_CHOICE(expert_choice_options, inference, CHOICE, inferences, "outside training: the same, or thresholds"),
    MG_OPTION_FLOAT(expert_choice_options, decay, 0.99, 0, 1, "of the running mean of the thresholds"),
    MG_OPTION_BOOL(expert_choice_options, renormalise, false, "divide a token's weights by their sum"),
    MG_OPTION_END};

enum { GATE, THRESHOLDS };
static const mg_param_spec params[] = {[GATE] = {"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       [THRESHOLDS] = {"thresholds", {MG_DIM_CUSTOM}, MG_INIT_ZERO, 0, true},
                                       MG_PARAM_END};

static mg_status check(const mg_router *router) {
  const expert_choice_options *o = router->options;
  if (o->factor > (double)router->experts)
    return mg_fail(router->context, MG_USAGE,
                   "router expert_choice: factor = %g is more than the %lld experts of the layer", o->factor,
                   (long long)router->experts);
  return MG_OK;
}

static int64_t dimension(const mg_router *router, int32_t param, int32_t dim) {
  (void)dim;
  const expert_choice_options *o = router->options;
  return param == THRESHOLDS && o->inference == THRESHOLD ? router->experts : 0;
}

static double mean_choices(const mg_router *router) {
  return ((const expert_choice_options *)router->options)->factor;
}

static uint32_t promises(const mg_router *router) {
  const uint32_t sum = ((const expert_choice_options *)router->options)->renormalise ? MG_ROUTER_WEIGHTS_SUM_TO_ONE : 0;
  return sum | MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_EXPERTS_EXCHANGEABLE | MG_ROUTER_GIVES_PROBS |
         MG_ROUTER_GIVES_LOGITS;
}

/* [a, b, c] seen in [a * b, c] becomes [a * c, b], the last two dimensions exchanged. */
static mg_var *turned(mg_tape *tape, mg_var *x, int64_t a, int64_t b, int64_t c) {
  const int64_t shape[] = {a, b, c};
  return mg_reshape2(tape, mg_transpose(tape, mg_reshape(tape, x, 3, shape)), a * c, b);
}

/* 1 where an expert takes the token: [T,E]. `lowest` receives the lowest score taken, [runs, E]. */
static mg_var *taken_of(mg_tape *tape, mg_var *probs, int64_t length, double factor, mg_var **lowest) {
  const int64_t experts = mg_var_columns(probs), runs = mg_var_rows(probs) / length;
  const double wanted = floor(factor * (double)length / (double)experts * (1 + 1e-12));
  const int64_t take = (int64_t)fmin(fmax(wanted, 1), (double)length), shape[] = {runs * experts, take};
  mg_var *values, *best = mg_top_k(tape, turned(tape, mg_detach(tape, probs), runs, length, experts), take, &values);
  mg_var *taken = mg_scatter_columns(tape, mg_fill(tape, mg_var_dtype(probs), 2, shape, 1), best, length);
  *lowest = mg_reshape2(tape, mg_slice(tape, values, take - 1, 1), runs, experts);
  return turned(tape, taken, runs, experts, length);
}

/* T_e moves towards the batch's mean of the lowest scores taken; the first batch sets it. */
static mg_status learn_thresholds(mg_router *router, mg_tape *tape, mg_var *lowest) {
  const double decay = ((const expert_choice_options *)router->options)->decay;
  mg_var *old = mg_router_param(router, tape, "thresholds");
  mg_var *now = mg_cast(tape, mg_mean_rows(tape, lowest), mg_var_dtype(old));
  mg_var *known = mg_unary_op(tape, MG_UNARY_STEP, old, 0, 0);
  mg_var *step = mg_where(tape, known, mg_scale(tape, mg_sub(tape, now, old), 1 - decay), 0);
  mg_var *start = mg_where(tape, mg_affine(tape, known, -1, 1), now, 0);
  return mg_router_store(router, tape, "thresholds", mg_add(tape, old, mg_add(tape, step, start)));
}

/* The experts that took each token, in order, -1 elsewhere: i32 [T,E]. */
static mg_var *ids_of(mg_tape *tape, mg_var *taken) {
  const int64_t experts = mg_var_columns(taken), row_shape[] = {1, experts};
  mg_var *ones = mg_fill(tape, mg_var_dtype(taken), 2, row_shape, 1);
  mg_var *numbers = mg_reshape(tape, mg_affine(tape, mg_cumsum(tape, ones), 1, -1), 1, &experts);
  return mg_cast(tape, mg_where(tape, taken, mg_add(tape, mg_scale(tape, taken, 0), numbers), -1), MG_I32);
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const expert_choice_options *o = router->options;
  out->logits = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
  out->probs = mg_softmax(tape, out->logits);
  mg_var *taken = out->probs, *lowest = NULL; /* no tokens: nothing to choose */
  if (o->inference == THRESHOLD && !in->training) {
    mg_var *below = mg_binary_op(tape, MG_BINARY_GREATER, mg_scale(tape, mg_detach(tape, out->probs), -1),
                                 mg_scale(tape, mg_router_param(router, tape, "thresholds"), -1));
    taken = mg_affine(tape, below, -1, 1);
  } else if (in->tokens) {
    taken = taken_of(tape, out->probs, o->scope == BATCH ? in->tokens : in->sequence_tokens, o->factor, &lowest);
  }
  if (lowest && o->inference == THRESHOLD) MG_TRY(learn_thresholds(router, tape, lowest));
  out->ids = ids_of(tape, taken);
  out->weights = mg_where(tape, taken, out->probs, 0);
  if (o->renormalise) out->weights = mg_shares(tape, out->weights);
  return mg_tape_status(tape);
}

static const mg_router_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_router_plugin),
    .name = "expert_choice",
    .summary = "Each expert takes the tokens that want it most; not causal.",
    .paper = "Zhou et al. 2022, arXiv 2202.09368",
    .formula = "S = softmax(x W); expert e takes the factor n / E tokens of highest S[., e]; w = S",
    .options = options,
    .options_size = sizeof(expert_choice_options),
    .params = params,
    .check = check,
    .dimension = dimension,
    .promises = promises,
    .route = route,
    .mean_choices = mean_choices};
MG_ROUTER_PLUGIN(plugin)
