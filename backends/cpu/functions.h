/* Elementary functions in plain arithmetic, which the compiler vectorises for each level.
 *
 * e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln 2 / 2, where a Taylor polynomial of degree 6 errs by less than
 * 1.3e-7. Below -87.7 the result is 0 and above 88.37 infinite. tests/unit/test_cpu_backend.c holds e^x to 3e-7 of its
 * value and tanh to 5e-7. */
#ifndef MG_CPU_FUNCTIONS_H
#define MG_CPU_FUNCTIONS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float cpu_float_of_bits(int32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline float cpu_exp(float x) {
  const float round_to_integer = 12582912.0f;  /* 1.5 * 2^23: adding it leaves an integer in the low bits */
  float clamped = x < -88.0f ? -88.0f : x;     /* n = -127: the factor is 0 */
  clamped = clamped > 89.0f ? 89.0f : clamped; /* n = 128: the factor is infinite */
  const float shifted = clamped * 1.44269504f + round_to_integer;
  const float n = shifted - round_to_integer;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two parts */
  float p = 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  int32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  return p * cpu_float_of_bits((int32_t)(((uint32_t)bits - 0x4b400000u + 127u) << 23));
}

#if defined(CPU_VECTOR_AVX512)
#include <immintrin.h>

/* cpu_exp of sixteen numbers; NaN stays NaN, because a maximum or minimum with NaN is its second operand. */
static inline __m512 cpu_exp_16(__m512 x) {
  const __m512 round_to_integer = _mm512_set1_ps(12582912.0f);
  const __m512 clamped = _mm512_min_ps(_mm512_set1_ps(89.0f), _mm512_max_ps(_mm512_set1_ps(-88.0f), x));
  const __m512 shifted = _mm512_fmadd_ps(clamped, _mm512_set1_ps(1.44269504f), round_to_integer);
  const __m512 n = _mm512_sub_ps(shifted, round_to_integer);
  const __m512 most = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), clamped);
  const __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(2.12194440e-4f), most), one = _mm512_set1_ps(1.0f);
  __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(1.0f / 720.0f), r, _mm512_set1_ps(1.0f / 120.0f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24.0f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6.0f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
  p = _mm512_fmadd_ps(_mm512_fmadd_ps(p, r, one), r, one);
  const __m512i power = _mm512_add_epi32(_mm512_castps_si512(shifted), _mm512_set1_epi32(127 - 0x4b400000));
  return _mm512_mul_ps(p, _mm512_castsi512_ps(_mm512_slli_epi32(power, 23)));
}
#endif

static inline float cpu_sigmoid(float x) {
  return 1.0f / (1.0f + cpu_exp(-x));
}

/* Near 0, where 1 - 2 / (e^2x + 1) would cancel, the odd Taylor polynomial. */
static inline float cpu_tanh(float x) {
  const float square = x * x;
  const float small =
      x * (1.0f +
           square * (-1.0f / 3.0f + square * (2.0f / 15.0f + square * (-17.0f / 315.0f + square * (62.0f / 2835.0f)))));
  const float large = 1.0f - 2.0f / (cpu_exp(2.0f * x) + 1.0f);
  return square < 0.0625f ? small : large;
}

static inline float cpu_normal_cdf(float x) {
  return 0.5f * erfcf(x * -0.707106781f);
}
static inline float cpu_normal_density(float x) {
  return 0.398942280f * cpu_exp(-0.5f * x * x);
}

static const float CPU_GELU_SCALE = 0.797884561f; /* sqrt(2 / pi) */
static const float CPU_GELU_CUBE = 0.044715f;

static inline float cpu_gelu_tanh(float x) {
  return 0.5f * x * (1.0f + cpu_tanh(CPU_GELU_SCALE * (x + CPU_GELU_CUBE * x * x * x)));
}
static inline float cpu_gelu_tanh_slope(float x) {
  const float t = cpu_tanh(CPU_GELU_SCALE * (x + CPU_GELU_CUBE * x * x * x));
  return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * CPU_GELU_SCALE * (1.0f + 3.0f * CPU_GELU_CUBE * x * x);
}
static inline float cpu_silu_slope(float x) {
  const float s = cpu_sigmoid(x);
  return s * (1.0f + x * (1.0f - s));
}

/* ln(1 + e^x) without overflow. */
static inline float cpu_softplus(float x) {
  return (x > 0.0f ? x : 0.0f) + log1pf(cpu_exp(-fabsf(x)));
}

#endif
