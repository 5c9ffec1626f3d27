/* The plugin's table: opening a device, its options, and what it says about itself. */
#include <stdio.h>

#include "gpu.h"

static const char *const matmuls[] = {"auto", "own", "library", NULL};

static const mg_option options[] = {
    MG_OPTION_INT(gpu_options, device, 0, 0, 1023, "number of the device, in the runtime's order"),
    MG_OPTION_CHOICE(gpu_options, matmul, GPU_MATMUL_AUTO, matmuls,
                     "dense products by " GPU_BLAS " where it is found, by own kernels, or by the library alone"),
    MG_OPTION_BOOL(gpu_options, graphs, false, "submit each decoded token's launches and copies as one graph"),
#ifdef GPU_VENDOR_OPTIONS
    GPU_VENDOR_OPTIONS
#endif
        MG_OPTION_END};

static void gpu_close(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  if (!state) return;
  (void)mg__gpu_submit(backend);
  if (state->stream) (void)gpu_stream_wait(state->stream);
  mg__gpu_graphs_destroy(backend);
  mg__gpu_blas_destroy(backend);
  mg__gpu_clock_destroy(backend);
  mg__gpu_transfer_destroy(backend);
  mg__gpu_release(backend, state->scratch, state->scratch_bytes);
  mg__gpu_cache_destroy(backend);
  if (state->stream) (void)gpu_stream_destroy(state->stream);
  mg_free(backend->context, state, sizeof *state);
  backend->state = NULL;
}

/* Finds the device that the options name. */
static mg_status choose_device(mg_backend *backend, int device) {
  gpu_state *state = gpu_state_of(backend);
  int count = 0;
  MG_TRY(mg__gpu_check(backend, gpu_device_count(&count), "counting devices"));
  if (device >= count)
    return mg_fail(backend->context, MG_DEVICE,
                   "device=%d was wanted, but " GPU_RUNTIME " sees %d; they are numbered from 0", device, count);
  MG_TRY(mg__gpu_check(backend, gpu_device_choose(device), "choosing the device"));
  MG_TRY(mg__gpu_check(backend, gpu_device_facts_of(device, &state->facts), "asking what the device is"));
  if (state->facts.warp == GPU_WARP) return MG_OK;
  return mg_fail(backend->context, MG_DEVICE,
                 "%s runs %d threads in step and this plugin was built for %d; configure again with " GPU_REBUILD
                 " for this device",
                 state->facts.name, state->facts.warp, GPU_WARP);
}

static mg_status open_device(mg_backend *backend) {
  const gpu_options *set = backend->options;
  gpu_state *state = gpu_state_of(backend);
#ifdef GPU_VENDOR_OPTIONS
  gpu_vendor_configure(set);
#endif
  MG_TRY(choose_device(backend, (int)set->device));
  MG_TRY(mg__gpu_check(backend, gpu_stream_create(&state->stream), "creating a stream"));
  MG_TRY(mg__gpu_transfer_create(backend));
  MG_TRY(mg__gpu_clock_create(backend));
  MG_TRY(mg__gpu_probe(backend));
  MG_TRY(mg__gpu_blas_create(backend, (gpu_matmul)set->matmul));
  if (set->graphs && !GPU_GRAPHS)
    return mg_fail(backend->context, MG_DEVICE, "graphs=true was wanted, but " GPU_RUNTIME " has no graphs here");
  state->graphs.wanted = set->graphs;
  return mg__gpu_synchronize(backend);
}

static mg_status gpu_open(mg_backend *backend) {
  gpu_state *state = mg_alloc(backend->context, sizeof *state);
  if (!state) return MG_MEMORY;
  backend->state = state;
  snprintf(state->facts.name, sizeof state->facts.name, "%s", GPU_BACKEND_NAME);
  const mg_status status = open_device(backend);
  if (status != MG_OK) gpu_close(backend);
  return status;
}

static void gpu_describe(const mg_backend *backend, char *text, size_t bytes) {
  const gpu_device_facts *facts = &gpu_state_of(backend)->facts;
  const gpu_blas *blas = &gpu_state_of(backend)->blas;
  snprintf(text, bytes,
           "device=\"%s\" architecture=%s multiprocessors=%d memory_gib=%.1f driver=%s bus=%s matmul=\"%s\" graphs=%s",
           facts->name, facts->architecture, facts->multiprocessors, (double)facts->memory_bytes / (1 << 30),
           facts->driver, facts->bus, blas->ready ? blas->name : "own",
           gpu_state_of(backend)->graphs.wanted ? "true" : "false");
}

static mg_status gpu_memory(mg_backend *backend, mg_backend_memory *out) {
  size_t free_bytes, total_bytes;
  MG_TRY(mg__gpu_check(backend, gpu_memory_free(&free_bytes, &total_bytes), "asking how much memory is free"));
  out->total_bytes = (int64_t)total_bytes;
  out->free_bytes = (int64_t)(free_bytes + gpu_state_of(backend)->cache.bytes);
  return MG_OK;
}

/* f64 exists for gradient checks on the reference. */
static bool is_narrow(const mg_tensor *tensor) {
  return !tensor || tensor->dtype != MG_F64;
}

static bool computes_in_f64(const mg_op_call *call) {
  switch (call->op) {
  case MG_OP_MATMUL: return call->attributes.matmul.compute == MG_F64;
  case MG_OP_GROUPED_MATMUL:
  case MG_OP_GROUPED_MATMUL_WEIGHT: return call->attributes.grouped.compute == MG_F64;
  case MG_OP_ATTENTION:
  case MG_OP_ATTENTION_BACKWARD: return call->attributes.attention.compute == MG_F64;
  default: return false;
  }
}

static bool gpu_supports(const mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  if (call->op == MG_OP_GATE && !gpu_choosing_is_held(mg_tensor_columns(call->in[0]), mg_tensor_columns(call->out[1])))
    return false;
  for (int i = 0; i < MG_OP_INPUTS_MAX; i++)
    if (!is_narrow(call->in[i])) return false;
  for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++)
    if (!is_narrow(call->out[i])) return false;
  return mg__gpu_kernels[call->op] && !computes_in_f64(call);
}

static const mg_backend_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_backend_plugin),
    .name = GPU_BACKEND_NAME,
    .summary = GPU_BACKEND_SUMMARY,
    .options = options,
    .options_size = sizeof(gpu_options),
    .host_memory = false,
    .open = gpu_open,
    .close = gpu_close,
    .allocate = mg__gpu_allocate,
    .release = mg__gpu_release,
    .upload = mg__gpu_upload,
    .download = mg__gpu_download,
    .synchronize = mg__gpu_synchronize,
    .kernels = mg__gpu_kernels,
    .kernels_count = MG_OP_COUNT,
    .supports = gpu_supports,
    .describe = gpu_describe,
    .memory = gpu_memory,
    .clock_start = mg__gpu_clock_start,
    .clock_stop = mg__gpu_clock_stop,
    .energy = mg__gpu_energy,
    .step_begin = mg__gpu_step_begin,
    .step_end = mg__gpu_step_end,
};
MG_BACKEND_PLUGIN(plugin)
