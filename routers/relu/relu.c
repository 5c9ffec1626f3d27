/* ReLU gating: every expert whose score is above zero, weighted by it; an adaptive L1 loss steers how many those are.
 *
 *   R = relu(x W_gate^T);   w = R, chosen where R > 0
 *   loss = lambda * mean_t sum_e f_e R_te,   f_e = E / (k T) * tokens with R_te > 0, or 1 when not balanced
 *   after each step:  lambda *= rate^sign((1 - k / E) - S),   S = 1 - choices / (T E)
 *
 * Wang et al. 2024, ReMoE (arXiv 2412.14711); k is the option `active`. The buffer holds the exponent n of
 * lambda = start * rate^n. */
#include <math.h>
#include <moegauge/moegauge.h>

typedef struct relu_options {
  double active, start, rate;
  bool balanced;
} relu_options;

static const mg_option options[] = {
    MG_OPTION_FLOAT(relu_options, active, 1, 1e-3, 65536, "experts per token, on average, to steer towards"),
    MG_OPTION_FLOAT(relu_options, start, 1e-8, 1e-30, 1e6, "weight of the L1 loss before the first step"),
    MG_OPTION_FLOAT(relu_options, rate, 1.2, 1, 10, "factor by which the weight moves after a step; 1 = fixed"),
    MG_OPTION_BOOL(relu_options, balanced, true, "weigh each expert's part of the loss by its load"), MG_OPTION_END};

static const mg_param_spec params[] = {{"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       {"exponent", {1}, MG_INIT_ZERO, 0, true},
                                       MG_PARAM_END};

static mg_status check(const mg_router *router) {
  const relu_options *o = router->options;
  if (o->active <= (double)router->experts) return MG_OK;
  return mg_fail(router->context, MG_USAGE, "router relu: active = %g is more than the %lld experts of the layer",
                 o->active, (long long)router->experts);
}

static double mean_choices(const mg_router *router) {
  return ((const relu_options *)router->options)->active;
}

static uint32_t promises(const mg_router *router) {
  (void)router;
  return MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN | MG_ROUTER_EXPERTS_EXCHANGEABLE |
         MG_ROUTER_GIVES_LOGITS | MG_ROUTER_GIVES_LOSS;
}

/* 1, 2, ... as a row of `count`. */
static mg_var *numbers(mg_tape *tape, mg_dtype dtype, int64_t count) {
  const int64_t shape[] = {1, count};
  return mg_reshape(tape, mg_cumsum(tape, mg_fill(tape, dtype, 2, shape, 1)), 1, &count);
}

static mg_var *regulariser(mg_router *router, mg_tape *tape, mg_var *weights, mg_var *chosen) {
  const relu_options *o = router->options;
  const double factor = (double)router->experts / o->active;
  mg_var *used = mg_mean_rows(tape, weights);
  if (o->balanced) used = mg_mul(tape, used, mg_scale(tape, mg_mean_rows(tape, chosen), factor));
  mg_var *exponent = mg_cast(tape, mg_router_param(router, tape, "exponent"), mg_var_dtype(weights));
  mg_var *lambda = mg_exp(tape, mg_affine(tape, exponent, log(o->rate), log(o->start)));
  return mg_mul(tape, mg_sum(tape, used), lambda);
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  out->logits = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
  out->weights = mg_relu(tape, out->logits);
  mg_var *chosen = mg_unary_op(tape, MG_UNARY_STEP, mg_detach(tape, out->logits), 0, 0);
  mg_var *names = mg_mul(tape, chosen, numbers(tape, mg_var_dtype(chosen), router->experts));
  out->ids = mg_cast(tape, mg_affine(tape, names, 1, -1), MG_I32);
  out->loss = regulariser(router, tape, out->weights, chosen);
  return mg_tape_status(tape);
}

static mg_status after_step(mg_router *router, mg_tape *tape, const int32_t *demand) {
  const relu_options *o = router->options;
  double chosen = 0;
  for (int64_t e = 0; e < router->experts; e++) chosen += demand[e];
  const double excess = chosen - o->active * (double)router->step_tokens;
  const double sign = (double)(excess > 0) - (double)(excess < 0);
  mg_var *exponent = mg_router_param(router, tape, "exponent");
  return mg_router_store(router, tape, "exponent", mg_affine(tape, exponent, 1, sign));
}

/* Nothing is compared. */
static double selection_flops(const mg_router *router, const mg_route_input *call) {
  (void)router, (void)call;
  return 0;
}

static const mg_router_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_router_plugin),
    .name = "relu",
    .summary = "Every expert of positive score; an adaptive L1 loss steers how many.",
    .paper = "Wang et al. 2024, arXiv 2412.14711",
    .formula = "R = relu(x W); keep R > 0; w = R; loss lambda mean sum f R, lambda moved towards k experts per token",
    .options = options,
    .options_size = sizeof(relu_options),
    .params = params,
    .check = check,
    .mean_choices = mean_choices,
    .promises = promises,
    .route = route,
    .after_step = after_step,
    .selection_flops = selection_flops};
MG_ROUTER_PLUGIN(plugin)
