/* Dots of one to DOTS_ROWS rows of f32 with one row of a matrix, f32 or bf16, which is read once, in order and where it
 * lies: what products with few rows consist of, whose time is that of reading the matrix. One long stream of loads is what
 * the processors' own prefetching follows best: asking for lines ahead, or reading several rows at once, is slower. */
#ifndef MG_CPU_DOTS_H
#define MG_CPU_DOTS_H

#include "kernels.h"
#include "vector.h"

enum { DOTS_ROWS = 4, DOTS_STEP = 4 * VECTOR_FLOATS };

static inline vector dots_load(const void *w, bool half, int64_t k) {
  return half ? vector_load_bf16((const uint16_t *)w + k) : vector_load((const float *)w + k);
}

static inline float dots_at(const void *w, bool half, int64_t k) {
  return half ? cpu_bf16_to_f32(((const uint16_t *)w)[k]) : ((const float *)w)[k];
}

/* Written for one row count and dtype at a time, so that the sums have fixed registers. A single row gets four chains
 * of additions, several rows two each. */
static inline __attribute__((always_inline)) void dots_form(const int32_t rows, const bool half, const float *x,
                                                            int64_t stride, const void *w, int64_t depth, float *out) {
  const int32_t chains = rows == 1 ? 4 : 2;
  vector sum[DOTS_ROWS][4];
#pragma GCC unroll 4
  for (int32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int32_t c = 0; c < chains; c++) sum[r][c] = vector_all(0.0f);
  int64_t k = 0;
  for (; k + DOTS_STEP <= depth; k += DOTS_STEP) {
#pragma GCC unroll 4
    for (int32_t v = 0; v < 4; v++) {
      const vector b = dots_load(w, half, k + v * VECTOR_FLOATS);
#pragma GCC unroll 4
      for (int32_t r = 0; r < rows; r++)
        sum[r][v % chains] = vector_fma(vector_load(x + r * stride + k + v * VECTOR_FLOATS), b, sum[r][v % chains]);
    }
  }
  for (; k + VECTOR_FLOATS <= depth; k += VECTOR_FLOATS)
#pragma GCC unroll 4
    for (int32_t r = 0; r < rows; r++)
      sum[r][0] = vector_fma(vector_load(x + r * stride + k), dots_load(w, half, k), sum[r][0]);
#pragma GCC unroll 4
  for (int32_t r = 0; r < rows; r++) {
    vector all = vector_add(sum[r][0], sum[r][1]);
    if (chains == 4) all = vector_add(all, vector_add(sum[r][2], sum[r][3]));
    out[r] = vector_sum(all);
    for (int64_t i = k; i < depth; i++) out[r] += x[r * stride + i] * dots_at(w, half, i);
  }
}

/* out[r] = x[r] . w for `rows` rows, `stride` floats apart. */
static inline void cpu_dots(int32_t rows, const float *x, int64_t stride, const void *w, mg_dtype dtype, int64_t depth,
                            float out[DOTS_ROWS]) {
  const bool half = dtype == MG_BF16;
#define DOTS_CASE(n)                                                                                                   \
  case n:                                                                                                              \
    if (half)                                                                                                          \
      dots_form(n, true, x, stride, w, depth, out);                                                                    \
    else                                                                                                               \
      dots_form(n, false, x, stride, w, depth, out);                                                                   \
    break
  switch (rows) {
    DOTS_CASE(1);
    DOTS_CASE(2);
    DOTS_CASE(3);
    DOTS_CASE(4);
  }
#undef DOTS_CASE
}

/* sum [n] += factor * w, element by element. */
static inline void cpu_add_row(float *sum, float factor, const void *w, mg_dtype dtype, int64_t n) {
  const bool half = dtype == MG_BF16;
  const vector f = vector_all(factor);
  int64_t i = 0;
  for (; i + VECTOR_FLOATS <= n; i += VECTOR_FLOATS)
    vector_store(sum + i, vector_fma(f, dots_load(w, half, i), vector_load(sum + i)));
  for (; i < n; i++) sum[i] += factor * dots_at(w, half, i);
}

#endif
