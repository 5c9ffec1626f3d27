/* The shared fixture of tests. */
#include "support/world.h"

#include <string.h>

void mg_world_open(mg_world *world, const char *backend, mg_dtype compute) {
  *world = (mg_world){0};
  assert_int_equal(mg_context_create(NULL, &world->context), MG_OK);
  assert_ok(world->context, mg_registry_create(world->context, &world->registry));
  assert_ok(world->context, mg_testing_register(world->registry));
  assert_ok(world->context, mg_backend_open(world->context, world->registry, backend, NULL, &world->backend));
  assert_ok(world->context, mg_tape_create(world->backend, compute, &world->tape));
}

void mg_world_close(mg_world *world) {
  mg_tape_destroy(world->tape);
  mg_backend_close(world->backend);
  mg_registry_destroy(world->registry);
  assert_int_equal(mg_context_bytes(world->context), 0);
  mg_context_destroy(world->context);
}

mg_model *mg_world_model(mg_world *world, const char *spec) {
  json_error_t error;
  mg_model *model;
  json_t *json = json_loads(spec, 0, &error);
  if (!json) fail_msg("%s: %s", spec, error.text);
  assert_ok(world->context, mg_model_create(world->context, world->registry, world->backend, json, MG_F32, 3, &model));
  json_decref(json);
  return model;
}

/* ---- values -------------------------------------------------------------------------------------------------- */

static void store(mg_dtype dtype, void *block, int64_t i, double value) {
  switch (dtype) {
  case MG_F32: ((float *)block)[i] = (float)value; break;
  case MG_F64: ((double *)block)[i] = value; break;
  case MG_I32: ((int32_t *)block)[i] = (int32_t)value; break;
  case MG_BF16: ((uint16_t *)block)[i] = mg_bf16_from_f32((float)value); break;
  default: break;
  }
}

static double load(mg_dtype dtype, const void *block) {
  switch (dtype) {
  case MG_F32: return *(const float *)block;
  case MG_F64: return *(const double *)block;
  case MG_I32: return *(const int32_t *)block;
  case MG_BF16: return mg_bf16_to_f32(*(const uint16_t *)block);
  default: break;
  }
  return 0.0;
}

static mg_tensor shaped(mg_dtype dtype, int32_t dims, const int64_t *shape) {
  mg_tensor tensor = {.dtype = dtype, .dims = dims};
  for (int32_t i = 0; i < dims; i++) tensor.shape[i] = shape[i];
  return tensor;
}

/* The values on the host, to be freed with mg_free. */
static void *host_block(mg_world *world, const mg_tensor *tensor, const double *values) {
  void *block = mg_alloc(world->context, mg_tensor_bytes(tensor) + 1);
  assert_non_null(block);
  for (int64_t i = 0; values && i < mg_tensor_count(tensor); i++) store(tensor->dtype, block, i, values[i]);
  return block;
}

mg_tensor mg_world_tensor(mg_world *world, mg_dtype dtype, int32_t dims, const int64_t *shape, const double *values) {
  mg_tensor tensor = shaped(dtype, dims, shape);
  const mg_backend_plugin *plugin = world->backend->plugin;
  const size_t bytes = mg_tensor_bytes(&tensor);
  if (bytes == 0) return tensor;
  void *block = host_block(world, &tensor, values);
  assert_ok(world->context, plugin->allocate(world->backend, bytes, &tensor.data));
  assert_ok(world->context, plugin->upload(world->backend, tensor.data, block, bytes));
  mg_free(world->context, block, bytes + 1);
  return tensor;
}

void mg_world_release(mg_world *world, mg_tensor *tensor) {
  if (tensor->data) world->backend->plugin->release(world->backend, tensor->data, mg_tensor_bytes(tensor));
  tensor->data = NULL;
}

mg_var *mg_world_constant(mg_world *world, mg_dtype dtype, int32_t dims, const int64_t *shape, const double *values) {
  const mg_tensor tensor = shaped(dtype, dims, shape);
  void *block = host_block(world, &tensor, values);
  mg_var *x = mg_tape_upload(world->tape, dtype, dims, shape, block);
  mg_free(world->context, block, mg_tensor_bytes(&tensor) + 1);
  return x;
}

double mg_world_element(mg_world *world, const mg_tensor *tensor, int64_t index) {
  const mg_backend_plugin *plugin = world->backend->plugin;
  const size_t each = mg_dtype_bytes(tensor->dtype);
  double block = 0.0;
  assert_true(index < mg_tensor_count(tensor));
  assert_ok(world->context, plugin->synchronize(world->backend));
  assert_ok(world->context,
            plugin->download(world->backend, &block, (const char *)tensor->data + (size_t)index * each, each));
  return load(tensor->dtype, &block);
}

double mg_world_value(mg_world *world, const mg_var *x, int64_t index) {
  assert_ok(world->context, mg_tape_status(world->tape));
  assert_non_null(x);
  return mg_world_element(world, mg_var_tensor(x), index);
}
