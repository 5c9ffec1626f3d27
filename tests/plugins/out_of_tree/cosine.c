/* Cosine routing: experts are chosen by the angle between token and expert, so that no expert wins by being long.
 *
 *   s[t,e] = cos(x[t], g[e]) / temperature,   p = softmax(s),   the k largest p are kept
 *
 * Chi et al. 2022, "On the Representation Collapse of Sparse Mixture of Experts", arXiv 2204.09179 (without its
 * projection to fewer dimensions). */
#include <moegauge/router.h>

typedef struct cosine_options {
  int64_t k;
  double temperature;
} cosine_options;

static const mg_option options[] = {
    MG_OPTION_INT(cosine_options, k, 2, 1, 4096, "experts kept per token"),
    MG_OPTION_FLOAT(cosine_options, temperature, 0.07, 1e-3, 10.0, "divides the cosine"), MG_OPTION_END};

static const mg_param_spec params[] = {{"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       MG_PARAM_END};

static mg_status check(const mg_router *router) {
  const cosine_options *o = router->options;
  if (o->k <= router->experts) return MG_OK;
  return mg_fail(router->context, MG_USAGE, "router cosine: k = %lld, but there are only %lld experts", (long long)o->k,
                 (long long)router->experts);
}

/* Each row divided by its length. */
static mg_var *unit_rows(mg_tape *tape, mg_var *x) {
  mg_var *squares = mg_affine(tape, mg_sum_columns(tape, mg_square(tape, x)), 1.0, 1e-12);
  return mg_div(tape, x, mg_unary_op(tape, MG_UNARY_SQRT, squares, 0.0, 0.0));
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *input, mg_route_output *output) {
  const cosine_options *o = router->options;
  mg_var *gate = unit_rows(tape, mg_router_param(router, tape, "gate"));
  mg_var *cosine = mg_linear(tape, unit_rows(tape, input->x), gate);
  output->logits = mg_scale(tape, cosine, 1.0 / o->temperature);
  output->probs = mg_softmax(tape, output->logits);
  output->ids = mg_top_k(tape, output->probs, o->k, &output->weights);
  return mg_tape_status(tape);
}

static int64_t choices(const mg_router *router) {
  return ((const cosine_options *)router->options)->k;
}

static uint32_t promises(const mg_router *router) {
  (void)router;
  return MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN | MG_ROUTER_EXPERTS_EXCHANGEABLE;
}

static double gate_flops(const mg_router *router) {
  return 2.0 * (double)router->width * (double)router->experts;
}

static const mg_router_plugin plugin = {.abi = MG_ABI,
                                        .size = sizeof(mg_router_plugin),
                                        .name = "cosine",
                                        .summary = "Softmax top-k over the cosine between token and expert.",
                                        .paper = "Chi et al. 2022, arXiv 2204.09179",
                                        .formula = "p = softmax(cos(x, g) / temperature), the k largest are kept",
                                        .options = options,
                                        .options_size = sizeof(cosine_options),
                                        .params = params,
                                        .check = check,
                                        .choices = choices,
                                        .promises = promises,
                                        .route = route,
                                        .gate_flops = gate_flops};
MG_ROUTER_PLUGIN(plugin)
