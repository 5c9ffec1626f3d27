/* Matrix product over f32 words: one vector of fused multiply-adds per row and vector of columns. */
#include "gemm_pack.h"
#include "vector.h"

#if defined(CPU_VECTOR_AVX512)
#define BLOCK_ROWS 14
#define PANEL_VECTORS 2
#include "pack_avx512.h"
#elif defined(CPU_VECTOR_AVX2)
#define BLOCK_ROWS 6
#define PANEL_VECTORS 2
#else
#define BLOCK_ROWS 4
#define PANEL_VECTORS 2
#endif

typedef vector block_word;
static inline block_word block_load(const uint32_t *b) {
  return vector_load((const float *)(const void *)b);
}
static inline block_word block_all(const char *a) {
  float value;
  memcpy(&value, a, sizeof value);
  return vector_all(value);
}
static inline vector block_multiply(block_word a, block_word b, vector sum) {
  return vector_fma(a, b, sum);
}
#include "gemm_block.h"

static void pack_lanes(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t lane, int32_t lanes,
                       int32_t padded, int64_t depth, int64_t depth_end, int64_t words, bool round) {
#if defined(CPU_VECTOR_AVX512)
  pack_avx512(dst, stride, view, lane, lanes, padded, depth, depth_end, words, round, false);
#else
  pack_plain(dst, stride, view, lane, lanes, padded, depth, depth_end, words, round, false);
#endif
}

static void pack_rows(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t row, int32_t rows, int64_t depth,
                      int64_t depth_end, int64_t words, bool round) {
#if defined(CPU_VECTOR_AVX512)
  pack_rows_avx512(dst, stride, view, row, rows, depth, depth_end, words, round, false);
#else
  pack_rows_plain(dst, stride, view, row, rows, depth, depth_end, words, round, false);
#endif
}

/* Streamed results must be in place before other threads are told so. */
static void order_stores(void) {
#if defined(CPU_VECTOR_AVX512) || defined(CPU_VECTOR_AVX2)
  _mm_sfence();
#endif
}

const cpu_gemm CPU_NAME(gemm_f32) = {.rows = BLOCK_ROWS,
                                     .columns = PANEL_VECTORS * VECTOR_FLOATS,
                                     .lanes = VECTOR_FLOATS,
                                     .pack = 1,
                                     .depth_words = 1,
                                     .pack_lanes = pack_lanes,
                                     .pack_rows = pack_rows,
                                     .multiply = multiply,
                                     .store_bf16 = store_bf16_plain,
                                     .leave = order_stores};
