/* DeepSeek gating: experts are selected by affinity plus a bias that balances their load, and weighed without the bias.
 *
 *   s = sigmoid(x W_gate^T), softmax or sqrt(softplus);  select the k largest s + b, within the best groups;  w = s of the selected
 *   w = scale * w / sum(w) when renormalised
 *   group score: the largest s + b of the group, or the sum of its two largest; experts outside the best groups are out
 *   after each step: b_i += rate * sign(mean c - c_i), or b_i += rate * (mean c - c_i) / mean c
 *   multiplied bias: s b in place of s + b, b starting at 1
 *
 * DeepSeek-V2 (softmax, groups by largest), DeepSeek-V3, eqs 12-16 (sigmoid, bias, groups by sum of two), and Wang et
 * al. 2024, algorithm 1 (the bias). c_i is the load of expert i in the batch. No gradient passes the selection. */
#include <math.h>

#include <moegauge/moegauge.h>

enum { SIGMOID, SOFTMAX, SQRT_SOFTPLUS };
enum { NONE, SIGN, PROPORTIONAL };
enum { ADDED, MULTIPLIED };
enum { LARGEST, TOP2 };

typedef struct deepseek_options {
  int64_t k, score, bias, form, groups, groups_kept, group_score;
  bool renormalise;
  double rate, scale;
} deepseek_options;

static const char *const scores[] = {"sigmoid", "softmax", "sqrt_softplus", NULL};
static const char *const biases[] = {"none", "sign", "proportional", NULL};
static const char *const forms[] = {"added", "multiplied", NULL};
static const char *const group_scores[] = {"max", "top2", NULL};

static const mg_option options[] = {
    MG_OPTION_INT(deepseek_options, k, 2, 1, 65536, "experts kept per token"),
    MG_OPTION_CHOICE(deepseek_options, score, SIGMOID, scores, "how logits become affinities"),
    MG_OPTION_CHOICE(deepseek_options, bias, SIGN, biases, "how the selection bias moves after a step"),
    MG_OPTION_CHOICE(deepseek_options, form, ADDED, forms, "how the bias joins the affinity to select"),
    MG_OPTION_FLOAT(deepseek_options, rate, 0.001, 0, 1, "how far the bias moves in a step"),
    MG_OPTION_INT(deepseek_options, groups, 1, 1, 65536, "equal runs of experts (nodes, devices)"),
    MG_OPTION_INT(deepseek_options, groups_kept, 1, 1, 65536, "groups from which a token may choose"),
    MG_OPTION_CHOICE(deepseek_options, group_score, TOP2, group_scores, "score of a group: largest, or sum of two"),
    MG_OPTION_BOOL(deepseek_options, renormalise, true, "divide the kept weights by their sum"),
    MG_OPTION_FLOAT(deepseek_options, scale, 1, 1e-6, 1e6, "factor on the weights"),
    MG_OPTION_END};

enum { GATE, BIAS, FACTOR };
static const mg_param_spec params[] = {[GATE] = {"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       [BIAS] = {"bias", {MG_DIM_CUSTOM}, MG_INIT_ZERO, 0, true},
                                       [FACTOR] = {"factor", {MG_DIM_CUSTOM}, MG_INIT_ONE, 0, true},
                                       MG_PARAM_END};

static mg_status check_groups(const mg_router *router, const deepseek_options *o) {
  const int64_t each = router->experts / o->groups;
  if (router->experts % o->groups != 0)
    return mg_fail(router->context, MG_USAGE, "router deepseek: the %lld experts must be a multiple of groups = %lld",
                   (long long)router->experts, (long long)o->groups);
  if (o->groups_kept > o->groups)
    return mg_fail(router->context, MG_USAGE, "router deepseek: groups_kept = %lld is more than groups = %lld",
                   (long long)o->groups_kept, (long long)o->groups);
  if (o->k > o->groups_kept * each)
    return mg_fail(router->context, MG_USAGE,
                   "router deepseek: k = %lld is more than the %lld experts of groups_kept = %lld groups",
                   (long long)o->k, (long long)o->groups_kept * each, (long long)o->groups_kept);
  if (o->groups > 1 && o->group_score == TOP2 && each < 2)
    return mg_fail(router->context, MG_USAGE,
                   "router deepseek: group_score 'top2' needs two experts per group; use fewer groups or 'max'");
  return MG_OK;
}

static mg_status check(const mg_router *router) {
  const deepseek_options *o = router->options;
  MG_TRY(mg_router_check_k(router, o->k, o->renormalise));
  if (o->bias == NONE && o->form == MULTIPLIED)
    return mg_fail(router->context, MG_USAGE,
                   "router deepseek: form 'multiplied' is about the bias, and bias is 'none'; use bias 'sign' or "
                   "'proportional', or leave form out");
  return check_groups(router, o);
}

static int64_t dimension(const mg_router *router, int32_t param, int32_t dim) {
  (void)dim;
  const deepseek_options *o = router->options;
  return o->bias != NONE && param == (o->form == MULTIPLIED ? FACTOR : BIAS) ? router->experts : 0;
}

static uint32_t promises(const mg_router *router) {
  const deepseek_options *o = router->options;
  uint32_t kept = MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_CAUSAL | MG_ROUTER_PER_TOKEN | MG_ROUTER_GIVES_PROBS |
                  MG_ROUTER_GIVES_LOGITS;
  if (o->renormalise && o->scale == 1) kept |= MG_ROUTER_WEIGHTS_SUM_TO_ONE;
  if (o->groups == 1) kept |= MG_ROUTER_EXPERTS_EXCHANGEABLE;
  return kept;
}

static int64_t groupings(const mg_router *router, int64_t *groups, int64_t most) {
  const deepseek_options *o = router->options;
  if (o->groups == 1 || most < 1) return 0;
  groups[0] = o->groups;
  return 1;
}

/* Scores [T,E] with those outside each token's best groups at -infinity. */
static mg_var *within_best_groups(mg_tape *tape, mg_var *scores_all, const deepseek_options *o) {
  const mg_dtype dtype = mg_var_dtype(scores_all);
  const int64_t tokens = mg_var_rows(scores_all), experts = mg_var_columns(scores_all), each = experts / o->groups;
  const int64_t kept_shape[] = {tokens, o->groups_kept}, group_shape[] = {tokens * o->groups, each};
  mg_var *members = mg_reshape2(tape, scores_all, tokens * o->groups, each), *best;
  mg_top_k(tape, members, o->group_score == TOP2 ? 2 : 1, &best);
  mg_var *score = mg_reshape2(tape, mg_sum_columns(tape, best), tokens, o->groups);
  mg_var *ids = mg_top_k(tape, score, o->groups_kept, NULL);
  mg_var *kept = mg_scatter_columns(tape, mg_fill(tape, dtype, 2, kept_shape, 1), ids, o->groups);
  mg_var *mask = mg_add(tape, mg_fill(tape, dtype, 2, group_shape, 0), mg_reshape2(tape, kept, tokens * o->groups, 1));
  return mg_reshape2(tape, mg_where(tape, mask, members, -(double)INFINITY), tokens, experts);
}

static mg_var *affinities(mg_tape *tape, mg_var *logits, int64_t kind) {
  if (kind == SOFTMAX) return mg_softmax(tape, logits);
  return kind == SIGMOID ? mg_sigmoid(tape, logits) : mg_sqrt_softplus(tape, logits);
}

static const char *name_of_bias(const deepseek_options *o) {
  return params[o->form == MULTIPLIED ? FACTOR : BIAS].name;
}

/* What experts are selected by; `bias` is NULL without one. */
static mg_var *biased(mg_tape *tape, mg_var *affinity, mg_var *bias, int64_t form) {
  mg_var *fixed = mg_detach(tape, affinity);
  if (!bias) return fixed;
  return form == MULTIPLIED ? mg_mul(tape, fixed, bias) : mg_add(tape, fixed, bias);
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const deepseek_options *o = router->options;
  out->logits = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
  mg_var *affinity = affinities(tape, out->logits, o->score);
  out->probs = o->score == SOFTMAX ? affinity : mg_shares(tape, affinity);
  mg_var *selection = biased(tape, affinity, mg_router_param(router, tape, name_of_bias(o)), o->form);
  if (o->groups > 1) selection = within_best_groups(tape, selection, o);
  out->ids = mg_top_k(tape, selection, o->k, NULL);
  out->weights = mg_gather_columns(tape, affinity, out->ids);
  if (o->renormalise) out->weights = mg_shares(tape, out->weights);
  if (o->scale != 1) out->weights = mg_scale(tape, out->weights, o->scale);
  return mg_tape_status(tape);
}

static mg_status after_step(mg_router *router, mg_tape *tape, const int32_t *demand) {
  const deepseek_options *o = router->options;
  if (o->bias == NONE) return MG_OK;
  const int64_t experts = router->experts;
  mg_var *bias = mg_router_param(router, tape, name_of_bias(o));
  mg_var *counts = mg_cast(tape, mg_tape_upload(tape, MG_I32, 1, &experts, demand), mg_var_dtype(bias));
  mg_var *mean = mg_mean(tape, counts), *excess = mg_sub(tape, counts, mean);
  mg_var *step = o->bias == SIGN ? mg_unary_op(tape, MG_UNARY_SIGN, excess, 0, 0)
                                 : mg_div(tape, excess, mg_unary_op(tape, MG_UNARY_CLAMP, mean, 1e-30, 1e30));
  return mg_router_store(router, tape, name_of_bias(o), mg_sub(tape, bias, mg_scale(tape, step, o->rate)));
}

/* The best of each group, the best groups, and the best experts. */
static double selection_flops(const mg_router *router, const mg_route_input *call) {
  const int64_t groups = ((const deepseek_options *)router->options)->groups;
  const int64_t each = groups > 1 ? 2 * router->experts + groups : router->experts;
  return (double)(call->tokens * each);
}

static const mg_router_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_router_plugin),
    .name = "deepseek",
    .summary = "Top-k of affinity plus a load-balancing bias, within a few groups of experts.",
    .paper = "DeepSeek-AI 2024, arXiv 2412.19437; Wang et al. 2024, arXiv 2408.15664",
    .formula =
        "s = sigmoid(x W); select the k largest s + b; w = s / sum of the selected s; b += rate sign(mean c - c)",
    .options = options,
    .options_size = sizeof(deepseek_options),
    .params = params,
    .check = check,
    .dimension = dimension,
    .promises = promises,
    .route = route,
    .after_step = after_step,
    .groupings = groupings,
    .selection_flops = selection_flops};
MG_ROUTER_PLUGIN(plugin)
