/* Soft MoE: experts compute slots, each a weighted mean of all tokens of a sequence; no token is chosen or dropped.
 *
 *   L = scale * normed(X) normed(Phi)^T      [n, E p]: rows of X and of Phi of length 1, a learned scale
 *   dispatch = softmax of L over the n tokens, for each slot      combine = softmax of L over the E p slots, for each token
 *
 * Puigcerver et al. 2023 (arXiv 2308.00951), section 2 and its normalisation. Phi is held as one row per slot, where the
 * paper has columns. Every slot sees every token of its sequence: the router is not causal. */
#include <moegauge/moegauge.h>

typedef struct soft_options {
  int64_t slots;
  bool normalise;
  double scale;
} soft_options;

static const mg_option options[] = {
    MG_OPTION_INT(soft_options, slots, 1, 1, 65536, "slots of each expert in a sequence"),
    MG_OPTION_BOOL(soft_options, normalise, true, "bring the rows of X and Phi to length 1 and learn the scale"),
    MG_OPTION_FLOAT(soft_options, scale, 1, 1e-6, 1e6, "factor on the logits; where it is learned, at the start"),
    MG_OPTION_END};

enum { PHI, SCALE };
static const mg_param_spec params[] = {
    [PHI] = {"phi", {MG_DIM_EXPERTS, MG_DIM_CUSTOM, MG_DIM_WIDTH}, MG_INIT_TRUNCATED_FAN_IN, 1, false},
    [SCALE] = {"scale", {MG_DIM_CUSTOM}, MG_INIT_ONE, 0, false},
    MG_PARAM_END};

static int64_t slots(const mg_router *router) {
  return ((const soft_options *)router->options)->slots;
}

static int64_t dimension(const mg_router *router, int32_t param, int32_t dim) {
  (void)dim;
  return param == PHI ? slots(router) : ((const soft_options *)router->options)->normalise;
}

/* Combine weights sum to 1 over all slots. */
static uint32_t promises(const mg_router *router) {
  (void)router;
  return MG_ROUTER_WEIGHTS_SUM_TO_ONE | MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_EXPERTS_EXCHANGEABLE;
}

/* x . phi of every slot: [T, E p]. */
static mg_var *logits_of(mg_router *router, mg_tape *tape, mg_var *x) {
  const soft_options *o = router->options;
  mg_var *phi = mg_reshape2(tape, mg_router_param(router, tape, "phi"), router->experts * o->slots, router->width);
  if (!o->normalise) return mg_scale(tape, mg_linear(tape, x, phi), o->scale);
  mg_var *cosine = mg_linear(tape, mg_unit_rows(tape, x), mg_unit_rows(tape, phi));
  return mg_mul(tape, mg_scale(tape, cosine, o->scale), mg_router_param(router, tape, "scale"));
}

/* Softmax over the tokens of each sequence, one for each slot. */
static mg_var *over_tokens(mg_tape *tape, mg_var *logits, const mg_route_input *in) {
  const int64_t columns = mg_var_columns(logits);
  const int64_t shape[] = {in->tokens / in->sequence_tokens, in->sequence_tokens, columns};
  mg_var *shares = mg_softmax(tape, mg_transpose(tape, mg_reshape(tape, logits, 3, shape)));
  return mg_reshape2(tape, mg_transpose(tape, shares), in->tokens, columns);
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  mg_var *logits = logits_of(router, tape, in->x);
  out->dispatch = over_tokens(tape, logits, in);
  out->combine = mg_softmax(tape, logits);
  return mg_tape_status(tape);
}

/* The products, and the length of each token; that of the slots is work of a batch. */
static double gate_flops(const mg_router *router) {
  const double width = (double)router->width, length = ((const soft_options *)router->options)->normalise ? 3 : 0;
  return (2.0 * (double)(router->experts * slots(router)) + length) * width;
}

static const mg_router_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_router_plugin),
    .name = "soft",
    .summary = "Soft MoE: experts compute weighted means of a sequence's tokens; not causal.",
    .paper = "Puigcerver et al. 2023, arXiv 2308.00951",
    .formula = "L = scale cos(X, Phi); slots = softmax_tokens(L)^T X; Y = softmax_slots(L) experts(slots)",
    .options = options,
    .options_size = sizeof(soft_options),
    .params = params,
    .dimension = dimension,
    .promises = promises,
    .route = route,
    .gate_flops = gate_flops,
    .slots = slots};
MG_ROUTER_PLUGIN(plugin)
