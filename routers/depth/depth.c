/* Mixture-of-Depths: a share of each sequence's tokens goes through the only expert, the others pass it by.
 *
 *   r_t = x_t . w;   the C = capacity * n tokens of highest r of a sequence of n are chosen;   w_t = r_t or sigmoid(r_t)
 *   evaluation 'threshold':  chosen where r_t > 0, which looks at no other token; a loss teaches r this:
 *   loss = weight * mean_t BCE(sigmoid(r_t), chosen_t),   BCE = softplus(r_t) - chosen_t r_t
 *
 * Raposo et al. 2024 (arXiv 2404.02258). */
#include <math.h>
#include <moegauge/moegauge.h>

enum { RAW, SIGMOID };
enum { THRESHOLD, TOP_K };

typedef struct depth_options {
  double capacity, loss;
  int64_t weight, evaluation;
} depth_options;

static const char *const weights[] = {"raw", "sigmoid", NULL};
static const char *const evaluations[] = {"threshold", "top_k", NULL};

static const mg_option options[] = {
    MG_OPTION_FLOAT(depth_options, capacity, 0.125, 1e-6, 1, "share of a sequence's tokens that are chosen"),
    MG_OPTION_CHOICE(depth_options, weight, RAW, weights, "how scores become weights"),
    MG_OPTION_CHOICE(depth_options, evaluation, THRESHOLD, evaluations, "how tokens are chosen outside training"),
    MG_OPTION_FLOAT(depth_options, loss, 0.01, 0, 1e6, "weight of the loss that centres the threshold on 0"),
    MG_OPTION_END};

static const mg_param_spec params[] = {{"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       MG_PARAM_END};

static mg_status check(const mg_router *router) {
  if (router->experts == 1) return MG_OK;
  return mg_fail(router->context, MG_USAGE, "router depth: the layer must have experts = 1, not %lld",
                 (long long)router->experts);
}

static int64_t choices(const mg_router *router) {
  (void)router;
  return 1;
}

static double mean_choices(const mg_router *router) {
  return ((const depth_options *)router->options)->capacity;
}

static uint32_t promises(const mg_router *router) {
  const uint32_t positive =
      ((const depth_options *)router->options)->weight == SIGMOID ? MG_ROUTER_WEIGHTS_NONNEGATIVE : 0;
  return positive | MG_ROUTER_GIVES_LOGITS | MG_ROUTER_GIVES_LOSS;
}

/* 1 for the best tokens of each sequence, else 0: [T,1]. */
static mg_var *best_of_sequence(mg_tape *tape, mg_var *score, int64_t length, double capacity) {
  const int64_t tokens = mg_var_rows(score), wanted = (int64_t)floor(capacity * (double)length * (1 + 1e-12));
  const int64_t shape[] = {tokens / length, wanted > 1 ? wanted : 1};
  mg_var *ids = mg_top_k(tape, mg_reshape2(tape, score, shape[0], length), shape[1], NULL);
  mg_var *ones = mg_fill(tape, mg_var_dtype(score), 2, shape, 1);
  return mg_reshape2(tape, mg_scatter_columns(tape, ones, ids, length), tokens, 1);
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const depth_options *o = router->options;
  mg_var *score = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
  mg_var *fixed = mg_detach(tape, score);
  mg_var *best = best_of_sequence(tape, fixed, in->sequence_tokens, o->capacity);
  const bool causal = !in->training && o->evaluation == THRESHOLD;
  mg_var *chosen = causal ? mg_unary_op(tape, MG_UNARY_STEP, fixed, 0, 0) : best;
  out->logits = score;
  out->ids = mg_cast(tape, mg_affine(tape, chosen, 1, -1), MG_I32);
  out->weights = mg_where(tape, chosen, o->weight == RAW ? score : mg_sigmoid(tape, score), 0);
  mg_var *error = mg_sub(tape, mg_softplus(tape, score), mg_mul(tape, score, best));
  out->loss = mg_scale(tape, mg_mean(tape, error), o->loss);
  return mg_tape_status(tape);
}

static const mg_router_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_router_plugin),
    .name = "depth",
    .summary = "Mixture-of-Depths: a share of each sequence's tokens goes through the one expert.",
    .paper = "Raposo et al. 2024, arXiv 2404.02258",
    .formula = "r = x . w; keep the capacity * n tokens of highest r of each sequence; w = r or sigmoid(r)",
    .options = options,
    .options_size = sizeof(depth_options),
    .params = params,
    .check = check,
    .choices = choices,
    .mean_choices = mean_choices,
    .promises = promises,
    .route = route};
MG_ROUTER_PLUGIN(plugin)
