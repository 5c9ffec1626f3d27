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
/* Every other one of 2 VECTOR_FLOATS elements. */
static inline vector vector_load_even(const uint16_t *from) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(from), 16));
}
static inline vector vector_load_odd(const uint16_t *from) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(from), _mm512_set1_epi32((int32_t)0xffff0000)));
}
static inline vector vector_add(vector a, vector b) {
  return _mm512_add_ps(a, b);
}
/* out = the sums of the elements of a, b, c, d. */
static inline void vector_sum_four(vector a, vector b, vector c, vector d, float out[4]) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512 all = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
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
static inline vector vector_load_even(const uint16_t *from) {
  const __m256i all = _mm256_loadu_si256((const __m256i *)(const void *)from);
  return _mm256_castsi256_ps(_mm256_slli_epi32(all, 16));
}
static inline vector vector_load_odd(const uint16_t *from) {
  const __m256i all = _mm256_loadu_si256((const __m256i *)(const void *)from);
  return _mm256_castsi256_ps(_mm256_and_si256(all, _mm256_set1_epi32((int32_t)0xffff0000)));
}
static inline vector vector_add(vector a, vector b) {
  return _mm256_add_ps(a, b);
}
static inline void vector_sum_four(vector a, vector b, vector c, vector d, float out[4]) {
  const __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
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
static inline vector vector_load_even(const uint16_t *from) {
  const uint16_t even[] = {from[0], from[2], from[4], from[6]};
  return vector_load_bf16(even);
}
static inline vector vector_load_odd(const uint16_t *from) {
  return vector_load_even(from + 1);
}
static inline vector vector_add(vector a, vector b) {
  return a + b;
}
static inline void vector_sum_four(vector a, vector b, vector c, vector d, float out[4]) {
  const vector all[] = {a, b, c, d};
  for (int i = 0; i < 4; i++) out[i] = (all[i][0] + all[i][2]) + (all[i][1] + all[i][3]);
}
#endif

#endif
