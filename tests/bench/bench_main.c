/* moegauge-bench: how fast a backend is, beside what the machine can do and beside other libraries.
 *
 *     moegauge-bench --benchmark_filter=expert_matmul --benchmark_repetitions=7
 *     moegauge-bench --backend=build/release/lib/moegauge/backends/cuda.so --scale=4
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "support/testing.h"
#include "tensor/stopwatch.h"

enum { DRAWN = 1 << 20, ROUNDS_MAX = 64, SCALE_MAX = 64 };

static bench_world world = {.scale = 1, .rounds = 9};
static bool out_of_memory; /* a tensor of the benchmark that runs could not be made; the context says why */

const bench_world *bench_world_get(void) {
  return &world;
}

/* Fills `count` elements with numbers, or i32 with zeros. */
static bool draw(const mg_tensor *tensor, int64_t count, double deviation) {
  mg_tensor start = {.data = tensor->data, .shape = {count}, .dims = 1, .dtype = tensor->dtype};
  mg_op_call call = {.op = tensor->dtype == MG_I32 ? MG_OP_FILL : MG_OP_RANDOM, .out = {&start}};
  if (tensor->dtype != MG_I32) {
    call.attributes.random.kind = MG_RANDOM_UNIFORM;
    call.attributes.random.stream = mg_stream_named(1, "benchmark", (uint64_t)count, tensor->dtype);
    call.attributes.random.low = -1.732 * deviation;
    call.attributes.random.high = 1.732 * deviation;
  }
  return world.backend->plugin->kernels[call.op](world.backend, &call) == MG_OK;
}

mg_tensor bench_tensor(mg_dtype dtype, int32_t dims, const int64_t *shape, double deviation) {
  const mg_backend_plugin *plugin = world.backend->plugin;
  mg_tensor tensor = {.dims = dims, .dtype = dtype};
  memcpy(tensor.shape, shape, (size_t)dims * sizeof *shape);
  const size_t all = mg_tensor_bytes(&tensor);
  if (plugin->allocate(world.backend, all, &tensor.data) != MG_OK) {
    tensor.data = NULL;
    out_of_memory = true;
    return tensor;
  }
  const int64_t count = mg_tensor_count(&tensor), drawn = plugin->host_memory && count > DRAWN ? DRAWN : count;
  if (!draw(&tensor, drawn, deviation)) out_of_memory = true;
  const size_t bytes = (size_t)drawn * mg_dtype_bytes(dtype);
  for (size_t at = bytes; at < all; at += bytes) /* the numbers do not matter for speed: repeat them */
    memcpy((char *)tensor.data + at, tensor.data, all - at < bytes ? all - at : bytes);
  return tensor;
}

mg_tensor bench_i32(int64_t rows, int64_t columns, const int32_t *values) {
  mg_tensor tensor = {.dims = 2, .dtype = MG_I32, .shape = {rows, columns}};
  const size_t bytes = mg_tensor_bytes(&tensor);
  if (world.backend->plugin->allocate(world.backend, bytes, &tensor.data) != MG_OK) tensor.data = NULL;
  if (!tensor.data || world.backend->plugin->upload(world.backend, tensor.data, values, bytes) != MG_OK)
    out_of_memory = true;
  return tensor;
}

mg_tensor bench_ids(int64_t rows, int64_t choices, int64_t bound) {
  mg_tensor tensor = {.dims = 2, .dtype = MG_I32, .shape = {rows, choices}};
  const size_t bytes = mg_tensor_bytes(&tensor);
  int32_t *ids = mg_alloc(world.context, bytes);
  if (!ids) {
    out_of_memory = true;
    return tensor;
  }
  const mg_stream stream = mg_stream_named(2, "benchmark ids", (uint64_t)choices, (uint64_t)bound);
  for (int64_t row = 0; row < rows; row++) {
    const uint64_t first = mg_random_below(stream, (uint64_t)(2 * row), (uint64_t)bound);
    const uint64_t step = 1 + 2 * mg_random_below(stream, (uint64_t)(2 * row + 1), (uint64_t)bound / 2);
    for (int64_t s = 0; s < choices; s++)
      ids[row * choices + s] = (int32_t)((first + step * (uint64_t)s) % (uint64_t)bound);
  }
  tensor = bench_i32(rows, choices, ids);
  mg_free(world.context, ids, bytes);
  return tensor;
}

void bench_release(mg_tensor *tensor) {
  if (tensor->data) world.backend->plugin->release(world.backend, tensor->data, mg_tensor_bytes(tensor));
  tensor->data = NULL;
}

static mg_kernel kernel_of(mg_op op) {
  const mg_backend_plugin *plugin = world.backend->plugin;
  return (uint32_t)op < plugin->kernels_count ? plugin->kernels[op] : NULL;
}

bool bench_supports(const mg_op_call *call) {
  const mg_backend_plugin *plugin = world.backend->plugin;
  return kernel_of(call->op) && (!plugin->supports || plugin->supports(world.backend, call));
}

bool bench_run(gbench_state *state, const mg_op_call *call) {
  const mg_kernel kernel = kernel_of(call->op);
  if (!kernel) (void)mg_fail(world.context, MG_UNSUPPORTED, "the backend has no %s", mg_op_name(call->op));
  if (kernel && kernel(world.backend, call) == MG_OK) return true;
  gbench_skip(state, mg_context_message(world.context));
  return false;
}

/* ---- by turns ----------------------------------------------------------------------------------------------- */

static bool time_work(gbench_state *state, bench_work work, void *user, double *seconds) {
  mg_stopwatch watch;
  int64_t ns = 0;
  mg_status status = mg_stopwatch_start(world.backend, &watch);
  if (status == MG_OK && !work(state, user)) return false;
  if (status == MG_OK) status = mg_stopwatch_stop(world.backend, &watch, &ns);
  if (status != MG_OK) gbench_skip(state, mg_context_message(world.context));
  *seconds = 1e-9 * (double)ns;
  return status == MG_OK;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values, int32_t count) {
  qsort(values, (size_t)count, sizeof *values, ascending);
  return count % 2 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

bool bench_by_turns(gbench_state *state, bench_work subject, bench_work limit, void *user, double *subject_seconds,
                    double *limit_seconds) {
  double ours[ROUNDS_MAX], theirs[ROUNDS_MAX], ignored;
  int32_t rounds = 0;
  if (out_of_memory) gbench_skip(state, mg_context_message(world.context));
  bool going = !out_of_memory && time_work(state, subject, user, &ignored) && time_work(state, limit, user, &ignored);
  out_of_memory = false;
  while (going && rounds < ROUNDS_MAX && gbench_keep_running(state)) {
    going = time_work(state, subject, user, &ours[rounds]) && time_work(state, limit, user, &theirs[rounds]);
    if (going) gbench_round_took(state, ours[rounds++]);
  }
  if (!going || rounds == 0) return false;
  *subject_seconds = median(ours, rounds);
  *limit_seconds = median(theirs, rounds);
  return true;
}

/* ---- rates -------------------------------------------------------------------------------------------------- */

void bench_flops(gbench_state *state, mg_dtype compute, double flops) {
  const double bf16 = world.peak.amx_flops > 0                       ? world.peak.amx_flops
                      : world.peak.bf16_flops > world.peak.f32_flops ? world.peak.bf16_flops
                                                                     : world.peak.f32_flops;
  gbench_rate(state, "FLOP/s", flops);
  gbench_rate(state, "of_peak", flops / (compute == MG_BF16 ? bf16 : world.peak.f32_flops));
}

void bench_bytes(gbench_state *state, double bytes) {
  gbench_rate(state, "B/s", bytes);
  gbench_rate(state, "of_copy", bytes / world.peak.copy_bytes);
}

static void rate_context(const char *key, double rate, const char *unit) {
  char text[64];
  snprintf(text, sizeof text, "%.1f G%s/s", rate * 1e-9, unit);
  gbench_context(key, text);
}

/* ---- the program -------------------------------------------------------------------------------------------- */

static mg_status note_peaks(void) {
  MG_TRY(mg_peak_measure(world.context, 0, &world.peak));
  rate_context(world.peak.f32_instruction, world.peak.f32_flops, "FLOP");
  rate_context("bf16 dot", world.peak.bf16_flops, "FLOP");
  rate_context("amx", world.peak.amx_flops, "FLOP");
  rate_context("memory read", world.peak.read_bytes, "B");
  rate_context("memory copy (read + written)", world.peak.copy_bytes, "B");
  return MG_OK;
}

static mg_status open_world(const char *backend) {
  char text[256] = "", scale[32];
  MG_TRY(mg_registry_create(world.context, &world.registry));
  MG_TRY(mg_testing_register(world.registry));
  const char *isa = strcmp(backend, "cpu") == 0 ? getenv("MOEGAUGE_ISA") : NULL;
  json_t *options = isa ? json_pack("{s:s}", "isa", isa) : NULL;
  const mg_status status = mg_backend_open(world.context, world.registry, backend, options, &world.backend);
  json_decref(options);
  MG_TRY(status);
  world.backend->plugin->describe(world.backend, text, sizeof text);
  gbench_context("backend", text);
  snprintf(scale, sizeof scale, "%lld", (long long)world.scale);
  gbench_context("scale", scale);
  return world.backend->plugin->host_memory ? note_peaks() : MG_OK;
}

static void register_all(void) {
  bench_register_limit();
  if (!world.backend->plugin->host_memory) return;
  bench_register_ops();
  bench_register_gating();
  bench_register_moe();
  bench_register_expert_matmul();
  bench_register_train();
  bench_register_cluster();
}

/* Takes this program's own options out of the arguments. */
static mg_status take_options(int *argc, char **argv, const char **backend) {
  int kept = 1;
  for (int i = 1; i < *argc; i++) {
    if (strncmp(argv[i], "--backend=", 10) == 0)
      *backend = argv[i] + 10;
    else if (strncmp(argv[i], "--scale=", 8) == 0)
      world.scale = strtoll(argv[i] + 8, NULL, 10);
    else if (strncmp(argv[i], "--rounds=", 9) == 0)
      world.rounds = strtoll(argv[i] + 9, NULL, 10);
    else
      argv[kept++] = argv[i];
  }
  *argc = kept;
  if (world.rounds < 1 || world.rounds > ROUNDS_MAX)
    return mg_fail(world.context, MG_USAGE, "--rounds: a number from 1 to %d was expected", ROUNDS_MAX);
  if (world.scale >= 1 && world.scale <= SCALE_MAX && (world.scale & (world.scale - 1)) == 0) return MG_OK;
  return mg_fail(world.context, MG_USAGE, "--scale: a power of two from 1 to %d was expected", SCALE_MAX);
}

int main(int argc, char **argv) {
  const char *backend = "cpu";
  if (mg_context_create(NULL, &world.context) != MG_OK) return mg_status_exit_code(MG_MEMORY);
  mg_status status = take_options(&argc, argv, &backend);
  if (status == MG_OK) status = open_world(backend);
  if (status != MG_OK) {
    fprintf(stderr, "moegauge-bench: %s\n", mg_context_message(world.context));
    return mg_status_exit_code(status);
  }
  register_all();
  const int result = gbench_main(argc, argv);
  mg_backend_close(world.backend);
  mg_registry_destroy(world.registry);
  mg_context_destroy(world.context);
  return result;
}
