/* The executor's matrix library: a plain loop, so that what leads to a vendor's library is run and its operands are right. */
#include <stdio.h>
#include <string.h>

#include "executor.h"
#include "gpu.h"

static bool prepare(gpu_blas *blas, gpu_stream stream) {
  (void)stream;
  snprintf(blas->name, sizeof blas->name, "plain loop");
  return executor_has_blas();
}

static bool lend(const gpu_blas *blas, void *workspace, size_t bytes) {
  (void)blas;
  return workspace && bytes > 0;
}

static float element(const void *x, bool bf16, int64_t i) {
  return bf16 ? mg_bf16_to_f32(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

static void multiply_one(const gpu_gemm *g, int64_t matrix, int64_t m, int64_t n) {
  const int64_t left = matrix * g->M * g->K, right = matrix * g->K * g->N, i = (matrix * g->M + m) * g->N + n;
  double sum = g->accumulate ? element(g->out, g->out_bf16, i) : 0;
  for (int64_t k = 0; k < g->K; k++)
    sum += (double)element(g->left, g->bf16, left + (g->left_last ? m * g->K + k : k * g->M + m)) *
           element(g->right, g->bf16, right + (g->right_last ? n * g->K + k : k * g->N + n));
  if (g->out_bf16)
    ((uint16_t *)g->out)[i] = mg_bf16_from_f32((float)sum);
  else
    ((float *)g->out)[i] = (float)sum;
}

static void multiply_all(const void *user) {
  const gpu_gemm *g = user;
  for (int64_t i = 0; i < g->count * g->M * g->N; i++) multiply_one(g, i / (g->M * g->N), i / g->N % g->M, i % g->N);
}

static bool multiply(const gpu_blas *blas, const gpu_gemm *g) {
  executor_call(multiply_all, g, sizeof *g);
  return blas->ready;
}

const gpu_blas_vendor gpu_vendor_blas = {.prepare = prepare, .lend = lend, .multiply = multiply};
