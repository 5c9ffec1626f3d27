/* top_p against its rule, applied on the host to sorted probabilities. */
#include "support/router_world.h"

#include <math.h>

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, E = 7 };

/* Probabilities of one token, and its experts from the most probable on; equal ones by lowest id. */
static void ranked(const double *gate, const double *x, double *probs, int *order) {
  double sum = 0;
  for (int e = 0; e < E; e++) {
    double logit = 0;
    for (int d = 0; d < D; d++) logit += gate[e * D + d] * x[d];
    sum += probs[e] = exp(logit);
  }
  for (int e = 0; e < E; e++) probs[e] /= sum;
  for (int e = 0; e < E; e++) {
    int ahead = 0;
    for (int other = 0; other < E; other++) ahead += probs[other] > probs[e];
    order[ahead] = e;
  }
}

typedef struct setting {
  const char *spec;
  double p;
  int most;
  bool renormalise;
} setting;

static const setting settings[] = {{"{'name': 'top_p'}", 0.4, E, false},
                                   {"{'name': 'top_p', 'p': 0.75, 'most': 3}", 0.75, 3, false},
                                   {"{'name': 'top_p', 'p': 0.9, 'renormalise': true}", 0.9, E, true},
                                   {"{'name': 'top_p', 'p': 1}", 2, E, false},
                                   {"{'name': 'top_p', 'p': 1e-6}", 0, E, false}};

static int check_token(const setting *s, const double *gate, const double *x, const int32_t *ids, const double *w) {
  double probs[E], sum = 0;
  int order[E], count = 0;
  ranked(gate, x, probs, order);
  do sum += probs[order[count++]];
  while (count < s->most && sum < s->p);
  for (int j = 0; j < s->most; j++) {
    assert_int_equal(ids[j], j < count ? order[j] : -1);
    assert_close(w[j], j < count ? probs[order[j]] / (s->renormalise ? sum : 1) : 0, 1e-12);
  }
  return count;
}

static void tokens_take_experts_until_the_probability_is_reached(void **state) {
  (void)state;
  for (size_t i = 0; i < MG_COUNT(settings); i++) {
    const setting *s = &settings[i];
    router_world r;
    router_world_open(&r, s->spec, E, 0.5);
    double gate[E * D], w[T * E];
    int32_t ids[T * E];
    int least = E, most = 0;
    router_world_route(&r, false, (mg_stream){0});
    router_world_param(&r, "gate", gate, E * D);
    moe_read_ids(&r.world, r.out.ids, ids, T * s->most);
    moe_read(&r.world, r.out.weights, w, T * s->most);
    for (int t = 0; t < T; t++) {
      const int count = check_token(s, gate, r.x + t * D, ids + t * s->most, w + t * s->most);
      least = count < least ? count : least;
      most = count > most ? count : most;
    }
    if (i == 0) assert_true(least == 1 && most > 1); /* the number differs between tokens */
    router_world_close(&r);
  }
}

static void options_that_do_not_fit_are_refused(void **state) {
  (void)state;
  assert_router_refused("{'name': 'top_p', 'most': 8}", E, "most = 8 is more than the 7 experts");
  assert_router_refused("{'name': 'top_p', 'p': 0}", E, "'p'");
  assert_router_refused("{'name': 'top_p', 'p': 1.1}", E, "'p'");
  assert_router_refused("{'name': 'top_p', 'most': 1, 'renormalise': true}", E, "renormalise = false");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tokens_take_experts_until_the_probability_is_reached),
      cmocka_unit_test(options_that_do_not_fit_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
