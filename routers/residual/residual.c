/* Gating residual: top-k whose logits add a product of the logits of the mixture before.
 *
 *   G_1 = x W^T;   G_j = x W^T + G_(j-1) U^T in later mixtures;   s = softmax(G_j);   w = s of the k largest
 *
 * Jin et al. 2024, MoE++ (arXiv 2410.07348), eq. 6. */
#include <moegauge/moegauge.h>

typedef struct residual_options {
  int64_t k;
  bool renormalise;
} residual_options;

static const mg_option options[] = {
    MG_OPTION_INT(residual_options, k, 2, 1, 65536, "experts kept per token"),
    MG_OPTION_BOOL(residual_options, renormalise, false, "divide the kept weights by their sum"), MG_OPTION_END};

enum { GATE, RESIDUAL };
static const mg_param_spec params[] = {
    [GATE] = {"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
    [RESIDUAL] = {"residual", {MG_DIM_CUSTOM, MG_DIM_EXPERTS}, MG_INIT_NORMAL, 0.02, false},
    MG_PARAM_END};

static mg_status check(const mg_router *router) {
  const residual_options *o = router->options;
  return mg_router_check_k(router, o->k, o->renormalise);
}

/* The first layer of a model has nothing before it. */
static int64_t dimension(const mg_router *router, int32_t param, int32_t dim) {
  (void)dim;
  return param == RESIDUAL && router->layer > 0 ? router->experts : 0;
}

static uint32_t promises(const mg_router *router) {
  const uint32_t sum = ((const residual_options *)router->options)->renormalise ? MG_ROUTER_WEIGHTS_SUM_TO_ONE : 0;
  return sum | MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN | MG_ROUTER_EXPERTS_EXCHANGEABLE |
         MG_ROUTER_GIVES_PROBS | MG_ROUTER_GIVES_LOGITS;
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const residual_options *o = router->options;
  out->logits = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
  if (in->previous && mg_router_has_param(router, "residual")) {
    mg_var *before = mg_linear(tape, in->previous, mg_router_param(router, tape, "residual"));
    out->logits = mg_add(tape, out->logits, before);
  }
  out->probs = mg_softmax(tape, out->logits);
  out->ids = mg_top_k(tape, out->probs, o->k, &out->weights);
  if (o->renormalise) out->weights = mg_shares(tape, out->weights);
  return mg_tape_status(tape);
}

static double gate_flops(const mg_router *router) {
  const double inputs = (double)router->width + (router->layer > 0 ? (double)router->experts : 0);
  return 2.0 * (double)router->experts * inputs;
}

static const mg_router_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_router_plugin),
    .name = "residual",
    .summary = "Top-k whose logits add a product of the logits of the mixture before (MoE++).",
    .paper = "Jin et al. 2024, arXiv 2410.07348",
    .formula = "G_j = x W + G_(j-1) U; s = softmax(G_j); keep the k largest s; w = s",
    .options = options,
    .options_size = sizeof(residual_options),
    .params = params,
    .check = check,
    .dimension = dimension,
    .promises = promises,
    .route = route,
    .gate_flops = gate_flops};
MG_ROUTER_PLUGIN(plugin)
