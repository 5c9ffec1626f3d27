/* The vendor's library of matrix products: found, or said to be missing, when the device is opened. Of some hundred
 * megabytes, it is loaded then and not linked, so that a machine without it can still load the plugin. */
#include <dlfcn.h>

#include "gpu.h"

static void close_library(gpu_blas *blas) {
  if (blas->handle) gpu_vendor_blas.finish(blas);
  if (blas->library) dlclose(blas->library);
  *blas = (gpu_blas){0};
}

static void open_library(gpu_blas *blas, gpu_stream stream) {
  const gpu_blas_vendor *vendor = &gpu_vendor_blas;
  if (!vendor->prepare) return;
  if (vendor->path) {
    blas->library = dlopen(vendor->path, RTLD_NOW | RTLD_LOCAL);
    if (!blas->library) blas->library = dlopen(vendor->file, RTLD_NOW | RTLD_LOCAL);
    if (!blas->library) return;
  }
  blas->ready = vendor->prepare(blas, stream);
  if (!blas->ready) close_library(blas);
}

/* The workspace is ours, so that no product allocates. */
static mg_status lend_workspace(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  MG_TRY(mg__gpu_allocate(backend, GPU_BLAS_WORKSPACE_BYTES, &state->blas_workspace));
  if (gpu_vendor_blas.lend(&state->blas, state->blas_workspace, GPU_BLAS_WORKSPACE_BYTES)) return MG_OK;
  return mg_fail(backend->context, MG_DEVICE, "%s refused its workspace; matmul=own goes without it", state->blas.name);
}

mg_status mg__gpu_blas_create(mg_backend *backend, gpu_matmul wanted) {
  gpu_state *state = gpu_state_of(backend);
  if (wanted != GPU_MATMUL_OWN) open_library(&state->blas, state->stream);
  if (state->blas.ready) return lend_workspace(backend);
  if (wanted != GPU_MATMUL_LIBRARY) return MG_OK;
  return mg_fail(backend->context, MG_DEVICE,
                 "matmul=library was wanted, but this build or this machine has no " GPU_BLAS
                 " that works; install it and configure again, or use matmul=own");
}

void mg__gpu_blas_destroy(mg_backend *backend) {
  gpu_state *state = gpu_state_of(backend);
  close_library(&state->blas);
  mg__gpu_release(backend, state->blas_workspace, GPU_BLAS_WORKSPACE_BYTES);
  state->blas_workspace = NULL;
}
