/* Host memory runs out at every allocation of a layer's life in turn: each time one clear failure, and nothing is lost. */
#include "support/moe_world.h"

#include <stdlib.h>
#include <string.h>

/* Fails the allocation that `left` counts down to; negative never fails. */
typedef struct scarce {
  int64_t left;
} scarce;

static void *scarce_resize(void *user, void *pointer, size_t old_size, size_t size) {
  scarce *memory = user;
  (void)old_size;
  if (size == 0) {
    free(pointer);
    return NULL;
  }
  if (memory->left >= 0 && memory->left-- == 0) return NULL;
  return realloc(pointer, size);
}

static mg_status forward(moe_world *world, mg_moe *moe) {
  float x[6 * 4];
  for (int i = 0; i < 24; i++) x[i] = (float)(i % 5) - 2;
  const int64_t shape[] = {6, 4};
  const mg_moe_input input = {
      .x = mg_tape_upload(world->tape, MG_F32, 2, shape, x), .sequence_tokens = 6, .training = true};
  mg_moe_record record;
  mg_moe_counts counts;
  double demand[4];
  mg_var *y = mg_moe_forward(moe, world->tape, &input, &record);
  MG_TRY(mg_tape_status(world->tape));
  MG_TRY(mg_tape_backward(world->tape, mg_add(world->tape, mg_mean(world->tape, y), record.loss)));
  MG_TRY(mg_moe_count(moe, world->tape, &record, demand, NULL, &counts));
  return mg_moe_after_step(moe, world->tape, &record);
}

/* A whole life on a fresh world; the world itself is opened with memory to spare. */
static mg_status life(const char *text, int64_t allowed) {
  scarce memory = {-1};
  const mg_allocator allocator = {scarce_resize, &memory};
  moe_world world;
  mg_moe *moe = NULL;
  assert_int_equal(mg_context_create(&allocator, &world.context), MG_OK);
  assert_ok(world.context, mg_registry_create(world.context, &world.registry));
  assert_ok(world.context, mg_testing_register(world.registry));
  assert_ok(world.context, mg_backend_open(world.context, world.registry, "reference", NULL, &world.backend));
  json_t *spec = moe_json(text);
  const mg_moe_place place = {.width = 4, .prefix = "ffn."};
  assert_ok(world.context, mg_tape_create(world.backend, MG_F32, &world.tape));
  assert_ok(world.context, mg_params_create(world.backend, MG_F32, &world.params));
  memory.left = allowed;
  mg_status status = mg_moe_create(world.context, world.registry, spec, place, world.params, &moe);
  if (status == MG_OK) status = forward(&world, moe);
  memory.left = -1;
  if (status != MG_OK && !strstr(mg_context_message(world.context), "memory"))
    fail_msg("allocation %lld: %s", (long long)allowed, mg_context_message(world.context));
  mg_moe_destroy(moe);
  json_decref(spec);
  moe_world_close(&world); /* fails the test if a byte is still in use */
  return status;
}

static void every_failed_allocation_ends_in_one_message(void **state) {
  (void)state;
  static const char *const specs[] = {
      ("{'experts': 4, 'width': 3, 'router': {'name': 'topk'}, 'capacity': {'policy': 'reroute', 'factor': 1},"
       " 'losses': [{'scope': 'global', 'window': 3}], 'shared': {}}"),
      "{'experts': 4, 'width': 3, 'router': {'name': 'tree'}, 'capacity': {'policy': 'pad'}, 'losses': [{}]}",
      "{'experts': 4, 'width': 3, 'router': {'name': 'base'}, 'losses': [{'kind': 'importance'}]}",
      "{'experts': 4, 'width': 3, 'router': {'name': 'quantile'}, 'losses': [{'kind': 'entropy'}]}",
      "{'experts': 4, 'width': 3, 'router': {'name': 'relu'}, 'null': {'zero': 0, 'constant': 1}}"};
  for (size_t i = 0; i < MG_COUNT(specs); i++) {
    int64_t allowed = 0;
    for (; allowed < 2000; allowed++) {
      const mg_status status = life(specs[i], allowed);
      if (status == MG_OK) break;
      assert_true(status == MG_MEMORY || status == MG_DEVICE);
    }
    assert_in_range(allowed, 10, 1999); /* many failed, and at last one went through */
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_failed_allocation_ends_in_one_message),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
