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
static inline block_word block_all(const uint32_t *a) {
  return (__m512bh)_mm512_set1_epi32((int)*a);
}
static inline vector block_multiply(block_word a, block_word b, vector sum) {
  return _mm512_dpbf16_ps(sum, a, b);
}
#include "gemm_block.h"

static void pack_lanes(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t lane, int32_t lanes,
                       int32_t padded, int64_t depth, int64_t depth_end, int64_t words, bool round) {
  (void)round;
  pack_avx512(dst, stride, view, lane, lanes, padded, depth, depth_end, words, false, true);
}

const cpu_gemm mg__cpu_gemm_bf16_avx512_bf16 = {.rows = BLOCK_ROWS,
                                                .columns = PANEL_VECTORS * VECTOR_FLOATS,
                                                .pack = 2,
                                                .depth_words = 1,
                                                .pack_lanes = pack_lanes,
                                                .multiply = multiply};
