/* The widest f32 vector of this level, in the few operations that the matrix kernels need. */
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
#endif

#endif
