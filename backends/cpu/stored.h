/* Matrices of stored dtypes as operands of products: decoded a tile at a time, in the L1 cache, and packed from there. */
#ifndef MG_CPU_STORED_H
#define MG_CPU_STORED_H

#include "gemm.h"

/* `count` elements, a whole number of blocks, as f32, rounded to bf16 if asked (stored.c). */
void CPU_NAME(decode_stored)(mg_dtype dtype, const void *blocks, int64_t count, float *out, bool round);

enum {
  STORED_DEPTH = 256,            /* of a tile; a multiple of every block */
  STORED_LANES = 32,             /* columns of a panel, and depths of a tile across */
  STORED_ROW = STORED_DEPTH + 16 /* floats: rows of a tile do not share cache sets */
};

/* The element at which the block that holds element i begins, and the end of the blocks that hold elements before i. */
static inline int64_t stored_begin(mg_dtype dtype, int64_t i) {
  return i / mg_dtype_block(dtype) * mg_dtype_block(dtype);
}
static inline int64_t stored_end(mg_dtype dtype, int64_t i) {
  return stored_begin(dtype, i + mg_dtype_block(dtype) - 1);
}

static inline const void *stored_at(const cpu_matrix *b, int64_t element) {
  return (const char *)b->data + mg_dtype_run_bytes(b->dtype, element);
}

/* Elements [first, end) of the matrix's memory as f32; returns where `first` stands in `out`, which has room for the whole
 * blocks. */
static inline const float *stored_decode(const cpu_matrix *b, int64_t first, int64_t end, float *out) {
  const int64_t begin = stored_begin(b->dtype, first);
  CPU_NAME(decode_stored)(b->dtype, stored_at(b, begin), stored_end(b->dtype, end) - begin, out, false);
  return out + (first - begin);
}

/* What gemm_pack_panels does, for columns whose depth lies along memory. */
static inline void stored_pack_along(const cpu_gemm *gemm, const cpu_matrix *b, int64_t column, int64_t count,
                                     int64_t depth, int64_t word, int64_t words, int64_t panel_words, bool round,
                                     uint32_t *target) {
  float tile[STORED_LANES * STORED_ROW];
  const int32_t width = gemm->columns;
  const int64_t begin = word * gemm->pack, end = cpu_min(depth, (word + words) * gemm->pack);
  const cpu_matrix view = {.data = tile, .dtype = MG_F32, .row = STORED_ROW, .column = 1};
  for (int64_t first = 0; first < count; first += width) {
    const int32_t used = (int32_t)cpu_min(width, cpu_round_up(count - first, gemm->lanes));
    const int32_t lanes = (int32_t)cpu_min(used, count - first);
    for (int64_t w = 0, k = begin; w < words;) {
      const int64_t next = (k / STORED_DEPTH + 1) * STORED_DEPTH; /* tiles end where blocks do */
      const int64_t here = cpu_min((next - k) / gemm->pack, words - w), stop = cpu_min(k + here * gemm->pack, end);
      const int64_t skipped = k - stored_begin(b->dtype, k);
      for (int32_t l = 0; l < lanes && stop > k; l++) {
        const int64_t row = (column + first + l) * b->row;
        stored_decode(b, row + k, row + stop, tile + l * STORED_ROW);
      }
      gemm->pack_lanes(target + first * panel_words + w * width, width, &view, 0, lanes, used, skipped,
                       skipped + cpu_max(stop - k, 0), here, round);
      w += here;
      k += here * gemm->pack;
    }
  }
}

/* The same for columns that lie side by side in memory. */
static inline void stored_pack_across(const cpu_gemm *gemm, const cpu_matrix *b, int64_t column, int64_t count,
                                      int64_t depth, int64_t word, int64_t words, int64_t panel_words, bool round,
                                      uint32_t *target) {
  enum { ROOM = STORED_DEPTH + 2 * MG_STORED_BLOCK_MAX };
  float tile[STORED_LANES * ROOM];
  const int32_t width = gemm->columns;
  const int64_t step = STORED_LANES / gemm->pack, stretch = STORED_DEPTH / width * width;
  for (int64_t w = 0; w < words; w += step)
    for (int64_t start = 0; start < count; start += stretch) {
      const int64_t here = cpu_min(step, words - w), k = (word + w) * gemm->pack;
      const int64_t stop = cpu_min(depth, k + here * gemm->pack), columns = cpu_min(stretch, count - start);
      const int64_t skipped = (column + start) - stored_begin(b->dtype, column + start);
      for (int64_t d = k; d < stop; d++) {
        const int64_t row = d * b->column + column + start;
        stored_decode(b, row, row + columns, tile + (d - k) * ROOM);
      }
      const cpu_matrix view = {.data = tile + skipped, .dtype = MG_F32, .row = 1, .column = ROOM};
      for (int64_t first = 0; first < columns; first += width) {
        const int32_t used = (int32_t)cpu_min(width, cpu_round_up(columns - first, gemm->lanes));
        gemm->pack_lanes(target + (start + first) * panel_words + w * width, width, &view, first,
                         (int32_t)cpu_min(used, columns - first), used, 0, cpu_max(stop - k, 0), here, round);
      }
    }
}

/* gemm_pack_panels for a matrix of any dtype. */
static inline void stored_pack_panels(const cpu_gemm *gemm, const cpu_matrix *b, int64_t column, int64_t count,
                                      int64_t depth, int64_t word, int64_t words, int64_t panel_words, bool round,
                                      uint32_t *target) {
  if (!mg_dtype_is_stored(b->dtype))
    gemm_pack_panels(gemm, b, column, count, depth, word, words, panel_words, round, target);
  else if (b->column == 1)
    stored_pack_along(gemm, b, column, count, depth, word, words, panel_words, round, target);
  else
    stored_pack_across(gemm, b, column, count, depth, word, words, panel_words, round, target);
}

/* Whether every value is one of bf16, so that rounding to it changes nothing. */
static inline bool stored_fits_bf16(mg_dtype dtype) {
  return dtype == MG_MXFP4 || dtype == MG_F8_E4M3 || dtype == MG_F8_E5M2;
}

/* Columns of a product with few rows as rows of f32 in `out`, rounded where the product rounds. */
static inline void stored_read_columns(const cpu_matrix *b, int64_t column, int64_t columns, int64_t depth, bool round,
                                       float *out) {
  round = round && !stored_fits_bf16(b->dtype);
  for (int64_t c = 0; c < columns; c++)
    CPU_NAME(decode_stored)(b->dtype, stored_at(b, (column + c) * b->row), depth, out + c * depth, round);
}

#endif
