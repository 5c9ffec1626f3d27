/* Matrix product over pairs of bf16 with VDPBF16PS: sum += a0 * b0 + a1 * b1 in each lane, accumulated in f32. */
#include "gemm_pack.h"
#include "pack_avx512.h"
#include "vector.h"

#define BLOCK_ROWS 14
#define PANEL_VECTORS 2

typedef __m512bh block_word;
static inline block_word block_load(const uint32_t *b) {
  return (__m512bh)_mm512_loadu_si512(b);
}
static inline block_word block_all(const char *a) {
  int32_t word;
  memcpy(&word, a, sizeof word);
  return (__m512bh)_mm512_set1_epi32(word);
}
static inline vector block_multiply(block_word a, block_word b, vector sum) {
  return _mm512_dpbf16_ps(sum, a, b);
}

#define BLOCK_HALF
typedef __m256 half_vector;
typedef __m256bh half_word;
static inline half_word half_load(const uint32_t *b) {
  return (__m256bh)_mm256_loadu_si256((const __m256i *)(const void *)b);
}
static inline half_word half_all(const char *a) {
  int32_t word;
  memcpy(&word, a, sizeof word);
  return (__m256bh)_mm256_set1_epi32(word);
}
static inline half_vector half_multiply(half_word a, half_word b, half_vector sum) {
  return _mm256_dpbf16_ps(sum, a, b);
}
static inline half_vector half_zero(void) {
  return _mm256_setzero_ps();
}
static inline half_vector half_load_sum(const float *from) {
  return _mm256_loadu_ps(from);
}
static inline void half_store(float *to, half_vector x) {
  _mm256_storeu_ps(to, x);
}
#include "gemm_block.h"

static void pack_lanes(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t lane, int32_t lanes,
                       int32_t padded, int64_t depth, int64_t depth_end, int64_t words, bool round) {
  (void)round;
  pack_avx512(dst, stride, view, lane, lanes, padded, depth, depth_end, words, false, true);
}

static void pack_rows(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t row, int32_t rows, int64_t depth,
                      int64_t depth_end, int64_t words, bool round) {
  (void)round;
  pack_rows_avx512(dst, stride, view, row, rows, depth, depth_end, words, false, true);
}

static void store_bf16(uint16_t *c, const float *x, int64_t columns, bool accumulate, bool stream) {
  if (stream && columns == PANEL_VECTORS * VECTOR_FLOATS && !accumulate) {
    _mm512_stream_si512((void *)c, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(x)));
    return;
  }
  for (int64_t i = 0; i < columns; i += 16) {
    const __mmask16 mask = pack_mask(columns - i);
    __m512 value = _mm512_maskz_loadu_ps(mask, x + i);
    if (accumulate) {
      const __m512i old = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, c + i));
      value = _mm512_add_ps(_mm512_castsi512_ps(_mm512_slli_epi32(old, 16)), value);
    }
    _mm256_mask_storeu_epi16(c + i, mask, (__m256i)_mm512_cvtneps_pbh(value));
  }
}

/* One row of c, at most 16 elements. */
static void store_across_row(void *c, mg_dtype dtype, int64_t first, __mmask16 mask, __m512 x, bool accumulate) {
  if (dtype == MG_F32) {
    float *target = (float *)c + first;
    if (accumulate) x = _mm512_add_ps(x, _mm512_maskz_loadu_ps(mask, target));
    _mm512_mask_storeu_ps(target, mask, x);
    return;
  }
  uint16_t *target = (uint16_t *)c + first;
  if (accumulate) {
    const __m512i old = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, target));
    x = _mm512_add_ps(x, _mm512_castsi512_ps(_mm512_slli_epi32(old, 16)));
  }
  _mm256_mask_storeu_epi16(target, mask, (__m256i)_mm512_cvtneps_pbh(x));
}

static void store_across(void *c, mg_dtype dtype, int64_t stride, const float *block, int32_t rows, int32_t columns,
                         bool accumulate) {
  const __mmask16 mask = pack_mask(rows);
  for (int32_t first = 0; first < columns; first += VECTOR_FLOATS) {
    __m512i row[16];
#pragma GCC unroll 16
    for (int32_t r = 0; r < 16; r++)
      row[r] =
          r < rows ? _mm512_loadu_si512(block + r * PANEL_VECTORS * VECTOR_FLOATS + first) : _mm512_setzero_si512();
    pack_transpose(row);
    const int32_t here = columns - first < VECTOR_FLOATS ? columns - first : VECTOR_FLOATS;
#pragma GCC unroll 16
    for (int32_t i = 0; i < 16; i++)
      if (i < here) store_across_row(c, dtype, (first + i) * stride, mask, _mm512_castsi512_ps(row[i]), accumulate);
  }
}

/* ROWS rows of a from `row` on; the words of both operands are read once, in vectors along the depth. */
enum { DOTS_ROWS = 4, DOTS_COLUMNS = 5 };

static inline __attribute__((always_inline)) void dots_block(const int32_t columns, int64_t words, const uint32_t *a,
                                                             int64_t a_row, const cpu_words *b, float *c) {
  __m512 sum[DOTS_ROWS][DOTS_COLUMNS];
#pragma GCC unroll 4
  for (int32_t r = 0; r < DOTS_ROWS; r++)
#pragma GCC unroll 5
    for (int32_t n = 0; n < columns; n++) sum[r][n] = _mm512_setzero_ps();
  for (int64_t w = 0; w < words; w += 16) {
    const __mmask16 mask = pack_mask(words - w);
    __m512bh along[DOTS_ROWS];
#pragma GCC unroll 4
    for (int32_t r = 0; r < DOTS_ROWS; r++) along[r] = (__m512bh)_mm512_maskz_loadu_epi32(mask, a + r * a_row + w);
#pragma GCC unroll 5
    for (int32_t n = 0; n < columns; n++) {
      const __m512bh other = (__m512bh)_mm512_maskz_loadu_epi32(mask, b->data + n * b->row + w);
#pragma GCC unroll 4
      for (int32_t r = 0; r < DOTS_ROWS; r++) sum[r][n] = _mm512_dpbf16_ps(sum[r][n], along[r], other);
    }
  }
#pragma GCC unroll 5
  for (int32_t n = 0; n < columns; n++) {
    float four[4];
    vector_sum_four(sum[0][n], sum[1][n], sum[2][n], sum[3][n], four);
    for (int32_t r = 0; r < DOTS_ROWS; r++) c[r * PANEL_VECTORS * VECTOR_FLOATS + n] = four[r];
  }
}

/* The last block of rows begins where it fits, and computes some of the rows before it once more. */
static void dots(int32_t rows, int32_t columns, int64_t words, const cpu_words *a, const cpu_words *b, float *c) {
#define DOTS_CASE(n)                                                                                                   \
  case n: dots_block(n, words, a->data + row * a->row, a->row, b, c + row * PANEL_VECTORS * VECTOR_FLOATS); break
  for (int32_t first = 0; first < rows; first += DOTS_ROWS) {
    const int32_t row = first + DOTS_ROWS <= rows ? first : rows - DOTS_ROWS;
    switch (columns) {
      DOTS_CASE(1);
      DOTS_CASE(2);
      DOTS_CASE(3);
      DOTS_CASE(4);
      DOTS_CASE(5);
    }
  }
#undef DOTS_CASE
}

/* Streamed results must be in place before other threads are told so. */
static void order_stores(void) {
  _mm_sfence();
}

const cpu_gemm mg__cpu_gemm_bf16_avx512_bf16 = {.rows = BLOCK_ROWS,
                                                .columns = PANEL_VECTORS * VECTOR_FLOATS,
                                                .lanes = BLOCK_LANES,
                                                .pack = 2,
                                                .depth_words = 1,
                                                .pack_lanes = pack_lanes,
                                                .pack_rows = pack_rows,
                                                .multiply = multiply,
                                                .store_bf16 = store_bf16,
                                                .store_across = store_across,
                                                .dots = dots,
                                                .dots_columns = DOTS_COLUMNS,
                                                .leave = order_stores};
