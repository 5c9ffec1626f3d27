/* Top-k gating: the k experts of highest score, with softmax before or after the selection, sigmoid or sqrt-softplus scores.
 *
 *   H = x W_gate^T (+ bias) (+ N(0,1) * sigma in training)
 *   sigma = softplus(x W_noise^T) + floor, learned (Shazeer et al. 2017, eq. 4), or 1 / E, fixed (Riquelme et al. 2021)
 *   before   s = softmax(H);  w = s over the k largest
 *   after    w = softmax(H over the k largest)
 *   sigmoid  s = sigmoid(H);  w = s over the k largest         sqrt_softplus  the same with s = sqrt(softplus(H))
 *   w = scale * w / sum(w) when renormalised
 *   load_i = Phi((x W_gate_i - threshold_i) / sigma_i), threshold_i the k-th highest of H, leaving out H_i where the noise
 *            is learned (Shazeer et al. 2017, eq. 9) and not where it is fixed (Riquelme et al. 2021, appendix A.2) */
#include <moegauge/moegauge.h>

enum { SOFTMAX, SIGMOID, SQRT_SOFTPLUS };
enum { BEFORE, AFTER };
enum { NONE, LEARNED, FIXED };

typedef struct topk_options {
  int64_t k, score, order, noise;
  bool renormalise, bias;
  double scale, noise_floor, noise_deviation;
} topk_options;

static const char *const scores[] = {"softmax", "sigmoid", "sqrt_softplus", NULL};
static const mg_gate_score score_kinds[] = {
    [SOFTMAX] = MG_GATE_SOFTMAX, [SIGMOID] = MG_GATE_SIGMOID, [SQRT_SOFTPLUS] = MG_GATE_SQRT_SOFTPLUS};
static const char *const orders[] = {"before", "after", NULL};
static const char *const noises[] = {"none", "learned", "fixed", NULL};

static const mg_option options[] = {
    MG_OPTION_INT(topk_options, k, 2, 1, 65536, "experts kept per token"),
    MG_OPTION_CHOICE(topk_options, score, SOFTMAX, scores, "how logits become scores"),
    MG_OPTION_CHOICE(topk_options, order, BEFORE, orders, "softmax before or after the selection"),
    MG_OPTION_BOOL(topk_options, renormalise, true, "divide the kept weights by their sum"),
    MG_OPTION_BOOL(topk_options, bias, false, "a bias on the logits, trained with the gate"),
    MG_OPTION_CHOICE(topk_options, noise, NONE, noises, "Gaussian noise on the logits in training"),
    MG_OPTION_FLOAT(topk_options, noise_floor, 0.01, 0, 1e3, "added to the learned deviation of the noise"),
    MG_OPTION_FLOAT(topk_options, noise_deviation, 0, 0, 1e3, "of fixed noise; 0 = 1 / experts"),
    MG_OPTION_FLOAT(topk_options, scale, 1, 1e-6, 1e6, "factor on the weights"),
    MG_OPTION_END};

enum { GATE, NOISE, BIAS };
static const mg_param_spec params[] = {[GATE] = {"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       [NOISE] = {"noise", {MG_DIM_CUSTOM, MG_DIM_WIDTH}, MG_INIT_ZERO, 0, false},
                                       [BIAS] = {"bias", {MG_DIM_CUSTOM}, MG_INIT_ZERO, 0, false},
                                       MG_PARAM_END};

static mg_status check(const mg_router *router) {
  const topk_options *o = router->options;
  MG_TRY(mg_router_check_k(router, o->k, o->order == BEFORE && o->renormalise));
  if (o->score != SOFTMAX && o->order == AFTER)
    return mg_fail(router->context, MG_USAGE,
                   "router topk: order 'after' is about softmax; remove it or use score 'softmax'");
  if (o->k == 1 && o->order == AFTER)
    return mg_fail(router->context, MG_USAGE,
                   "router topk: with k = 1 a softmax over the kept score is always 1, so the gate would get no "
                   "gradient; use order 'before' and renormalise = false");
  if (o->noise != NONE && o->k == router->experts)
    return mg_fail(router->context, MG_USAGE,
                   "router topk: %s noise needs k below the %lld experts; there is nothing to choose", noises[o->noise],
                   (long long)router->experts);
  return MG_OK;
}

static int64_t dimension(const mg_router *router, int32_t param, int32_t dim) {
  (void)dim;
  const topk_options *o = router->options;
  return (param == NOISE && o->noise == LEARNED) || (param == BIAS && o->bias) ? router->experts : 0;
}

static uint32_t promises(const mg_router *router) {
  const topk_options *o = router->options;
  uint32_t kept = MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN |
                  MG_ROUTER_EXPERTS_EXCHANGEABLE | MG_ROUTER_GIVES_PROBS | MG_ROUTER_GIVES_LOGITS;
  if ((o->order == AFTER || o->renormalise) && o->scale == 1) kept |= MG_ROUTER_WEIGHTS_SUM_TO_ONE;
  if (o->noise != NONE) kept |= MG_ROUTER_GIVES_LOAD;
  return kept;
}

static mg_var *add_noise(mg_tape *tape, mg_var *clean, mg_var *deviation, mg_stream stream) {
  const int64_t shape[] = {mg_var_rows(clean), mg_var_columns(clean)};
  mg_var *noise = mg_random(tape, mg_var_dtype(clean), 2, shape, MG_RANDOM_NORMAL, stream, 0, 1);
  return mg_add(tape, clean, mg_mul(tape, noise, deviation));
}

/* An expert among the k best competes with the (k+1)-th score, any other with the k-th. */
static mg_var *smooth_load(mg_tape *tape, mg_var *clean, mg_var *noisy, mg_var *deviation, int64_t k) {
  mg_var *best;
  mg_top_k(tape, noisy, k + 1, &best);
  mg_var *next = mg_slice(tape, best, k, 1), *last = mg_slice(tape, best, k - 1, 1);
  mg_var *inside = mg_detach(tape, mg_binary_op(tape, MG_BINARY_GREATER, noisy, next));
  mg_var *margin = mg_add(tape, mg_where(tape, inside, mg_sub(tape, clean, next), 0),
                          mg_where(tape, mg_affine(tape, inside, -1, 1), mg_sub(tape, clean, last), 0));
  return mg_normal_cdf(tape, mg_div(tape, margin, deviation));
}

/* Every expert competes with the k-th score, its own too. */
static mg_var *plain_load(mg_tape *tape, mg_var *clean, mg_var *noisy, mg_var *deviation, int64_t k) {
  mg_var *best;
  mg_top_k(tape, noisy, k, &best);
  return mg_normal_cdf(tape, mg_div(tape, mg_sub(tape, clean, mg_slice(tape, best, k - 1, 1)), deviation));
}

/* [T,E], or one number for all. */
static mg_var *deviation_of(mg_router *router, mg_tape *tape, mg_var *x) {
  const topk_options *o = router->options;
  const int64_t one = 1;
  if (o->noise == FIXED)
    return mg_fill(tape, mg_var_dtype(x), 1, &one,
                   o->noise_deviation > 0 ? o->noise_deviation : 1 / (double)router->experts);
  mg_var *raw = mg_linear(tape, x, mg_router_param(router, tape, "noise"));
  return mg_affine(tape, mg_softplus(tape, raw), 1, o->noise_floor);
}

static mg_gate_weight weight_of(const topk_options *o) {
  if (o->order == AFTER) return MG_GATE_SOFTMAX_OF_CHOSEN;
  return o->renormalise ? MG_GATE_SHARES : MG_GATE_SCORES;
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const topk_options *o = router->options;
  mg_var *clean = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
  if (o->bias) clean = mg_add(tape, clean, mg_router_param(router, tape, "bias"));
  out->logits = clean;
  if (o->noise != NONE) {
    mg_var *deviation = deviation_of(router, tape, in->x);
    if (in->training) out->logits = add_noise(tape, clean, deviation, in->noise);
    out->load = (o->noise == FIXED ? plain_load : smooth_load)(tape, clean, out->logits, deviation, o->k);
  }
  mg_var *score;
  out->ids = mg_gate(tape, out->logits, o->k, score_kinds[o->score], weight_of(o), &score, &out->weights);
  out->probs = o->score == SOFTMAX ? score : mg_shares(tape, score);
  if (o->scale != 1) out->weights = mg_scale(tape, out->weights, o->scale);
  return mg_tape_status(tape);
}

/* The smooth load looks for its thresholds once more. */
static double selection_flops(const mg_router *router, const mg_route_input *call) {
  const double noisy = ((const topk_options *)router->options)->noise != NONE;
  return (1 + noisy) * (double)(call->tokens * router->experts);
}

static const mg_router_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_router_plugin),
    .name = "topk",
    .summary = "The k experts of highest softmax, sigmoid or sqrt-softplus score.",
    .paper = "Shazeer et al. 2017, arXiv 1701.06538",
    .formula = "s = softmax(x W) or sigmoid(x W); keep the k largest s; w = s / sum of the kept s",
    .options = options,
    .options_size = sizeof(topk_options),
    .params = params,
    .check = check,
    .dimension = dimension,
    .promises = promises,
    .route = route,
    .selection_flops = selection_flops};
MG_ROUTER_PLUGIN(plugin)
