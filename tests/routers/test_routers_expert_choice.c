/* expert_choice against its rule on the host: each expert takes its best tokens; thresholds in validation; the leak. */
#include "support/router_world.h"

#include <math.h>
#include <string.h>

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, E = 4 };

typedef struct setting {
  const char *spec;
  int length, take; /* tokens of a run, and how many of them an expert takes */
  bool renormalise;
} setting;

static const setting settings[] = {
    {"{'name': 'expert_choice'}", T, 4, false},                      /* floor(2 * 9 / 4) */
    {"{'name': 'expert_choice', 'factor': 4}", T, T, false},         /* every token */
    {"{'name': 'expert_choice', 'scope': 'sequence'}", 3, 1, false}, /* floor(2 * 3 / 4) */
    {"{'name': 'expert_choice', 'scope': 'sequence', 'factor': 0.5, 'renormalise': true}", 3, 1, true}};

/* Whether token t is among the `take` of its run that expert e likes best; equal ones by place. */
static bool takes(const setting *s, const double *p, int t, int e) {
  const int first = t / s->length * s->length;
  int ahead = 0;
  for (int u = first; u < first + s->length; u++)
    ahead += p[u * E + e] > p[t * E + e] || (p[u * E + e] == p[t * E + e] && u < t);
  return ahead < s->take;
}

static void check_token(const setting *s, const double *p, int t, const int32_t *ids, const double *weights) {
  double sum = 0;
  for (int e = 0; e < E; e++) sum += takes(s, p, t, e) ? p[t * E + e] : 0;
  for (int e = 0; e < E; e++) {
    const bool taken = takes(s, p, t, e);
    assert_int_equal(ids[e], taken ? e : -1);
    assert_close(weights[e], taken ? p[t * E + e] / (s->renormalise ? sum : 1) : 0, 1e-12);
  }
}

static void each_expert_takes_its_best_tokens(void **state) {
  (void)state;
  for (size_t i = 0; i < MG_COUNT(settings); i++) {
    const setting *s = &settings[i];
    router_world r;
    double gate[E * D], p[T * E], weights[T * E];
    int32_t ids[T * E];
    router_world_open(&r, s->spec, E, 0.8);
    r.sequence_tokens = 3;
    router_world_route(&r, true, (mg_stream){0});
    router_world_param(&r, "gate", gate, E * D);
    for (int t = 0; t < T; t++) {
      double sum = 0;
      for (int e = 0; e < E; e++) {
        double h = 0;
        for (int d = 0; d < D; d++) h += gate[e * D + d] * r.x[t * D + d];
        sum += p[t * E + e] = exp(h);
      }
      for (int e = 0; e < E; e++) p[t * E + e] /= sum;
    }
    moe_read_ids(&r.world, r.out.ids, ids, T * E);
    moe_read(&r.world, r.out.weights, weights, T * E);
    for (int t = 0; t < T; t++) check_token(s, p, t, ids + t * E, weights + t * E);
    router_world_close(&r);
  }
}

/* The lowest probability that each expert took, after a training pass. */
static void lowest_taken(router_world *r, double *lowest) {
  double p[T * E];
  int32_t ids[T * E];
  router_world_route(r, true, (mg_stream){0});
  moe_read(&r->world, r->out.probs, p, T * E);
  moe_read_ids(&r->world, r->out.ids, ids, T * E);
  mg_tape_reset(r->world.tape);
  for (int e = 0; e < E; e++) lowest[e] = 1;
  for (int i = 0; i < T * E; i++)
    if (ids[i] >= 0) lowest[i % E] = fmin(lowest[i % E], p[i]);
}

static void thresholds_are_a_running_mean_and_choose_without_other_tokens(void **state) {
  (void)state;
  router_world r;
  const double zeros[E] = {0};
  double first[E], second[E], thresholds[E], p[T * E];
  int32_t ids[T * E];
  router_world_open(&r, "{'name': 'expert_choice', 'inference': 'threshold', 'decay': 0.75}", E, 0.8);
  moe_set_param(&r.world, "r.thresholds", zeros, E);
  lowest_taken(&r, first);
  router_world_param(&r, "thresholds", thresholds, E);
  for (int e = 0; e < E; e++) assert_close(thresholds[e], first[e], 1e-15);
  for (int i = 0; i < T * D; i++) r.x[i] *= 0.3;
  lowest_taken(&r, second);
  router_world_param(&r, "thresholds", thresholds, E);
  for (int e = 0; e < E; e++) assert_close(thresholds[e], 0.75 * first[e] + 0.25 * second[e], 1e-12);
  router_world_route(&r, false, (mg_stream){0});
  moe_read(&r.world, r.out.probs, p, T * E);
  moe_read_ids(&r.world, r.out.ids, ids, T * E);
  for (int i = 0; i < T * E; i++) assert_int_equal(ids[i], p[i] >= thresholds[i % E] ? i % E : -1);
  router_world_close(&r);
}

/* Only the last token changes. With choice an earlier one is routed anew, which a causal router never does; thresholds
 * leave it alone. */
static void a_later_token_changes_earlier_ones_unless_thresholds_decide(void **state) {
  (void)state;
  static const char *const specs[] = {"{'name': 'expert_choice', 'factor': 1}",
                                      "{'name': 'expert_choice', 'factor': 1, 'inference': 'threshold'}"};
  for (int threshold = 0; threshold < 2; threshold++) {
    router_world r;
    const double at[E] = {0.2, 0.25, 0.3, 0.35};
    int32_t before[T * E], after[T * E];
    router_world_open(&r, specs[threshold], E, 0.8);
    if (threshold) moe_set_param(&r.world, "r.thresholds", at, E);
    router_world_route(&r, false, (mg_stream){0});
    moe_read_ids(&r.world, r.out.ids, before, T * E);
    for (int d = 0; d < D; d++) r.x[(T - 1) * D + d] *= -5;
    router_world_route(&r, false, (mg_stream){0});
    moe_read_ids(&r.world, r.out.ids, after, T * E);
    assert_int_equal(memcmp(before, after, sizeof(int32_t) * (T - 1) * E) == 0, threshold);
    assert_false(mg_router_promises(r.router) & MG_ROUTER_CAUSAL);
    router_world_close(&r);
  }
}

/* ---- capped ------------------------------------------------------------------------------------------------ */

enum { CE = 3, CTAKE = 6, CAP = 2 }; /* floor(2 * 9 / 3) tokens for each of three experts, two experts for each token */

/* The best value of tokens t..: every token takes at most CAP experts, and `left` says what each may still take. */
static double best_from(const double *p, int t, const int *left) {
  if (t == T) return left[0] + left[1] + left[2] ? -INFINITY : 0;
  double best = -INFINITY;
  for (int set = 0; set < 1 << CE; set++) {
    int after[CE], size = 0;
    double value = 0;
    bool fits = true;
    for (int e = 0; e < CE; e++) {
      const int takes_it = set >> e & 1;
      size += takes_it;
      value += takes_it ? p[t * CE + e] : 0;
      after[e] = left[e] - takes_it;
      fits = fits && after[e] >= 0;
    }
    if (fits && size <= CAP) best = fmax(best, value + best_from(p, t + 1, after));
  }
  return best;
}

/* All assignments tried one by one; without the cap some token of this input would be taken three times. */
static void a_capped_choice_is_the_best_assignment(void **state) {
  (void)state;
  static const char *const specs[] = {"{'name': 'expert_choice'}",
                                      "{'name': 'expert_choice', 'cap': 2, 'iterations': 100}"};
  for (int capped = 0; capped < 2; capped++) {
    router_world r;
    double p[T * CE], value = 0;
    int32_t ids[T * CE];
    int most = 0, taken[CE] = {0};
    router_world_open(&r, specs[capped], CE, 0.8);
    router_world_route(&r, true, (mg_stream){0});
    moe_read(&r.world, r.out.probs, p, T * CE);
    moe_read_ids(&r.world, r.out.ids, ids, T * CE);
    for (int t = 0; t < T; t++) {
      int count = 0;
      for (int e = 0; e < CE; e++) {
        if (ids[t * CE + e] < 0) continue;
        count++;
        taken[e]++;
        value += p[t * CE + e];
      }
      most = count > most ? count : most;
    }
    for (int e = 0; e < CE; e++) assert_int_equal(taken[e], CTAKE);
    assert_int_equal(most, capped ? CAP : CE);
    if (capped) assert_close(value, best_from(p, 0, (int[CE]){CTAKE, CTAKE, CTAKE}), 1e-9);
    router_world_close(&r);
  }
}

/* ---- learned thresholds ------------------------------------------------------------------------------------ */

static void the_loss_of_learned_thresholds_is_equation_20(void **state) {
  (void)state;
  router_world r;
  double p[T * E], thresholds[E], loss, expected = 0;
  int32_t ids[T * E];
  router_world_open(&r, "{'name': 'expert_choice', 'inference': 'learned', 'loss_weight': 0.5}", E, 0.3);
  router_world_param(&r, "learned", thresholds, E);
  router_world_route(&r, true, (mg_stream){0});
  moe_read(&r.world, r.out.probs, p, T * E);
  moe_read(&r.world, r.out.loss, &loss, 1);
  moe_read_ids(&r.world, r.out.ids, ids, T * E);
  for (int i = 0; i < T * E; i++) {
    const double margin = p[i] - thresholds[i % E];
    expected += ((margin > 0) - (ids[i] >= 0)) * margin;
  }
  assert_close(loss, 0.5 * expected / T, 1e-12);
  router_world_route(&r, false, (mg_stream){0});
  moe_read_ids(&r.world, r.out.ids, ids, T * E);
  for (int i = 0; i < T * E; i++) assert_int_equal(ids[i], p[i] >= thresholds[i % E] ? i % E : -1);
  router_world_close(&r);
}

static void options_that_do_not_fit_are_refused(void **state) {
  (void)state;
  assert_router_refused("{'name': 'expert_choice', 'factor': 9}", 8, "factor = 9");
  assert_router_refused("{'name': 'expert_choice', 'scope': 'token'}", 8, "scope");
  assert_router_refused("{'name': 'expert_choice', 'factor': 2.5, 'cap': 2}", 8, "do not fit under cap = 2");
  assert_router_refused("{'name': 'expert_choice', 'cap': 2, 'inference': 'threshold'}", 8, "knows no cap");
}

/* Analytic costs follow the mean, not the room for E choices. */
static void the_mean_number_of_choices_is_the_factor(void **state) {
  (void)state;
  router_world r;
  router_world_open(&r, "{'name': 'expert_choice', 'factor': 1.5}", 8, 1);
  assert_int_equal(mg_router_choices(r.router), 8);
  assert_close(mg_router_mean_choices(r.router), 1.5, 0);
  router_world_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_expert_takes_its_best_tokens),
      cmocka_unit_test(thresholds_are_a_running_mean_and_choose_without_other_tokens),
      cmocka_unit_test(a_later_token_changes_earlier_ones_unless_thresholds_decide),
      cmocka_unit_test(a_capped_choice_is_the_best_assignment),
      cmocka_unit_test(the_loss_of_learned_thresholds_is_equation_20),
      cmocka_unit_test(options_that_do_not_fit_are_refused),
      cmocka_unit_test(the_mean_number_of_choices_is_the_factor),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
