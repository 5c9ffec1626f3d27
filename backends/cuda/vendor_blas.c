/* Dense products by cuBLAS. The build finds its header; the library, of some hundred megabytes, is loaded when a device is
 * opened, so that a machine without it can still load the plugin. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "gpu.h"

#ifdef GPU_BLAS_LIBRARY
#include <cublas_v2.h>

/* Declares `out` as the library's function, NULL where it has none. ISO C has no conversion from an object's address to a
 * function's; POSIX promises that this one works. */
#define BLAS_FUNCTION(blas, function, out)                                                                             \
  __typeof__(function) *out = NULL;                                                                                    \
  do {                                                                                                                 \
    void *address_ = dlsym((blas)->library, #function);                                                                \
    memcpy(&(out), &address_, sizeof address_);                                                                        \
  } while (0)

static bool prepare(gpu_blas *blas, gpu_stream stream) {
  int version = 0;
  BLAS_FUNCTION(blas, cublasCreate_v2, create);
  BLAS_FUNCTION(blas, cublasSetStream_v2, set_stream);
  BLAS_FUNCTION(blas, cublasGetVersion_v2, get_version);
  if (!create || !set_stream || !get_version) return false;
  if (create((cublasHandle_t *)&blas->handle) != CUBLAS_STATUS_SUCCESS) return false;
  if (set_stream(blas->handle, stream) != CUBLAS_STATUS_SUCCESS) return false;
  if (get_version(blas->handle, &version) != CUBLAS_STATUS_SUCCESS) return false;
  snprintf(blas->name, sizeof blas->name, "cuBLAS %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
  return true;
}

void gpu_blas_open(gpu_blas *blas, gpu_stream stream) {
  *blas = (gpu_blas){.library = dlopen(GPU_BLAS_LIBRARY, RTLD_NOW | RTLD_LOCAL)};
  if (!blas->library) blas->library = dlopen(GPU_BLAS_NAME, RTLD_NOW | RTLD_LOCAL);
  if (blas->library && !prepare(blas, stream)) gpu_blas_close(blas);
}

bool gpu_blas_lend(const gpu_blas *blas, void *workspace, size_t bytes) {
  BLAS_FUNCTION(blas, cublasSetWorkspace_v2, set_workspace);
  return set_workspace && set_workspace(blas->handle, workspace, bytes) == CUBLAS_STATUS_SUCCESS;
}

void gpu_blas_close(gpu_blas *blas) {
  if (!blas->library) return;
  BLAS_FUNCTION(blas, cublasDestroy_v2, destroy);
  if (destroy && blas->handle) (void)destroy(blas->handle);
  dlclose(blas->library);
  *blas = (gpu_blas){0};
}

/* cuBLAS counts rows where we count columns: it is asked for out^T = right^T left^T. */
bool gpu_blas_multiply(const gpu_blas *blas, const gpu_gemm *g) {
  BLAS_FUNCTION(blas, cublasGemmStridedBatchedEx, multiply);
  if (!multiply) return false;
  const float one = 1.0f, before = g->accumulate ? 1.0f : 0.0f;
  const cudaDataType in = g->bf16 ? CUDA_R_16BF : CUDA_R_32F, out = g->out_bf16 ? CUDA_R_16BF : CUDA_R_32F;
  const int M = (int)g->M, N = (int)g->N, K = (int)g->K;
  return multiply(blas->handle, g->right_last ? CUBLAS_OP_T : CUBLAS_OP_N, g->left_last ? CUBLAS_OP_N : CUBLAS_OP_T, N,
                  M, K, &one, g->right, in, g->right_last ? K : N, (long long)K * N, g->left, in, g->left_last ? K : M,
                  (long long)M * K, &before, g->out, out, N, (long long)M * N, (int)g->count, CUBLAS_COMPUTE_32F,
                  CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS;
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
