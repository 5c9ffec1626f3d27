/* Top-p gating: as many experts, in order of probability, as are needed to reach a cumulative probability.
 *
 *   P = softmax(x W_gate^T);  t = the least number with P_(1) + ... + P_(t) >= p, at most `most`;  w = P of those t
 *
 * Huang et al. 2024 (arXiv 2403.07652); XMoE (Yang et al. 2024, arXiv 2403.18926) selects by the same rule. */
#include <moegauge/moegauge.h>

typedef struct top_p_options {
  double p;
  int64_t most;
  bool renormalise;
} top_p_options;

static const mg_option options[] = {
    MG_OPTION_FLOAT(top_p_options, p, 0.4, 1e-6, 1, "cumulative probability to reach; 1 keeps `most` experts"),
    MG_OPTION_INT(top_p_options, most, 0, 0, 65536, "most experts of a token; 0 = all experts of the layer"),
    MG_OPTION_BOOL(top_p_options, renormalise, false, "divide the kept weights by their sum"), MG_OPTION_END};

static const mg_param_spec params[] = {{"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       MG_PARAM_END};

static int64_t choices(const mg_router *router) {
  const int64_t most = ((const top_p_options *)router->options)->most;
  return most ? most : router->experts;
}

static mg_status check(const mg_router *router) {
  const top_p_options *o = router->options;
  if (o->most > router->experts)
    return mg_fail(router->context, MG_USAGE, "router top_p: most = %lld is more than the %lld experts of the layer",
                   (long long)o->most, (long long)router->experts);
  if (choices(router) == 1 && o->renormalise)
    return mg_fail(
        router->context, MG_USAGE,
        "router top_p: with one expert per token a renormalised weight is always 1, so the gate would get no "
        "gradient; use renormalise = false");
  return MG_OK;
}

static uint32_t promises(const mg_router *router) {
  const uint32_t sum = ((const top_p_options *)router->options)->renormalise ? MG_ROUTER_WEIGHTS_SUM_TO_ONE : 0;
  return sum | MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN | MG_ROUTER_EXPERTS_EXCHANGEABLE |
         MG_ROUTER_GIVES_PROBS | MG_ROUTER_GIVES_LOGITS;
}

/* 1 where the more probable experts do not reach p yet, so that the first is always kept. */
static mg_var *needed(mg_tape *tape, mg_var *sorted, double p) {
  mg_var *constant = mg_detach(tape, sorted);
  mg_var *before = mg_sub(tape, mg_cumsum(tape, constant), constant);
  return mg_unary_op(tape, MG_UNARY_STEP, mg_affine(tape, before, -1, p), 0, 0);
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const top_p_options *o = router->options;
  out->logits = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
  out->probs = mg_softmax(tape, out->logits);
  out->ids = mg_top_k(tape, out->probs, choices(router), &out->weights);
  if (o->p < 1) {
    mg_var *kept = needed(tape, out->weights, o->p);
    out->ids = mg_ids_where(tape, kept, out->ids);
    out->weights = mg_where(tape, kept, out->weights, 0);
  }
  if (o->renormalise) out->weights = mg_shares(tape, out->weights);
  return mg_tape_status(tape);
}

static const mg_router_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_router_plugin),
    .name = "top_p",
    .summary = "As many experts per token as a cumulative probability needs.",
    .paper = "Huang et al. 2024, arXiv 2403.07652",
    .formula = "P = softmax(x W); keep the t largest, t least with their sum >= p, t <= most; w = P",
    .options = options,
    .options_size = sizeof(top_p_options),
    .params = params,
    .check = check,
    .choices = choices,
    .promises = promises,
    .route = route};
MG_ROUTER_PLUGIN(plugin)
