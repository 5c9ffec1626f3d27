/* Loading of golden models and of what they must compute. */
#include "support/golden.h"

#include <stdio.h>
#include <stdlib.h>

#include "lua/engine.h"

json_t *mg_golden_family(mg_world *world, const char *path) {
  char scripts[1024], text[2048];
  mg_engine *engine;
  json_t *family;
  snprintf(scripts, sizeof scripts, "%s/scripts", getenv("MOEGAUGE_SOURCE"));
  const mg_engine_settings settings = {.registry = world->registry, .scripts = scripts};
  assert_ok(world->context, mg_engine_create(world->context, &settings, &engine));
  snprintf(text, sizeof text,
           "local read = require('moegauge.families').read '%s'; return { spec = "
           "read.spec, tensors = read.tensors, ignored = read.ignored_tensors }",
           path);
  assert_ok(world->context, mg_engine_run_text(engine, text, "=golden", &family));
  mg_engine_destroy(engine);
  return family;
}

/* The model at `described` with these files of weights and of what it computes. */
static void open_files(mg_golden *golden, const char *described, const char *weights, const char *expected,
                       mg_dtype precision) {
  mg_world *world = golden->world;
  golden->family = mg_golden_family(world, described);
  assert_ok(world->context, mg_checkpoint_open(world->context, weights, NULL, &golden->weights));
  assert_ok(world->context, mg_checkpoint_open(world->context, expected, NULL, &golden->expected));
  assert_ok(world->context,
            mg_model_load(world->context, world->registry, world->backend, json_object_get(golden->family, "spec"),
                          json_object_get(golden->family, "tensors"), json_object_get(golden->family, "ignored"),
                          golden->weights, precision, &golden->model));
}

void mg_golden_open(mg_golden *golden, mg_world *world, const char *family, mg_dtype precision) {
  char weights[1100], expected[1100];
  *golden = (mg_golden){.world = world};
  snprintf(golden->folder, sizeof golden->folder, "%s/tests/golden/models/%s", getenv("MOEGAUGE_SOURCE"), family);
  snprintf(weights, sizeof weights, "%s/model.safetensors", golden->folder);
  snprintf(expected, sizeof expected, "%s/golden.safetensors", golden->folder);
  open_files(golden, golden->folder, weights, expected, precision);
}

void mg_golden_open_gguf(mg_golden *golden, mg_world *world, const char *name, mg_dtype precision) {
  char weights[1100], expected[1100];
  *golden = (mg_golden){.world = world};
  snprintf(golden->folder, sizeof golden->folder, "%s/tests/golden/gguf", getenv("MOEGAUGE_SOURCE"));
  snprintf(weights, sizeof weights, "%s/%s.gguf", golden->folder, name);
  snprintf(expected, sizeof expected, "%s/%s.safetensors", golden->folder, name);
  open_files(golden, weights, weights, expected, precision);
}

void mg_golden_close(mg_golden *golden) {
  mg_tape_reset(golden->world->tape);
  mg_model_destroy(golden->model);
  mg_checkpoint_close(golden->weights);
  mg_checkpoint_close(golden->expected);
  json_decref(golden->family);
}

/* ---- arrays -------------------------------------------------------------------------------------------------- */

mg_golden_array mg_golden_floats(mg_golden *golden, bool must, const char *format, ...) {
  mg_context *context = golden->world->context;
  mg_golden_array array = {0};
  mg_checkpoint_tensor tensor;
  char name[128];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(name, sizeof name, format, arguments);
  va_end(arguments);
  if (!must && mg_checkpoint_find(golden->expected, name) < 0) return array;
  assert_ok(context, mg_checkpoint_get(golden->expected, name, &tensor));
  array.rows = tensor.rows;
  array.columns = tensor.columns;
  array.values = mg_alloc(context, (size_t)(array.rows * array.columns) * sizeof(float));
  assert_non_null(array.values);
  assert_ok(context, mg_checkpoint_read(golden->expected, &tensor, 0, tensor.rows, MG_F32, array.values));
  return array;
}

int32_t *mg_golden_ids(mg_golden *golden, int64_t prompt, const char *what, int64_t *count) {
  mg_context *context = golden->world->context;
  mg_checkpoint_tensor tensor;
  char name[128];
  snprintf(name, sizeof name, "%lld.%s", (long long)prompt, what);
  *count = 0;
  if (mg_checkpoint_find(golden->expected, name) < 0) return NULL;
  assert_ok(context, mg_checkpoint_get(golden->expected, name, &tensor));
  *count = tensor.columns;
  int32_t *ids = mg_alloc(context, (size_t)*count * sizeof *ids);
  assert_non_null(ids);
  assert_ok(context, mg_checkpoint_read(golden->expected, &tensor, 0, 1, MG_I32, ids));
  return ids;
}

void mg_golden_free(mg_golden *golden, mg_golden_array *array) {
  if (array->values)
    mg_free(golden->world->context, array->values, (size_t)(array->rows * array->columns) * sizeof(float));
  *array = (mg_golden_array){0};
}

void mg_golden_free_ids(mg_golden *golden, int32_t *ids, int64_t count) {
  if (ids) mg_free(golden->world->context, ids, (size_t)count * sizeof *ids);
}
