/* What tests of a GPU backend on the executor start from: a context, and a registry that holds the backend. Included by
 * each of them, since the executor they are linked with is their own. */
#ifndef MG_TESTS_EXECUTOR_GPU_WORLD_H
#define MG_TESTS_EXECUTOR_GPU_WORLD_H

#include "executor.h"
#include "support/testing.h"

const mg_backend_plugin *mg_static_backends_gpu_host32(void);

typedef struct gpu_world {
  mg_context *context;
  mg_registry *registry;
} gpu_world;

/* cmocka's setup: *state is the world. */
static int open_world(void **state) {
  static gpu_world world;
  world = (gpu_world){0};
  if (mg_context_create(NULL, &world.context) != MG_OK) return 1;
  assert_ok(world.context, mg_registry_create(world.context, &world.registry));
  assert_ok(world.context, mg_testing_register(world.registry));
  assert_ok(world.context, mg_registry_add_backend(world.registry, mg_static_backends_gpu_host32()));
  *state = &world;
  return 0;
}

/* Its teardown, which fails when host or device memory is left. */
static int close_world(void **state) {
  gpu_world *world = *state;
  mg_registry_destroy(world->registry);
  const size_t left = mg_context_bytes(world->context);
  mg_context_destroy(world->context);
  return left != 0 || executor_count().bytes != 0;
}

#endif
