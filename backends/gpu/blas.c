/* The vendor's library of matrix products: found, or said to be missing, when the device is opened. */
#include "gpu.h"

/* The workspace is ours, so that no product allocates. */
static mg_status lend_workspace(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  MG_TRY(mg__gpu_allocate(backend, GPU_BLAS_WORKSPACE_BYTES, &state->blas_workspace));
  if (gpu_blas_lend(&state->blas, state->blas_workspace, GPU_BLAS_WORKSPACE_BYTES)) return MG_OK;
  return mg_fail(backend->context, MG_DEVICE, "%s refused its workspace; matmul=own goes without it", state->blas.name);
}

mg_status mg__gpu_blas_create(mg_backend *backend, gpu_matmul wanted) {
  gpu_state *state = gpu_state_of(backend);
  if (wanted != GPU_MATMUL_OWN) gpu_blas_open(&state->blas, state->stream);
  if (state->blas.library) return lend_workspace(backend);
  if (wanted != GPU_MATMUL_LIBRARY) return MG_OK;
  return mg_fail(backend->context, MG_DEVICE,
                 "matmul=library was wanted, but this build or this machine has no " GPU_BLAS
                 " that works; install it and configure again, or use matmul=own");
}

void mg__gpu_blas_destroy(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  gpu_blas_close(&state->blas);
  mg__gpu_release(backend, state->blas_workspace, GPU_BLAS_WORKSPACE_BYTES);
  state->blas_workspace = NULL;
}
