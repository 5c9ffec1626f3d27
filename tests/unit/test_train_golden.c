/* Training computes what PyTorch does: the same text, parameters and settings give its losses, gradient norms, learning
 * rates, weights and moments (tests/golden/training). */
#include <stdlib.h>

#include "model/checkpoint.h"
#include "support/corpus.h"
#include "support/world.h"
#include "train/trainer.h"

enum { STEPS = 8 };

static const char data_spec[] = "{\"corpus\": \"%s\", \"tokenizer\": \"bytes\", \"stages\": [\"split\", \"tokenize\", "
                                "\"encode\", \"pack\"]}";
static const char model_spec[] =
    "{\"layers\": 2, \"width\": 16, \"heads\": 2, \"vocabulary\": 256, \"feed_forward\": ["
    "  {\"kind\": \"dense\", \"width\": 8},"
    "  {\"kind\": \"moe\", \"experts\": 4, \"width\": 8, \"router\": {\"name\": \"topk\", \"k\": 2},"
    "   \"losses\": [{\"kind\": \"balance\", \"weight\": 0.05}, {\"kind\": \"z\", \"weight\": 0.02}]}]}";
static const char train_spec[] =
    "{\"tokens\": 384, \"batch\": 1, \"sequence\": 16, \"accumulate\": 3, \"rate\": 0.02, \"warmup\": 0.3,"
    " \"final_rate\": 0.1, \"clip\": 0.8, \"decay\": 0.1, \"precision\": \"f32\", \"timing_steps\": 0}";

static mg_checkpoint *open_golden(mg_context *context) {
  const char *source = getenv("MOEGAUGE_SOURCE");
  char path[4096];
  snprintf(path, sizeof path, "%s/tests/golden/training/steps.safetensors", source ? source : ".");
  mg_checkpoint *golden;
  assert_ok(context, mg_checkpoint_open(context, path, NULL, &golden));
  return golden;
}

static mg_dataset *open_texts(corpus *self, const mg_checkpoint *golden) {
  static const char *const sides[] = {"train", "valid"};
  mg_dataset *data;
  for (int i = 0; i < 2; i++) {
    const char *text;
    char name[32];
    snprintf(name, sizeof name, "d/%s.txt", sides[i]);
    assert_ok(self->context, mg_checkpoint_text(golden, sides[i], &text));
    corpus_write(self, name, text);
  }
  assert_ok(self->context, corpus_open(self, data_spec, &data));
  char *text = corpus_text(data, MG_SPLIT_TRAIN);
  const char *wanted;
  assert_ok(self->context, mg_checkpoint_text(golden, "train", &wanted));
  assert_string_equal(text, wanted); /* as the hash of the text decides */
  free(text);
  return data;
}

/* A tensor of the file in a tensor of the world's, shaped like `like`. */
static mg_tensor stored(mg_world *world, const mg_checkpoint *golden, const char *prefix, const char *name,
                        int32_t dims, const int64_t *shape) {
  char full[256];
  snprintf(full, sizeof full, "%s%s", prefix, name);
  mg_tensor tensor = mg_world_tensor(world, MG_F32, dims, shape, NULL);
  assert_ok(world->context, mg_checkpoint_load(golden, world->backend, full, &tensor));
  return tensor;
}

static void set_parameters(mg_world *world, const mg_checkpoint *golden, mg_params *params) {
  char name[256];
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    snprintf(name, sizeof name, "start.%s", mg_params_at(params, i)->name);
    assert_ok(world->context, mg_checkpoint_load(golden, world->backend, name, &mg_params_at(params, i)->value));
  }
}

/* Every element within `tolerance` times the largest one that PyTorch has. */
static void assert_tensor(mg_world *world, const mg_checkpoint *golden, const char *prefix, const char *name,
                          const mg_tensor *have, double tolerance) {
  mg_tensor want = stored(world, golden, prefix, name, have->dims, have->shape);
  double largest = 0.0;
  for (int64_t i = 0; i < mg_tensor_count(have); i++) largest = fmax(largest, fabs(mg_world_element(world, &want, i)));
  for (int64_t i = 0; i < mg_tensor_count(have); i++) {
    const double x = mg_world_element(world, have, i), y = mg_world_element(world, &want, i);
    if (!(fabs(x - y) <= tolerance * largest))
      fail_msg("%s%s[%lld] is %.9g; PyTorch has %.9g", prefix, name, (long long)i, x, y);
  }
  mg_world_release(world, &want);
}

static void assert_series(mg_world *world, const mg_checkpoint *golden, const json_t *result, const char *series,
                          const char *name, double tolerance) {
  const json_t *points = json_object_get(json_object_get(result, "series"), series);
  mg_tensor want = stored(world, golden, "", name, 1, (const int64_t[]){STEPS});
  assert_int_equal(json_array_size(points), STEPS);
  for (int64_t i = 0; i < STEPS; i++)
    assert_near(json_number_value(json_array_get(json_array_get(points, (size_t)i), 1)),
                mg_world_element(world, &want, i), tolerance);
  mg_world_release(world, &want);
}

static void check(mg_world *world, const mg_checkpoint *golden, mg_params *params, const json_t *result) {
  assert_series(world, golden, result, "train_loss", "loss", 5e-6);
  assert_series(world, golden, result, "grad_norm", "norm", 5e-6);
  assert_series(world, golden, result, "learning_rate", "rate", 1e-9);
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    const mg_param *param = mg_params_at(params, i);
    assert_tensor(world, golden, "end.", param->name, &param->value, 5e-5);
    assert_tensor(world, golden, "first.", param->name, &param->first, 5e-5);
    assert_tensor(world, golden, "second.", param->name, &param->second, 5e-5);
  }
}

static void train_on(corpus *self, const char *backend) {
  mg_world world;
  mg_model *model;
  json_t *result, *of_model = json_loads(model_spec, 0, NULL), *of_training = json_loads(train_spec, 0, NULL);
  mg_world_open(&world, backend, MG_F32);
  mg_checkpoint *golden = open_golden(world.context);
  mg_dataset *data = open_texts(self, golden);
  assert_ok(world.context, mg_model_create(world.context, world.registry, world.backend, of_model, MG_F32, 1, &model));
  set_parameters(&world, golden, mg_model_params(model));
  assert_ok(world.context, mg_train(world.context, model, data, of_training, NULL, &result));
  check(&world, golden, mg_model_params(model), result);
  json_decref(result);
  json_decref(of_model);
  json_decref(of_training);
  mg_model_destroy(model);
  mg_dataset_close(data);
  mg_checkpoint_close(golden);
  mg_world_close(&world);
}

static void the_reference_trains_as_pytorch_does(void **state) {
  train_on(*state, "reference");
}

static void the_cpu_backend_trains_as_pytorch_does(void **state) {
  train_on(*state, "cpu");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(the_reference_trains_as_pytorch_does, corpus_setup, corpus_teardown),
      cmocka_unit_test_setup_teardown(the_cpu_backend_trains_as_pytorch_does, corpus_setup, corpus_teardown)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
