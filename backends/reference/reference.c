/* The backend "reference": plain C on host memory, one primitive per file, accumulated in float64. It is the definition
 * that every other backend is compared with. */
#include "reference.h"

#include <stdio.h>
#include <string.h>

typedef struct reference_state {
  double *scratch;
  size_t scratch_bytes;
} reference_state;

static mg_status reference_open(mg_backend *backend) {
  backend->state = mg_alloc(backend->context, sizeof(reference_state));
  return backend->state ? MG_OK : MG_MEMORY;
}

static void reference_close(mg_backend *backend) {
  reference_state *state = backend->state;
  mg_free(backend->context, state->scratch, state->scratch_bytes);
  mg_free(backend->context, state, sizeof *state);
  backend->state = NULL;
}

double *mg__reference_scratch(mg_backend *backend, int64_t count) {
  reference_state *state = backend->state;
  const size_t bytes = (size_t)(count > 0 ? count : 1) * sizeof(double);
  if (bytes > state->scratch_bytes) {
    double *larger = mg_resize(backend->context, state->scratch, state->scratch_bytes, bytes);
    if (!larger) return NULL;
    state->scratch = larger;
    state->scratch_bytes = bytes;
  }
  return state->scratch;
}

bool mg__reference_matrix(mg_backend *backend, const mg_tensor *x, int64_t index, int64_t count, mg_tensor *out) {
  *out = (mg_tensor){.dtype = x->dtype, .dims = 1, .shape = {count}};
  if (x->data) out->data = (char *)x->data + mg_dtype_run_bytes(x->dtype, index * count); /* NULL without elements */
  if (!mg_dtype_is_stored(x->dtype)) return true;
  float *decoded = (float *)(void *)mg__reference_scratch(backend, (count + 1) / 2);
  if (decoded) mg_stored_decode(x->dtype, out->data, count, decoded);
  out->data = decoded;
  out->dtype = MG_F32;
  return decoded != NULL;
}

enum { ALIGNMENT = 64 };

/* The context's allocator gives the memory, so that it is counted; the true start stands just before the aligned
 * address. New memory is all ones (NaN in every real dtype, -1 in i32), so that reading what nobody wrote shows. */
static mg_status reference_allocate(mg_backend *backend, size_t bytes, void **out) {
  *out = NULL;
  if (bytes == 0) return MG_OK;
  if (bytes > SIZE_MAX - ALIGNMENT)
    return mg_fail(backend->context, MG_MEMORY, "a tensor of %zu bytes was wanted, more than memory can be", bytes);
  char *start = mg_alloc(backend->context, bytes + ALIGNMENT);
  if (!start) return MG_MEMORY;
  char *aligned = start + (ALIGNMENT - (uintptr_t)start % ALIGNMENT);
  memcpy(aligned - sizeof start, &start, sizeof start);
  memset(aligned, 0xff, bytes);
  *out = aligned;
  return MG_OK;
}

static void reference_release(mg_backend *backend, void *pointer, size_t bytes) {
  if (!pointer) return;
  char *start;
  memcpy(&start, (char *)pointer - sizeof start, sizeof start);
  mg_free(backend->context, start, bytes + ALIGNMENT);
}

static mg_status reference_upload(mg_backend *backend, void *device, const void *host, size_t bytes) {
  (void)backend;
  if (bytes) memcpy(device, host, bytes);
  return MG_OK;
}

static mg_status reference_download(mg_backend *backend, void *host, const void *device, size_t bytes) {
  (void)backend;
  if (bytes) memcpy(host, device, bytes);
  return MG_OK;
}

static mg_status reference_synchronize(mg_backend *backend) {
  (void)backend;
  return MG_OK;
}

static void reference_describe(const mg_backend *backend, char *text, size_t bytes) {
  (void)backend;
  snprintf(text, bytes, "accumulation=f64 threads=1");
}

mg_status mg__reference_check_ids(mg_backend *backend, mg_op op, const mg_tensor *ids, int64_t bound) {
  for (int64_t i = 0; i < mg_tensor_count(ids); i++) {
    const int64_t id = id_at(ids, i);
    if (id < -1 || id >= bound)
      return mg_fail(backend->context, MG_BUG,
                     "%s: id %lld at element %lld is outside [0, %lld); only -1 may stand for none, so check the ids "
                     "before the call",
                     mg_op_name(op), (long long)id, (long long)i, (long long)bound);
  }
  return MG_OK;
}

static const mg_kernel kernels[MG_OP_COUNT] = {
#define ROW(NAME, name, inputs, outputs, what) [MG_OP_##NAME] = mg__reference_##name,
    MG_OP_LIST(ROW)
#undef ROW
};

static const mg_backend_plugin plugin = {
    .abi = MG_ABI,
    .size = sizeof(mg_backend_plugin),
    .name = "reference",
    .summary = "The definition of every primitive: plain C, one thread, float64 accumulation",
    .host_memory = true,
    .open = reference_open,
    .close = reference_close,
    .allocate = reference_allocate,
    .release = reference_release,
    .upload = reference_upload,
    .download = reference_download,
    .synchronize = reference_synchronize,
    .kernels = kernels,
    .kernels_count = MG_OP_COUNT,
    .describe = reference_describe,
    .stored_dtypes = true,
};
MG_BACKEND_PLUGIN(plugin)
