/* Packing of whole operands through a cpu_gemm, for the product engine and for attention. */
#ifndef MG_CPU_GEMM_H
#define MG_CPU_GEMM_H

#include "kernels.h"

static inline int64_t cpu_round_up(int64_t value, int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

/* Words of a depth, padded as the gemm asks. */
static inline int64_t gemm_words(const cpu_gemm *gemm, int64_t depth) {
  return cpu_round_up(cpu_ceil_div(depth, gemm->pack), gemm->depth_words);
}

/* Words that a block of so many rows takes. */
static inline int64_t gemm_block_words(const cpu_gemm *gemm, int64_t rows, int64_t words) {
  return (gemm->tiles ? cpu_round_up(rows, 16) : rows) * words;
}

/* Rows [row, row + rows) of `a`, at most gemm->rows, over depths [0, depth), as one block. */
static inline void gemm_pack_block(const cpu_gemm *gemm, const cpu_matrix *a, int64_t row, int32_t rows, int64_t depth,
                                   int64_t words, bool round, uint32_t *target) {
  if (!gemm->tiles) {
    gemm->pack_lanes(target, rows, a, row, rows, rows, 0, depth, words, round);
    return;
  }
  for (int32_t half = 0; half < rows; half += 16)
    for (int64_t w = 0; w < words; w += 16)
      gemm->pack_tile(target + half * words + w * 16, a, row + half, (int32_t)cpu_min(16, rows - half), w * gemm->pack,
                      depth);
}

/* Columns [column, column + count) of `b` over words [word, word + words), as panels of gemm->columns. Where columns lie
 * side by side in memory, the depth is walked in short steps over all panels, so that each row is read in one piece. */
static inline void gemm_pack_panels(const cpu_gemm *gemm, const cpu_matrix *b, int64_t column, int64_t count,
                                    int64_t depth, int64_t word, int64_t words, bool round, uint32_t *target) {
  enum { STEP = 16 };
  const int32_t width = gemm->columns;
  const int64_t step = b->row == 1 && b->column != 1 ? STEP : cpu_max(words, 1);
  for (int64_t w = 0; w < words; w += step) {
    const int64_t here = cpu_min(step, words - w);
    for (int64_t first = 0; first < count; first += width)
      for (int32_t lane = 0; lane < width; lane += 16) {
        const int32_t padded = (int32_t)cpu_min(16, width - lane);
        const int32_t lanes = (int32_t)cpu_max(0, cpu_min(padded, count - first - lane));
        gemm->pack_lanes(target + first * words + w * width + lane, width, b, column + first + lane, lanes, padded,
                         (word + w) * gemm->pack, depth, here, round);
      }
  }
}

#endif
