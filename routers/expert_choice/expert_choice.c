/* Expert choice: each expert takes the tokens that want it most, so every expert works equally.
 *
 *   S = softmax(x W_gate^T);  expert e takes the C = factor * n / E tokens of highest S[., e] among n tokens
 *   w[t,e] = S[t,e], divided by the sum over the experts that took t when renormalised
 *   capped at b experts per token:  e takes the C tokens of highest A[., e], A the solution of
 *       maximise <S, A> + temperature H(A)  with  sum_t A[t,e] = C,  sum_e A[t,e] <= b,  0 <= A <= 1
 *       A = min(1, exp((S - u_e - v_t) / temperature)) with prices u of experts and v >= 0 of tokens, found in turns
 *   inference "threshold":  e takes t if S[t,e] >= T_e, T_e a running mean of the lowest S that e took in training, or
 *       learned by the loss  sum_te (1[S > T_e] - 1[e took t]) (S - T_e)
 *
 * Zhou et al. 2022, eqs 1-2 and its capped form. Renormalised it is the batchwise gating of Shazeer et al. 2017, appendix
 * F, eqs 16-20. Which tokens an expert takes depends on all n, later ones too: the router is not causal. */
#include <math.h>
#include <string.h>

#include <moegauge/moegauge.h>

enum { BATCH, SEQUENCE };
enum { CHOICE, THRESHOLD, LEARNED };

typedef struct expert_choice_options {
  double factor, decay, loss_weight, temperature;
  int64_t scope, inference, cap, iterations;
  bool renormalise;
} expert_choice_options;

static const char *const scopes[] = {"batch", "sequence", NULL};
static const char *const inferences[] = {"choice", "threshold", "learned", NULL};

static const mg_option options[] = {
    MG_OPTION_FLOAT(expert_choice_options, factor, 2, 1e-3, 65536, "experts per token on average"),
    MG_OPTION_CHOICE(expert_choice_options, scope, BATCH, scopes, "tokens among which an expert takes its best"),
    MG_OPTION_INT(expert_choice_options, cap, 0, 0, 65536, "most experts per token; 0 = no limit"),
    MG_OPTION_FLOAT(expert_choice_options, temperature, 0.001, 1e-6, 1e3,
                    "weight of the entropy in the capped program"),
    MG_OPTION_INT(expert_choice_options, iterations, 20, 1, 100000, "most rounds of prices in the capped program"),
    MG_OPTION_CHOICE(expert_choice_options, inference, CHOICE, inferences,
                     "outside training: the same, or thresholds by a running mean, or learned by a loss"),
    MG_OPTION_FLOAT(expert_choice_options, decay, 0.99, 0, 1, "of the running mean of the thresholds"),
    MG_OPTION_FLOAT(expert_choice_options, loss_weight, 0.01, 0, 1e6, "of the loss that learns the thresholds"),
    MG_OPTION_BOOL(expert_choice_options, renormalise, false, "divide a token's weights by their sum"),
    MG_OPTION_END};

enum { GATE, THRESHOLDS, LEARNED_THRESHOLDS };
static const mg_param_spec params[] = {[GATE] = {"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       [THRESHOLDS] = {"thresholds", {MG_DIM_CUSTOM}, MG_INIT_ZERO, 0, true},
                                       [LEARNED_THRESHOLDS] = {"learned", {MG_DIM_CUSTOM}, MG_INIT_ZERO, 0, false},
                                       MG_PARAM_END};

static mg_status check(const mg_router *router) {
  const expert_choice_options *o = router->options;
  if (o->factor > (double)router->experts)
    return mg_fail(router->context, MG_USAGE,
                   "router expert_choice: factor = %g is more than the %lld experts of the layer", o->factor,
                   (long long)router->experts);
  if (o->cap && o->factor > (double)o->cap)
    return mg_fail(router->context, MG_USAGE,
                   "router expert_choice: factor = %g experts per token do not fit under cap = %lld; use a cap of at "
                   "least the factor, or 0 for none",
                   o->factor, (long long)o->cap);
  if (o->cap && o->inference != CHOICE)
    return mg_fail(router->context, MG_USAGE,
                   "router expert_choice: inference '%s' decides for each expert alone and knows no cap; use inference "
                   "'choice' or cap = 0",
                   inferences[o->inference]);
  return MG_OK;
}

static int64_t dimension(const mg_router *router, int32_t param, int32_t dim) {
  (void)dim;
  const expert_choice_options *o = router->options;
  const bool there = param == THRESHOLDS ? o->inference == THRESHOLD : o->inference == LEARNED;
  return there ? router->experts : 0;
}

static double mean_choices(const mg_router *router) {
  return ((const expert_choice_options *)router->options)->factor;
}

static uint32_t promises(const mg_router *router) {
  const expert_choice_options *o = router->options;
  const uint32_t sum = o->renormalise ? MG_ROUTER_WEIGHTS_SUM_TO_ONE : 0;
  const uint32_t loss = o->inference == LEARNED ? MG_ROUTER_GIVES_LOSS : 0;
  return sum | loss | MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_EXPERTS_EXCHANGEABLE | MG_ROUTER_GIVES_PROBS |
         MG_ROUTER_GIVES_LOGITS;
}

/* ---- the capped program ------------------------------------------------------------------------------------ */

/* One run of tokens. At the optimum A = min(1, exp((S - u - v) / temperature)) with a price u of each expert and v >= 0 of
 * each token, v > 0 only where b is reached. Given the tokens' prices those of the experts follow one by one, and the
 * other way round, which climbs the dual of the program in turns. */
typedef struct program {
  int64_t tokens, experts;
  double take, cap; /* C, b */
  float temperature;
  float *scores;         /* [tokens, experts] S; receives S - u - v, whose order is that of A */
  float *by_expert;      /* [experts, tokens] S */
  float *expert, *token; /* prices [experts], [tokens] */
  float *left,
      *sorted; /* [tokens or experts, whichever is more]: S less the other side's prices; memory to select in */
} program;

/* Parts of sum_i min(1, e^((x_i - price) / temperature)): how many are above the price, and the sum over the others. */
typedef struct load {
  int64_t whole;
  double part;
} load;

static load load_at(const program *p, const float *x, int64_t count, float price) {
  const float least = price - 30 * p->temperature; /* below it lies nothing of weight */
  load sum = {0, 0};
  for (int64_t i = 0; i < count; i++) sum.whole += x[i] > price;
  for (int64_t i = 0; i < count; i++)
    if (x[i] > least && x[i] <= price) sum.part += (double)expf((x[i] - price) / p->temperature);
  return sum;
}

/* The k-th largest of `count` numbers, which are put in another order (Hoare's selection). */
static float kth_largest(float *x, int64_t count, int64_t k) {
  for (int64_t low = 0, high = count - 1; low < high;) {
    const float pivot = x[low + (high - low) / 2];
    int64_t i = low, j = high;
    while (i <= j) {
      while (x[i] > pivot) i++;
      while (x[j] < pivot) j--;
      if (i > j) break;
      const float other = x[i];
      x[i++] = x[j];
      x[j--] = other;
    }
    if (k - 1 <= j)
      high = j;
    else if (k - 1 >= i)
      low = i;
    else
      break;
  }
  return x[k - 1];
}

/* The price at which the load is `share`, at most `count`. Newton's method on the load as a function of e^-price, which is
 * concave and made of straight pieces; it starts from `price` and, where that is too low or too far away, from the number
 * that just has room. */
static float price_of(const program *p, const float *x, int64_t count, double share, float price) {
  enum { PASSES = 64, WARM_PASSES = 8 };
  for (int64_t pass = 0; pass < PASSES; pass++) {
    load now = load_at(p, x, count, price);
    if ((double)now.whole >= share || now.part <= 0 || pass == WARM_PASSES) {
      memcpy(p->sorted, x, (size_t)count * sizeof *x);
      price = kth_largest(p->sorted, count, (int64_t)ceil(share));
      now = load_at(p, x, count, price);
    }
    const float step = p->temperature * (float)log(now.part / (share - (double)now.whole));
    price += step;
    if (fabsf(step) <= 1e-4F * p->temperature) break;
  }
  return price;
}

/* Every expert's A sum to C; returns how far the farthest was from it, in ln. */
static double price_experts(program *p) {
  double worst = 0;
  for (int64_t e = 0; e < p->experts; e++) {
    for (int64_t t = 0; t < p->tokens; t++) p->left[t] = p->by_expert[e * p->tokens + t] - p->token[t];
    const load before = load_at(p, p->left, p->tokens, p->expert[e]);
    worst = fmax(worst, fabs(log(((double)before.whole + before.part) / p->take)));
    p->expert[e] = price_of(p, p->left, p->tokens, p->take, p->expert[e]);
  }
  return worst;
}

/* Every token's A sum to at most b. */
static void price_tokens(program *p) {
  for (int64_t t = 0; t < p->tokens; t++) {
    for (int64_t e = 0; e < p->experts; e++) p->left[e] = p->scores[t * p->experts + e] - p->expert[e];
    const load free = load_at(p, p->left, p->experts, 0);
    const bool over = (double)free.whole + free.part > p->cap;
    p->token[t] = over ? fmaxf(0, price_of(p, p->left, p->experts, p->cap, p->token[t])) : 0;
  }
}

static void solve(program *p, int64_t iterations) {
  for (int64_t t = 0; t < p->tokens; t++) p->token[t] = 0;
  for (int64_t e = 0; e < p->experts; e++) p->expert[e] = 0;
  for (int64_t t = 0; t < p->tokens; t++)
    for (int64_t e = 0; e < p->experts; e++) p->by_expert[e * p->tokens + t] = p->scores[t * p->experts + e];
  double apart = INFINITY;
  for (int64_t i = 0; i < iterations && apart > 1e-3; i++) {
    apart = price_experts(p);
    price_tokens(p);
  }
  for (int64_t t = 0; t < p->tokens; t++)
    for (int64_t e = 0; e < p->experts; e++) p->scores[t * p->experts + e] -= p->expert[e] + p->token[t];
}

/* What orders tokens by A, of all runs, from the scores, on the host; NULL after a failure. */
static mg_var *planned(mg_router *router, mg_tape *tape, mg_var *probs, int64_t length, int64_t take) {
  const expert_choice_options *o = router->options;
  const int64_t rows = mg_var_rows(probs), experts = router->experts, shape[] = {rows, experts};
  const int64_t scores = rows * experts, most = length > experts ? length : experts;
  const size_t bytes = (size_t)(scores + length * experts + length + experts + 2 * most) * sizeof(float);
  const double feasible = (double)(take * experts) / (double)length; /* above the cap where a run is short */
  float *memory = mg_alloc(router->context, bytes);
  if (!memory) return mg_tape_fail(tape, MG_MEMORY, "%s", mg_context_message(router->context));
  program p = {.tokens = length,
               .experts = experts,
               .take = (double)take,
               .cap = fmax((double)o->cap, feasible),
               .temperature = (float)o->temperature,
               .by_expert = memory + scores};
  p.expert = p.by_expert + length * experts;
  p.token = p.expert + experts;
  p.left = p.token + length;
  p.sorted = p.left + most;
  mg_tape_download(tape, mg_cast(tape, mg_detach(tape, probs), MG_F32), memory, (size_t)scores * sizeof *memory);
  for (int64_t first = 0; first < rows && mg_tape_status(tape) == MG_OK; first += length) {
    p.scores = memory + first * experts;
    solve(&p, o->iterations);
  }
  mg_var *plan = mg_tape_upload(tape, MG_F32, 2, shape, memory);
  mg_free(router->context, memory, bytes);
  return mg_cast(tape, plan, mg_var_dtype(probs));
}

/* ---- choice ------------------------------------------------------------------------------------------------ */

/* [a, b, c] seen in [a * b, c] becomes [a * c, b], the last two dimensions exchanged. */
static mg_var *turned(mg_tape *tape, mg_var *x, int64_t a, int64_t b, int64_t c) {
  const int64_t shape[] = {a, b, c};
  return mg_reshape2(tape, mg_transpose(tape, mg_reshape(tape, x, 3, shape)), a * c, b);
}

/* 1 where an expert takes the token: [T,E]. `lowest` receives the lowest score taken, [runs, E]. */
static mg_var *taken_of(mg_router *router, mg_tape *tape, mg_var *probs, int64_t length, mg_var **lowest) {
  const expert_choice_options *o = router->options;
  const int64_t experts = mg_var_columns(probs), runs = mg_var_rows(probs) / length;
  const double wanted = floor(o->factor * (double)length / (double)experts * (1 + 1e-12));
  const int64_t take = (int64_t)fmin(fmax(wanted, 1), (double)length), shape[] = {runs * experts, take};
  mg_var *scores = o->cap ? planned(router, tape, probs, length, take) : mg_detach(tape, probs);
  mg_var *values, *best = mg_top_k(tape, turned(tape, scores, runs, length, experts), take, &values);
  mg_var *taken = mg_scatter_columns(tape, mg_fill(tape, mg_var_dtype(probs), 2, shape, 1), best, length);
  *lowest = mg_reshape2(tape, mg_slice(tape, values, take - 1, 1), runs, experts);
  return turned(tape, taken, runs, experts, length);
}

/* T_e moves towards the batch's mean of the lowest scores taken; the first batch sets it. */
static mg_status learn_thresholds(mg_router *router, mg_tape *tape, mg_var *lowest) {
  const double decay = ((const expert_choice_options *)router->options)->decay;
  mg_var *old = mg_router_param(router, tape, "thresholds");
  mg_var *now = mg_cast(tape, mg_mean_rows(tape, lowest), mg_var_dtype(old));
  mg_var *known = mg_unary_op(tape, MG_UNARY_STEP, old, 0, 0);
  mg_var *step = mg_where(tape, known, mg_scale(tape, mg_sub(tape, now, old), 1 - decay), 0);
  mg_var *start = mg_where(tape, mg_affine(tape, known, -1, 1), now, 0);
  return mg_router_store(router, tape, "thresholds", mg_add(tape, old, mg_add(tape, step, start)));
}

/* The loss of eq. 20 per token: thresholds rise while more tokens pass them than are taken. */
static mg_var *threshold_loss(mg_router *router, mg_tape *tape, mg_var *probs, mg_var *taken) {
  mg_var *margin = mg_sub(tape, probs, mg_router_param(router, tape, "learned"));
  mg_var *passes = mg_unary_op(tape, MG_UNARY_STEP, mg_detach(tape, margin), 0, 0);
  mg_var *sum = mg_sum_columns(tape, mg_mul(tape, mg_sub(tape, passes, taken), margin));
  return mg_scale(tape, mg_mean(tape, sum), ((const expert_choice_options *)router->options)->loss_weight);
}

/* The experts that took each token, in order, -1 elsewhere: i32 [T,E]. */
static mg_var *ids_of(mg_tape *tape, mg_var *taken) {
  const int64_t experts = mg_var_columns(taken), row_shape[] = {1, experts};
  mg_var *ones = mg_fill(tape, mg_var_dtype(taken), 2, row_shape, 1);
  mg_var *numbers = mg_reshape(tape, mg_affine(tape, mg_cumsum(tape, ones), 1, -1), 1, &experts);
  return mg_ids_where(tape, taken, mg_add(tape, mg_scale(tape, taken, 0), numbers));
}

/* 1 where a token reaches an expert's threshold: [T,E]. */
static mg_var *reached(mg_router *router, mg_tape *tape, mg_var *probs) {
  const bool learned = ((const expert_choice_options *)router->options)->inference == LEARNED;
  mg_var *thresholds = mg_router_param(router, tape, learned ? "learned" : "thresholds");
  mg_var *below =
      mg_binary_op(tape, MG_BINARY_GREATER, mg_scale(tape, mg_detach(tape, probs), -1), mg_scale(tape, thresholds, -1));
  return mg_affine(tape, mg_detach(tape, below), -1, 1);
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  static const int64_t one[] = {1};
  const expert_choice_options *o = router->options;
  out->logits = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
  out->probs = mg_softmax(tape, out->logits);
  mg_var *taken = out->probs, *lowest = NULL; /* no tokens: nothing to choose */
  if (o->inference != CHOICE && !in->training)
    taken = reached(router, tape, out->probs);
  else if (in->tokens)
    taken = taken_of(router, tape, out->probs, o->scope == BATCH ? in->tokens : in->sequence_tokens, &lowest);
  if (lowest && o->inference == THRESHOLD) MG_TRY(learn_thresholds(router, tape, lowest));
  if (o->inference == LEARNED)
    out->loss =
        lowest ? threshold_loss(router, tape, out->probs, taken) : mg_fill(tape, mg_var_dtype(out->probs), 1, one, 0);
  out->ids = ids_of(tape, taken);
  out->weights = mg_where(tape, taken, out->probs, 0);
  if (o->renormalise) out->weights = mg_shares(tape, out->weights);
  return mg_tape_status(tape);
}

/* Thresholds compare nothing with each other. */
static double selection_flops(const mg_router *router, const mg_route_input *call) {
  const bool chooses = call->training || ((const expert_choice_options *)router->options)->inference == CHOICE;
  return chooses ? (double)(call->tokens * router->experts) : 0;
}

static const mg_router_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_router_plugin),
    .name = "expert_choice",
    .summary = "Each expert takes the tokens that want it most; not causal.",
    .paper = "Zhou et al. 2022, arXiv 2202.09368",
    .formula = "S = softmax(x W); expert e takes the factor n / E tokens of highest S[., e]; w = S",
    .options = options,
    .options_size = sizeof(expert_choice_options),
    .params = params,
    .check = check,
    .dimension = dimension,
    .promises = promises,
    .route = route,
    .mean_choices = mean_choices,
    .selection_flops = selection_flops};
MG_ROUTER_PLUGIN(plugin)
