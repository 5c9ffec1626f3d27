/* Switch gating: the one expert of highest probability, weighted by that raw probability.
 *
 *   p = softmax(x' W_gate^T),  x' = x * uniform(1 - jitter, 1 + jitter) in training;  e = argmax p,  w = p_e
 *
 * Fedus et al. 2021, eqs 1-2 and appendix; the gate starts truncated normal with deviation sqrt(0.1 / D) (their 0.1x
 * initialisation). The weight is not renormalised: a weight of 1 would leave the gate without a gradient. */
#include <moegauge/moegauge.h>

typedef struct switch_options {
  double jitter;
} switch_options;

static const mg_option options[] = {
    MG_OPTION_FLOAT(switch_options, jitter, 0.01, 0, 0.99, "half width of the factor on the gate's input in training"),
    MG_OPTION_END};

static const mg_param_spec params[] = {{"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_TRUNCATED_FAN_IN, 0.1, false},
                                       MG_PARAM_END};

static int64_t choices(const mg_router *router) {
  (void)router;
  return 1;
}

static uint32_t promises(const mg_router *router) {
  (void)router;
  return MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN | MG_ROUTER_EXPERTS_EXCHANGEABLE |
         MG_ROUTER_GIVES_PROBS | MG_ROUTER_GIVES_LOGITS;
}

static mg_var *jittered(mg_tape *tape, const mg_route_input *in, double jitter) {
  const int64_t shape[] = {mg_var_rows(in->x), mg_var_columns(in->x)};
  return mg_mul(tape, in->x,
                mg_random(tape, mg_var_dtype(in->x), 2, shape, MG_RANDOM_UNIFORM, in->noise, 1 - jitter, 1 + jitter));
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const double jitter = ((const switch_options *)router->options)->jitter;
  mg_var *x = in->training && jitter > 0 ? jittered(tape, in, jitter) : in->x;
  out->logits = mg_linear(tape, x, mg_router_param(router, tape, "gate"));
  out->probs = mg_softmax(tape, out->logits);
  out->ids = mg_top_k(tape, out->probs, 1, &out->weights);
  return mg_tape_status(tape);
}

static const mg_router_plugin plugin = {.abi = MG_ABI,
                                        .size = sizeof(mg_router_plugin),
                                        .name = "switch",
                                        .summary = "The one expert of highest probability, weighted by it.",
                                        .paper = "Fedus et al. 2021, arXiv 2101.03961",
                                        .formula = "p = softmax(x' W), x' = x (1 + jitter); e = argmax p; w = p_e",
                                        .options = options,
                                        .options_size = sizeof(switch_options),
                                        .params = params,
                                        .choices = choices,
                                        .promises = promises,
                                        .route = route};
MG_ROUTER_PLUGIN(plugin)
