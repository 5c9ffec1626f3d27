/* Failures leave what was learned until then, and say what to change. */
#include "support/training/training.h"

#include <stdlib.h>

/* An infinity put into a weight in the middle of the run, as a fault would. */
static bool break_weight(void *user, const mg_train_progress *progress) {
  training *r = user;
  mg_params *params = mg_model_params(r->model);
  if (progress->step == 20) *(float *)mg_params_at(params, 0)->value.data = INFINITY;
  return true;
}

static void a_loss_that_is_no_number_stops_the_run_and_keeps_the_record(void **state) {
  (void)state;
  training r;
  training_open(&r, training_dense, training_short);
  const mg_train_hooks hooks = {.progress = break_weight, .user = &r};
  json_object_set_new(r.spec, "evaluate_every", json_integer(1000));
  assert_refused(r.world.context, MG_NUMERIC, "of step 21 of 60",
                 mg_train(r.world.context, r.model, &r.data, r.spec, &hooks, &r.result));
  assert_int_equal(json_array_size(json_object_get(json_object_get(r.result, "series"), "train_loss")), 20);
  assert_near(training_metric(&r, "steps"), 20, 0);
  training_close(&r);
}

/* An allocator that gives `left` more blocks and then none. */
static void *give_some(void *user, void *pointer, size_t old_size, size_t size) {
  int64_t *left = user;
  (void)old_size;
  if (size == 0) {
    free(pointer);
    return NULL;
  }
  return (*left)-- > 0 ? realloc(pointer, size) : NULL;
}

static mg_status train_once(mg_context *context, mg_registry *registry) {
  mg_backend *backend = NULL;
  mg_model *model = NULL;
  mg_dataset data = {0};
  json_t *model_spec = training_json(training_moe), *result = NULL;
  json_t *spec = training_json("{'tokens': 64, 'batch': 2, 'sequence': 8, 'evaluate_tokens': 16, 'timing_steps': 1}");
  mg_status status = mg_backend_open(context, registry, "cpu", NULL, &backend);
  if (status == MG_OK) status = mg_model_create(context, registry, backend, model_spec, MG_F32, 1, &model);
  if (status == MG_OK) status = mg_train(context, model, &data, spec, NULL, &result);
  mg_model_destroy(model);
  mg_backend_close(backend);
  json_decref(model_spec);
  json_decref(spec);
  json_decref(result);
  return status;
}

/* Memory ends at every eleventh block of a run in turn: each time a status comes back and nothing is leaked. */
static void memory_may_end_anywhere(void **state) {
  (void)state;
  int64_t refused = 0;
  for (int64_t blocks = 0;; blocks += 11) {
    int64_t left = INT64_MAX;
    const mg_allocator allocator = {.resize = give_some, .user = &left};
    mg_context *context;
    mg_registry *registry;
    assert_int_equal(mg_context_create(&allocator, &context), MG_OK);
    assert_ok(context, mg_registry_create(context, &registry));
    assert_ok(context, mg_testing_register(registry));
    left = blocks;
    const mg_status status = train_once(context, registry);
    if (status != MG_OK && status != MG_MEMORY)
      fail_msg("block %lld: %s", (long long)blocks, mg_context_message(context));
    mg_registry_destroy(registry);
    assert_int_equal(mg_context_bytes(context), 0);
    mg_context_destroy(context);
    if (status == MG_OK) break;
    refused++;
  }
  assert_true(refused > 10);
}

static void wrong_training_specifications_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *train, *words;
  } cases[] = {{"{'token': 5}", "did you mean 'tokens'"},
               {"{'rate': 'fast'}", "'rate' must be a number"},
               {"{'schedule': 'cosin'}", "one of cosine, linear, constant"},
               {"{'batch': 0}", "'batch' must be an integer from 1"},
               {"{'precision': 'f16'}", "one of bf16, f32"},
               {"{'warmup': 2}", "'warmup' must be a number from 0 to 1"}};
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    training r;
    training_open(&r, training_dense, cases[i].train);
    assert_refused(r.world.context, MG_USAGE, cases[i].words, training_run(&r));
    assert_null(r.result);
    training_close(&r);
  }
  training r;
  training_open(&r, "{'vocabulary': 7, 'width': 16}", training_short);
  assert_refused(r.world.context, MG_USAGE, "'vocabulary' is 7", training_run(&r));
  training_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_loss_that_is_no_number_stops_the_run_and_keeps_the_record),
      cmocka_unit_test(memory_may_end_anywhere),
      cmocka_unit_test(wrong_training_specifications_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
