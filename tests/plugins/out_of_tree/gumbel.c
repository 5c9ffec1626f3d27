/* Gumbel top-k gating: in training the k experts are sampled without replacement from the router's softmax.
 *
 *   p = softmax(x W),  e = the k largest of x W + strength * G,  G = -log(-log(uniform)),  w = p[e]
 *
 * Kool et al. 2019, "Stochastic Beams and Where to Find Them", arXiv 1903.06059. Outside training G is left out. */
#include <moegauge/router.h>

typedef struct gumbel_options {
  int64_t k;
  double strength;
} gumbel_options;

static const mg_option options[] = {MG_OPTION_INT(gumbel_options, k, 2, 1, 4096, "experts kept per token"),
                                    MG_OPTION_FLOAT(gumbel_options, strength, 1.0, 0.0, 100.0,
                                                    "factor on the Gumbel noise; 1 samples from the softmax"),
                                    MG_OPTION_END};

static const mg_param_spec params[] = {{"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       MG_PARAM_END};

/* -log(-log u) for each token and expert; u stays far enough from 0 and 1 that both logarithms are finite in f32. */
static mg_var *gumbel_noise(mg_tape *tape, const mg_route_input *input, const mg_var *logits) {
  const int64_t shape[] = {mg_var_rows(logits), mg_var_columns(logits)};
  mg_var *u = mg_random(tape, mg_var_dtype(logits), 2, shape, MG_RANDOM_UNIFORM, input->noise, 1e-6, 1.0 - 1e-6);
  return mg_scale(tape, mg_log(tape, mg_scale(tape, mg_log(tape, u), -1.0)), -1.0);
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *input, mg_route_output *output) {
  const gumbel_options *o = router->options;
  mg_var *logits = mg_linear(tape, input->x, mg_router_param(router, tape, "gate")), *scores = logits;
  if (input->training && o->strength > 0.0)
    scores = mg_add(tape, logits, mg_scale(tape, gumbel_noise(tape, input, logits), o->strength));
  output->logits = logits;
  output->probs = mg_softmax(tape, logits);
  output->ids = mg_top_k(tape, scores, o->k, NULL);
  output->weights = mg_gather_columns(tape, output->probs, output->ids);
  return mg_tape_status(tape);
}

static uint32_t promises(const mg_router *router) {
  (void)router;
  return MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN | MG_ROUTER_EXPERTS_EXCHANGEABLE |
         MG_ROUTER_GIVES_PROBS | MG_ROUTER_GIVES_LOGITS;
}

static const mg_router_plugin plugin = {.abi = MG_ABI,
                                        .size = sizeof(mg_router_plugin),
                                        .name = "gumbel",
                                        .summary = "Top-k of the logits plus Gumbel noise: a sample from the softmax.",
                                        .paper = "Kool et al. 2019, arXiv 1903.06059",
                                        .formula = "p = softmax(x W); e = top-k(x W + strength * G); w = p[e]",
                                        .options = options,
                                        .options_size = sizeof(gumbel_options),
                                        .params = params,
                                        .promises = promises,
                                        .route = route};
MG_ROUTER_PLUGIN(plugin)
