/* Dense products by rocBLAS, where the build found its header. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "gpu.h"

#ifdef GPU_BLAS_LIBRARY
#include <rocblas/rocblas.h>

/* Without atomic additions two runs give the same bits. */
static bool prepare(gpu_blas *blas, gpu_stream stream) {
  char version[GPU_WORD_BYTES / 2] = "";
  GPU_BLAS_FUNCTION(blas, rocblas_create_handle, create);
  GPU_BLAS_FUNCTION(blas, rocblas_set_stream, set_stream);
  GPU_BLAS_FUNCTION(blas, rocblas_set_atomics_mode, set_atomics);
  GPU_BLAS_FUNCTION(blas, rocblas_get_version_string, get_version);
  if (!create || !set_stream || !set_atomics || !get_version) return false;
  if (create((rocblas_handle *)&blas->handle) != rocblas_status_success) return false;
  if (set_stream(blas->handle, stream) != rocblas_status_success) return false;
  if (set_atomics(blas->handle, rocblas_atomics_not_allowed) != rocblas_status_success) return false;
  if (get_version(version, sizeof version) != rocblas_status_success) return false;
  snprintf(blas->name, sizeof blas->name, "rocBLAS %s", version);
  return true;
}

static bool lend(const gpu_blas *blas, void *workspace, size_t bytes) {
  GPU_BLAS_FUNCTION(blas, rocblas_set_workspace, set_workspace);
  return set_workspace && set_workspace(blas->handle, workspace, bytes) == rocblas_status_success;
}

static void finish(gpu_blas *blas) {
  GPU_BLAS_FUNCTION(blas, rocblas_destroy_handle, destroy);
  if (destroy) (void)destroy(blas->handle);
}

/* rocBLAS counts rows where we count columns: it is asked for out^T = right^T left^T. */
static bool multiply(const gpu_blas *blas, const gpu_gemm *g) {
  GPU_BLAS_FUNCTION(blas, rocblas_gemm_strided_batched_ex, run);
  if (!run) return false;
  const float one = 1.0f, before = g->accumulate ? 1.0f : 0.0f;
  const rocblas_datatype in = g->bf16 ? rocblas_datatype_bf16_r : rocblas_datatype_f32_r;
  const rocblas_datatype out = g->out_bf16 ? rocblas_datatype_bf16_r : rocblas_datatype_f32_r;
  const rocblas_operation left = g->left_last ? rocblas_operation_none : rocblas_operation_transpose;
  const rocblas_operation right = g->right_last ? rocblas_operation_transpose : rocblas_operation_none;
  const rocblas_int M = (rocblas_int)g->M, N = (rocblas_int)g->N, K = (rocblas_int)g->K;
  const rocblas_stride left_step = g->M * g->K, right_step = g->K * g->N, out_step = g->M * g->N;
  return run(blas->handle, right, left, N, M, K, &one, g->right, in, g->right_last ? K : N, right_step, g->left, in,
             g->left_last ? K : M, left_step, &before, g->out, out, N, out_step, g->out, out, N, out_step,
             (rocblas_int)g->count, rocblas_datatype_f32_r, rocblas_gemm_algo_standard, 0, 0) == rocblas_status_success;
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
