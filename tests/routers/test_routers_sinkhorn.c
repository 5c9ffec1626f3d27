/* sinkhorn against its iterations, run on the host over a whole matrix with both factors. */
#include "support/router_world.h"

#include <math.h>

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, E = 5 };

/* diag(r) exp(H) diag(c) after so many rounds of rows, then columns. */
static void balance(const double *h, int rounds, double *out) {
  double r[T], c[E];
  for (int e = 0; e < E; e++) c[e] = 1;
  for (int i = 0; i < rounds; i++) {
    for (int t = 0; t < T; t++) {
      double sum = 0;
      for (int e = 0; e < E; e++) sum += exp(h[t * E + e]) * c[e];
      r[t] = 1 / (T * sum);
    }
    for (int e = 0; e < E; e++) {
      double sum = 0;
      for (int t = 0; t < T; t++) sum += exp(h[t * E + e]) * r[t];
      c[e] = 1 / (E * sum);
    }
  }
  for (int t = 0; t < T; t++)
    for (int e = 0; e < E; e++) out[t * E + e] = r[t] * exp(h[t * E + e]) * c[e];
}

static void check_choices(const double *by, const double *scores, const int32_t *ids, const double *w, int k) {
  for (int j = 0; j < k; j++) {
    int ahead = 0;
    for (int e = 0; e < E; e++) ahead += by[e] > by[ids[j]];
    assert_int_equal(ahead, j);
    assert_close(w[j], scores[ids[j]], 1e-12);
  }
}

static void check_mode(const char *spec, int k, int rounds, bool sigmoid, bool training) {
  router_world r;
  router_world_open(&r, spec, E, 1);
  double h[T * E], pi[T * E], scores[T * E], w[T * E];
  int32_t ids[T * E];
  router_world_route(&r, training, (mg_stream){0});
  moe_read(&r.world, r.out.logits, h, T * E);
  moe_read(&r.world, r.out.weights, w, T * k);
  moe_read_ids(&r.world, r.out.ids, ids, T * k);
  balance(h, rounds, pi);
  for (int t = 0; t < T; t++) {
    double sum = 0;
    for (int e = 0; e < E; e++) sum += exp(h[t * E + e]);
    for (int e = 0; e < E; e++) scores[t * E + e] = sigmoid ? 1 / (1 + exp(-h[t * E + e])) : exp(h[t * E + e]) / sum;
    check_choices((training ? pi : h) + t * E, scores + t * E, ids + t * k, w + t * k, k);
  }
  router_world_close(&r);
}

static void training_selects_from_the_balanced_matrix_and_weighs_by_the_plain_one(void **state) {
  (void)state;
  for (int training = 0; training < 2; training++) {
    check_mode("{'name': 'sinkhorn', 'iterations': 1}", 1, 1, false, training);
    check_mode("{'name': 'sinkhorn'}", 1, 8, false, training);
    check_mode("{'name': 'sinkhorn', 'k': 2, 'score': 'sigmoid', 'iterations': 50}", 2, 50, true, training);
    check_mode("{'name': 'sinkhorn', 'k': 5}", 5, 8, false, training);
  }
}

/* The most tokens that one expert gets when one direction of x dominates the gate. */
static int largest_load(bool training) {
  router_world r;
  router_world_open(&r, "{'name': 'sinkhorn', 'iterations': 100}", 3, 1);
  double gate[3 * D] = {0};
  int32_t ids[T];
  int load[3] = {0}, most = 0;
  for (int t = 0; t < T; t++) r.x[t * D] = 1; /* every token prefers expert 0 by 5 */
  gate[0] = 5;
  for (int d = 1; d < D; d++) gate[D + d] = 0.3 * (gate[2 * D + d] = d % 2 ? 1 : -1);
  moe_set_param(&r.world, "r.gate", gate, 3 * D);
  router_world_route(&r, training, (mg_stream){0});
  moe_read_ids(&r.world, r.out.ids, ids, T);
  for (int t = 0; t < T; t++) load[ids[t]]++;
  for (int e = 0; e < 3; e++) most = load[e] > most ? load[e] : most;
  router_world_close(&r);
  return most;
}

static void a_popular_expert_is_shared_out_in_training(void **state) {
  (void)state;
  assert_true(largest_load(false) >= 6);
  assert_true(largest_load(true) <= 4);
}

static void options_that_do_not_fit_are_refused(void **state) {
  (void)state;
  assert_router_refused("{'name': 'sinkhorn', 'k': 6}", E, "k = 6 is more than the 5 experts");
  assert_router_refused("{'name': 'sinkhorn', 'iterations': 0}", E, "'iterations'");
  assert_router_refused("{'name': 'sinkhorn', 'score': 'none'}", E, "softmax");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(training_selects_from_the_balanced_matrix_and_weighs_by_the_plain_one),
      cmocka_unit_test(a_popular_expert_is_shared_out_in_training),
      cmocka_unit_test(options_that_do_not_fit_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
