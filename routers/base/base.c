/* BASE gating: in training every expert gets equally many tokens, by an auction; otherwise the expert of highest score.
 *
 *   H = x W_gate^T;   training:   maximise sum_t H[t, a_t] with at most ceil(T / E) tokens for each expert
 *                     otherwise:  a_t = argmax_e H[t, e]
 *   w = sigmoid(H[t, a_t]), through which alone the gate learns
 *
 * Lewis et al. 2021 (arXiv 2103.16716); the auction is that of their published code. Tokens are the jobs and experts the
 * workers; jobs that nobody wants more than another fill the last places when E does not divide T. */
#include <math.h>
#include <moegauge/moegauge.h>
#include <string.h>

static const mg_param_spec params[] = {{"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_TRUNCATED_FAN_IN, 0.01, false},
                                       MG_PARAM_END};

/* ---- the auction ------------------------------------------------------------------------------------------- */

enum { RETAINED_ROUNDS = 100, ROUNDS_MAX = 1000 };

typedef struct auction {
  int64_t workers, jobs, each; /* jobs = workers * each */
  float least_bid, above_all;  /* a value that no job reaches */
  float *score, *value;        /* [workers, jobs] */
  float *cost, *bid;           /* [jobs] */
  int32_t *owner, *next;       /* [jobs]: who holds it, -1 = nobody; who bids most for it */
  int32_t *order;              /* [jobs] */
} auction;

/* Higher value first; equal ones by lowest job. */
static bool ahead(const float *value, int32_t a, int32_t b) {
  return value[a] > value[b] || (value[a] == value[b] && a < b);
}

/* Puts the `count` best jobs first in `order`, and the next one behind them (Hoare's selection). */
static void select_best(const float *value, int32_t *order, int64_t jobs, int64_t count) {
  for (int64_t low = 0, high = jobs - 1; low < high;) {
    const int32_t pivot = order[low + (high - low) / 2];
    int64_t i = low, j = high;
    while (i <= j) {
      while (ahead(value, order[i], pivot)) i++;
      while (ahead(value, pivot, order[j])) j--;
      if (i > j) break;
      const int32_t swapped = order[i];
      order[i++] = order[j];
      order[j--] = swapped;
    }
    if (count > j && count < i) return;
    if (count <= j) high = j;
    if (count >= i) low = i;
  }
}

/* A worker bids on its best jobs what they are worth to it beyond the next one; jobs it holds cost it the least bid. */
static void place_bids(auction *a, int32_t worker, bool retains) {
  const float *value = a->value + worker * a->jobs;
  select_best(value, a->order, a->jobs, a->each);
  const float next_best = value[a->order[a->each]];
  for (int64_t i = 0; i < a->each; i++) {
    const int32_t job = a->order[i];
    const bool held = retains && a->owner[job] == worker;
    const float bid = held ? a->least_bid : value[job] - next_best + a->least_bid;
    if (bid <= a->bid[job]) continue;
    a->bid[job] = bid;
    a->next[job] = worker;
  }
}

/* Hands the jobs to the highest bidders and raises their prices; the number that nobody bid on. */
static int64_t hand_out(auction *a, bool retains) {
  int64_t left = 0;
  for (int64_t job = 0; job < a->jobs; job++) {
    a->owner[job] = a->next[job];
    left += a->owner[job] < 0;
    a->cost[job] += a->bid[job];
    for (int64_t w = 0; w < a->workers; w++) {
      const int64_t at = w * a->jobs + job;
      const float kept = retains ? a->above_all : a->score[at];
      a->value[at] = w == a->owner[job] ? kept : a->score[at] - a->cost[job];
    }
  }
  return left;
}

/* A worker holds at most `each` jobs at any time, so those still free after the last round fit; best score first. */
static void give_away(auction *a) {
  for (int64_t job = 0; job < a->jobs; job++) {
    if (a->owner[job] >= 0) continue;
    int32_t best = -1;
    for (int32_t w = 0; w < a->workers; w++) {
      int64_t held = 0;
      for (int64_t other = 0; other < a->jobs; other++) held += a->owner[other] == w;
      if (held < a->each && (best < 0 || a->score[w * a->jobs + job] > a->score[best * a->jobs + job])) best = w;
    }
    a->owner[job] = best;
  }
}

static void run_auction(auction *a) {
  int64_t left = a->jobs;
  for (int64_t job = 0; job < a->jobs; job++) a->order[job] = (int32_t)job;
  for (int64_t round = 0; round < ROUNDS_MAX && left; round++) {
    memset(a->bid, 0, (size_t)a->jobs * sizeof *a->bid);
    for (int64_t job = 0; job < a->jobs; job++) a->next[job] = -1;
    for (int32_t w = 0; w < a->workers; w++) place_bids(a, w, round > 0 && round < RETAINED_ROUNDS);
    left = hand_out(a, round < RETAINED_ROUNDS);
  }
  if (left) give_away(a);
}

/* Scores as workers see them, [workers, jobs]; the jobs beyond the tokens are worth the same to all. */
static void open_auction(auction *a, const float *scores, int64_t tokens) {
  float least = INFINITY, most = -INFINITY;
  for (int64_t job = 0; job < a->jobs; job++)
    for (int64_t w = 0; w < a->workers; w++) {
      const float said = job < tokens ? scores[job * a->workers + w] : 0;
      const float score = isnan(said) ? -1e30f : fminf(fmaxf(said, -1e30f), 1e30f);
      a->value[w * a->jobs + job] = a->score[w * a->jobs + job] = score;
      least = fminf(least, score);
      most = fmaxf(most, score);
    }
  a->least_bid = fmaxf((most - least) / 50, 1e-4f);
  a->above_all = most + 1 + fabsf(most);
}

/* ids[t] = the expert of token t; scores [tokens, experts] on the host. */
static mg_status assign(mg_context *context, const float *scores, int64_t tokens, int64_t experts, int32_t *ids) {
  auction a = {.workers = experts, .each = (tokens + experts - 1) / experts};
  a.jobs = a.workers * a.each;
  const size_t jobs = (size_t)a.jobs, pairs = jobs * (size_t)experts, bytes = (2 * pairs + 5 * jobs) * sizeof(float);
  if (experts == 1) { /* there is no second-best job to compare with */
    memset(ids, 0, (size_t)tokens * sizeof *ids);
    return MG_OK;
  }
  float *memory = mg_alloc(context, bytes);
  if (!memory) return MG_MEMORY;
  a.score = memory;
  a.value = a.score + pairs;
  a.cost = a.value + pairs;
  a.bid = a.cost + jobs;
  a.owner = (int32_t *)(void *)(a.bid + jobs);
  a.next = a.owner + jobs;
  a.order = a.next + jobs;
  open_auction(&a, scores, tokens);
  run_auction(&a);
  memcpy(ids, a.owner, (size_t)tokens * sizeof *ids);
  mg_free(context, memory, bytes);
  return MG_OK;
}

/* ---- the router -------------------------------------------------------------------------------------------- */

/* Downloads the scores, runs the auction on the host, and uploads the experts [T,1]; NULL after a failure. */
static mg_var *balanced(mg_router *router, mg_tape *tape, mg_var *logits) {
  const int64_t tokens = mg_var_rows(logits), shape[] = {tokens, 1};
  if (tokens == 0) return mg_tape_upload(tape, MG_I32, 2, shape, NULL);
  const size_t score_bytes = (size_t)(tokens * router->experts) * sizeof(float);
  const size_t bytes = score_bytes + (size_t)tokens * sizeof(int32_t);
  float *scores = mg_alloc(router->context, bytes);
  if (!scores) return mg_tape_fail(tape, MG_MEMORY, "%s", mg_context_message(router->context));
  int32_t *ids = (int32_t *)(void *)(scores + tokens * router->experts);
  mg_status status = mg_tape_download(tape, mg_cast(tape, logits, MG_F32), scores, score_bytes);
  if (status == MG_OK) status = assign(router->context, scores, tokens, router->experts, ids);
  mg_var *chosen = status == MG_OK ? mg_tape_upload(tape, MG_I32, 2, shape, ids)
                                   : mg_tape_fail(tape, status, "%s", mg_context_message(router->context));
  mg_free(router->context, scores, bytes);
  return chosen;
}

static int64_t choices(const mg_router *router) {
  (void)router;
  return 1;
}

static uint32_t promises(const mg_router *router) {
  (void)router;
  return MG_ROUTER_WEIGHTS_NONNEGATIVE | MG_ROUTER_EXPERTS_EXCHANGEABLE | MG_ROUTER_GIVES_LOGITS;
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  out->logits = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
  mg_var *fixed = mg_detach(tape, out->logits);
  out->ids = in->training ? balanced(router, tape, fixed) : mg_top_k(tape, fixed, 1, NULL);
  out->weights = mg_sigmoid(tape, mg_gather_columns(tape, out->logits, out->ids));
  return mg_tape_status(tape);
}

static double selection_flops(const mg_router *router, const mg_route_input *call) {
  return call->training ? 0 : (double)(call->tokens * router->experts);
}

static const mg_router_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_router_plugin),
    .name = "base",
    .summary = "Balanced assignment by auction in training, the best expert otherwise.",
    .paper = "Lewis et al. 2021, arXiv 2103.16716",
    .formula = "maximise sum of H[t, a_t], H = x W, with T / E tokens for each expert; w = sigmoid(H[t, a_t])",
    .params = params,
    .choices = choices,
    .promises = promises,
    .route = route,
    .selection_flops = selection_flops};
MG_ROUTER_PLUGIN(plugin)
