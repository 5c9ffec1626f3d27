/* Elementwise functions and their slopes in f32; backends/reference/unary.c and glu.c define them. */
#ifndef MG_GPU_FUNCTIONS_H
#define MG_GPU_FUNCTIONS_H

#include <math.h>

#include "kernels.h"

GPU_DEVICE float gpu_sigmoid(float x) {
  return 1.0f / (1.0f + expf(-x));
}
GPU_DEVICE float gpu_normal_cdf(float x) {
  return 0.5f * erfcf(-0.707106781f * x);
}
GPU_DEVICE float gpu_normal_density(float x) {
  return 0.398942280f * expf(-0.5f * x * x);
}

#define GPU_GELU_FACTOR 0.797884561f /* sqrt(2 / pi) */
#define GPU_GELU_CUBIC 0.044715f

GPU_DEVICE float gpu_gelu_tanh_of(float x) {
  return tanhf(GPU_GELU_FACTOR * (x + GPU_GELU_CUBIC * x * x * x));
}
GPU_DEVICE float gpu_gelu_tanh(float x) {
  return 0.5f * x * (1.0f + gpu_gelu_tanh_of(x));
}
GPU_DEVICE float gpu_gelu_tanh_slope(float x) {
  const float t = gpu_gelu_tanh_of(x);
  return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * GPU_GELU_FACTOR * (1.0f + 3.0f * GPU_GELU_CUBIC * x * x);
}
GPU_DEVICE float gpu_silu_slope(float x) {
  const float s = gpu_sigmoid(x);
  return s * (1.0f + x * (1.0f - s));
}
GPU_DEVICE float gpu_softplus(float x) {
  return (x > 0.0f ? x : 0.0f) + log1pf(expf(-fabsf(x)));
}
GPU_DEVICE float gpu_sign(float x) {
  return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f;
}

GPU_DEVICE float gpu_unary_value(mg_unary kind, float x, float alpha, float beta) {
  switch (kind) {
  case MG_UNARY_AFFINE: return alpha * x + beta;
  case MG_UNARY_EXP: return expf(x);
  case MG_UNARY_LOG: return logf(x);
  case MG_UNARY_SQRT: return sqrtf(x);
  case MG_UNARY_SQUARE: return x * x;
  case MG_UNARY_RECIPROCAL: return 1.0f / x;
  case MG_UNARY_ABS: return fabsf(x);
  case MG_UNARY_SIGMOID: return gpu_sigmoid(x);
  case MG_UNARY_TANH: return tanhf(x);
  case MG_UNARY_RELU: return x < 0.0f ? 0.0f : x;
  case MG_UNARY_SILU: return x * gpu_sigmoid(x);
  case MG_UNARY_GELU: return x * gpu_normal_cdf(x);
  case MG_UNARY_GELU_TANH: return gpu_gelu_tanh(x);
  case MG_UNARY_SOFTPLUS: return gpu_softplus(x);
  case MG_UNARY_NORMAL_CDF: return gpu_normal_cdf(x);
  case MG_UNARY_CLAMP: return x < alpha ? alpha : x > beta ? beta : x;
  case MG_UNARY_STEP: return x > 0.0f ? 1.0f : 0.0f;
  case MG_UNARY_SIGN: return gpu_sign(x);
  case MG_UNARY_COUNT: break;
  }
  return 0.0f;
}

GPU_DEVICE float gpu_unary_slope(mg_unary kind, float x, float alpha, float beta) {
  switch (kind) {
  case MG_UNARY_AFFINE: return alpha;
  case MG_UNARY_EXP: return expf(x);
  case MG_UNARY_LOG: return 1.0f / x;
  case MG_UNARY_SQRT: return 0.5f / sqrtf(x);
  case MG_UNARY_SQUARE: return 2.0f * x;
  case MG_UNARY_RECIPROCAL: return -1.0f / (x * x);
  case MG_UNARY_ABS: return gpu_sign(x);
  case MG_UNARY_SIGMOID: return gpu_sigmoid(x) * gpu_sigmoid(-x);
  case MG_UNARY_TANH: return 1.0f - tanhf(x) * tanhf(x);
  case MG_UNARY_RELU: return x > 0.0f ? 1.0f : 0.0f;
  case MG_UNARY_SILU: return gpu_silu_slope(x);
  case MG_UNARY_GELU: return gpu_normal_cdf(x) + x * gpu_normal_density(x);
  case MG_UNARY_GELU_TANH: return gpu_gelu_tanh_slope(x);
  case MG_UNARY_SOFTPLUS: return gpu_sigmoid(x);
  case MG_UNARY_NORMAL_CDF: return gpu_normal_density(x);
  case MG_UNARY_CLAMP: return x < alpha || x > beta ? 0.0f : 1.0f;
  case MG_UNARY_STEP:
  case MG_UNARY_SIGN:
  case MG_UNARY_COUNT: break;
  }
  return 0.0f;
}

#endif
