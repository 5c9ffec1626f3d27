/* No library of matrix products runs on the host's HIP: the kernels' own products are what is looked at here. */
#include "gpu.h"

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

bool gpu_blas_multiply(const gpu_blas *blas, const gpu_gemm *product) {
  (void)blas, (void)product;
  return false;
}
