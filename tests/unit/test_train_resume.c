/* An interrupted run goes on as if nothing had happened. */
#include "support/training/training.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[] = "/tmp/moegauge-train-XXXXXX";

static void checkpoint_into(training *r, const char *name) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  json_object_set_new(r->spec, "checkpoint", json_string(path));
}

static int remove_folder(void **state) {
  (void)state;
  char command[128];
  snprintf(command, sizeof command, "rm -r %s", folder);
  return system(command);
}
static int make_folder(void **state) {
  (void)state;
  return mkdtemp(folder) ? 0 : 1;
}

/* Stops after 29 steps, between two checkpoints and in the middle of a window. */
static void an_interrupted_run_ends_as_if_it_had_not_been(void **state) {
  (void)state;
  training whole, part;
  training_open(&whole, training_moe, training_short);
  assert_ok(whole.world.context, training_run(&whole));
  training_open(&part, training_moe, training_short);
  checkpoint_into(&part, "resume");
  part.stop_after = 29;
  assert_refused(part.world.context, MG_INTERRUPTED, "stopped after step 29 of 60", training_run(&part));
  assert_null(part.result);
  training_close(&part);

  training_open(&part, training_moe, training_short);
  checkpoint_into(&part, "resume");
  assert_ok(part.world.context, training_run(&part));
  assert_true(part.data.batches < whole.data.batches);
  training_assert_same(&whole, &part);
  static const char *const equal[] = {"loss", "train_loss", "cv", "flops_per_token", "train_dropped_assignments"};
  for (size_t i = 0; i < MG_COUNT(equal); i++)
    assert_near(training_metric(&part, equal[i]), training_metric(&whole, equal[i]), 0);
  static const char *const series[] = {"train_loss", "loss", "cv", "grad_norm", "learning_rate"};
  for (size_t i = 0; i < MG_COUNT(series); i++)
    assert_true(json_equal(json_object_get(json_object_get(whole.result, "series"), series[i]),
                           json_object_get(json_object_get(part.result, "series"), series[i])));
  assert_true(json_equal(training_table(&whole, "load"), training_table(&part, "load")));
  training_close(&whole);
  training_close(&part);
}

static void another_run_in_the_folder_is_refused(void **state) {
  (void)state;
  training r;
  training_open(&r, training_moe, training_short);
  checkpoint_into(&r, "resume");
  json_object_set_new(r.spec, "rate", json_real(0.03));
  assert_refused(r.world.context, MG_USAGE, "belongs to another", training_run(&r));
  training_close(&r);
}

/* The newest checkpoint is cut short: the run goes on from the one before it, to the same end. */
static void a_damaged_checkpoint_is_passed_over(void **state) {
  (void)state;
  training r;
  char newest[256], older[256];
  double loss;
  snprintf(newest, sizeof newest, "%s/damage/step-000000060.safetensors", folder);
  snprintf(older, sizeof older, "%s/damage/step-000000054.safetensors", folder);
  training_open(&r, training_moe, training_short);
  checkpoint_into(&r, "damage");
  assert_ok(r.world.context, training_run(&r));
  loss = training_metric(&r, "loss");
  training_close(&r);
  assert_int_equal(access(older, F_OK), 0);
  assert_int_equal(truncate(newest, 5000), 0);

  training_open(&r, training_moe, training_short);
  checkpoint_into(&r, "damage");
  assert_ok(r.world.context, training_run(&r));
  assert_near(training_metric(&r, "loss"), loss, 0);
  training_close(&r);
}

static void only_the_two_newest_checkpoints_stay(void **state) {
  (void)state;
  char path[256];
  int found = 0;
  for (int step = 1; step <= 60; step++) {
    snprintf(path, sizeof path, "%s/damage/step-%09d.safetensors", folder, step);
    found += access(path, F_OK) == 0;
  }
  assert_int_equal(found, 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(an_interrupted_run_ends_as_if_it_had_not_been),
      cmocka_unit_test(another_run_in_the_folder_is_refused),
      cmocka_unit_test(a_damaged_checkpoint_is_passed_over),
      cmocka_unit_test(only_the_two_newest_checkpoints_stay),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
