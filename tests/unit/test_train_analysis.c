/* What a trained model is asked after training: its weights in other models, the routing it ended with, and how early it
 * had it. */
#include "support/corpus.h"
#include "support/world.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/trainer.h"

static const char model_text[] = "{'layers': 2, 'width': 16, 'heads': 2, 'vocabulary': 24, 'feed_forward': %s}";
static const char base_layer[] = "{'kind': 'moe', 'experts': 6, 'width': 16, 'router': {'name': 'topk', 'k': 2},"
                                 " 'shared': {}, 'losses': [{'kind': 'balance'}]}";
static const char train_text[] = "{'tokens': 4096, 'batch': 4, 'sequence': 32, 'rate': 0.02, 'evaluate_tokens': 64,"
                                 " 'final_tokens': 2048, 'timing_steps': 0%s}";

static json_t *json_of(const char *format, const char *part) {
  char text[2048];
  snprintf(text, sizeof text, format, part);
  for (char *c = text; *c; c++)
    if (*c == '\'') *c = '"';
  json_t *json = json_loads(text, 0, NULL);
  if (!json) fail_msg("not JSON: %s", text);
  return json;
}

/* ", 'evaluations': {NAME: a model with this layer}" */
static const char *evaluation(char text[1024], const char *name, const char *layer) {
  char model[768];
  snprintf(model, sizeof model, model_text, layer);
  snprintf(text, 1024, ", 'evaluations': {'%s': %s}", name, model);
  return text;
}

typedef struct run {
  mg_world world;
  corpus *files;
  mg_dataset *data;
  mg_model *model;
  json_t *result;
} run;

static mg_status train(run *r, corpus *files, const char *layer, const char *more) {
  *r = (run){.files = files};
  mg_world_open(&r->world, "cpu", MG_F32);
  assert_ok(files->context, corpus_open(files,
                                        "{\"corpus\": \"synthetic\", \"vocabulary\": 24, \"collect\": {\"domains\": 3, "
                                        "\"documents\": 48, \"document_tokens\": 256}}",
                                        &r->data));
  json_t *model = json_of(model_text, layer), *spec = json_of(train_text, more);
  assert_ok(r->world.context,
            mg_model_create(r->world.context, r->world.registry, r->world.backend, model, MG_F32, 11, &r->model));
  const mg_status status = mg_train(r->world.context, r->model, r->data, spec, NULL, &r->result);
  json_decref(model);
  json_decref(spec);
  return status;
}

/* Fails the test where training fails. */
static void must_train(run *r, corpus *files, const char *layer, const char *more) {
  const mg_status status = train(r, files, layer, more);
  assert_ok(r->world.context, status);
}

static void close_run(run *r) {
  json_decref(r->result);
  mg_model_destroy(r->model);
  mg_dataset_close(r->data);
  mg_world_close(&r->world);
}

static double metric(const run *r, const char *name) {
  const json_t *value = json_object_get(json_object_get(r->result, "metrics"), name);
  if (!json_is_number(value)) fail_msg("metric '%s' is missing", name);
  return json_number_value(value);
}

static const json_t *values(const run *r, const char *table) {
  const json_t *list = json_object_get(json_object_get(json_object_get(r->result, "tables"), table), "values");
  if (!list) fail_msg("table '%s' is missing", table);
  return list;
}

static double entry(const json_t *list, size_t i, size_t j, size_t k) {
  return json_number_value(json_array_get(json_array_get(json_array_get(list, i), j), k));
}

/* ---- evaluations -------------------------------------------------------------------------------------------- */

static void the_same_model_finds_the_same(void **state) {
  run r;
  char text[1024];
  must_train(&r, *state, base_layer, evaluation(text, "same", base_layer));
  static const char *const names[] = {"loss", "accuracy", "cv", "sequence_cv", "evaluated_tokens"};
  for (size_t i = 0; i < MG_COUNT(names); i++) {
    char other[64];
    snprintf(other, sizeof other, "same.%s", names[i]);
    assert_true(metric(&r, names[i]) == metric(&r, other));
  }
  assert_true(json_equal(values(&r, "domain_load"), values(&r, "same.domain_load")));
  close_run(&r);
}

static void evaluations_leave_the_training_alone(void **state) {
  run plain, watched;
  char text[1024];
  must_train(&plain, *state, base_layer, "");
  must_train(&watched, *state, base_layer, evaluation(text, "same", base_layer));
  assert_true(metric(&plain, "loss") == metric(&watched, "loss"));
  assert_true(metric(&plain, "train_loss") == metric(&watched, "train_loss"));
  close_run(&plain);
  close_run(&watched);
}

static void weights_are_evaluated_under_another_capacity_and_k(void **state) {
  run r;
  char text[1024];
  must_train(&r, *state, base_layer,
             evaluation(text, "tight",
                        "{'kind': 'moe', 'experts': 6, 'width': 16, 'router': {'name': 'topk', 'k': 1, "
                        "'renormalise': false}, 'shared': {}, 'capacity': 0.5}"));
  assert_true(metric(&r, "dropped_assignments") == 0.0);
  assert_true(metric(&r, "tight.dropped_assignments") >= 0.5);
  assert_true(metric(&r, "tight.loss") > metric(&r, "loss"));
  close_run(&r);
}

static void a_part_of_the_model_may_be_left_out(void **state) {
  run r;
  char text[1024];
  must_train(
      &r, *state, base_layer,
      evaluation(text, "unshared", "{'kind': 'moe', 'experts': 6, 'width': 16, 'router': {'name': 'topk', 'k': 3}}"));
  assert_true(metric(&r, "unshared.loss") > metric(&r, "loss"));
  close_run(&r);
}

static void refuse(corpus *files, const char *layer, const char *more, const char *part) {
  run r;
  assert_int_equal(train(&r, files, layer, more), MG_USAGE);
  if (!strstr(mg_context_message(r.world.context), part)) fail_msg("%s", mg_context_message(r.world.context));
  assert_null(r.result);
  close_run(&r);
}

static void weights_that_do_not_fit_are_refused_before_the_training(void **state) {
  char text[1024];
  refuse(*state, base_layer,
         evaluation(text, "wide", "{'kind': 'moe', 'experts': 6, 'width': 24, 'router': {'name': 'topk'}}"),
         "train: evaluations.wide: the parameter 'layers.0.feed_forward.experts.gate' has the shape [6, 24, 16]");
  refuse(*state, "{'kind': 'moe', 'experts': 6, 'width': 16, 'router': {'name': 'topk'}}",
         evaluation(text, "shared", base_layer),
         "evaluations.shared: there is no trained parameter 'layers.0.feed_forward.shared.gate'");
  refuse(*state, base_layer, ", 'evaluations': {'a.b': {}}", "'a.b' is no name");
  refuse(*state, base_layer, ", 'evaluations': {'a': 1}", "evaluations.a must be a model");
  refuse(*state, base_layer, ", 'evaluation': {}", "did you mean 'evaluations'?");
}

/* ---- the routing -------------------------------------------------------------------------------------------- */

static double number(const json_t *list, size_t i, size_t j) {
  return json_number_value(json_array_get(json_array_get(list, i), j));
}

static void shares_of_the_routing_add_up(void **state) {
  static const char *const words[] = {"vocabulary_input", "vocabulary_next", "vocabulary_predicted"};
  run r;
  must_train(&r, *state, base_layer, ", 'specialisation': true");
  const json_t *domains = values(&r, "domain_specialisation"), *choices = values(&r, "choices_per_token");
  for (size_t layer = 0; layer < 2; layer++) {
    for (size_t d = 0; d < 3; d++) {
      double sum = 0;
      for (size_t e = 0; e < 6; e++) sum += entry(domains, layer, d, e);
      assert_true(fabs(sum - 2) < 1e-9); /* two experts per token */
      for (size_t e = 0; e < 6; e++)     /* eq. 7 is K times the share of choices */
        assert_true(fabs(entry(domains, layer, d, e) - 2 * entry(values(&r, "domain_load"), layer, d, e)) < 1e-9);
    }
    assert_true(json_number_value(json_array_get(json_array_get(choices, layer), 2)) == 1.0);
    assert_true(entry(values(&r, "coactivation"), layer, 0, 0) == 1.0);
  }
  for (size_t i = 0; i < 3; i++) {
    const json_t *vocabulary = values(&r, "vocabulary_specialisation");
    assert_true(fabs((number(vocabulary, 0, i) + number(vocabulary, 1, i)) / 2 - metric(&r, words[i])) < 1e-12);
    assert_true(metric(&r, words[i]) > 1.0 / 6 && metric(&r, words[i]) <= 1.0);
  }
  assert_true(metric(&r, "repetition_any") >= metric(&r, "repetition_first"));
  assert_true(fabs(metric(&r, "repetition_chance_first") - 1.0 / 6) < 1e-12);
  assert_true(metric(&r, "domain_largest") >= 2.0 / 6 && metric(&r, "domain_largest") <= 1.0);
  close_run(&r);
}

static void balance_is_told_per_layer_and_within_sequences(void **state) {
  run r;
  must_train(&r, *state, base_layer, "");
  const json_t *table = values(&r, "balance"); /* cv, cv_sample, ... */
  assert_int_equal(json_array_size(table), 2);
  assert_true(fabs((number(table, 0, 0) + number(table, 1, 0)) / 2 - metric(&r, "cv")) < 1e-12);
  assert_true(fabs(metric(&r, "cv_sample") - metric(&r, "cv") * sqrt(6.0 / 5.0)) < 1e-12);
  assert_true(metric(&r, "sequence_cv") >= metric(&r, "cv")); /* CV is convex: the mean load is more even */
  assert_true(metric(&r, "random_floor_sequence_cv") > metric(&r, "random_floor_cv"));
  close_run(&r);
}

/* A router that may choose every expert and chooses about k is compared with random routing of k, not of all. */
static void chance_is_that_of_the_choices_made(void **state) {
  run r;
  must_train(&r, *state, "{'kind': 'moe', 'experts': 6, 'width': 16, 'router': {'name': 'top_p', 'p': 0.2}}",
             ", 'specialisation': true, 'snapshots': [0.5]");
  const json_t *choices = values(&r, "choices_per_token");
  double mean = 0;
  for (size_t layer = 0; layer < 2; layer++)
    for (size_t n = 0; n <= 6; n++) mean += (double)n * number(choices, layer, n) / 2;
  assert_true(mean < 2.5); /* of 6 at most */
  assert_true(metric(&r, "random_floor_cv") > 0);
  assert_true(metric(&r, "repetition_chance_any") < 0.7); /* 1 - C(4,2) / C(6,2) = 0.6 */
  assert_true(metric(&r, "saturation_chance") <= 2.0 / 6 + 1e-12);
  close_run(&r);
}

/* Every expert takes as many tokens of each sequence as any other. */
static void experts_that_choose_in_a_sequence_are_even_in_it(void **state) {
  run r;
  must_train(&r, *state,
             "{'kind': 'moe', 'experts': 8, 'width': 16, 'router': {'name': 'expert_choice', 'scope': 'sequence'}}",
             ", 'specialisation': true");
  assert_true(metric(&r, "sequence_cv") == 0.0 && metric(&r, "sequence_max_violation") == 0.0);
  double taken = 0;
  for (size_t n = 0; n <= 8; n++) taken += (double)n * number(values(&r, "choices_per_token"), 0, n);
  assert_true(fabs(taken - 2) < 1e-9); /* the capacity factor */
  close_run(&r);
}

/* A hash of the token's id: every id goes to one expert whatever stands before it, and always did. */
static void a_hash_router_follows_the_input_id_from_the_start(void **state) {
  run r;
  must_train(&r, *state, "{'kind': 'moe', 'experts': 6, 'width': 16, 'router': {'name': 'hash', 'k': 2}}",
             ", 'specialisation': true, 'snapshots': [0.5, 0]");
  assert_true(metric(&r, "vocabulary_input") == 1.0);
  assert_true(metric(&r, "vocabulary_next") < 1.0);
  for (size_t snapshot = 0; snapshot < 2; snapshot++)
    for (size_t kind = 0; kind < 3; kind++) assert_true(entry(values(&r, "saturation"), 1, snapshot, kind) == 1.0);
  close_run(&r);
}

static void saturation_grows_towards_the_end(void **state) {
  run r;
  must_train(&r, *state, base_layer, ", 'snapshots': [0.9, 0, 0.99]");
  const json_t *found = values(&r, "saturation");
  for (size_t layer = 0; layer < 2; layer++) {
    assert_true(entry(found, layer, 0, 0) < entry(found, layer, 2, 0));
    for (size_t snapshot = 0; snapshot < 3; snapshot++) /* positions are a stricter match than sets */
      assert_true(entry(found, layer, snapshot, 1) <= entry(found, layer, snapshot, 0));
  }
  const json_t *tokens = json_object_get(json_object_get(json_object_get(r.result, "tables"), "saturation"), "tokens");
  assert_true(json_number_value(json_array_get(tokens, 0)) == 0.0);
  assert_true(json_number_value(json_array_get(tokens, 1)) == 3584.0); /* step 28 of 32, of 128 tokens */
  const json_t *series = json_object_get(json_object_get(r.result, "series"), "saturation_set");
  assert_int_equal(json_array_size(series), 3);
  assert_null(json_object_get(json_object_get(r.result, "tables"), "repetition")); /* not asked for */
  close_run(&r);
}

static void dense_models_have_no_routing(void **state) {
  run r;
  must_train(&r, *state, "{'kind': 'dense', 'width': 16}", ", 'specialisation': true, 'snapshots': [0.5]");
  assert_null(json_object_get(json_object_get(r.result, "tables"), "saturation"));
  assert_null(json_object_get(json_object_get(r.result, "metrics"), "repetition_first"));
  close_run(&r);
}

static void experts_that_mix_tokens_have_no_routing(void **state) {
  static const char soft[] = "{'kind': 'moe', 'experts': 6, 'width': 16, 'router': {'name': 'soft'}}";
  refuse(*state, soft, ", 'specialisation': true", "router soft chooses nothing");
  refuse(*state, soft, ", 'snapshots': [0.5]", "router soft chooses nothing");
}

static void snapshots_are_checked(void **state) {
  refuse(*state, base_layer, ", 'snapshots': [0.1, 1]", "entry 2 is none");
  refuse(*state, base_layer, ", 'snapshots': 0.1", "a list of at most 16 shares");
  refuse(*state, base_layer, ", 'snapshots': [0.1], 'checkpoint': '/nowhere'", "not kept in checkpoints");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(the_same_model_finds_the_same, corpus_setup, corpus_teardown),
      cmocka_unit_test_setup_teardown(evaluations_leave_the_training_alone, corpus_setup, corpus_teardown),
      cmocka_unit_test_setup_teardown(weights_are_evaluated_under_another_capacity_and_k, corpus_setup,
                                      corpus_teardown),
      cmocka_unit_test_setup_teardown(a_part_of_the_model_may_be_left_out, corpus_setup, corpus_teardown),
      cmocka_unit_test_setup_teardown(weights_that_do_not_fit_are_refused_before_the_training, corpus_setup,
                                      corpus_teardown),
      cmocka_unit_test_setup_teardown(shares_of_the_routing_add_up, corpus_setup, corpus_teardown),
      cmocka_unit_test_setup_teardown(balance_is_told_per_layer_and_within_sequences, corpus_setup, corpus_teardown),
      cmocka_unit_test_setup_teardown(chance_is_that_of_the_choices_made, corpus_setup, corpus_teardown),
      cmocka_unit_test_setup_teardown(experts_that_choose_in_a_sequence_are_even_in_it, corpus_setup, corpus_teardown),
      cmocka_unit_test_setup_teardown(a_hash_router_follows_the_input_id_from_the_start, corpus_setup, corpus_teardown),
      cmocka_unit_test_setup_teardown(saturation_grows_towards_the_end, corpus_setup, corpus_teardown),
      cmocka_unit_test_setup_teardown(dense_models_have_no_routing, corpus_setup, corpus_teardown),
      cmocka_unit_test_setup_teardown(experts_that_mix_tokens_have_no_routing, corpus_setup, corpus_teardown),
      cmocka_unit_test_setup_teardown(snapshots_are_checked, corpus_setup, corpus_teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
