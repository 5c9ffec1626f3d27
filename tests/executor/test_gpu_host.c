/* The executor finds kernels that break the rules of a GPU, and the GPU backends' host code keeps its promises: memory is
 * reused, failures say what to do, wrong ids are reported. */
#include <stdio.h>

#include "gpu_world.h"

enum { THREADS = 96, WARP = 32 };

/* ---- kernels ---------------------------------------------------------------------------------------------------- */

static const char shared_key = 0;

/* out[t] = what the thread across the block wrote before the barrier. */
static void exchange_through_shared(const void *user) {
  int *const *out = user;
  int *shared = executor_shared(&shared_key, THREADS * sizeof(int));
  const int thread = executor_now.thread;
  shared[thread] = 10 * thread;
  executor_barrier();
  (*out)[thread] = shared[THREADS - 1 - thread];
}

static void without_barrier(const void *user) {
  int *const *out = user;
  int *shared = executor_shared(&shared_key, THREADS * sizeof(int));
  const int thread = executor_now.thread;
  shared[thread] = 10 * thread;
  (*out)[thread] = shared[THREADS - 1 - thread];
}

static void rotate_lanes(const void *user) {
  int *const *out = user;
  const int thread = executor_now.thread;
  uint64_t value = (uint64_t)thread;
  for (int i = 0; i < 3; i++) value = executor_exchange(value, thread % WARP + 1, 0);
  const uint64_t odd = executor_ballot(thread & 1);
  (*out)[thread] = odd == 0xaaaaaaaau ? (int)value : -1;
}

typedef struct copied_numbers {
  int *out;
  const int *from; /* 4 of each thread */
} copied_numbers;

/* out[t] = what lies where t copied a number and then zeros: ten times before it waits for the zeros, and after. */
static void copy_beside(const void *user) {
  const copied_numbers *numbers = user;
  int *shared = executor_shared(&shared_key, THREADS * 4 * sizeof(int));
  const int thread = executor_now.thread;
  executor_copy_async(shared + 4 * thread, numbers->from + 4 * thread, true);
  executor_copies_close();
  executor_copy_async(shared + 4 * thread, numbers->from + 4 * thread, false);
  executor_copies_close();
  executor_copies_wait(1);
  const int early = shared[4 * thread];
  executor_copies_wait(0);
  numbers->out[thread] = 10 * early + shared[4 * thread];
}

static void end_before_a_copy(const void *user) {
  (void)user;
  executor_copy_async(executor_shared(&shared_key, 16), &shared_key, false);
}

static void half_of_a_block_waits(const void *user) {
  (void)user;
  if (executor_now.thread < THREADS / 2) executor_barrier();
}

static void half_of_a_warp_exchanges(const void *user) {
  (void)user;
  if (executor_now.thread % WARP < WARP / 2) (void)executor_ballot(true);
}

static void warps_part_ways(const void *user) {
  (void)user;
  if (executor_now.thread % 2)
    (void)executor_ballot(true);
  else
    (void)executor_exchange(1, 0, 0);
}

static void too_much_shared(const void *user) {
  (void)user;
  (void)executor_shared(&shared_key, EXECUTOR_SHARED_MAX + 1);
}

/* ---- the executor ----------------------------------------------------------------------------------------------- */

static void mark(void) {}

static void run(void (*kernel)(const void *user), const void *user, size_t bytes, gpu_grid grid, int threads) {
  executor_run(&(executor_launch){kernel, user, bytes, mark, grid, threads, WARP});
}

static executor_error launch(void (*kernel)(const void *user), int *out, bool reverse, int threads) {
  executor_configure(&(executor_settings){.reverse = reverse, .memory_bytes = 1 << 20});
  run(kernel, &out, sizeof out, (gpu_grid){2, 1}, threads);
  return executor_last_error();
}

static void barriers_and_exchanges_are_honoured_in_both_orders(void **state) {
  (void)state;
  for (int reverse = 0; reverse < 2; reverse++) {
    int out[THREADS];
    assert_int_equal(launch(exchange_through_shared, out, reverse, THREADS), EXECUTOR_OK);
    for (int t = 0; t < THREADS; t++) assert_int_equal(out[t], 10 * (THREADS - 1 - t));
    assert_int_equal(launch(rotate_lanes, out, reverse, THREADS), EXECUTOR_OK);
    for (int t = 0; t < THREADS; t++) assert_int_equal(out[t], t / WARP * WARP + (t + 3) % WARP);
  }
}

static void a_missing_barrier_shows(void **state) {
  (void)state;
  int forward[THREADS], reverse[THREADS];
  assert_int_equal(launch(without_barrier, forward, false, THREADS), EXECUTOR_OK);
  assert_int_equal(launch(without_barrier, reverse, true, THREADS), EXECUTOR_OK);
  assert_int_equal(forward[0], -1); /* shared memory that nobody has written yet */
  assert_int_equal(reverse[THREADS - 1], -1);
  assert_memory_not_equal(forward, reverse, sizeof forward);
}

/* At once in rising order, and as late as can be in falling order. */
static void copies_are_done_as_early_and_as_late_as_may_be(void **state) {
  (void)state;
  int out[THREADS], from[4 * THREADS];
  for (int i = 0; i < 4 * THREADS; i++) from[i] = i;
  const copied_numbers numbers = {out, from};
  for (int reverse = 0; reverse < 2; reverse++) {
    executor_configure(&(executor_settings){.reverse = reverse, .memory_bytes = 1 << 20});
    run(copy_beside, &numbers, sizeof numbers, (gpu_grid){1, 1}, THREADS);
    assert_int_equal(executor_last_error(), EXECUTOR_OK);
    for (int t = 0; t < THREADS; t++) assert_int_equal(out[t], reverse ? 10 * 4 * t : 0);
  }
  assert_int_equal(launch(end_before_a_copy, NULL, true, THREADS), EXECUTOR_BAD_KERNEL);
}

static void assert_stopped(void (*kernel)(const void *user), executor_error expected, const char *words) {
  const executor_error error = launch(kernel, NULL, false, THREADS);
  assert_int_equal(error, expected);
  if (!strstr(executor_error_text(error), words)) fail_msg("'%s' lacks '%s'", executor_error_text(error), words);
}

static void kernels_that_break_the_rules_are_stopped(void **state) {
  (void)state;
  assert_stopped(half_of_a_block_waits, EXECUTOR_BAD_KERNEL,
                 "48 of its 96 threads have ended while 48 wait at a barrier and 0 at an exchange");
  assert_stopped(half_of_a_warp_exchanges, EXECUTOR_BAD_KERNEL, "0 wait at a barrier and 48 at an exchange");
  assert_stopped(warps_part_ways, EXECUTOR_BAD_KERNEL, "different exchanges");
  assert_stopped(too_much_shared, EXECUTOR_BAD_KERNEL, "larger than 48 KiB");
  int out[THREADS];
  assert_int_equal(launch(exchange_through_shared, out, false, 2048), EXECUTOR_BAD_LAUNCH);
  assert_int_equal(launch(exchange_through_shared, out, false, WARP + 1), EXECUTOR_BAD_LAUNCH);
  assert_int_equal(launch(exchange_through_shared, out, false, THREADS), EXECUTOR_OK); /* and it goes on */
}

/* ---- the backend ------------------------------------------------------------------------------------------------ */

static mg_status open_backend(gpu_world *world, const char *option, json_t *value, mg_backend **out) {
  json_t *options = json_object();
  if (option) json_object_set_new(options, option, value);
  const mg_status status = mg_backend_open(world->context, world->registry, "gpu_host32", options, out);
  json_decref(options);
  return status;
}

static void what_a_device_lacks_is_said(void **state) {
  gpu_world *world = *state;
  mg_backend *backend;
  assert_refused(world->context, MG_DEVICE, "no executor device can be used here",
                 open_backend(world, "fail", json_string("no_device"), &backend));
  assert_refused(world->context, MG_DEVICE, "holds no code for executor on the host",
                 open_backend(world, "fail", json_string("no_code"), &backend));
  assert_refused(world->context, MG_DEVICE, "was lost while launching a first kernel",
                 open_backend(world, "fail", json_string("lost"), &backend));
  assert_refused(world->context, MG_DEVICE, "device=7 was wanted, but executor sees 1",
                 open_backend(world, "device", json_integer(7), &backend));
  assert_refused(world->context, MG_DEVICE,
                 "matmul=library was wanted, but this build or this machine has no plain loop",
                 open_backend(world, "matmul", json_string("library"), &backend));
}

static void out_of_memory_is_said_after_cached_blocks_went_back(void **state) {
  gpu_world *world = *state;
  mg_backend *backend;
  void *block, *other;
  assert_ok(world->context, open_backend(world, "memory_mib", json_integer(16), &backend));
  const mg_backend_plugin *plugin = backend->plugin;
  assert_ok(world->context, plugin->allocate(backend, 7 << 20, &block));
  plugin->release(backend, block, 7 << 20);
  assert_ok(world->context, plugin->allocate(backend, 9 << 20, &block)); /* needs the room of the cached one */
  assert_refused(world->context, MG_DEVICE, "8.0 MiB were wanted and", plugin->allocate(backend, 8 << 20, &other));
  assert_null(other);
  plugin->release(backend, block, 9 << 20);
  mg_backend_memory memory;
  assert_ok(world->context, plugin->memory(backend, &memory));
  assert_int_equal(memory.total_bytes, 16 << 20);
  assert_true(memory.free_bytes >= 9 << 20);
  mg_backend_close(backend);
}

static void freed_blocks_are_handed_out_again(void **state) {
  gpu_world *world = *state;
  mg_backend *backend;
  assert_ok(world->context, open_backend(world, NULL, NULL, &backend));
  int64_t before = 0;
  for (int round = 0; round < 3; round++) {
    void *block[20];
    if (round == 1) before = executor_count().allocations;
    for (int i = 0; i < 20; i++)
      assert_ok(world->context, backend->plugin->allocate(backend, (size_t)(1000 * (i + 1)), &block[i]));
    for (int i = 0; i < 20; i++) backend->plugin->release(backend, block[i], (size_t)(1000 * (i + 1)));
  }
  assert_int_equal(executor_count().allocations, before);
  mg_backend_close(backend);
}

static void uploads_of_any_size_arrive(void **state) {
  gpu_world *world = *state;
  mg_backend *backend;
  assert_ok(world->context, open_backend(world, NULL, NULL, &backend));
  enum { BYTES = (5 << 20) + 123 };
  char *sent = mg_alloc(world->context, BYTES), *came = mg_alloc(world->context, BYTES);
  for (int i = 0; i < BYTES; i++) sent[i] = (char)(i * 31 + i / 997);
  void *block;
  assert_ok(world->context, backend->plugin->allocate(backend, BYTES, &block));
  assert_ok(world->context, backend->plugin->upload(backend, block, sent, BYTES));
  assert_ok(world->context, backend->plugin->download(backend, came, block, BYTES));
  assert_memory_equal(sent, came, BYTES);
  backend->plugin->release(backend, block, BYTES);
  mg_free(world->context, sent, BYTES);
  mg_free(world->context, came, BYTES);
  mg_backend_close(backend);
}

/* A tensor of the backend with these numbers, or without any. */
static mg_tensor tensor_of(mg_backend *backend, mg_dtype dtype, int64_t rows, int64_t columns, const void *numbers) {
  mg_tensor tensor = {.dims = 2, .shape = {rows, columns}, .dtype = dtype};
  assert_ok(backend->context, backend->plugin->allocate(backend, mg_tensor_bytes(&tensor), &tensor.data));
  if (numbers)
    assert_ok(backend->context, backend->plugin->upload(backend, tensor.data, numbers, mg_tensor_bytes(&tensor)));
  return tensor;
}

static void release_all(mg_backend *backend, mg_tensor *tensors, int count) {
  for (int i = 0; i < count; i++) backend->plugin->release(backend, tensors[i].data, mg_tensor_bytes(&tensors[i]));
}

static void a_wrong_id_is_reported_when_the_host_waits(void **state) {
  gpu_world *world = *state;
  mg_backend *backend;
  assert_ok(world->context, open_backend(world, NULL, NULL, &backend));
  const mg_backend_plugin *plugin = backend->plugin;
  const float rows[] = {1, 2, 3, 4};
  const int32_t wrong[] = {1, -1, 2, 0, -2}, right[] = {1, -1, 1, 0, 0};
  mg_tensor t[] = {tensor_of(backend, MG_F32, 2, 2, rows), tensor_of(backend, MG_I32, 5, 1, wrong),
                   tensor_of(backend, MG_F32, 5, 2, NULL)};
  t[1].dims = 1;
  const mg_op_call call = {.op = MG_OP_GATHER_ROWS, .in = {&t[0], &t[1]}, .out = {&t[2]}};
  assert_ok(world->context, plugin->kernels[call.op](backend, &call)); /* nobody has waited yet */
  assert_refused(world->context, MG_BUG, "gather_rows: id 2 at element 2 is outside [0, 2)",
                 plugin->synchronize(backend));
  assert_ok(world->context, plugin->synchronize(backend)); /* it is told once */
  float out[10];
  assert_ok(world->context, plugin->upload(backend, t[1].data, right, sizeof right));
  assert_ok(world->context, plugin->kernels[call.op](backend, &call));
  assert_ok(world->context, plugin->download(backend, out, t[2].data, sizeof out));
  const float expected[] = {3, 4, 0, 0, 3, 4, 1, 2, 1, 2};
  assert_memory_equal(out, expected, sizeof out);
  release_all(backend, t, 3);
  mg_backend_close(backend);
}

static void a_repeated_call_asks_the_device_for_nothing(void **state) {
  gpu_world *world = *state;
  mg_backend *backend;
  assert_ok(world->context, open_backend(world, NULL, NULL, &backend));
  enum { TOKENS = 300, CHOICES = 2, EXPERTS = 7, SLOTS = TOKENS * CHOICES };
  int32_t ids[SLOTS];
  for (int i = 0; i < SLOTS; i++) ids[i] = i * i % EXPERTS;
  mg_tensor t[] = {tensor_of(backend, MG_I32, TOKENS, CHOICES, ids), tensor_of(backend, MG_I32, EXPERTS + 1, 1, NULL),
                   tensor_of(backend, MG_I32, SLOTS, 1, NULL), tensor_of(backend, MG_I32, TOKENS, CHOICES, NULL),
                   tensor_of(backend, MG_I32, EXPERTS, 1, NULL)};
  const mg_op_call call = {.op = MG_OP_ASSIGN,
                           .in = {&t[0]},
                           .out = {&t[1], &t[2], &t[3], &t[4]},
                           .attributes.assign = {20, MG_ORDER_POSITION}};
  assert_ok(world->context, backend->plugin->kernels[call.op](backend, &call)); /* warm-up: the sort needs memory */
  const executor_counts before = executor_count();
  for (int i = 0; i < 3; i++) assert_ok(world->context, backend->plugin->kernels[call.op](backend, &call));
  const executor_counts after = executor_count();
  assert_int_equal(after.allocations, before.allocations);
  assert_true(after.launches > before.launches);
  release_all(backend, t, 5);
  mg_backend_close(backend);
}

static void calls_are_timed_and_energy_is_read_where_there_is_a_meter(void **state) {
  gpu_world *world = *state;
  mg_backend *backend;
  double joules = -1, later;
  int64_t time_ns = 0;
  assert_ok(world->context, open_backend(world, NULL, NULL, &backend));
  assert_refused(world->context, MG_UNSUPPORTED, "nothing measures the energy",
                 backend->plugin->energy(backend, &joules));
  assert_near(joules, -1, 0);
  mg_backend_close(backend);

  assert_ok(world->context, open_backend(world, "meter", json_true(), &backend));
  mg_tensor t = tensor_of(backend, MG_F32, 200, 500, NULL);
  const mg_op_call call = {.op = MG_OP_RANDOM, .out = {&t}, .attributes.random.kind = MG_RANDOM_NORMAL};
  assert_ok(world->context, backend->plugin->energy(backend, &joules));
  assert_ok(world->context, backend->plugin->clock_start(backend));
  assert_ok(world->context, backend->plugin->kernels[call.op](backend, &call));
  assert_ok(world->context, backend->plugin->clock_stop(backend, &time_ns));
  assert_ok(world->context, backend->plugin->energy(backend, &later));
  assert_near(later - joules, 1e-3, 1e-9);
  assert_true(time_ns > 100000 && time_ns < INT64_C(10000000000));
  release_all(backend, &t, 1);
  mg_backend_close(backend);
}

static void who_computes_products_is_described(void **state) {
  gpu_world *world = *state;
  const char *const expected[] = {"matmul=\"own\"", "matmul=\"plain loop\""};
  for (int i = 0; i < 2; i++) {
    mg_backend *backend;
    char text[512];
    assert_ok(world->context, open_backend(world, "blas", json_boolean(i), &backend));
    backend->plugin->describe(backend, text, sizeof text);
    if (!strstr(text, expected[i])) fail_msg("'%s' lacks '%s'", text, expected[i]);
    mg_backend_close(backend);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(barriers_and_exchanges_are_honoured_in_both_orders),
      cmocka_unit_test(a_missing_barrier_shows),
      cmocka_unit_test(copies_are_done_as_early_and_as_late_as_may_be),
      cmocka_unit_test(kernels_that_break_the_rules_are_stopped),
      cmocka_unit_test_setup_teardown(what_a_device_lacks_is_said, open_world, close_world),
      cmocka_unit_test_setup_teardown(who_computes_products_is_described, open_world, close_world),
      cmocka_unit_test_setup_teardown(out_of_memory_is_said_after_cached_blocks_went_back, open_world, close_world),
      cmocka_unit_test_setup_teardown(freed_blocks_are_handed_out_again, open_world, close_world),
      cmocka_unit_test_setup_teardown(uploads_of_any_size_arrive, open_world, close_world),
      cmocka_unit_test_setup_teardown(a_wrong_id_is_reported_when_the_host_waits, open_world, close_world),
      cmocka_unit_test_setup_teardown(calls_are_timed_and_energy_is_read_where_there_is_a_meter, open_world,
                                      close_world),
      cmocka_unit_test_setup_teardown(a_repeated_call_asks_the_device_for_nothing, open_world, close_world),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
