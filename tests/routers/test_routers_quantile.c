/* quantile against its descent, run on the host, and against the load that it promises. */
#include "support/router_world.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { T = 24, D = ROUTER_WIDTH, E = 6, STEPS = 3 };

static int descending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x < y) - (x > y);
}

/* Thresholds after one sweep: a over the experts of a token, then b over the tokens of an expert. */
static void sweep(const double *s, int k, bool top_k, double *b) {
  double a[T] = {0}, column[T], row[E];
  const int q = (int)lround((double)k * T / E);
  for (int t = 0; t < T && top_k; t++) {
    for (int e = 0; e < E; e++) row[e] = s[t * E + e] - b[e];
    qsort(row, E, sizeof *row, descending);
    a[t] = row[k];
  }
  for (int e = 0; e < E; e++) {
    for (int t = 0; t < T; t++) column[t] = s[t * E + e] - a[t];
    qsort(column, T, sizeof *column, descending);
    b[e] = 0.5 * (column[q - 1] + column[q]);
  }
}

typedef struct setting {
  const char *spec;
  int k, sweeps;
  bool top_k, sigmoid, renormalise;
} setting;

static const setting settings[] = {
    {"{'name': 'quantile'}", 2, 1, true, false, false},
    {"{'name': 'quantile', 'k': 1, 'iterations': 4, 'score': 'sigmoid'}", 1, 4, true, true, false},
    {"{'name': 'quantile', 'k': 3, 'renormalise': true}", 3, 1, true, false, true},
    {"{'name': 'quantile', 'selection': 'threshold', 'k': 2}", 2, 1, false, false, false},
    {"{'name': 'quantile', 'selection': 'threshold', 'k': 1, 'score': 'sigmoid'}", 1, 1, false, true, false}};

/* The choices of one token are those above their thresholds, weighed by their scores. */
static void check_token(const setting *s, const double *scores, const double *b, const int32_t *ids, const double *w) {
  double sum = 0;
  for (int j = 0; j < (s->top_k ? s->k : E); j++) sum += ids[j] < 0 ? 0 : scores[ids[j]];
  for (int j = 0; j < (s->top_k ? s->k : E); j++) {
    if (!s->top_k) assert_int_equal(ids[j], scores[j] > b[j] ? j : -1);
    if (ids[j] < 0) continue;
    int ahead = 0;
    for (int e = 0; e < E; e++) ahead += scores[e] - b[e] > scores[ids[j]] - b[ids[j]];
    if (s->top_k) assert_int_equal(ahead, j);
    assert_close(w[j], scores[ids[j]] / (s->renormalise ? sum : 1), 1e-12);
  }
}

static void scores_of(const setting *s, const double *h, double *out) {
  double sum = 0;
  for (int e = 0; e < E; e++) sum += exp(h[e]);
  for (int e = 0; e < E; e++) out[e] = s->sigmoid ? 1 / (1 + exp(-h[e])) : exp(h[e]) / sum;
}

/* One training pass on x, checked under the thresholds b; b moves on as the router's must. Returns the largest load. */
static int check_step(router_world *r, const setting *s, const double *x, double *b) {
  const mg_route_input input = {
      .x = moe_upload(&r->world, x, T, D), .tokens = T, .sequence_tokens = T, .training = true};
  const int choices = s->top_k ? s->k : E;
  double h[T * E], scores[T * E], w[T * E];
  int32_t ids[T * E], load[E] = {0};
  int most = 0;
  assert_ok(r->world.context, mg_router_route(r->router, r->world.tape, &input, &r->out));
  moe_read(&r->world, r->out.logits, h, T * E);
  moe_read(&r->world, r->out.weights, w, T * choices);
  moe_read_ids(&r->world, r->out.ids, ids, T * choices);
  for (int t = 0; t < T; t++) {
    scores_of(s, h + t * E, scores + t * E);
    check_token(s, scores + t * E, b, ids + t * choices, w + t * choices);
  }
  for (int i = 0; i < T * choices; i++)
    if (ids[i] >= 0) load[ids[i]]++;
  for (int e = 0; e < E; e++) most = load[e] > most ? load[e] : most;
  for (int i = 0; i < s->sweeps; i++) sweep(scores, s->k, s->top_k, b);
  assert_ok(r->world.context, r->router->plugin->after_step(r->router, r->world.tape, load));
  mg_tape_reset(r->world.tape);
  return most;
}

static void thresholds_follow_the_descent(void **state) {
  (void)state;
  for (size_t i = 0; i < MG_COUNT(settings); i++) {
    router_world r;
    router_world_open(&r, settings[i].spec, E, 0.6);
    double b[E], x[T * D];
    router_world_param(&r, "thresholds", b, E);
    for (int step = 0; step < STEPS; step++) {
      moe_normal((uint64_t)step + 60, x, T * D);
      check_step(&r, &settings[i], x, b);
    }
    router_world_close(&r);
  }
}

/* A gate that prefers one expert everywhere comes close to equal loads on a batch seen before. */
static void loads_become_equal_on_the_same_batch(void **state) {
  (void)state;
  static const setting same[] = {{"{'name': 'quantile', 'k': 2, 'iterations': 50}", 2, 50, true, false, false},
                                 {"{'name': 'quantile', 'selection': 'threshold', 'k': 2}", 2, 1, false, false, false}};
  for (size_t i = 0; i < MG_COUNT(same); i++) {
    router_world r;
    router_world_open(&r, same[i].spec, E, 0.6);
    double b[E] = {0}, x[T * D], gate[E * D];
    moe_set_param(&r.world, "r.thresholds", b, E);
    moe_normal(61, x, T * D);
    for (int t = 0; t < T; t++) x[t * D] = 1;
    router_world_param(&r, "gate", gate, E * D);
    gate[0] = 3;
    moe_set_param(&r.world, "r.gate", gate, E * D);
    const int before = check_step(&r, &same[i], x, b);
    const int after = check_step(&r, &same[i], x, b);
    assert_true(before >= 20);
    assert_true(after <= (same[i].top_k ? 10 : 8)); /* the fair share is 8 */
    router_world_close(&r);
  }
}

static void a_pass_alone_changes_nothing(void **state) {
  (void)state;
  router_world r;
  router_world_open(&r, "{'name': 'quantile'}", E, 1);
  int32_t first[ROUTER_TOKENS * 2], second[ROUTER_TOKENS * 2];
  router_world_route(&r, true, (mg_stream){0});
  moe_read_ids(&r.world, r.out.ids, first, ROUTER_TOKENS * 2);
  router_world_route(&r, true, (mg_stream){0});
  moe_read_ids(&r.world, r.out.ids, second, ROUTER_TOKENS * 2);
  assert_memory_equal(first, second, sizeof first);
  router_world_close(&r);
}

static void options_that_do_not_fit_are_refused(void **state) {
  (void)state;
  assert_router_refused("{'name': 'quantile', 'k': 7}", E, "k = 7 is more than the 6 experts");
  assert_router_refused("{'name': 'quantile', 'k': 1, 'renormalise': true}", E, "renormalise = false");
  assert_router_refused("{'name': 'quantile', 'selection': 'all'}", E, "threshold");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(thresholds_follow_the_descent),
      cmocka_unit_test(loads_become_equal_on_the_same_batch),
      cmocka_unit_test(a_pass_alone_changes_nothing),
      cmocka_unit_test(options_that_do_not_fit_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
