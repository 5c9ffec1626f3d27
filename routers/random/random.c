/* Random routing: k distinct experts drawn uniformly, anew at every step; nothing is learned.
 *
 *   u_e ~ uniform(0,1) for each expert;  choose the k largest;  w = 1/k
 *
 * One draw per token, per sequence or per batch. Zuo et al. 2021 (THOR) draw a pair of experts for an input: k = 2. The
 * control that every learned router has to beat. */
#include <moegauge/moegauge.h>

enum { TOKEN, SEQUENCE, BATCH };

typedef struct random_options {
  int64_t k, scope;
} random_options;

static const char *const scopes[] = {"token", "sequence", "batch", NULL};

static const mg_option options[] = {
    MG_OPTION_INT(random_options, k, 2, 1, 65536, "experts per token"),
    MG_OPTION_CHOICE(random_options, scope, TOKEN, scopes, "which tokens share one draw"), MG_OPTION_END};

/* The draw belongs to the token's place, so a token elsewhere in the batch is routed differently. */
static uint32_t promises(const mg_router *router) {
  (void)router;
  return MG_ROUTER_WEIGHTS_SUM_TO_ONE | MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_CAUSAL;
}

/* Every row of ids [draws,k] for `each` tokens: i32 [draws * each, k]. */
static mg_var *repeat_rows(mg_tape *tape, mg_var *ids, int64_t draws, int64_t each, int64_t k) {
  const int64_t wide[] = {draws * k, each}, split[] = {draws, k, each};
  mg_var *column = mg_reshape2(tape, mg_cast(tape, ids, MG_F32), draws * k, 1);
  mg_var *copies = mg_add(tape, mg_fill(tape, MG_F32, 2, wide, 0), column);
  mg_var *rows = mg_transpose(tape, mg_reshape(tape, copies, 3, split));
  return mg_cast(tape, mg_reshape2(tape, rows, draws * each, k), MG_I32);
}

/* Tokens that share a draw. */
static int64_t tokens_each(const mg_router *router, const mg_route_input *in) {
  const int64_t scope = ((const random_options *)router->options)->scope;
  return scope == SEQUENCE ? in->sequence_tokens : scope == BATCH && in->tokens ? in->tokens : 1;
}

static int64_t draws_of(const mg_router *router, const mg_route_input *in) {
  return in->tokens / tokens_each(router, in);
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const random_options *o = router->options;
  const int64_t each = tokens_each(router, in), draws = draws_of(router, in);
  const int64_t shape[] = {draws, router->experts}, out_shape[] = {in->tokens, o->k};
  mg_var *u = mg_random(tape, MG_F32, 2, shape, MG_RANDOM_UNIFORM, in->noise, 0, 1);
  out->ids = mg_top_k(tape, u, o->k, NULL);
  if (each > 1) out->ids = repeat_rows(tape, out->ids, draws, each, o->k);
  out->weights = mg_fill(tape, mg_var_dtype(in->x), 2, out_shape, 1 / (double)o->k);
  return mg_tape_status(tape);
}

static double selection_flops(const mg_router *router, const mg_route_input *call) {
  return (double)(draws_of(router, call) * router->experts);
}

static const mg_router_plugin plugin = {.abi = MG_ABI,
                                        .size = sizeof(mg_router_plugin),
                                        .name = "random",
                                        .summary = "k experts drawn uniformly for each token, anew at every step.",
                                        .paper = "Zuo et al. 2021, arXiv 2110.04260",
                                        .formula = "e_1 .. e_k distinct and uniform; w = 1/k",
                                        .options = options,
                                        .options_size = sizeof(random_options),
                                        .promises = promises,
                                        .route = route,
                                        .selection_flops = selection_flops};
MG_ROUTER_PLUGIN(plugin)
