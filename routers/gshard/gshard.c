/* GShard gating: the best expert, and the second best with a probability that grows with its weight.
 *
 *   p = softmax(x W_gate^T);  g1, g2 = the two largest p, divided by their sum
 *   in training the second is kept if g2 > threshold * uniform(0,1), or always if g2 > threshold; the first keeps its g1
 *   either way
 *   with groups: an expert takes C = factor * 2 S / E tokens of each group of S; first choices come before second ones
 *
 * Lepikhin et al. 2020, algorithm 1. */
#include <math.h>

#include <moegauge/moegauge.h>

enum { RANDOM, THRESHOLD, ALL };

typedef struct gshard_options {
  int64_t second, groups;
  double factor, threshold;
} gshard_options;

static const char *const seconds[] = {"random", "threshold", "all", NULL};

static const mg_option options[] = {
    MG_OPTION_CHOICE(gshard_options, second, RANDOM, seconds,
                     "keep the second expert by chance (in training), above a threshold, or always"),
    MG_OPTION_FLOAT(gshard_options, threshold, 0.5, 1e-6, 1,
                    "share of the weight that is always kept; 0.5 is 2 g2 > u"),
    MG_OPTION_INT(gshard_options, groups, 0, 0, 65536,
                  "groups of tokens with a capacity of their own; 0 = none, the layer's policy alone"),
    MG_OPTION_FLOAT(gshard_options, factor, 1, 1e-3, 1e6,
                    "capacity of an expert in a group, in units of 2 S / E tokens"),
    MG_OPTION_END};

static const mg_param_spec params[] = {{"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       MG_PARAM_END};

static mg_status check(const mg_router *router) {
  const gshard_options *o = router->options;
  if (router->experts < 2)
    return mg_fail(router->context, MG_USAGE, "router gshard: two experts are chosen; the layer has %lld",
                   (long long)router->experts);
  if (o->groups >= (1 << 24) / router->experts) /* numbers of (group, expert) are computed in f32 */
    return mg_fail(router->context, MG_USAGE,
                   "router gshard: groups = %lld is too many for %lld experts; use below %lld", (long long)o->groups,
                   (long long)router->experts, (long long)((1 << 24) / router->experts));
  return MG_OK;
}

static int64_t choices(const mg_router *router) {
  (void)router;
  return 2;
}

/* In a group a later first choice can take the place of an earlier second one. */
static uint32_t promises(const mg_router *router) {
  const gshard_options *o = router->options;
  uint32_t kept =
      MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_EXPERTS_EXCHANGEABLE | MG_ROUTER_GIVES_PROBS | MG_ROUTER_GIVES_LOGITS;
  if (o->groups == 0) kept |= MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN;
  if (o->groups == 0 && o->second == ALL) kept |= MG_ROUTER_WEIGHTS_SUM_TO_ONE;
  return kept;
}

/* 0, step, 2 step, ... as a row of `count`. */
static mg_var *arithmetic_row(mg_tape *tape, mg_dtype dtype, int64_t count, double step) {
  const int64_t shape[] = {1, count};
  return mg_affine(tape, mg_cumsum(tape, mg_fill(tape, dtype, 2, shape, 1)), step, -step);
}

/* [T,2]: 1 where w / threshold > (0, u), u drawn or 1; the first weight is at least 1/2 and always kept. */
static mg_var *important(mg_tape *tape, const gshard_options *o, mg_var *weights, mg_stream noise) {
  const mg_dtype dtype = mg_var_dtype(weights);
  const int64_t tokens = mg_var_rows(weights), one[] = {tokens, 1}, two[] = {tokens, 2}, columns = 2;
  mg_var *u = o->second == RANDOM ? mg_random(tape, dtype, 2, one, MG_RANDOM_UNIFORM, noise, 0, 1)
                                  : mg_fill(tape, dtype, 2, one, 1);
  mg_var *row = mg_reshape(tape, arithmetic_row(tape, dtype, 2, 1), 1, &columns);
  mg_var *least = mg_mul(tape, mg_add(tape, mg_fill(tape, dtype, 2, two, 0), row), u);
  return mg_detach(tape, mg_binary_op(tape, MG_BINARY_GREATER, mg_scale(tape, weights, 1 / o->threshold), least));
}

/* [T,1]: the number of each token's group, times `step`; groups are runs of `each` tokens. */
static mg_var *group_numbers(mg_tape *tape, mg_dtype dtype, int64_t tokens, int64_t groups, int64_t each, double step) {
  const int64_t shape[] = {groups, each};
  mg_var *column = mg_reshape2(tape, arithmetic_row(tape, dtype, groups, step), groups, 1);
  mg_var *numbers = mg_add(tape, mg_fill(tape, dtype, 2, shape, 0), column);
  return mg_reshape2(tape, mg_slice(tape, mg_reshape2(tape, numbers, 1, groups * each), 0, tokens), tokens, 1);
}

/* The choices that find room in their group: each (group, expert) is an expert of an assignment with capacity. */
static mg_var *with_room(const mg_router *router, mg_tape *tape, mg_var *chosen_ids, mg_dtype dtype) {
  const gshard_options *o = router->options;
  mg_var *ids = mg_cast(tape, chosen_ids, dtype);
  const int64_t tokens = mg_var_rows(ids), each = (tokens + o->groups - 1) / o->groups;
  const double wanted = floor(o->factor * 2 * (double)each / (double)router->experts * (1 + 1e-12));
  mg_var *group = group_numbers(tape, dtype, tokens, o->groups, each, (double)router->experts);
  mg_var *chosen = mg_unary_op(tape, MG_UNARY_STEP, mg_affine(tape, ids, 1, 0.5), 0, 0);
  mg_var *owner = mg_ids_where(tape, chosen, mg_add(tape, ids, group));
  mg_assignment placed;
  mg_assign(tape, owner, NULL, router->experts * o->groups, wanted < 1 ? 1 : (int64_t)fmin(wanted, (double)tokens),
            MG_ORDER_POSITION, &placed);
  if (mg_tape_status(tape) != MG_OK) return NULL;
  mg_var *place = mg_cast(tape, placed.position, dtype);
  return mg_unary_op(tape, MG_UNARY_STEP, mg_affine(tape, place, 1, 0.5), 0, 0);
}

/* Leaves out the choices whose mask [T,2] is 0. */
static void keep(mg_tape *tape, mg_var *kept, mg_route_output *out) {
  out->ids = mg_ids_where(tape, kept, mg_cast(tape, out->ids, mg_var_dtype(kept)));
  out->weights = mg_where(tape, kept, out->weights, 0);
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const gshard_options *o = router->options;
  out->logits = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
  out->probs = mg_softmax(tape, out->logits);
  out->ids = mg_top_k(tape, out->probs, 2, &out->weights);
  out->weights = mg_shares(tape, out->weights);
  const bool selects = o->second == THRESHOLD || (o->second == RANDOM && in->training);
  if (selects) keep(tape, important(tape, o, out->weights, in->noise), out);
  if (o->groups > 0 && in->tokens > 0) {
    out->wanted = out->ids;
    keep(tape, with_room(router, tape, out->ids, mg_var_dtype(out->weights)), out);
  }
  return mg_tape_status(tape);
}

static const mg_router_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_router_plugin),
    .name = "gshard",
    .summary = "The best expert, and the second best by chance or above a threshold; optionally local groups.",
    .paper = "Lepikhin et al. 2020, arXiv 2006.16668",
    .formula = "g1, g2 = top 2 of softmax(x W), divided by their sum; the second is kept if 2 g2 > u",
    .options = options,
    .options_size = sizeof(gshard_options),
    .params = params,
    .check = check,
    .choices = choices,
    .promises = promises,
    .route = route};
MG_ROUTER_PLUGIN(plugin)
