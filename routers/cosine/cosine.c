/* Cosine gating: the angle between a low-dimensional projection of the token and an embedding of each expert.
 *
 *   z = W x;  h_e = (z . v_e) / (|z| |v_e| tau);  s = softmax(h) or sigmoid(h);  w = s over the k largest
 *   w = w / sum(w) when renormalised;  tau = temperature * exp(a), a learned from 0
 *
 * Chi et al. 2022 (X-MoE): few dimensions and unit length keep hidden states from collapsing towards the experts'
 * embeddings. 1e-12 under the root keeps a zero state finite. */
#include <moegauge/moegauge.h>

enum { SOFTMAX, SIGMOID };

typedef struct cosine_options {
  int64_t k, dimension, score;
  double temperature;
  bool renormalise;
} cosine_options;

static const char *const scores[] = {"softmax", "sigmoid", NULL};

static const mg_option options[] = {
    MG_OPTION_INT(cosine_options, k, 1, 1, 65536, "experts kept per token"),
    MG_OPTION_INT(cosine_options, dimension, 0, 0, 65536, "of the projection; 0 = half the experts"),
    MG_OPTION_CHOICE(cosine_options, score, SOFTMAX, scores, "how logits become scores"),
    MG_OPTION_FLOAT(cosine_options, temperature, 0.3, 1e-4, 1e4, "tau at the start"),
    MG_OPTION_BOOL(cosine_options, renormalise, false, "divide the kept weights by their sum"),
    MG_OPTION_END};

static const mg_param_spec params[] = {
    {"projection", {MG_DIM_CUSTOM, MG_DIM_WIDTH}, MG_INIT_TRUNCATED_FAN_IN, 1, false},
    {"experts", {MG_DIM_EXPERTS, MG_DIM_CUSTOM}, MG_INIT_TRUNCATED_FAN_IN, 1, false},
    {"log_temperature", {1}, MG_INIT_ZERO, 0, false},
    MG_PARAM_END};

static mg_status check(const mg_router *router) {
  const cosine_options *o = router->options;
  return mg_router_check_k(router, o->k, o->renormalise);
}

static int64_t dimension(const mg_router *router, int32_t param, int32_t dim) {
  (void)param, (void)dim;
  const int64_t wanted = ((const cosine_options *)router->options)->dimension;
  return wanted ? wanted : (router->experts + 1) / 2;
}

static uint32_t promises(const mg_router *router) {
  const uint32_t sum = ((const cosine_options *)router->options)->renormalise ? MG_ROUTER_WEIGHTS_SUM_TO_ONE : 0;
  return sum | MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN | MG_ROUTER_EXPERTS_EXCHANGEABLE |
         MG_ROUTER_GIVES_PROBS | MG_ROUTER_GIVES_LOGITS;
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const cosine_options *o = router->options;
  mg_var *z = mg_unit_rows(tape, mg_linear(tape, in->x, mg_router_param(router, tape, "projection")));
  mg_var *v = mg_unit_rows(tape, mg_router_param(router, tape, "experts"));
  mg_var *sharpness = mg_exp(tape, mg_scale(tape, mg_router_param(router, tape, "log_temperature"), -1));
  out->logits = mg_mul(tape, mg_scale(tape, mg_linear(tape, z, v), 1 / o->temperature), sharpness);
  mg_var *score = o->score == SOFTMAX ? mg_softmax(tape, out->logits) : mg_sigmoid(tape, out->logits);
  out->probs = o->score == SOFTMAX ? score : mg_shares(tape, score);
  out->ids = mg_top_k(tape, score, o->k, &out->weights);
  if (o->renormalise) out->weights = mg_shares(tape, out->weights);
  return mg_tape_status(tape);
}

static double gate_flops(const mg_router *router) {
  return 2.0 * (double)dimension(router, 0, 0) * (double)(router->width + router->experts);
}

static const mg_router_plugin plugin = {.abi = MG_ABI,
                                        .size = sizeof(mg_router_plugin),
                                        .name = "cosine",
                                        .summary = "Cosine of a low-dimensional projection with expert embeddings.",
                                        .paper = "Chi et al. 2022, arXiv 2204.09179",
                                        .formula = "z = W x; h_e = cos(z, v_e) / tau; keep the k largest softmax(h)",
                                        .options = options,
                                        .options_size = sizeof(cosine_options),
                                        .params = params,
                                        .check = check,
                                        .dimension = dimension,
                                        .promises = promises,
                                        .route = route,
                                        .gate_flops = gate_flops};
MG_ROUTER_PLUGIN(plugin)
