/* The world of router and layer tests. */
#include "support/moe_world.h"

#include <math.h>
#include <string.h>

enum { READ_MAX = 1 << 16 };

static mg_dtype world_dtype(const moe_world *world) {
  const mg_dtype compute = mg_tape_set_compute(world->tape, MG_F32);
  mg_tape_set_compute(world->tape, compute);
  return compute;
}

void moe_world_open(moe_world *world, mg_dtype dtype) {
  assert_int_equal(mg_context_create(NULL, &world->context), MG_OK);
  assert_ok(world->context, mg_registry_create(world->context, &world->registry));
  assert_ok(world->context, mg_testing_register(world->registry));
  assert_ok(world->context, mg_backend_open(world->context, world->registry, "reference", NULL, &world->backend));
  assert_ok(world->context, mg_tape_create(world->backend, dtype, &world->tape));
  assert_ok(world->context, mg_params_create(world->backend, dtype, &world->params));
}

void moe_world_close(moe_world *world) {
  mg_params_destroy(world->params);
  mg_tape_destroy(world->tape);
  mg_backend_close(world->backend);
  mg_registry_destroy(world->registry);
  if (mg_context_bytes(world->context)) fail_msg("%zu bytes were never freed", mg_context_bytes(world->context));
  mg_context_destroy(world->context);
}

json_t *moe_json(const char *text) {
  char quoted[2048];
  assert_true(strlen(text) < sizeof quoted);
  strcpy(quoted, text);
  for (char *c = quoted; *c; c++)
    if (*c == '\'') *c = '"';
  json_error_t error;
  json_t *json = json_loads(quoted, JSON_DECODE_ANY, &error);
  if (!json) fail_msg("%s: %s", quoted, error.text);
  return json;
}

void assert_close(double a, double b, double tolerance) {
  if (!(fabs(a - b) <= tolerance)) fail_msg("%.12g is not %.12g within %g", a, b, tolerance);
}

void moe_read(moe_world *world, const mg_var *x, double *out, int64_t count) {
  if (!x) fail_msg("no variable: %s", mg_context_message(world->context));
  assert_int_equal(mg_tensor_count(mg_var_tensor(x)), count);
  assert_true(count <= READ_MAX);
  static float numbers[READ_MAX];
  if (mg_var_dtype(x) == MG_F64) {
    assert_ok(world->context, mg_tape_download(world->tape, x, out, (size_t)count * sizeof *out));
    return;
  }
  assert_int_equal(mg_var_dtype(x), MG_F32);
  assert_ok(world->context, mg_tape_download(world->tape, x, numbers, (size_t)count * sizeof *numbers));
  for (int64_t i = 0; i < count; i++) out[i] = (double)numbers[i];
}

void moe_read_ids(moe_world *world, const mg_var *x, int32_t *out, int64_t count) {
  if (!x) fail_msg("no variable: %s", mg_context_message(world->context));
  assert_int_equal(mg_tensor_count(mg_var_tensor(x)), count);
  assert_int_equal(mg_var_dtype(x), MG_I32);
  assert_ok(world->context, mg_tape_download(world->tape, x, out, (size_t)count * sizeof *out));
}

/* The numbers in the world's dtype, in static memory until the next call. */
static const void *converted(const moe_world *world, const double *numbers, int64_t count) {
  static float narrow[READ_MAX];
  assert_true(count <= READ_MAX);
  if (world_dtype(world) == MG_F64) return numbers;
  for (int64_t i = 0; i < count; i++) narrow[i] = (float)numbers[i];
  return narrow;
}

mg_var *moe_upload(moe_world *world, const double *numbers, int64_t rows, int64_t columns) {
  const int64_t shape[] = {rows, columns};
  return mg_tape_upload(world->tape, world_dtype(world), 2, shape, converted(world, numbers, rows * columns));
}

mg_var *moe_upload_ids(moe_world *world, const int32_t *ids, int64_t rows, int64_t columns) {
  const int64_t shape[] = {rows, columns};
  return mg_tape_upload(world->tape, MG_I32, 2, shape, ids);
}

void moe_set_param(moe_world *world, const char *name, const double *numbers, int64_t count) {
  const int64_t index = mg_params_find(world->params, name);
  if (index < 0) fail_msg("there is no parameter %s", name);
  const mg_tensor *value = &mg_params_at(world->params, index)->value;
  assert_int_equal(mg_tensor_count(value), count);
  assert_ok(world->context, world->backend->plugin->upload(world->backend, value->data,
                                                           converted(world, numbers, count), mg_tensor_bytes(value)));
}

void moe_normal(uint64_t seed, double *out, int64_t count) {
  const mg_stream stream = mg_stream_named(seed, "test", 0, 0);
  for (int64_t i = 0; i < count; i++) out[i] = mg_random_normal(stream, (uint64_t)i);
}
