/* sparse_mixer against its formula on the host: which scores are near, the weights among them, and that a choice is left
 * out of the next one. */
#include "support/router_world.h"

#include <math.h>

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, E = 7 };

static void logits_of(router_world *r, double *out) {
  double gate[E * D];
  router_world_param(r, "gate", gate, E * D);
  for (int t = 0; t < T; t++)
    for (int e = 0; e < E; e++) {
      out[t * E + e] = 0;
      for (int d = 0; d < D; d++) out[t * E + e] += gate[e * D + d] * r->x[t * D + d];
    }
}

/* The best of the experts not in `taken`, and its weight. */
static int choose(const double *s, const bool *taken, double jitter, double *weight) {
  int best = -1;
  double sum = 0;
  for (int e = 0; e < E; e++)
    if (!taken[e] && (best < 0 || s[e] > s[best])) best = e;
  for (int e = 0; e < E; e++) {
    const double distance = (s[best] - s[e]) / fmax(fabs(s[e]), s[best]);
    if (!taken[e] && !(distance > 2 * jitter)) sum += exp(s[e] - s[best]);
  }
  *weight = 1 / sum;
  return best;
}

static void choices_and_weights_are_those_of_the_formula(void **state) {
  (void)state;
  static const double jitters[] = {0.01, 0.2};
  static const char *const specs[] = {"{'name': 'sparse_mixer', 'k': 3}",
                                      "{'name': 'sparse_mixer', 'k': 3, 'jitter': 0.2}"};
  int shared = 0;
  for (size_t i = 0; i < MG_COUNT(specs); i++) {
    router_world r;
    router_world_open(&r, specs[i], E, 1);
    double s[T * E], weights[T * 3];
    int32_t ids[T * 3];
    router_world_route(&r, false, (mg_stream){0});
    logits_of(&r, s);
    moe_read_ids(&r.world, r.out.ids, ids, T * 3);
    moe_read(&r.world, r.out.weights, weights, T * 3);
    for (int t = 0; t < T; t++) {
      bool taken[E] = {false};
      for (int j = 0; j < 3; j++) {
        double weight;
        const int e = choose(s + t * E, taken, jitters[i], &weight);
        assert_int_equal(ids[t * 3 + j], e);
        assert_close(weights[t * 3 + j], weight, 1e-12);
        shared += weight < 1;
        taken[e] = true;
      }
    }
    router_world_close(&r);
  }
  assert_true(shared > 0); /* some weights were shared with a near expert */
}

/* With a wide jitter all experts are near, so that training draws different ones by stream and the same by the same. */
static void training_draws_by_stream(void **state) {
  (void)state;
  router_world r;
  int32_t first[T * 2], again[T * 2], other[T * 2];
  router_world_open(&r, "{'name': 'sparse_mixer', 'jitter': 1}", E, 0.3);
  router_world_route(&r, true, (mg_stream){1, 1});
  moe_read_ids(&r.world, r.out.ids, first, T * 2);
  router_world_route(&r, true, (mg_stream){1, 1});
  moe_read_ids(&r.world, r.out.ids, again, T * 2);
  router_world_route(&r, true, (mg_stream){1, 2});
  moe_read_ids(&r.world, r.out.ids, other, T * 2);
  assert_memory_equal(first, again, sizeof first);
  assert_memory_not_equal(first, other, sizeof first);
  router_world_close(&r);
}

static void more_choices_than_experts_are_refused(void **state) {
  (void)state;
  assert_router_refused("{'name': 'sparse_mixer', 'k': 8}", E, "k = 8 is more than the 7 experts");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(choices_and_weights_are_those_of_the_formula),
                                     cmocka_unit_test(training_draws_by_stream),
                                     cmocka_unit_test(more_choices_than_experts_are_refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
