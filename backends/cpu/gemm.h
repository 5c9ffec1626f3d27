/* Operands as a cpu_gemm reads them, for the product engine and for attention. */
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

static inline bool gemm_runs_along(const cpu_matrix *view) {
  return view->column == 1;
}

/* Whether the matrix holds the gemm's words, so that it can be read where it lies. */
static inline bool gemm_holds_words(const cpu_gemm *gemm, const cpu_matrix *a, int64_t depth, bool round) {
  if (gemm->tiles) return false;
  if (gemm->pack == 1) return a->dtype == MG_F32 && !round;
  return a->dtype == MG_BF16 && gemm_runs_along(a) && a->row % 2 == 0 && depth % 2 == 0 &&
         (uintptr_t)a->data % sizeof(uint32_t) == 0;
}

/* Rows from `row` on of a matrix that holds words. */
static inline cpu_words gemm_words_as_stored(const cpu_gemm *gemm, const cpu_matrix *a, int64_t row) {
  const uint32_t *data = a->data;
  return (cpu_words){data + row * a->row / gemm->pack, a->row == 1 ? 1 : a->row / gemm->pack, a->column};
}

/* Words between packed rows of so many words: never a multiple of 2 KiB, at which rows would share cache sets. */
static inline int64_t gemm_row_stride(int64_t words) {
  return words % 512 == 0 ? words + 16 : words;
}

/* Words that packed rows take. */
static inline int64_t gemm_rows_words(const cpu_gemm *gemm, int64_t rows, int64_t words) {
  return (gemm->tiles ? cpu_round_up(rows, 16) : rows) * gemm_row_stride(words);
}

/* Packs rows [row, row + rows) of `a`, at most gemm->rows, over words [word, word + words). Rows that lie across memory
 * are packed side by side, others each in one piece. */
static inline cpu_words gemm_pack_block(const cpu_gemm *gemm, const cpu_matrix *a, int64_t row, int32_t rows,
                                        int64_t depth, int64_t word, int64_t words, bool round, uint32_t *target) {
  if (!gemm->tiles && !gemm_runs_along(a)) {
    gemm->pack_lanes(target, rows, a, row, rows, rows, word * gemm->pack, depth, words, round);
    return (cpu_words){target, 1, rows};
  }
  const int64_t stride = gemm_row_stride(words);
  gemm->pack_rows(target, stride, a, row, rows, word * gemm->pack, depth, words, round);
  return (cpu_words){target, stride, 1};
}

/* Columns [column, column + count) of `b` over words [word, word + words), as panels of gemm->columns, `panel_words`
 * depth words apart. Where columns lie side by side in memory, the depth is walked in short steps over all panels, so
 * that each row is read in one piece. */
static inline void gemm_pack_panels(const cpu_gemm *gemm, const cpu_matrix *b, int64_t column, int64_t count,
                                    int64_t depth, int64_t word, int64_t words, int64_t panel_words, bool round,
                                    uint32_t *target) {
  enum { STEP = 16 };
  const int32_t width = gemm->columns;
  const int64_t step = b->row == 1 && b->column != 1 ? STEP : cpu_max(words, 1);
  for (int64_t w = 0; w < words; w += step) {
    const int64_t here = cpu_min(step, words - w);
    for (int64_t first = 0; first < count; first += width) {
      const int32_t used = (int32_t)cpu_min(width, cpu_round_up(count - first, gemm->lanes));
      const int32_t lanes = (int32_t)cpu_min(used, count - first);
      gemm->pack_lanes(target + first * panel_words + w * width, width, b, column + first, lanes, used,
                       (word + w) * gemm->pack, depth, here, round);
    }
  }
}

#endif
