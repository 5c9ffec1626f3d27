/* The conformance suite over every linked backend, and proof that the suite can fail: backends that compute wrongly, write
 * outside, change an input, vary from run to run, or claim what they do not have. */
#include <stdio.h>
#include <string.h>

#include "support/testing.h"

#include "measure/op_suite.h"

typedef struct suite_world {
  mg_context *context;
  mg_registry *registry;
  mg_backend *reference;
} suite_world;

static int open_world(void **state) {
  static suite_world world;
  world = (suite_world){0};
  if (mg_context_create(NULL, &world.context) != MG_OK) return 1;
  assert_ok(world.context, mg_registry_create(world.context, &world.registry));
  assert_ok(world.context, mg_testing_register(world.registry));
  assert_ok(world.context, mg_backend_open(world.context, world.registry, "reference", NULL, &world.reference));
  *state = &world;
  return 0;
}

static int close_world(void **state) {
  suite_world *world = *state;
  mg_backend_close(world->reference);
  mg_registry_destroy(world->registry);
  const size_t left = mg_context_bytes(world->context);
  mg_context_destroy(world->context);
  return left != 0;
}

/* ---- every backend ---------------------------------------------------------------------------------------------- */

static bool print_failures(void *user, const mg_suite_row *row) {
  int *printed = user;
  if (row->verdict == MG_SUITE_FAILED && (*printed)++ < 40)
    print_message("%s: %.3g of the allowed error: %s\n", row->name, row->worst, row->detail);
  return true;
}

static bool check_backend(void *user, const mg_plugin_entry *entry) {
  suite_world *world = user;
  mg_backend *backend;
  int printed = 0;
  mg_suite_summary summary;
  if (entry->problem) fail_msg("backend %s: %s", entry->name, entry->problem);
  const mg_status status = mg_backend_open(world->context, world->registry, entry->name, NULL, &backend);
  if (status == MG_DEVICE) {
    print_message("%s: no device here: %s\n", entry->name, mg_context_message(world->context));
    return true;
  }
  assert_int_equal(status, MG_OK);
  const mg_suite_request request = {backend, world->reference, NULL, &printed};
  assert_ok(world->context, mg_op_suite_check(world->context, &request, print_failures, &summary));
  print_message("%s: %lld passed, %lld failed, %lld unsupported\n", entry->name, (long long)summary.passed,
                (long long)summary.failed, (long long)summary.unsupported);
  mg_backend_close(backend);
  assert_int_equal(summary.failed, 0);
  assert_true(summary.passed > 0);
  return true;
}

static void every_linked_backend_agrees_with_the_reference(void **state) {
  suite_world *world = *state;
  assert_ok(world->context, mg_registry_each(world->registry, MG_PLUGIN_BACKEND, check_backend, world));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(every_linked_backend_agrees_with_the_reference, open_world, close_world),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
