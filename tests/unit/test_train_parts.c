/* The learning rate's schedule by hand, spikes that are counted and those that are not, and the median. */
#include "support/testing.h"

#include "train/run.h"

static mg__train_settings settings_of(mg__schedule schedule) {
  return (mg__train_settings){.rate = 2.0, .warmup = 0.1, .final_rate = 0.25, .schedule = schedule};
}

/* 100 steps: 10 of warm-up, then from 2 to 0.5, half way (1.25) at step 55. */
static void the_rate_rises_and_falls(void **state) {
  (void)state;
  const mg__train_settings cosine = settings_of(MG__SCHEDULE_COSINE), linear = settings_of(MG__SCHEDULE_LINEAR);
  const mg__train_settings constant = settings_of(MG__SCHEDULE_CONSTANT);
  assert_near(mg__schedule_rate(&cosine, 1, 100), 0.2, 1e-12);
  assert_near(mg__schedule_rate(&cosine, 10, 100), 2.0, 1e-12);
  assert_near(mg__schedule_rate(&cosine, 55, 100), 1.25, 1e-12);
  assert_near(mg__schedule_rate(&cosine, 100, 100), 0.5, 1e-12);
  assert_near(mg__schedule_rate(&cosine, 40, 100), 0.5 + 1.5 * 0.75, 1e-12); /* cos(60 degrees) = 1/2 */
  assert_near(mg__schedule_rate(&linear, 40, 100), 1.5, 1e-12);
  assert_near(mg__schedule_rate(&constant, 99, 100), 2.0, 1e-12);
}

static void a_run_of_one_step_has_a_rate(void **state) {
  (void)state;
  mg__train_settings settings = settings_of(MG__SCHEDULE_COSINE);
  assert_near(mg__schedule_rate(&settings, 1, 1), 2.0, 1e-12);
  settings.warmup = 0.0;
  assert_near(mg__schedule_rate(&settings, 1, 1), 0.5, 1e-12);
}

/* Losses of 1 +- 0.1, so that a spike begins at 1.6 (6 deviations); a fall is never one. */
static void jumps_above_six_deviations_are_spikes(void **state) {
  (void)state;
  mg__spikes spikes = {0};
  for (int i = 0; i < 200; i++) assert_false(mg__spikes_add(&spikes, i % 2 ? 1.1 : 0.9));
  assert_false(mg__spikes_add(&spikes, 1.55));
  assert_true(mg__spikes_add(&spikes, 1.8));
  assert_false(mg__spikes_add(&spikes, 0.01));
  assert_int_equal(spikes.count, 1);
}

static void the_first_steps_are_only_watched(void **state) {
  (void)state;
  mg__spikes spikes = {0};
  for (int i = 0; i < 15; i++) mg__spikes_add(&spikes, 1.0);
  assert_false(mg__spikes_add(&spikes, 100.0));
  assert_true(mg__spikes_add(&spikes, 2000.0)); /* more than 10 times the median */
}

static void the_median_is_the_middle(void **state) {
  (void)state;
  double odd[] = {5, 1, 3}, even[] = {4, 1, 3, 2};
  assert_near(mg__median(odd, 3), 3, 0);
  assert_near(mg__median(even, 4), 2.5, 0);
  assert_near(mg__median(NULL, 0), 0, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_rate_rises_and_falls), cmocka_unit_test(a_run_of_one_step_has_a_rate),
      cmocka_unit_test(jumps_above_six_deviations_are_spikes), cmocka_unit_test(the_first_steps_are_only_watched),
      cmocka_unit_test(the_median_is_the_middle)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
