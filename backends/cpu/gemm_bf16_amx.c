/* Matrix product over pairs of bf16 with AMX: 32 x 32 results in four tiles, two tiles of a and two of b per step of 16
 * words, so that each loaded tile is used twice. */
#include "gemm_pack.h"
#include "tiles.h"

#if defined(CPU_TILES_EMULATED)
#define GEMM_NAME mg__cpu_gemm_bf16_amx_emulated
#else
#define GEMM_NAME mg__cpu_gemm_bf16_amx
#include "pack_avx512.h"
#endif

enum { ROWS = 32, COLUMNS = 32, TILE_ROWS = 16, TILE_WORDS = 256, ROW_BYTES = 64 };

static void pack_lanes(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t lane, int32_t lanes,
                       int32_t padded, int64_t depth, int64_t depth_end, int64_t words, bool round) {
  (void)round;
#if defined(CPU_TILES_EMULATED)
  pack_plain(dst, stride, view, lane, lanes, padded, depth, depth_end, words, false, true);
#else
  pack_avx512(dst, stride, view, lane, lanes, padded, depth, depth_end, words, false, true);
#endif
}

static void pack_tile(uint32_t *dst, const cpu_matrix *view, int64_t lane, int32_t lanes, int64_t depth,
                      int64_t depth_end) {
#if defined(CPU_TILES_EMULATED)
  for (int32_t l = 0; l < TILE_ROWS; l++)
    for (int32_t w = 0; w < 16; w++)
      dst[l * 16 + w] = l < lanes ? pack_bf16_word(view, lane + l, depth + 2 * w, depth_end) : 0;
#else
  pack_tile_avx512(dst, view, lane, lanes, depth, depth_end);
#endif
}

/* c (+)= a b with `halves` tiles of rows (1 or 2). */
static inline __attribute__((always_inline)) void multiply_tiles(const int32_t halves, int64_t words,
                                                                 int64_t block_words, const uint32_t *a,
                                                                 const uint32_t *b, float *c, int64_t stride,
                                                                 bool accumulate) {
  tiles t;
  const uint32_t *a_low = a + TILE_ROWS * block_words;
  const int64_t c_bytes = stride * (int64_t)sizeof(float), b_bytes = COLUMNS * (int64_t)sizeof(uint32_t);
  float *c_low = c + TILE_ROWS * stride;
  (void)t;
  if (accumulate) {
    TILE_LOAD(&t, 0, c, c_bytes);
    TILE_LOAD(&t, 1, c + 16, c_bytes);
    if (halves == 2) {
      TILE_LOAD(&t, 2, c_low, c_bytes);
      TILE_LOAD(&t, 3, c_low + 16, c_bytes);
    }
  } else {
    TILE_ZERO(&t, 0);
    TILE_ZERO(&t, 1);
    TILE_ZERO(&t, 2);
    TILE_ZERO(&t, 3);
  }
  for (int64_t w = 0; w < words; w += 16) {
    TILE_LOAD(&t, 6, b + w * COLUMNS, b_bytes);
    TILE_LOAD(&t, 7, b + w * COLUMNS + 16, b_bytes);
    TILE_LOAD(&t, 4, a + w * TILE_ROWS, ROW_BYTES);
    TILE_MULTIPLY(&t, 0, 4, 6);
    TILE_MULTIPLY(&t, 1, 4, 7);
    if (halves == 2) {
      TILE_LOAD(&t, 5, a_low + w * TILE_ROWS, ROW_BYTES);
      TILE_MULTIPLY(&t, 2, 5, 6);
      TILE_MULTIPLY(&t, 3, 5, 7);
    }
  }
  TILE_STORE(&t, 0, c, c_bytes);
  TILE_STORE(&t, 1, c + 16, c_bytes);
  if (halves == 2) {
    TILE_STORE(&t, 2, c_low, c_bytes);
    TILE_STORE(&t, 3, c_low + 16, c_bytes);
  }
}

/* Whole tiles go straight to c; fewer rows pass through a buffer, because a tile always stores 16 of them. */
static void multiply(int32_t rows, int64_t words, int64_t block_words, const uint32_t *a, const uint32_t *b, float *c,
                     int64_t stride, bool accumulate, const char *next, int64_t next_bytes) {
  for (int64_t line = 0; line < next_bytes; line += 64) __builtin_prefetch(next + line, 0, 2);
  if (rows == ROWS) {
    multiply_tiles(2, words, block_words, a, b, c, stride, accumulate);
    return;
  }
  float buffer[ROWS * COLUMNS];
  if (rows > TILE_ROWS)
    multiply_tiles(2, words, block_words, a, b, buffer, COLUMNS, false);
  else
    multiply_tiles(1, words, block_words, a, b, buffer, COLUMNS, false);
  for (int32_t r = 0; r < rows; r++)
    for (int32_t n = 0; n < COLUMNS; n++)
      c[r * stride + n] = accumulate ? c[r * stride + n] + buffer[r * COLUMNS + n] : buffer[r * COLUMNS + n];
}

const cpu_gemm GEMM_NAME = {.rows = ROWS,
                            .columns = COLUMNS,
                            .pack = 2,
                            .depth_words = 16,
                            .tiles = true,
                            .pack_lanes = pack_lanes,
                            .pack_tile = pack_tile,
                            .multiply = multiply,
                            .enter = tiles_configure,
                            .leave = tiles_release};
