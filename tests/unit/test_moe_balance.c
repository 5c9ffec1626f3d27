/* Balance and specialisation metrics give the hand-worked values of core/moe/README.md. */
#include "support/moe_world.h"

#include <math.h>

#include "moe/balance.h"
#include "moe/specialisation.h"

typedef struct vector {
  double load[4];
  double cv, cv_sample, max_over_mean, entropy, gini, effective;
  int64_t dead;
} vector;

static void balance_metrics_match_hand_worked_loads(void **state) {
  (void)state;
  static const vector vectors[] = {
      {{4, 2, 1, 1}, 0.612372, 0.707107, 2, 1.213008, 0.3125, 2.909091, 0},
      {{8, 0, 0, 0}, 1.732051, 2, 4, 0, 0.75, 1, 3},
      {{4, 4, 0, 0}, 1, 1.154701, 2, 0.693147, 0.5, 2, 2},
      {{3, 3, 3, 3}, 0, 0, 1, 1.386294, 0, 4, 0},
      {{0, 0, 0, 0}, 0, 0, 0, 0, 0, 0, 4},
  };
  for (size_t i = 0; i < MG_COUNT(vectors); i++) {
    const vector *v = &vectors[i];
    assert_close(mg_balance_cv(v->load, 4), v->cv, 1e-6);
    assert_close(mg_balance_cv_sample(v->load, 4), v->cv_sample, 1e-6);
    assert_close(mg_balance_max_over_mean(v->load, 4), v->max_over_mean, 1e-12);
    assert_close(mg_balance_max_violation(v->load, 4), v->max_over_mean > 0 ? v->max_over_mean - 1 : 0, 1e-12);
    assert_close(mg_balance_entropy(v->load, 4), v->entropy, 1e-6);
    assert_close(mg_balance_gini(v->load, 4), v->gini, 1e-12);
    assert_close(mg_balance_effective_experts(v->load, 4), v->effective, 1e-6);
    assert_int_equal(mg_balance_dead_experts(v->load, 4), v->dead);
  }
}

static void one_expert_is_always_balanced(void **state) {
  (void)state;
  const double load[] = {7};
  assert_close(mg_balance_cv(load, 1), 0, 0);
  assert_close(mg_balance_cv_sample(load, 1), 0, 0);
  assert_close(mg_balance_gini(load, 1), 0, 0);
  assert_close(mg_balance_effective_experts(load, 1), 1, 0);
}

static void metrics_do_not_change_when_load_scales_or_experts_change_places(void **state) {
  (void)state;
  const double load[] = {5, 1, 0, 2, 9, 3}, other[] = {27, 6, 0, 15, 9, 3};
  assert_close(mg_balance_cv(load, 6), mg_balance_cv(other, 6), 1e-12);
  assert_close(mg_balance_gini(load, 6), mg_balance_gini(other, 6), 1e-12);
  assert_close(mg_balance_entropy(load, 6), mg_balance_entropy(other, 6), 1e-12);
}

static void load_of_groups_adds_consecutive_experts(void **state) {
  (void)state;
  const double load[] = {1, 2, 3, 4, 5, 6};
  double groups[3];
  assert_true(mg_balance_group(load, 6, 3, groups));
  assert_close(groups[0], 3, 0);
  assert_close(groups[1], 7, 0);
  assert_close(groups[2], 11, 0);
  assert_false(mg_balance_group(load, 6, 4, groups));
}

/* CV of a multinomial is about sqrt((E - K) / (K T)): sqrt((8 - 1) / 512) = 0.117, and the mean of its square root's
 * distribution is a little less; 100 runs gave 0.113. */
static void random_routing_has_a_floor(void **state) {
  (void)state;
  const mg_balance_floor few = mg_balance_random_floor(8, 1, 512, 100, 1);
  assert_close(few.cv, 0.113, 0.006);
  assert_close(few.max_violation, 0.182, 0.012);
  const mg_balance_floor many = mg_balance_random_floor(16, 2, 2048, 200, 1);
  assert_close(many.cv, 0.0575, 0.003);
  assert_close(many.max_violation, 0.108, 0.008);
  assert_close(mg_balance_random_floor(4, 4, 100, 10, 1).cv, 0, 1e-12); /* every expert gets every token */
  assert_close(mg_balance_random_floor(4, 5, 100, 10, 1).cv, 0, 0);
}

/* 64 tokens for each of 16 experts; the values of a normal approximation are 0.399 / sqrt(64) = 0.050 at a factor of 1. */
static void random_routing_loses_to_a_capacity(void **state) {
  (void)state;
  assert_close(mg_balance_random_drop(1.0 / 16, 1024, 64), 0.049, 0.001);
  assert_close(mg_balance_random_drop(1.0 / 16, 1024, 48), 0.251, 0.001);
  assert_close(mg_balance_random_drop(1.0 / 16, 1024, 80), 0.001, 0.0005);
  assert_close(mg_balance_random_drop(0.5, 2, 1), 0.25, 1e-12); /* once in four both choose it, and lose one */
  assert_close(mg_balance_random_drop(1, 8, 6), 0.25, 0);
  assert_close(mg_balance_random_drop(0.25, 8, 8), 0, 0);
  assert_close(mg_balance_random_drop(0, 8, 2), 0, 0);
}

static void coactivation_is_a_share_of_the_first_experts_tokens(void **state) {
  (void)state;
  const int32_t ids[] = {0, 1, 0, 2, 0, 1};
  double out[16];
  mg_coactivation((mg_choices){.ids = ids, .tokens = 3, .choices = 2, .experts = 4}, out);
  assert_close(out[0 * 4 + 1], 2.0 / 3, 1e-12);
  assert_close(out[0 * 4 + 2], 1.0 / 3, 1e-12);
  assert_close(out[1 * 4 + 0], 1, 1e-12);
  assert_close(out[1 * 4 + 2], 0, 0);
  assert_close(out[0], 1, 0);
  assert_true(isnan(out[3 * 4 + 0])); /* expert 3 was never chosen */
}

/* Two choices of four experts per token. */
static mg_choices pairs_of(const int32_t *ids, int64_t tokens) {
  return (mg_choices){.ids = ids, .tokens = tokens, .choices = 2, .experts = 4};
}

static void saturation_is_the_overlap_with_the_final_choice(void **state) {
  (void)state;
  const int32_t earlier[] = {0, 1, 2, 3}, final[] = {1, 2, 2, 3};
  assert_close(mg_saturation(pairs_of(earlier, 2), pairs_of(final, 2)), 0.75, 1e-12);
  assert_close(mg_saturation(pairs_of(final, 2), pairs_of(final, 2)), 1, 1e-12);
  const int32_t fewer[] = {1, -1, -1, -1}; /* the second token ends without a choice and does not count */
  assert_close(mg_saturation(pairs_of(earlier, 2), pairs_of(fewer, 2)), 1, 1e-12);
  assert_close(mg_saturation_chance(64, 8), 0.125, 0);
}

static void saturation_by_position_and_of_first_choices_is_stricter(void **state) {
  (void)state;
  const int32_t earlier[] = {0, 1, 2, 3}, final[] = {1, 2, 2, 3};
  const mg_choices before = pairs_of(earlier, 2), last = pairs_of(final, 2);
  assert_close(mg_saturation_by_position(before, last), 0.5, 1e-12);
  assert_close(mg_saturation(mg_first_choices(before), mg_first_choices(last)), 0.5, 1e-12);
  const int32_t swapped[] = {1, 0, 3, 2};
  assert_close(mg_saturation(pairs_of(swapped, 2), before), 1, 1e-12);
  assert_close(mg_saturation_by_position(pairs_of(swapped, 2), before), 0, 0);
}

static void first_choices_step_over_the_others(void **state) {
  (void)state;
  const int32_t ids[] = {3, 0, 3, 1, 2, 1}, words[] = {5, 5, 5};
  const mg_choices first = mg_first_choices(pairs_of(ids, 3));
  assert_close(mg_consecutive_repetition(first, 3).any, 0.5, 1e-12);
  int64_t scratch[6 * 5], counted;
  assert_close(mg_vocabulary_specialisation(first, words, 6, 1, scratch, &counted), 2.0 / 3, 1e-12);
}

static void choices_per_token_are_shares(void **state) {
  (void)state;
  const int32_t ids[] = {-1, -1, 2, -1, -1, 3, 0, 1};
  double share[3];
  assert_close(mg_choices_mean(pairs_of(ids, 4)), 1, 1e-12);
  mg_choices_per_token(pairs_of(ids, 4), share);
  assert_close(share[0], 0.25, 0);
  assert_close(share[1], 0.5, 0);
  assert_close(share[2], 0.25, 0);
}

static void domain_specialisation_is_a_share_of_the_domain(void **state) {
  (void)state;
  const int32_t ids[] = {0, 0, 1, 1}, domains[] = {0, 0, 0, 1};
  double out[2 * 3];
  mg_domain_specialisation((mg_choices){.ids = ids, .tokens = 4, .choices = 1, .experts = 2}, domains, 3, out);
  assert_close(out[0 * 3 + 0], 2.0 / 3, 1e-12);
  assert_close(out[1 * 3 + 0], 1.0 / 3, 1e-12);
  assert_close(out[0 * 3 + 1], 0, 0);
  assert_close(out[1 * 3 + 1], 1, 0);
  assert_true(isnan(out[2])); /* no token of domain 2 */
  assert_close(mg_domain_largest(out, 2, 3), (2.0 / 3 + 1) / 2, 1e-12);
}

static void vocabulary_specialisation_leaves_rare_words_out(void **state) {
  (void)state;
  const int32_t ids[] = {0, 0, 1, 1}, words[] = {7, 7, 7, 9};
  int64_t scratch[10 * 3], counted;
  const mg_choices chosen = {.ids = ids, .tokens = 4, .choices = 1, .experts = 2};
  assert_close(mg_vocabulary_specialisation(chosen, words, 10, 2, scratch, &counted), 2.0 / 3, 1e-12);
  assert_int_equal(counted, 1);
  assert_close(mg_vocabulary_specialisation(chosen, words, 10, 1, scratch, &counted), 5.0 / 6, 1e-12);
  assert_int_equal(counted, 2);
  assert_true(isnan(mg_vocabulary_specialisation(chosen, words, 10, 5, scratch, &counted)));
}

static void repetition_counts_neighbours_within_a_sequence(void **state) {
  (void)state;
  const int32_t ids[] = {0, 1, 0, 2, 3, 0, 3, 1};
  const mg_choices chosen = pairs_of(ids, 4);
  const mg_repetition whole = mg_consecutive_repetition(chosen, 4), halves = mg_consecutive_repetition(chosen, 2);
  assert_close(whole.first, 2.0 / 3, 1e-12);
  assert_close(whole.any, 1, 1e-12);
  assert_close(halves.first, 1, 1e-12); /* the pair across the border is gone */
  assert_close(mg_consecutive_chance(8, 2).first, 0.125, 1e-12);
  assert_close(mg_consecutive_chance(8, 2).any, 1 - (6.0 / 8) * (5.0 / 7), 1e-12);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(balance_metrics_match_hand_worked_loads),
      cmocka_unit_test(one_expert_is_always_balanced),
      cmocka_unit_test(metrics_do_not_change_when_load_scales_or_experts_change_places),
      cmocka_unit_test(load_of_groups_adds_consecutive_experts),
      cmocka_unit_test(random_routing_has_a_floor),
      cmocka_unit_test(random_routing_loses_to_a_capacity),
      cmocka_unit_test(coactivation_is_a_share_of_the_first_experts_tokens),
      cmocka_unit_test(saturation_is_the_overlap_with_the_final_choice),
      cmocka_unit_test(saturation_by_position_and_of_first_choices_is_stricter),
      cmocka_unit_test(first_choices_step_over_the_others),
      cmocka_unit_test(choices_per_token_are_shares),
      cmocka_unit_test(domain_specialisation_is_a_share_of_the_domain),
      cmocka_unit_test(vocabulary_specialisation_leaves_rare_words_out),
      cmocka_unit_test(repetition_counts_neighbours_within_a_sequence),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
