/* SparseMixer gating: experts one after the other, each weighed among those whose score comes near the best left.
 *
 *   s = x W_gate^T;  repeat k times, over the experts not chosen yet:
 *     m = max s;  near = those with (m - s_e) / max(|s_e|, m) <= 2 jitter;  p = softmax of s over near
 *     e = argmax (in training a draw from p);  w_e = p_e
 *
 * Liu et al. 2023, arXiv 2310.00811; Phi-3.5-MoE (Abdin et al. 2024, arXiv 2404.14219). */
#include <math.h>

#include <moegauge/moegauge.h>

typedef struct sparse_mixer_options {
  int64_t k;
  double jitter;
} sparse_mixer_options;

static const mg_option options[] = {
    MG_OPTION_INT(sparse_mixer_options, k, 2, 1, 65536, "experts chosen per token, one after the other"),
    MG_OPTION_FLOAT(sparse_mixer_options, jitter, 0.01, 0, 1, "half the relative distance at which a score is near"),
    MG_OPTION_END};

static const mg_param_spec params[] = {{"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       MG_PARAM_END};

static uint32_t promises(const mg_router *router) {
  (void)router;
  return MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN | MG_ROUTER_EXPERTS_EXCHANGEABLE |
         MG_ROUTER_GIVES_PROBS | MG_ROUTER_GIVES_LOGITS | MG_ROUTER_ONE_BY_ONE;
}

/* What a softmax over the experts near the best of `left` starts from: theirs, and -infinity for all others. */
static mg_var *near_best(mg_tape *tape, mg_var *logits, mg_var *left, double jitter) {
  mg_var *best;
  mg_top_k(tape, mg_detach(tape, left), 1, &best);
  mg_var *size =
      mg_binary_op(tape, MG_BINARY_MAX, mg_unary_op(tape, MG_UNARY_ABS, mg_detach(tape, logits), 0, 0), best);
  mg_var *distance = mg_div(tape, mg_scale(tape, mg_sub(tape, mg_detach(tape, left), best), -1), size);
  mg_var *far = mg_unary_op(tape, MG_UNARY_STEP, mg_affine(tape, distance, 1, -2 * jitter), 0, 0);
  return mg_where(tape, mg_affine(tape, far, -1, 1), left, -(double)INFINITY);
}

/* -ln(-ln u) [T, k E]: the largest of scores plus E of these is a draw from their softmax. */
static mg_var *gumbel(mg_tape *tape, const mg_var *logits, int64_t k, mg_stream stream) {
  const int64_t shape[] = {mg_var_rows(logits), k * mg_var_columns(logits)};
  mg_var *u = mg_random(tape, mg_var_dtype(logits), 2, shape, MG_RANDOM_UNIFORM, stream, 0, 1);
  mg_var *inner = mg_scale(tape, mg_log(tape, u), -1);
  return mg_scale(tape, mg_log(tape, inner), -1);
}

/* Puts a column [T,1] at place `at` of k. */
static mg_var *beside(mg_tape *tape, mg_var *columns, mg_var *column, int64_t at, int64_t k) {
  const int64_t one[] = {mg_var_rows(column), 1};
  mg_var *numbers = mg_cast(tape, mg_fill(tape, MG_F32, 2, one, (double)at), MG_I32);
  mg_var *wide = mg_scatter_columns(tape, column, numbers, k);
  return columns ? mg_add(tape, columns, wide) : wide;
}

/* What an expert is chosen by: one that is open, though its score be NaN, comes before all chosen already. */
static mg_var *choosable(mg_tape *tape, mg_var *scores, mg_var *open) {
  const int64_t one = 1;
  const double least = -1e38;
  mg_var *known = mg_binary_op(tape, MG_BINARY_GREATER, scores, mg_fill(tape, mg_var_dtype(scores), 1, &one, least));
  return mg_where(tape, open, mg_where(tape, known, scores, least), -(double)INFINITY);
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const sparse_mixer_options *o = router->options;
  const int64_t one[] = {in->tokens, 1}, all[] = {in->tokens, router->experts};
  out->logits = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
  out->probs = mg_softmax(tape, out->logits);
  mg_var *left = out->logits, *ids = NULL, *noise = NULL;
  mg_var *open = mg_fill(tape, mg_var_dtype(out->logits), 2, all, 1);
  if (in->training) noise = gumbel(tape, out->logits, o->k, in->noise);
  for (int64_t i = 0; i < o->k; i++) {
    mg_var *near = near_best(tape, out->logits, left, o->jitter);
    mg_var *drawn = noise ? mg_slice(tape, noise, i * router->experts, router->experts) : NULL;
    mg_var *scores = drawn ? mg_add(tape, near, drawn) : near;
    mg_var *id = mg_top_k(tape, choosable(tape, mg_detach(tape, scores), open), 1, NULL);
    mg_var *weight = mg_gather_columns(tape, mg_softmax(tape, near), id);
    out->weights = beside(tape, out->weights, weight, i, o->k);
    ids = beside(tape, ids, mg_cast(tape, id, MG_F32), i, o->k);
    mg_var *chosen = mg_scatter_columns(tape, mg_fill(tape, mg_var_dtype(left), 2, one, 1), id, router->experts);
    open = mg_sub(tape, open, chosen);
    left = mg_where(tape, open, left, -(double)INFINITY);
  }
  out->ids = mg_cast(tape, ids, MG_I32);
  return mg_tape_status(tape);
}

/* Each choice looks for the best score left and for the expert. */
static double selection_flops(const mg_router *router, const mg_route_input *call) {
  const int64_t k = ((const sparse_mixer_options *)router->options)->k;
  return (double)(call->tokens * 2 * k * router->experts);
}

static const mg_router_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_router_plugin),
    .name = "sparse_mixer",
    .summary = "Experts chosen one after the other, each weighed among those near the best that is left.",
    .paper = "Liu et al. 2023, arXiv 2310.00811",
    .formula = "k times: e = argmax of the scores left; w = softmax over those within 2 jitter of it; leave e out",
    .options = options,
    .options_size = sizeof(sparse_mixer_options),
    .params = params,
    .promises = promises,
    .route = route,
    .selection_flops = selection_flops};
MG_ROUTER_PLUGIN(plugin)
