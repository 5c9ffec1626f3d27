/* Steps as graphs: a decoded token gives the same bits with and without, over growing keys, past the number of keys at
 * which other kernels run, and where a step reads values on the host; and what a recording forbids is refused. */
#include "gpu_world.h"
#include "model/cache.h"
#include "model/model.h"
#include "tensor/tape_work.h"

static mg_backend *open_backend(gpu_world *world, bool graphs, bool blas) {
  mg_backend *backend;
  json_t *options = json_pack("{s:b, s:b}", "graphs", graphs, "blas", blas);
  assert_ok(world->context, mg_backend_open(world->context, world->registry, "gpu_host32", options, &backend));
  json_decref(options);
  return backend;
}

/* ---- decoding --------------------------------------------------------------------------------------------------- */

enum { VOCABULARY = 13, STEPS = 8 };

#define MODEL(capacity)                                                                                                \
  "{\"layers\": 2, \"width\": 16, \"vocabulary\": 13, \"heads\": 4, \"kv_heads\": 2, \"feed_forward\": {\"kind\": "    \
  "\"moe\", \"experts\": 4, \"width\": 8, \"router\": {\"name\": \"topk\", \"k\": 2}" capacity "}}"

typedef struct decoded {
  float logits[STEPS][VOCABULARY];
  executor_counts counts; /* of the steps */
} decoded;

static mg_status pass(mg_model *model, mg_tape *tape, mg_cache *cache, const int32_t *ids, int64_t tokens, float *out) {
  const mg_model_batch batch = {
      .inputs = ids, .sequences = 1, .sequence_tokens = tokens, .last_only = true, .logits_only = true, .cache = cache};
  mg_model_output output;
  mg_tape_reset(tape);
  MG_TRY(mg_model_forward(model, tape, &batch, &output));
  return mg_tape_download(tape, output.logits, out, VOCABULARY * sizeof *out);
}

static executor_counts since(executor_counts before) {
  const executor_counts now = executor_count();
  return (executor_counts){.allocations = now.allocations - before.allocations,
                           .launches = now.launches - before.launches,
                           .graphs_prepared = now.graphs_prepared - before.graphs_prepared,
                           .graphs_updated = now.graphs_updated - before.graphs_updated,
                           .graphs_refused = now.graphs_refused - before.graphs_refused,
                           .graphs_launched = now.graphs_launched - before.graphs_launched,
                           .graphs_calls = now.graphs_calls - before.graphs_calls};
}

static void decode(mg_model *model, mg_tape *tape, int64_t prompt, decoded *out) {
  mg_context *context = mg_tape_context(tape);
  mg_cache *cache;
  float unused[VOCABULARY];
  int32_t ids[512];
  for (int32_t t = 0; t < 512; t++) ids[t] = (7 * t + t / 5) % VOCABULARY;
  assert_ok(context, mg_cache_create(model, MG_F32, 1, prompt + STEPS, &cache));
  for (int round = 0; round < 2; round++) { /* the first finds out how much memory a pass takes */
    assert_ok(context, mg_cache_truncate(cache, 0));
    assert_ok(context, pass(model, tape, cache, ids, prompt, unused));
  }
  const executor_counts before = executor_count();
  for (int step = 0; step < STEPS; step++)
    assert_ok(context, pass(model, tape, cache, ids + prompt + step, 1, out->logits[step]));
  out->counts = since(before);
  mg_cache_destroy(cache);
}

static void decode_with(gpu_world *world, const char *text, bool graphs, bool blas, int64_t prompt, decoded *out) {
  mg_backend *backend = open_backend(world, graphs, blas);
  json_t *spec = json_loads(text, 0, NULL);
  mg_model *model;
  mg_tape *tape;
  assert_non_null(spec);
  assert_ok(world->context, mg_model_create(world->context, world->registry, backend, spec, MG_F32, 3, &model));
  json_decref(spec);
  assert_ok(world->context, mg_tape_create(backend, MG_F32, &tape));
  mg_tape_set_recording(tape, false);
  decode(model, tape, prompt, out);
  mg_tape_destroy(tape);
  mg_model_destroy(model);
  mg_backend_close(backend);
}

static void decode_both(gpu_world *world, const char *text, bool blas, int64_t prompt, decoded *plain, decoded *graph) {
  decode_with(world, text, false, blas, prompt, plain);
  decode_with(world, text, true, blas, prompt, graph);
  assert_int_equal(plain->counts.graphs_launched, 0);
  assert_int_equal(graph->counts.launches, plain->counts.launches);
  assert_memory_equal(graph->logits, plain->logits, sizeof plain->logits);
  for (int step = 1; step < STEPS; step++)
    assert_memory_not_equal(plain->logits[step], plain->logits[0], sizeof plain->logits[0]);
}

/* The first step runs call by call, the second makes the graph executable, and the rest only change its arguments. */
static void a_decoded_token_is_one_graph_of_the_same_bits(void **state) {
  decoded plain, graph;
  for (int blas = 0; blas < 2; blas++) {
    decode_both(*state, MODEL(""), blas, 5, &plain, &graph);
    assert_int_equal(graph.counts.graphs_launched, STEPS - 1);
    assert_int_equal(graph.counts.graphs_prepared, 1);
    assert_int_equal(graph.counts.graphs_updated, STEPS - 2);
    assert_true(graph.counts.graphs_calls > graph.counts.launches * (STEPS - 1) / STEPS); /* and its copies */
  }
}

/* From 257 keys on attention is split over keys, by two kernels and with scratch memory of its own. */
static void other_kernels_make_a_new_graph(void **state) {
  decoded plain, graph;
  decode_both(*state, MODEL(""), false, 252, &plain, &graph);
  assert_int_equal(graph.counts.graphs_launched, STEPS - 1);
  assert_true(graph.counts.graphs_refused >= 1);
  assert_int_equal(graph.counts.graphs_prepared, 1 + graph.counts.graphs_refused);
  assert_int_equal(graph.counts.graphs_updated, STEPS - 1 - graph.counts.graphs_prepared);
  assert_true(graph.counts.graphs_updated >= 3);
}

/* Re-routing chooses on the host in every layer: a step records up to the first read. */
static void a_step_that_reads_a_value_goes_on_without_a_graph(void **state) {
  static const char text[] = MODEL(", \"capacity\": {\"policy\": \"reroute\", \"factor\": 1}");
  decoded plain, graph;
  decode_both(*state, text, false, 5, &plain, &graph);
  assert_int_equal(graph.counts.graphs_prepared, 1);
  assert_int_equal(graph.counts.graphs_launched, STEPS - 1);
  assert_true(graph.counts.graphs_calls > 0);
  assert_true(graph.counts.graphs_calls < graph.counts.launches / 2);
}

/* ---- what may happen within a step ------------------------------------------------------------------------------ */

static mg_backend *open_warm(gpu_world *world) {
  mg_backend *backend = open_backend(world, true, false);
  assert_ok(world->context, backend->plugin->step_begin(backend));
  assert_ok(world->context, backend->plugin->step_end(backend));
  return backend;
}

static mg_tensor tensor_of(mg_backend *backend, mg_dtype dtype, int64_t count) {
  mg_tensor tensor = {.dims = 1, .shape = {count}, .dtype = dtype};
  assert_ok(backend->context, backend->plugin->allocate(backend, mg_tensor_bytes(&tensor), &tensor.data));
  return tensor;
}

static mg_status fill(mg_backend *backend, mg_tensor *out, double value) {
  const mg_op_call call = {.op = MG_OP_FILL, .out = {out}, .attributes.fill.value = value};
  return backend->plugin->kernels[call.op](backend, &call);
}

/* Uploads of a step are kept until it is submitted, so the buffers they stand in must not be filled again before. */
static void uploads_of_any_size_may_stand_in_a_step(void **state) {
  enum { SMALL = 1000, LARGE = 300000, SMALL_ONES = 40 };
  gpu_world *world = *state;
  mg_backend *backend = open_warm(world);
  const mg_backend_plugin *plugin = backend->plugin;
  static int32_t sent[LARGE], came[LARGE];
  mg_tensor large = tensor_of(backend, MG_I32, LARGE), small = tensor_of(backend, MG_I32, SMALL * SMALL_ONES);
  for (int round = 0; round < 20; round++) {
    int32_t piece[SMALL];
    for (int i = 0; i < LARGE; i++) sent[i] = i * (round + 1);
    assert_ok(world->context, plugin->step_begin(backend));
    for (int n = 0; n < SMALL_ONES; n++) {
      for (int i = 0; i < SMALL; i++) piece[i] = n * SMALL + i + round;
      assert_ok(world->context, plugin->upload(backend, (int32_t *)small.data + n * SMALL, piece, sizeof piece));
    }
    if (round % 3 == 0) assert_ok(world->context, plugin->upload(backend, large.data, sent, sizeof sent));
    assert_ok(world->context, plugin->step_end(backend));
    assert_ok(world->context, plugin->download(backend, came, small.data, mg_tensor_bytes(&small)));
    for (int i = 0; i < SMALL * SMALL_ONES; i++) assert_int_equal(came[i], i + round);
    if (round % 3) continue;
    assert_ok(world->context, plugin->download(backend, came, large.data, sizeof came));
    assert_memory_equal(came, sent, sizeof came);
  }
  plugin->release(backend, large.data, mg_tensor_bytes(&large));
  plugin->release(backend, small.data, mg_tensor_bytes(&small));
  mg_backend_close(backend);
}

/* Memory, time and values may be asked for in the middle; each submits what was recorded, in order. */
static void a_step_may_take_memory_look_at_the_clock_and_read(void **state) {
  gpu_world *world = *state;
  mg_backend *backend = open_warm(world);
  const mg_backend_plugin *plugin = backend->plugin;
  mg_tensor x = tensor_of(backend, MG_F32, 100);
  float value;
  int64_t time_ns = -1;
  assert_ok(world->context, plugin->step_begin(backend));
  assert_ok(world->context, fill(backend, &x, 1));
  mg_tensor y = tensor_of(backend, MG_F32, 5000000);
  assert_ok(world->context, fill(backend, &y, 2));
  assert_ok(world->context, plugin->step_end(backend));

  assert_ok(world->context, plugin->step_begin(backend));
  assert_ok(world->context, fill(backend, &x, 3));
  assert_ok(world->context, plugin->clock_start(backend));
  assert_ok(world->context, fill(backend, &y, 4));
  assert_ok(world->context, plugin->clock_stop(backend, &time_ns));
  assert_true(time_ns >= 0);
  assert_ok(world->context, plugin->step_end(backend));
  assert_ok(world->context, plugin->download(backend, &value, x.data, sizeof value));
  assert_true(value == 3);

  assert_ok(world->context, plugin->step_begin(backend));
  assert_ok(world->context, fill(backend, &x, 5));
  assert_ok(world->context, plugin->download(backend, &value, x.data, sizeof value));
  assert_true(value == 5);
  assert_ok(world->context, fill(backend, &x, 6));
  assert_ok(world->context, plugin->step_end(backend));
  assert_ok(world->context, plugin->download(backend, &value, x.data, sizeof value));
  assert_true(value == 6);

  assert_ok(world->context, plugin->step_begin(backend)); /* closing in the middle of a step submits it */
  assert_ok(world->context, fill(backend, &x, 7));
  plugin->release(backend, x.data, mg_tensor_bytes(&x));
  plugin->release(backend, y.data, mg_tensor_bytes(&y));
  mg_backend_close(backend);
}

/* ---- the executor's graphs -------------------------------------------------------------------------------------- */

static void add(const void *user) {
  int *const *to = user;
  **to += 1;
}

static void take(const void *user) {
  int *const *to = user;
  **to -= 1;
}

static void graphs_keep_arguments_and_know_their_calls(void **state) {
  (void)state;
  int numbers[2] = {0, 0}, *first = &numbers[0], *second = &numbers[1];
  executor_graph *one, *other, *unlike, *exec;
  executor_configure(&(executor_settings){.memory_bytes = 1 << 20});
  assert_int_equal(executor_record_begin(), EXECUTOR_OK);
  executor_call(add, &first, sizeof first);
  assert_int_equal(executor_wait(), EXECUTOR_BAD_GRAPH);
  assert_non_null(strstr(executor_error_text(EXECUTOR_BAD_GRAPH), "does not allow waiting"));
  void *memory;
  assert_int_equal(executor_malloc(&memory, 16), EXECUTOR_BAD_GRAPH);
  assert_int_equal(executor_last_error(), EXECUTOR_BAD_GRAPH);
  assert_int_equal(executor_record_end(&one), EXECUTOR_OK);
  assert_int_equal(numbers[0], 0); /* recorded, not done */

  assert_int_equal(executor_record_begin(), EXECUTOR_OK);
  executor_call(add, &second, sizeof second);
  assert_int_equal(executor_record_end(&other), EXECUTOR_OK);
  assert_int_equal(executor_record_begin(), EXECUTOR_OK);
  executor_call(take, &second, sizeof second);
  assert_int_equal(executor_record_end(&unlike), EXECUTOR_OK);

  assert_int_equal(executor_graph_prepare(&exec, one), EXECUTOR_OK);
  assert_int_equal(executor_graph_launch(exec), EXECUTOR_OK);
  assert_int_equal(executor_graph_launch(exec), EXECUTOR_OK);
  assert_int_equal(executor_graph_update(exec, other), EXECUTOR_OK);
  assert_int_equal(executor_graph_update(exec, unlike), EXECUTOR_BAD_GRAPH);
  assert_int_equal(executor_last_error(), EXECUTOR_BAD_GRAPH);
  assert_int_equal(executor_graph_launch(exec), EXECUTOR_OK);
  assert_int_equal(numbers[0], 2);
  assert_int_equal(numbers[1], 1);
  executor_graph *const all[] = {one, other, unlike, exec};
  for (size_t i = 0; i < MG_COUNT(all); i++) assert_int_equal(executor_graph_destroy(all[i]), EXECUTOR_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(graphs_keep_arguments_and_know_their_calls),
      cmocka_unit_test_setup_teardown(a_decoded_token_is_one_graph_of_the_same_bits, open_world, close_world),
      cmocka_unit_test_setup_teardown(other_kernels_make_a_new_graph, open_world, close_world),
      cmocka_unit_test_setup_teardown(a_step_that_reads_a_value_goes_on_without_a_graph, open_world, close_world),
      cmocka_unit_test_setup_teardown(uploads_of_any_size_may_stand_in_a_step, open_world, close_world),
      cmocka_unit_test_setup_teardown(a_step_may_take_memory_look_at_the_clock_and_read, open_world, close_world),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
