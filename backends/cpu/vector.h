/* The widest f32 vector of this level, in the few operations that the product kernels need. */
#ifndef MG_CPU_VECTOR_H
#define MG_CPU_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(CPU_VECTOR_AVX512)
#include <immintrin.h>
enum { VECTOR_FLOATS = 16 };
typedef __m512 vector;
static inline vector vector_load(const float *from) {
  return _mm512_loadu_ps(from);
}
static inline void vector_store(float *to, vector x) {
  _mm512_storeu_ps(to, x);
}
static inline void vector_stream(float *to, vector x) {
  _mm512_stream_ps(to, x);
}
static inline vector vector_all(float x) {
  return _mm512_set1_ps(x);
}
static inline vector vector_fma(vector a, vector b, vector sum) {
  return _mm512_fmadd_ps(a, b, sum);
}
static inline vector vector_load_bf16(const uint16_t *from) {
  const __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)from);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
static inline vector vector_add(vector a, vector b) {
  return _mm512_add_ps(a, b);
}
static inline float vector_sum(vector x) {
  return _mm512_reduce_add_ps(x);
}
#elif defined(CPU_VECTOR_AVX2)
#include <immintrin.h>
enum { VECTOR_FLOATS = 8 };
typedef __m256 vector;
static inline vector vector_load(const float *from) {
  return _mm256_loadu_ps(from);
}
static inline void vector_store(float *to, vector x) {
  _mm256_storeu_ps(to, x);
}
static inline void vector_stream(float *to, vector x) {
  _mm256_stream_ps(to, x);
}
static inline vector vector_all(float x) {
  return _mm256_set1_ps(x);
}
static inline vector vector_fma(vector a, vector b, vector sum) {
  return _mm256_fmadd_ps(a, b, sum);
}
static inline vector vector_load_bf16(const uint16_t *from) {
  const __m128i half = _mm_loadu_si128((const __m128i *)(const void *)from);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
static inline vector vector_add(vector a, vector b) {
  return _mm256_add_ps(a, b);
}
static inline float vector_sum(vector x) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
#else
enum { VECTOR_FLOATS = 4 };
typedef float vector __attribute__((vector_size(16)));
static inline vector vector_load(const float *from) {
  vector x;
  memcpy(&x, from, sizeof x);
  return x;
}
static inline void vector_store(float *to, vector x) {
  memcpy(to, &x, sizeof x);
}
static inline void vector_stream(float *to, vector x) {
  vector_store(to, x);
}
static inline vector vector_all(float x) {
  return (vector){x, x, x, x};
}
static inline vector vector_fma(vector a, vector b, vector sum) {
  return a * b + sum;
}
static inline vector vector_load_bf16(const uint16_t *from) {
  const uint32_t bits[] = {(uint32_t)from[0] << 16, (uint32_t)from[1] << 16, (uint32_t)from[2] << 16,
                           (uint32_t)from[3] << 16};
  vector x;
  memcpy(&x, bits, sizeof x);
  return x;
}
static inline vector vector_add(vector a, vector b) {
  return a + b;
}
static inline float vector_sum(vector x) {
  return (x[0] + x[2]) + (x[1] + x[3]);
}
#endif

#endif
