/* moegauge-bench: how fast the cpu backend is, beside what the machine can do and beside other libraries.
 *
 *     moegauge-bench --benchmark_filter=expert_matmul --benchmark_repetitions=7
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "support/testing.h"

enum { DRAWN = 1 << 20 };

static bench_world world;

const bench_world *bench_world_get(void) {
  return &world;
}

mg_tensor bench_tensor(mg_dtype dtype, int32_t dims, const int64_t *shape, double deviation) {
  mg_tensor tensor = {.dims = dims, .dtype = dtype};
  memcpy(tensor.shape, shape, (size_t)dims * sizeof *shape);
  if (world.backend->plugin->allocate(world.backend, mg_tensor_bytes(&tensor), &tensor.data) != MG_OK) return tensor;
  const int64_t count = mg_tensor_count(&tensor), drawn = count < DRAWN ? count : DRAWN;
  mg_tensor start = {.data = tensor.data, .shape = {drawn}, .dims = 1, .dtype = dtype};
  mg_op_call call = {.op = dtype == MG_I32 ? MG_OP_FILL : MG_OP_RANDOM, .out = {&start}};
  if (dtype != MG_I32) {
    call.attributes.random.kind = MG_RANDOM_UNIFORM;
    call.attributes.random.stream = mg_stream_named(1, "benchmark", (uint64_t)count, dtype);
    call.attributes.random.low = -1.732 * deviation;
    call.attributes.random.high = 1.732 * deviation;
  }
  (void)world.backend->plugin->kernels[call.op](world.backend, &call);
  const size_t bytes = (size_t)drawn * mg_dtype_bytes(dtype), all = mg_tensor_bytes(&tensor);
  for (size_t at = bytes; at < all; at += bytes) /* the numbers do not matter for speed: repeat them */
    memcpy((char *)tensor.data + at, tensor.data, all - at < bytes ? all - at : bytes);
  return tensor;
}

mg_tensor bench_ids(int64_t rows, int64_t choices, int64_t bound) {
  mg_tensor tensor = {.dims = 2, .dtype = MG_I32, .shape = {rows, choices}};
  if (world.backend->plugin->allocate(world.backend, mg_tensor_bytes(&tensor), &tensor.data) != MG_OK) return tensor;
  const mg_stream stream = mg_stream_named(2, "benchmark ids", (uint64_t)choices, (uint64_t)bound);
  int32_t *ids = tensor.data;
  for (int64_t row = 0; row < rows; row++) {
    const uint64_t first = mg_random_below(stream, (uint64_t)(2 * row), (uint64_t)bound);
    const uint64_t step = 1 + 2 * mg_random_below(stream, (uint64_t)(2 * row + 1), (uint64_t)bound / 2);
    for (int64_t s = 0; s < choices; s++)
      ids[row * choices + s] = (int32_t)((first + step * (uint64_t)s) % (uint64_t)bound);
  }
  return tensor;
}

void bench_release(mg_tensor *tensor) {
  world.backend->plugin->release(world.backend, tensor->data, mg_tensor_bytes(tensor));
  tensor->data = NULL;
}

bool bench_run(gbench_state *state, const mg_op_call *call) {
  if (world.backend->plugin->kernels[call->op](world.backend, call) == MG_OK) return true;
  gbench_skip(state, mg_context_message(world.context));
  return false;
}

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

static mg_status open_world(void) {
  MG_TRY(mg_registry_create(world.context, &world.registry));
  MG_TRY(mg_testing_register(world.registry));
  json_t *options = getenv("MOEGAUGE_ISA") ? json_pack("{s:s}", "isa", getenv("MOEGAUGE_ISA")) : NULL;
  const mg_status status = mg_backend_open(world.context, world.registry, "cpu", options, &world.backend);
  json_decref(options);
  MG_TRY(status);
  char text[128];
  world.backend->plugin->describe(world.backend, text, sizeof text);
  gbench_context("backend", text);
  MG_TRY(mg_peak_measure(world.context, 0, &world.peak));
  rate_context(world.peak.f32_instruction, world.peak.f32_flops, "FLOP");
  rate_context("bf16 dot", world.peak.bf16_flops, "FLOP");
  rate_context("amx", world.peak.amx_flops, "FLOP");
  rate_context("memory read", world.peak.read_bytes, "B");
  rate_context("memory copy (read + written)", world.peak.copy_bytes, "B");
  return MG_OK;
}

int main(int argc, char **argv) {
  if (mg_context_create(NULL, &world.context) != MG_OK) return mg_status_exit_code(MG_MEMORY);
  const mg_status status = open_world();
  if (status != MG_OK) {
    fprintf(stderr, "moegauge-bench: %s\n", mg_context_message(world.context));
    return mg_status_exit_code(status);
  }
  bench_register_ops();
  bench_register_gating();
  bench_register_moe();
  bench_register_expert_matmul();
  bench_register_train();
  bench_register_cluster();
  const int result = gbench_main(argc, argv);
  mg_backend_close(world.backend);
  mg_registry_destroy(world.registry);
  mg_context_destroy(world.context);
  return result;
}
