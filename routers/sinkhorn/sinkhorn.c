/* Sinkhorn gating: in training the experts are chosen from a matrix whose rows and columns have equal sums.
 *
 *   A = exp(H), H = x W_gate^T;   repeat: r_t = 1 / sum_e A_te c_e,  c_e = (T / E) / sum_t r_t A_te
 *   training:  the k largest A_te c_e of each token        otherwise:  the k largest H_te
 *   w = softmax(H) or sigmoid(H) of the chosen
 *
 * Clark et al. 2022 (arXiv 2202.01169), S-BASE. The balanced matrix carries no gradient. A token's row factor r_t changes
 * nothing among its experts, so it is left out of the selection. */
#include <moegauge/moegauge.h>

enum { SOFTMAX, SIGMOID };

typedef struct sinkhorn_options {
  int64_t k, iterations, score;
} sinkhorn_options;

static const char *const scores[] = {"softmax", "sigmoid", NULL};

static const mg_option options[] = {
    MG_OPTION_INT(sinkhorn_options, k, 1, 1, 65536, "experts kept per token"),
    MG_OPTION_INT(sinkhorn_options, iterations, 8, 1, 1000, "times that rows and columns are normalised"),
    MG_OPTION_CHOICE(sinkhorn_options, score, SOFTMAX, scores, "how logits become weights"), MG_OPTION_END};

static const mg_param_spec params[] = {{"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       MG_PARAM_END};

static uint32_t promises(const mg_router *router) {
  (void)router;
  return MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_EXPERTS_EXCHANGEABLE | MG_ROUTER_GIVES_PROBS |
         MG_ROUTER_GIVES_LOGITS;
}

/* A times its column factors [T,E]. The floor keeps the factor of an expert that nobody can reach finite. */
static mg_var *balanced(mg_tape *tape, mg_var *logits, int64_t iterations) {
  const int64_t tokens = mg_var_rows(logits), experts = mg_var_columns(logits);
  mg_var *largest = mg_reduce_op(tape, MG_REDUCE_MAX, MG_OVER_COLUMNS, logits);
  mg_var *matrix = mg_exp(tape, mg_sub(tape, logits, largest));
  mg_var *scaled = matrix;
  for (int64_t i = 0; i < iterations; i++) {
    mg_var *rows = mg_div(tape, matrix, mg_sum_columns(tape, scaled));
    mg_var *columns = mg_unary_op(tape, MG_UNARY_CLAMP, mg_sum_rows(tape, rows), 1e-30, 1e30);
    mg_var *factors = mg_unary_op(tape, MG_UNARY_RECIPROCAL, columns, 0, 0);
    scaled = mg_mul(tape, matrix, mg_scale(tape, factors, (double)tokens / (double)experts));
  }
  return scaled;
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const sinkhorn_options *o = router->options;
  out->logits = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
  mg_var *score = o->score == SOFTMAX ? mg_softmax(tape, out->logits) : mg_sigmoid(tape, out->logits);
  out->probs = o->score == SOFTMAX ? score : mg_shares(tape, score);
  mg_var *fixed = mg_detach(tape, out->logits);
  out->ids = mg_top_k(tape, in->training ? balanced(tape, fixed, o->iterations) : fixed, o->k, NULL);
  out->weights = mg_gather_columns(tape, score, out->ids);
  return mg_tape_status(tape);
}

static const mg_router_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_router_plugin),
    .name = "sinkhorn",
    .summary = "Top-k of a matrix balanced by Sinkhorn iterations in training, of the plain logits otherwise.",
    .paper = "Clark et al. 2022, arXiv 2202.01169",
    .formula = "A = exp(x W), rows and columns normalised in turn; e = the k largest A; w = softmax(x W) of those",
    .options = options,
    .options_size = sizeof(sinkhorn_options),
    .params = params,
    .promises = promises,
    .route = route};
MG_ROUTER_PLUGIN(plugin)
