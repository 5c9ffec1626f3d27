/* Dense products by rocBLAS. The build finds its header; the library is loaded when a device is opened, so that a machine
 * without it can still load the plugin. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "gpu.h"

#ifdef GPU_BLAS_LIBRARY
#include <rocblas/rocblas.h>

/* Declares `out` as the library's function, NULL where it has none. ISO C has no conversion from an object's address to a
 * function's; POSIX promises that this one works. */
#define BLAS_FUNCTION(blas, function, out)                                                                             \
  __typeof__(function) *out = NULL;                                                                                    \
  do {                                                                                                                 \
    void *address_ = dlsym((blas)->library, #function);                                                                \
    memcpy(&(out), &address_, sizeof address_);                                                                        \
  } while (0)

/* Without atomic additions two runs give the same bits. */
static bool prepare(gpu_blas *blas, gpu_stream stream) {
  char version[GPU_WORD_BYTES / 2] = "";
  BLAS_FUNCTION(blas, rocblas_create_handle, create);
  BLAS_FUNCTION(blas, rocblas_set_stream, set_stream);
  BLAS_FUNCTION(blas, rocblas_set_atomics_mode, set_atomics);
  BLAS_FUNCTION(blas, rocblas_get_version_string, get_version);
  if (!create || !set_stream || !set_atomics || !get_version) return false;
  if (create((rocblas_handle *)&blas->handle) != rocblas_status_success) return false;
  if (set_stream(blas->handle, stream) != rocblas_status_success) return false;
  if (set_atomics(blas->handle, rocblas_atomics_not_allowed) != rocblas_status_success) return false;
  if (get_version(version, sizeof version) != rocblas_status_success) return false;
  snprintf(blas->name, sizeof blas->name, "rocBLAS %s", version);
  return true;
}

void gpu_blas_open(gpu_blas *blas, gpu_stream stream) {
  *blas = (gpu_blas){.library = dlopen(GPU_BLAS_LIBRARY, RTLD_NOW | RTLD_LOCAL)};
  if (!blas->library) blas->library = dlopen(GPU_BLAS_NAME, RTLD_NOW | RTLD_LOCAL);
  if (blas->library && !prepare(blas, stream)) gpu_blas_close(blas);
}

bool gpu_blas_lend(const gpu_blas *blas, void *workspace, size_t bytes) {
  BLAS_FUNCTION(blas, rocblas_set_workspace, set_workspace);
  return set_workspace && set_workspace(blas->handle, workspace, bytes) == rocblas_status_success;
}

void gpu_blas_close(gpu_blas *blas) {
  if (!blas->library) return;
  BLAS_FUNCTION(blas, rocblas_destroy_handle, destroy);
  if (destroy && blas->handle) (void)destroy(blas->handle);
  dlclose(blas->library);
  *blas = (gpu_blas){0};
}

/* rocBLAS counts rows where we count columns: it is asked for out^T = right^T left^T. */
bool gpu_blas_multiply(const gpu_blas *blas, const gpu_gemm *g) {
  BLAS_FUNCTION(blas, rocblas_gemm_strided_batched_ex, multiply);
  if (!multiply) return false;
  const float one = 1.0f, before = g->accumulate ? 1.0f : 0.0f;
  const rocblas_datatype in = g->bf16 ? rocblas_datatype_bf16_r : rocblas_datatype_f32_r;
  const rocblas_datatype out = g->out_bf16 ? rocblas_datatype_bf16_r : rocblas_datatype_f32_r;
  const rocblas_operation left = g->left_last ? rocblas_operation_none : rocblas_operation_transpose;
  const rocblas_operation right = g->right_last ? rocblas_operation_transpose : rocblas_operation_none;
  const rocblas_int M = (rocblas_int)g->M, N = (rocblas_int)g->N, K = (rocblas_int)g->K;
  const rocblas_stride left_step = g->M * g->K, right_step = g->K * g->N, out_step = g->M * g->N;
  return multiply(blas->handle, right, left, N, M, K, &one, g->right, in, g->right_last ? K : N, right_step, g->left,
                  in, g->left_last ? K : M, left_step, &before, g->out, out, N, out_step, g->out, out, N, out_step,
                  (rocblas_int)g->count, rocblas_datatype_f32_r, rocblas_gemm_algo_standard, 0,
                  0) == rocblas_status_success;
}

#else

void gpu_blas_open(gpu_blas *blas, gpu_stream stream) {
  (void)stream;
  *blas = (gpu_blas){0};
}
bool gpu_blas_lend(const gpu_blas *blas, void *workspace, size_t bytes) {
  (void)blas, (void)workspace, (void)bytes;
  return false;
}
void gpu_blas_close(gpu_blas *blas) {
  (void)blas;
}
bool gpu_blas_multiply(const gpu_blas *blas, const gpu_gemm *g) {
  (void)blas, (void)g;
  return false;
}

#endif
