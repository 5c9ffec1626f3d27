/* Dense products by cuBLAS, where the build found its header. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "gpu.h"

#ifdef GPU_BLAS_LIBRARY
#include <cublas_v2.h>

static bool prepare(gpu_blas *blas, gpu_stream stream) {
  int version = 0;
  GPU_BLAS_FUNCTION(blas, cublasCreate_v2, create);
  GPU_BLAS_FUNCTION(blas, cublasSetStream_v2, set_stream);
  GPU_BLAS_FUNCTION(blas, cublasGetVersion_v2, get_version);
  if (!create || !set_stream || !get_version) return false;
  if (create((cublasHandle_t *)&blas->handle) != CUBLAS_STATUS_SUCCESS) return false;
  if (set_stream(blas->handle, stream) != CUBLAS_STATUS_SUCCESS) return false;
  if (get_version(blas->handle, &version) != CUBLAS_STATUS_SUCCESS) return false;
  snprintf(blas->name, sizeof blas->name, "cuBLAS %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
  return true;
}

static bool lend(const gpu_blas *blas, void *workspace, size_t bytes) {
  GPU_BLAS_FUNCTION(blas, cublasSetWorkspace_v2, set_workspace);
  return set_workspace && set_workspace(blas->handle, workspace, bytes) == CUBLAS_STATUS_SUCCESS;
}

static void finish(gpu_blas *blas) {
  GPU_BLAS_FUNCTION(blas, cublasDestroy_v2, destroy);
  if (destroy) (void)destroy(blas->handle);
}

/* cuBLAS counts rows where we count columns: it is asked for out^T = right^T left^T. */
static bool multiply(const gpu_blas *blas, const gpu_gemm *g) {
  GPU_BLAS_FUNCTION(blas, cublasGemmStridedBatchedEx, run);
  if (!run) return false;
  const float one = 1.0f, before = g->accumulate ? 1.0f : 0.0f;
  const cudaDataType in = g->bf16 ? CUDA_R_16BF : CUDA_R_32F, out = g->out_bf16 ? CUDA_R_16BF : CUDA_R_32F;
  const int M = (int)g->M, N = (int)g->N, K = (int)g->K;
  return run(blas->handle, g->right_last ? CUBLAS_OP_T : CUBLAS_OP_N, g->left_last ? CUBLAS_OP_N : CUBLAS_OP_T, N, M, K,
             &one, g->right, in, g->right_last ? K : N, (long long)K * N, g->left, in, g->left_last ? K : M,
             (long long)M * K, &before, g->out, out, N, (long long)M * N, (int)g->count, CUBLAS_COMPUTE_32F,
             CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS;
}

const gpu_blas_vendor gpu_vendor_blas = {.path = GPU_BLAS_LIBRARY,
                                         .file = GPU_BLAS_NAME,
                                         .prepare = prepare,
                                         .lend = lend,
                                         .multiply = multiply,
                                         .finish = finish};

#else
const gpu_blas_vendor gpu_vendor_blas = {0};
#endif
