/* Dots of a few rows of f32 with rows of a matrix, f32 or bf16, which are read in order and where they lie: what products
 * with few rows consist of, whose time is that of reading the matrix. A stream of loads is
 * read fastest when the lines one KiB further are asked for into the L2 cache: asking further ahead or into the L1 cache,
 * or reading several rows at once, is slower. Sums are kept in vectors till four of them can be added up together. */
#ifndef MG_CPU_DOTS_H
#define MG_CPU_DOTS_H

#include "kernels.h"
#include "vector.h"

enum { DOTS_ROWS = 4, DOTS_COLUMNS = 4, LINE_BYTES = 64, STREAM_AHEAD_BYTES = 1 << 10 };

/* Asks for what a stream reads one KiB after the `bytes` at w. */
static inline __attribute__((always_inline)) void dots_ask_ahead(const char *w, int32_t bytes) {
#pragma GCC unroll 4
  for (int32_t at = 0; at < bytes; at += LINE_BYTES) __builtin_prefetch(w + STREAM_AHEAD_BYTES + at, 0, 2);
}

static inline vector dots_load(const void *w, bool half, int64_t k) {
  return half ? vector_load_bf16((const uint16_t *)w + k) : vector_load((const float *)w + k);
}

/* The `n` elements from k on, fewer than a vector, and zeros. */
static inline vector dots_load_rest(const void *w, bool half, int64_t k, int64_t n) {
  float rest[VECTOR_FLOATS] = {0};
  for (int64_t i = 0; i < n; i++)
    rest[i] = half ? cpu_bf16_to_f32(((const uint16_t *)w)[k + i]) : ((const float *)w)[k + i];
  return vector_load(rest);
}

/* total[r] adds up to x[r] . w. Written for one row count and dtype at a time, so that the sums have fixed registers; a
 * single row gets four chains of additions, several rows two each. */
static inline __attribute__((always_inline)) void dots_row(const int32_t rows, const bool half, const float *x,
                                                           int64_t stride, const void *w, int64_t depth, bool stream,
                                                           vector total[DOTS_ROWS]) {
  const int32_t chains = rows == 1 ? 4 : 2, element = half ? 2 : 4;
  vector sum[DOTS_ROWS][4];
#pragma GCC unroll 4
  for (int32_t r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int32_t c = 0; c < chains; c++) sum[r][c] = vector_all(0.0f);
  int64_t k = 0;
  for (; k + 4 * VECTOR_FLOATS <= depth; k += 4 * VECTOR_FLOATS) {
    if (stream) dots_ask_ahead((const char *)w + k * element, 4 * VECTOR_FLOATS * element);
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
  if (k < depth) {
    const vector b = dots_load_rest(w, half, k, depth - k);
#pragma GCC unroll 4
    for (int32_t r = 0; r < rows; r++)
      sum[r][1] = vector_fma(dots_load_rest(x + r * stride, false, k, depth - k), b, sum[r][1]);
  }
#pragma GCC unroll 4
  for (int32_t r = 0; r < rows; r++) {
    total[r] = vector_add(sum[r][0], sum[r][1]);
    if (chains == 4) total[r] = vector_add(total[r], vector_add(sum[r][2], sum[r][3]));
  }
}

/* Rows of x are `stride` floats apart. Column c of the result is row c of w, `w_bytes` apart. `stream` says that what
 * follows these rows of w in memory is read next. */
typedef struct cpu_dots {
  const float *x;
  int64_t stride;
  const void *w;
  int64_t w_bytes, depth;
  mg_dtype dtype; /* of w */
  int32_t rows, columns;
  bool stream;
} cpu_dots;

static inline __attribute__((always_inline)) void dots_form(const int32_t rows, const bool half, const cpu_dots *d,
                                                            float out[DOTS_ROWS][DOTS_COLUMNS]) {
  vector total[DOTS_COLUMNS][DOTS_ROWS];
  for (int32_t c = 0; c < d->columns; c++)
    dots_row(rows, half, d->x, d->stride, (const char *)d->w + c * d->w_bytes, d->depth, d->stream, total[c]);
  for (int32_t c = d->columns; c < DOTS_COLUMNS; c++)
    for (int32_t r = 0; r < rows; r++) total[c][r] = vector_all(0.0f);
#pragma GCC unroll 4
  for (int32_t r = 0; r < rows; r++) vector_sum_four(total[0][r], total[1][r], total[2][r], total[3][r], out[r]);
}

/* out[r][c] for 1 to DOTS_ROWS rows and 1 to DOTS_COLUMNS columns; other columns get zeros. */
static inline void cpu_dots_run(const cpu_dots *d, float out[DOTS_ROWS][DOTS_COLUMNS]) {
  const bool half = d->dtype == MG_BF16;
#define DOTS_CASE(n)                                                                                                   \
  case n:                                                                                                              \
    if (half)                                                                                                          \
      dots_form(n, true, d, out);                                                                                      \
    else                                                                                                               \
      dots_form(n, false, d, out);                                                                                     \
    break
  switch (d->rows) {
    DOTS_CASE(1);
    DOTS_CASE(2);
    DOTS_CASE(3);
    DOTS_CASE(4);
  }
#undef DOTS_CASE
}

#endif
