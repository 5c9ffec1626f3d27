/* The backend "cpu": OpenMP threads and the best instruction set of the machine, f32 and bf16 with f32 accumulation. */
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu.h"

static const char *const isa_names[] = {"auto",        "portable", "avx2",         "avx512",
                                        "avx512_bf16", "amx",      "amx_emulated", NULL};

static const mg_option options[] = {
    MG_OPTION_INT(cpu_options, threads, 0, 0, 1024, "OpenMP threads; 0 = all that OpenMP offers"),
    MG_OPTION_CHOICE(cpu_options, isa, CPU_AUTO, isa_names,
                     "instruction set; auto = the best here, amx_emulated = for tests of the AMX kernel without AMX"),
    MG_OPTION_END};

/* ---- memory ----------------------------------------------------------------------------------------------- */

enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20 };

/* Large blocks may use huge pages: packing walks through many rows at once, one page of address translation each. */
static void advise_huge_pages(void *pointer, size_t bytes) {
  const uintptr_t start = ((uintptr_t)pointer + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
  const uintptr_t end = ((uintptr_t)pointer + bytes) / HUGE_PAGE * HUGE_PAGE;
  if (end > start) (void)madvise((void *)start, end - start, MADV_HUGEPAGE);
}

/* The context's allocator gives the memory, so that it is counted; the true start stands before the aligned address. */
static mg_status cpu_allocate(mg_backend *backend, size_t bytes, void **out) {
  *out = NULL;
  if (bytes == 0) return MG_OK;
  if (bytes > SIZE_MAX - ALIGNMENT)
    return mg_fail(backend->context, MG_MEMORY, "a tensor of %zu bytes was wanted, more than memory can be", bytes);
  char *start = mg_resize(backend->context, NULL, 0, bytes + ALIGNMENT);
  if (!start) return MG_MEMORY;
  char *aligned = start + (ALIGNMENT - (uintptr_t)start % ALIGNMENT);
  memcpy(aligned - sizeof start, &start, sizeof start);
  advise_huge_pages(aligned, bytes);
  *out = aligned;
  return MG_OK;
}

static void cpu_release(mg_backend *backend, void *pointer, size_t bytes) {
  if (!pointer) return;
  char *start;
  memcpy(&start, (char *)pointer - sizeof start, sizeof start);
  mg_free(backend->context, start, bytes + ALIGNMENT);
}

void *mg__cpu_grow(mg_backend *backend, cpu_memory *memory, size_t bytes) {
  if (bytes <= memory->bytes && memory->aligned) return memory->aligned;
  cpu_release(backend, memory->aligned, memory->bytes);
  *memory = (cpu_memory){NULL, 0};
  const size_t wanted = bytes ? bytes : ALIGNMENT;
  if (cpu_allocate(backend, wanted, &memory->aligned) == MG_OK) memory->bytes = wanted;
  return memory->aligned;
}

void *mg__cpu_scratch(mg_backend *backend, size_t bytes) {
  return mg__cpu_grow(backend, &cpu_state_of(backend)->scratch, bytes);
}

/* ---- life ------------------------------------------------------------------------------------------------- */

static void choose_kernels(cpu_state *state) {
  state->kernels = mg__cpu_kernels_portable;
  state->gemm_f32 = &mg__cpu_gemm_f32_portable;
  if (state->isa == CPU_AMX_EMULATED) state->gemm_bf16 = &mg__cpu_gemm_bf16_amx_emulated;
#if defined(__x86_64__)
  if (state->isa == CPU_AVX2) {
    state->kernels = mg__cpu_kernels_avx2;
    state->gemm_f32 = &mg__cpu_gemm_f32_avx2;
  }
  if (state->isa == CPU_AVX512 || state->isa == CPU_AVX512_BF16 || state->isa == CPU_AMX) {
    state->kernels = mg__cpu_kernels_avx512;
    state->gemm_f32 = &mg__cpu_gemm_f32_avx512;
  }
  if (state->isa == CPU_AVX512_BF16) state->gemm_bf16 = &mg__cpu_gemm_bf16_avx512_bf16;
  if (state->isa == CPU_AMX) state->gemm_bf16 = &mg__cpu_gemm_bf16_amx;
#endif
}

static mg_status cpu_open(mg_backend *backend) {
  const cpu_options *o = backend->options;
  const cpu_isa wanted = (cpu_isa)o->isa;
  if (!mg__cpu_can_run(wanted))
    return mg_fail(backend->context, MG_DEVICE,
                   "isa=%s was wanted, but this machine cannot run it; the best it can run is isa=%s",
                   isa_names[wanted], isa_names[mg__cpu_best_isa()]);
  cpu_state *state = mg_alloc(backend->context, sizeof *state);
  if (!state) return MG_MEMORY;
  backend->state = state;
  state->threads = o->threads ? (int32_t)o->threads : omp_get_max_threads();
  state->isa = wanted == CPU_AUTO ? mg__cpu_best_isa() : wanted;
  choose_kernels(state);
  return MG_OK;
}

static void cpu_close(mg_backend *backend) {
  cpu_state *state = backend->state;
  if (!state) return;
  cpu_memory *memories[] = {&state->scratch, &state->plans, &state->products, &state->angles.memory};
  for (size_t i = 0; i < MG_COUNT(memories); i++) cpu_release(backend, memories[i]->aligned, memories[i]->bytes);
  mg_free(backend->context, state, sizeof *state);
  backend->state = NULL;
}

static mg_status cpu_upload(mg_backend *backend, void *device, const void *host, size_t bytes) {
  (void)backend;
  if (bytes) memcpy(device, host, bytes);
  return MG_OK;
}

static mg_status cpu_download(mg_backend *backend, void *host, const void *device, size_t bytes) {
  (void)backend;
  if (bytes) memcpy(host, device, bytes);
  return MG_OK;
}

static mg_status cpu_synchronize(mg_backend *backend) {
  (void)backend;
  return MG_OK;
}

static void cpu_describe(const mg_backend *backend, char *text, size_t bytes) {
  const cpu_state *state = cpu_state_of(backend);
  snprintf(text, bytes, "isa=%s threads=%d", isa_names[state->isa], state->threads);
}

/* ---- kernels ---------------------------------------------------------------------------------------------- */

/* All but f64, which exists for gradient checks on the reference. */
static bool cpu_supports(const mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  for (size_t i = 0; i < MG_OP_INPUTS_MAX; i++)
    if (call->in[i] && call->in[i]->dtype == MG_F64) return false;
  for (size_t i = 0; i < MG_OP_OUTPUTS_MAX; i++)
    if (call->out[i] && call->out[i]->dtype == MG_F64) return false;
  if (call->op == MG_OP_GATE) return call->out[0];
  if (call->op == MG_OP_MATMUL) return call->attributes.matmul.compute != MG_F64;
  if (call->op == MG_OP_GROUPED_MATMUL || call->op == MG_OP_GROUPED_MATMUL_WEIGHT)
    return call->attributes.grouped.compute != MG_F64;
  if (call->op == MG_OP_ATTENTION || call->op == MG_OP_ATTENTION_BACKWARD)
    return call->attributes.attention.compute != MG_F64;
  return true;
}

/* Hands a call to the table of the instruction set that was chosen at opening. */
static mg_status run(mg_backend *backend, const mg_op_call *call) {
  return cpu_state_of(backend)->kernels[call->op](backend, call);
}

static const mg_kernel kernels[MG_OP_COUNT] = {
#define ROW(NAME, name, inputs, outputs, what) [MG_OP_##NAME] = run,
    MG_OP_LIST(ROW)
#undef ROW
};

static const mg_backend_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_backend_plugin),
    .name = "cpu",
    .summary = "OpenMP and the best vector instructions of this processor; f32 and bf16",
    .options = options,
    .options_size = sizeof(cpu_options),
    .host_memory = true,
    .open = cpu_open,
    .close = cpu_close,
    .allocate = cpu_allocate,
    .release = cpu_release,
    .upload = cpu_upload,
    .download = cpu_download,
    .synchronize = cpu_synchronize,
    .kernels = kernels,
    .kernels_count = MG_OP_COUNT,
    .supports = cpu_supports,
    .describe = cpu_describe,
    .stored_dtypes = true,
};
MG_BACKEND_PLUGIN(plugin)
