/* The conformance suite over every linked backend, and proof that the suite can fail: backends that compute wrongly, write
 * outside, change an input, vary from run to run, or claim what they do not have. */
#include <stdio.h>
#include <string.h>

#include "measure/op_suite.h"
#include "support/world.h"

static int open_world(void **state) {
  static mg_world world;
  mg_world_open(&world, "reference", MG_F32);
  *state = &world;
  return 0;
}

static int close_world(void **state) {
  mg_world_close(*state);
  return 0;
}

/* ---- every backend ---------------------------------------------------------------------------------------------- */

static bool print_failures(void *user, const mg_suite_row *row) {
  int *printed = user;
  if (row->verdict == MG_SUITE_FAILED && (*printed)++ < 40)
    print_message("%s: %.3g of the allowed error: %s\n", row->name, row->worst, row->detail);
  return true;
}

static bool check_backend(void *user, const mg_plugin_entry *entry) {
  mg_world *world = user;
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
  const mg_suite_request request = {backend, world->backend, NULL, &printed};
  assert_ok(world->context, mg_op_suite_check(world->context, &request, print_failures, &summary));
  print_message("%s: %lld passed, %lld failed, %lld unsupported\n", entry->name, (long long)summary.passed,
                (long long)summary.failed, (long long)summary.unsupported);
  mg_backend_close(backend);
  assert_int_equal(summary.failed, 0);
  assert_true(summary.passed > 0);
  return true;
}

static void every_linked_backend_agrees_with_the_reference(void **state) {
  mg_world *world = *state;
  assert_ok(world->context, mg_registry_each(world->registry, MG_PLUGIN_BACKEND, check_backend, world));
}

/* The generated table of linked plugins calls it by this name. */
const mg_backend_plugin *mg_static_backends_reference(void);

/* ---- backends that break their contract ---------------------------------------------------------------------------- */

/* A backend like the reference, but for one kernel. The true kernel is found in the state. */
typedef struct broken_backend {
  mg_backend_plugin plugin;
  mg_kernel kernels[MG_OP_COUNT];
  mg_backend backend;
} broken_backend;

static const mg_backend_plugin *reference_plugin(const mg_world *world) {
  return world->backend->plugin;
}

/* Opens the reference's twin with `kernel` in place of its own for `op`; NULL leaves a hole. */
static void open_broken(mg_world *world, broken_backend *broken, mg_op op, mg_kernel kernel) {
  broken->plugin = *reference_plugin(world);
  memcpy(broken->kernels, broken->plugin.kernels, sizeof broken->kernels);
  broken->kernels[op] = kernel;
  broken->plugin.name = "broken";
  broken->plugin.kernels = broken->kernels;
  broken->backend = (mg_backend){.plugin = &broken->plugin, .context = world->context};
  assert_ok(world->context, broken->plugin.open(&broken->backend));
}

/* The first failing row of a run, which ends there. */
typedef struct caught {
  mg_suite_row row;
  bool any;
} caught;

static bool stop_at_failure(void *user, const mg_suite_row *row) {
  caught *found = user;
  if (row->verdict != MG_SUITE_FAILED) return true;
  *found = (caught){*row, true};
  return false;
}

static mg_suite_summary run_broken(mg_world *world, broken_backend *broken, const char *filter, caught *found) {
  mg_suite_summary summary;
  *found = (caught){.any = false};
  const mg_suite_request request = {&broken->backend, world->backend, filter, found};
  assert_ok(world->context, mg_op_suite_check(world->context, &request, stop_at_failure, &summary));
  broken->plugin.close(&broken->backend);
  return summary;
}

static void assert_caught(mg_world *world, mg_op op, mg_kernel kernel, const char *words) {
  broken_backend broken;
  caught found;
  open_broken(world, &broken, op, kernel);
  const mg_suite_summary summary = run_broken(world, &broken, mg_op_name(op), &found);
  if (summary.failed == 0) fail_msg("the suite did not see the broken %s", mg_op_name(op));
  if (!strstr(found.row.detail, words)) fail_msg("%s: '%s' lacks '%s'", found.row.name, found.row.detail, words);
  assert_true(found.row.worst > 1);
}

/* The kernel of the reference, through the one that the world has open. */
static mg_status true_kernel(mg_backend *backend, const mg_op_call *call) {
  return mg_static_backends_reference()->kernels[call->op](backend, call);
}

/* Adds a ten-thousandth to the last element. */
static mg_status slightly_wrong(mg_backend *backend, const mg_op_call *call) {
  MG_TRY(true_kernel(backend, call));
  const mg_tensor *out = call->out[0];
  const int64_t last = mg_tensor_count(out) - 1;
  if (last >= 0 && out->dtype == MG_F32) ((float *)out->data)[last] += 1e-4f;
  return MG_OK;
}

static void a_small_error_in_one_element_is_caught(void **state) {
  static const mg_op ops[] = {MG_OP_UNARY,          MG_OP_SOFTMAX,       MG_OP_REDUCE,     MG_OP_MATMUL,
                              MG_OP_GROUPED_MATMUL, MG_OP_COMBINE,       MG_OP_NORM,       MG_OP_ATTENTION,
                              MG_OP_CROSS_ENTROPY,  MG_OP_GATHER_ROWS,   MG_OP_ROPE,       MG_OP_ADAMW,
                              MG_OP_BINARY,         MG_OP_GATHER_DOT,    MG_OP_GLU,        MG_OP_CUMSUM,
                              MG_OP_FILL,           MG_OP_NORM_BACKWARD, MG_OP_LOG_SUM_EXP};
  for (size_t i = 0; i < MG_COUNT(ops); i++) assert_caught(*state, ops[i], slightly_wrong, "allowed difference");
}

/* Wrong in bf16 only, by three units in the last place. */
static mg_status wrong_in_bf16(mg_backend *backend, const mg_op_call *call) {
  MG_TRY(true_kernel(backend, call));
  const mg_tensor *out = call->out[0];
  if (mg_tensor_count(out) && out->dtype == MG_BF16)
    ((uint16_t *)out->data)[0] = (uint16_t)(((uint16_t *)out->data)[0] + 3);
  return MG_OK;
}

static void an_error_in_one_dtype_is_caught(void **state) {
  assert_caught(*state, MG_OP_MATMUL, wrong_in_bf16, "allowed difference");
  assert_caught(*state, MG_OP_GLU, wrong_in_bf16, "allowed difference");
}

static mg_status one_byte_too_far(mg_backend *backend, const mg_op_call *call) {
  MG_TRY(true_kernel(backend, call));
  ((unsigned char *)call->out[0]->data)[mg_tensor_bytes(call->out[0])] ^= 1;
  return MG_OK;
}

static mg_status one_byte_before(mg_backend *backend, const mg_op_call *call) {
  MG_TRY(true_kernel(backend, call));
  ((unsigned char *)call->out[0]->data)[-1] ^= 1;
  return MG_OK;
}

static void a_byte_written_beside_an_output_is_caught(void **state) {
  assert_caught(*state, MG_OP_TRANSPOSE, one_byte_too_far, "wrote outside output 0: 1 bytes after it");
  assert_caught(*state, MG_OP_TOP_K, one_byte_before, "wrote outside output 0: 1 bytes before it");
}

static mg_status changes_its_input(mg_backend *backend, const mg_op_call *call) {
  MG_TRY(true_kernel(backend, call));
  if (mg_tensor_bytes(call->in[0])) ((unsigned char *)call->in[0]->data)[0] ^= 1;
  return MG_OK;
}

static void a_changed_input_is_caught(void **state) {
  assert_caught(*state, MG_OP_SOFTMAX, changes_its_input, "changed input 0");
}

static mg_status leaves_the_last_element(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *out = call->out[0];
  unsigned char old[8];
  const size_t size = mg_dtype_bytes(out->dtype), bytes = mg_tensor_bytes(out);
  if (bytes) memcpy(old, (char *)out->data + bytes - size, size);
  MG_TRY(true_kernel(backend, call));
  if (bytes) memcpy((char *)out->data + bytes - size, old, size);
  return MG_OK;
}

static void an_element_that_nobody_wrote_is_caught(void **state) {
  assert_caught(*state, MG_OP_SLICE_BACKWARD, leaves_the_last_element, "nan, not");
  assert_caught(*state, MG_OP_ASSIGN, leaves_the_last_element, "output 0");
}

/* The lowest bit of the first element follows a counter that the kernel keeps in the backend's options pointer. */
static mg_status never_twice_the_same(mg_backend *backend, const mg_op_call *call) {
  MG_TRY(true_kernel(backend, call));
  if (!mg_tensor_count(call->out[0]) || call->out[0]->dtype != MG_F32) return MG_OK;
  backend->options = backend->options ? NULL : backend;
  if (backend->options) ((uint32_t *)call->out[0]->data)[0] ^= 1;
  return MG_OK;
}

static void results_that_vary_from_run_to_run_are_caught(void **state) {
  assert_caught(*state, MG_OP_MATMUL, never_twice_the_same, "different bits");
}

static mg_status refuses(mg_backend *backend, const mg_op_call *call) {
  return mg_fail(backend->context, MG_UNSUPPORTED, "%s is too hard", mg_op_name(call->op));
}

static void a_kernel_that_fails_is_caught_with_its_message(void **state) {
  assert_caught(*state, MG_OP_CUMSUM, refuses, "cumsum is too hard");
}

static mg_status second_tie_first(mg_backend *backend, const mg_op_call *call) {
  MG_TRY(true_kernel(backend, call));
  const int64_t k = mg_tensor_columns(call->out[1]);
  int32_t *ids = call->out[1]->data;
  for (int64_t i = 0; i + 1 < mg_tensor_count(call->out[1]); i++) {
    const int32_t id = ids[i];
    if (i % k == k - 1 || call->out[0]->dtype != MG_F32) continue;
    if (((float *)call->out[0]->data)[i] == ((float *)call->out[0]->data)[i + 1]) ids[i] = ids[i + 1], ids[++i] = id;
  }
  return MG_OK;
}

static void ties_in_another_order_are_caught(void **state) {
  assert_caught(*state, MG_OP_TOP_K, second_tie_first, "output 1");
}

static bool claims_everything(const mg_backend *backend, const mg_op_call *call) {
  return backend && call;
}

static void a_claim_without_a_kernel_is_caught_and_an_honest_hole_is_not(void **state) {
  mg_world *world = *state;
  broken_backend broken;
  caught found;
  open_broken(world, &broken, MG_OP_ROPE, NULL);
  mg_suite_summary summary = run_broken(world, &broken, "rope", &found);
  assert_int_equal(summary.failed, 0);
  assert_int_equal(summary.passed, 0);
  assert_true(summary.unsupported > 0);
  open_broken(world, &broken, MG_OP_ROPE, NULL);
  broken.plugin.supports = claims_everything;
  summary = run_broken(world, &broken, "rope", &found);
  assert_true(summary.failed > 0);
  assert_non_null(strstr(found.row.detail, "supports() says yes"));
}

/* ---- the other modes ------------------------------------------------------------------------------------------------ */

static bool count_cells(void *user, const mg_suite_support *cell) {
  int64_t *sums = user;
  sums[0] += cell->supported;
  sums[1] += cell->cases;
  return true;
}

static void support_asks_for_every_primitive(void **state) {
  mg_world *world = *state;
  int64_t sums[2] = {0, 0};
  const mg_suite_request request = {.backend = world->backend, .user = sums};
  assert_ok(world->context, mg_op_suite_support(world->context, &request, count_cells));
  assert_int_equal(sums[0], sums[1]);
  assert_true(sums[1] > 2000);
}

static bool mark_op(void *user, const mg_suite_support *cell) {
  ((bool *)user)[cell->op] = true;
  return true;
}

static void every_primitive_has_a_case(void **state) {
  mg_world *world = *state;
  bool seen[MG_OP_COUNT] = {false};
  const mg_suite_request request = {.backend = world->backend, .user = seen};
  assert_ok(world->context, mg_op_suite_support(world->context, &request, mark_op));
  for (int op = 0; op < MG_OP_COUNT; op++)
    if (!seen[op]) fail_msg("%s has no case in the suite", mg_op_name((mg_op)op));
}

static bool check_timing(void *user, const mg_suite_perf *row) {
  assert_int_equal(row->verdict, MG_SUITE_PASSED);
  assert_true(row->median_ns > 0 && row->gbytes > 0 && row->calls > 0);
  ++*(int *)user;
  return true;
}

static void perf_times_the_cases_of_a_filter(void **state) {
  mg_world *world = *state;
  int rows = 0;
  const mg_suite_request request = {world->backend, world->backend, "histogram", &rows};
  assert_ok(world->context, mg_op_suite_perf(world->context, &request, 1, check_timing));
  assert_int_equal(rows, 1);
}

static void a_filter_that_names_nothing_is_refused(void **state) {
  mg_world *world = *state;
  mg_suite_summary summary;
  const mg_suite_request request = {world->backend, world->backend, "sofmax", NULL};
  assert_refused(world->context, MG_NOTHING, "'sofmax'", mg_op_suite_check(world->context, &request, NULL, &summary));
}

static void a_reference_of_another_moegauge_is_refused(void **state) {
  mg_world *world = *state;
  mg_suite_summary summary;
  mg_backend_plugin older = *world->backend->plugin;
  older.supports = NULL;
  older.kernels_count = MG_OP_HISTOGRAM;
  mg_backend reference = *world->backend;
  reference.plugin = &older;
  const mg_suite_request request = {world->backend, &reference, "histogram", NULL};
  assert_refused(world->context, MG_PLUGIN, "lacks histogram",
                 mg_op_suite_check(world->context, &request, NULL, &summary));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(every_linked_backend_agrees_with_the_reference, open_world, close_world),
      cmocka_unit_test_setup_teardown(a_small_error_in_one_element_is_caught, open_world, close_world),
      cmocka_unit_test_setup_teardown(an_error_in_one_dtype_is_caught, open_world, close_world),
      cmocka_unit_test_setup_teardown(a_byte_written_beside_an_output_is_caught, open_world, close_world),
      cmocka_unit_test_setup_teardown(a_changed_input_is_caught, open_world, close_world),
      cmocka_unit_test_setup_teardown(an_element_that_nobody_wrote_is_caught, open_world, close_world),
      cmocka_unit_test_setup_teardown(results_that_vary_from_run_to_run_are_caught, open_world, close_world),
      cmocka_unit_test_setup_teardown(a_kernel_that_fails_is_caught_with_its_message, open_world, close_world),
      cmocka_unit_test_setup_teardown(ties_in_another_order_are_caught, open_world, close_world),
      cmocka_unit_test_setup_teardown(a_claim_without_a_kernel_is_caught_and_an_honest_hole_is_not, open_world,
                                      close_world),
      cmocka_unit_test_setup_teardown(support_asks_for_every_primitive, open_world, close_world),
      cmocka_unit_test_setup_teardown(every_primitive_has_a_case, open_world, close_world),
      cmocka_unit_test_setup_teardown(perf_times_the_cases_of_a_filter, open_world, close_world),
      cmocka_unit_test_setup_teardown(a_filter_that_names_nothing_is_refused, open_world, close_world),
      cmocka_unit_test_setup_teardown(a_reference_of_another_moegauge_is_refused, open_world, close_world),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
