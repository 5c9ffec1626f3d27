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

enum { ROWS = 32, COLUMNS = 32, TILE_ROWS = 16, TILE_WORDS = 16 };

static void pack_lanes(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t lane, int32_t lanes,
                       int32_t padded, int64_t depth, int64_t depth_end, int64_t words, bool round) {
  (void)round;
#if defined(CPU_TILES_EMULATED)
  pack_plain(dst, stride, view, lane, lanes, padded, depth, depth_end, words, false, true);
#else
  pack_avx512(dst, stride, view, lane, lanes, padded, depth, depth_end, words, false, true);
#endif
}

/* One tile of 16 words of up to 16 rows; the others are zero. */
static void pack_tile(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t row, int32_t rows, int64_t depth,
                      int64_t depth_end) {
#if defined(CPU_TILES_EMULATED)
  for (int32_t r = 0; r < TILE_ROWS; r++)
    for (int32_t w = 0; w < TILE_WORDS; w++)
      dst[r * stride + w] = r < rows ? pack_bf16_word(view, row + r, depth + 2 * w, depth_end) : 0;
#else
  pack_tile_avx512(dst, stride, view, row, rows, depth, depth_end);
#endif
}

static void pack_rows(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t row, int32_t rows, int64_t depth,
                      int64_t depth_end, int64_t words, bool round) {
  (void)round;
  for (int32_t first = 0; first < rows; first += TILE_ROWS)
    for (int64_t w = 0; w < words; w += TILE_WORDS)
      pack_tile(dst + first * stride + w, stride, view, row + first, (int32_t)cpu_min(TILE_ROWS, rows - first),
                depth + 2 * w, depth_end);
}

/* c (+)= a b with `halves` tiles of rows (1 or 2). */
static inline __attribute__((always_inline)) void multiply_tiles(const int32_t halves, int64_t words, cpu_words a,
                                                                 const uint32_t *b, int64_t b_word, float *c,
                                                                 int64_t stride, bool accumulate) {
  tiles t;
  const uint32_t *a_low = a.data + TILE_ROWS * a.row;
  const int64_t a_bytes = a.row * (int64_t)sizeof(uint32_t), b_bytes = b_word * (int64_t)sizeof(uint32_t);
  const int64_t c_bytes = stride * (int64_t)sizeof(float);
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
  for (int64_t w = 0; w < words; w += TILE_WORDS) {
    TILE_LOAD(&t, 6, b + w * b_word, b_bytes);
    TILE_LOAD(&t, 7, b + w * b_word + 16, b_bytes);
    TILE_LOAD(&t, 4, a.data + w, a_bytes);
    TILE_MULTIPLY(&t, 0, 4, 6);
    TILE_MULTIPLY(&t, 1, 4, 7);
    if (halves == 2) {
      TILE_LOAD(&t, 5, a_low + w, a_bytes);
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
static void multiply(int32_t rows, int32_t columns, int64_t words, const cpu_words *a, const uint32_t *b,
                     int64_t b_word, const cpu_result *c, const char *next, int64_t next_step) {
  (void)columns;
  for (int64_t w = 0; next_step && w < words; w++) __builtin_prefetch(next + w * next_step, 0, 2);
  if (rows == ROWS) {
    multiply_tiles(2, words, *a, b, b_word, c->data, c->stride, c->accumulate);
    return;
  }
  float buffer[ROWS * COLUMNS];
  if (rows > TILE_ROWS)
    multiply_tiles(2, words, *a, b, b_word, buffer, COLUMNS, false);
  else
    multiply_tiles(1, words, *a, b, b_word, buffer, COLUMNS, false);
  for (int32_t r = 0; r < rows; r++) {
    float *row = c->data + r * c->stride;
    for (int32_t n = 0; n < COLUMNS; n++)
      row[n] = c->accumulate ? row[n] + buffer[r * COLUMNS + n] : buffer[r * COLUMNS + n];
  }
}

const cpu_gemm GEMM_NAME = {.rows = ROWS,
                            .columns = COLUMNS,
                            .lanes = COLUMNS,
                            .pack = 2,
                            .depth_words = 16,
                            .tiles = true,
                            .pack_lanes = pack_lanes,
                            .pack_rows = pack_rows,
                            .multiply = multiply,
                            .store_bf16 = store_bf16_plain,
                            .enter = tiles_configure,
                            .leave = tiles_release};
