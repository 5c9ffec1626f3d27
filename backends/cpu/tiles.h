/* AMX tiles: eight registers of up to 16 rows of 64 bytes, through the instructions or, with CPU_TILES_EMULATED, in
 * plain C with the same meaning, so that code written over them can be tested on any machine.
 *
 * Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18. */
#ifndef MG_CPU_TILES_H
#define MG_CPU_TILES_H

#include <stdint.h>
#include <string.h>

#include "kernels.h"

#if defined(CPU_TILES_EMULATED)

typedef struct tiles {
  uint32_t word[8][16][16];
} tiles;

static inline void tiles_configure(void) {}
static inline void tiles_release(void) {}
static inline void tile_zero_emulated(uint32_t (*tile)[16]) {
  memset(tile, 0, 16 * sizeof *tile);
}
static inline void tile_load_emulated(uint32_t (*tile)[16], const void *from, int64_t stride) {
  for (int64_t r = 0; r < 16; r++) memcpy(tile[r], (const char *)from + r * stride, sizeof tile[r]);
}
static inline void tile_store_emulated(uint32_t (*tile)[16], void *to, int64_t stride) {
  for (int64_t r = 0; r < 16; r++) memcpy((char *)to + r * stride, tile[r], sizeof tile[r]);
}
/* TDPBF16PS: sum[m][n] += a[m][k] low * b[k][n] low + a[m][k] high * b[k][n] high for each word k. */
static inline void tile_multiply_emulated(uint32_t (*sum)[16], uint32_t (*a)[16], uint32_t (*b)[16]) {
  for (int32_t m = 0; m < 16; m++)
    for (int32_t n = 0; n < 16; n++) {
      float total;
      memcpy(&total, &sum[m][n], sizeof total);
      for (int32_t k = 0; k < 16; k++) {
        total += cpu_bf16_to_f32((uint16_t)a[m][k]) * cpu_bf16_to_f32((uint16_t)b[k][n]);
        total += cpu_bf16_to_f32((uint16_t)(a[m][k] >> 16)) * cpu_bf16_to_f32((uint16_t)(b[k][n] >> 16));
      }
      memcpy(&sum[m][n], &total, sizeof total);
    }
}
#define TILE_ZERO(t, i) tile_zero_emulated((t)->word[i])
#define TILE_LOAD(t, i, from, stride) tile_load_emulated((t)->word[i], from, stride)
#define TILE_STORE(t, i, to, stride) tile_store_emulated((t)->word[i], to, stride)
#define TILE_MULTIPLY(t, sum, a, b) tile_multiply_emulated((t)->word[sum], (t)->word[a], (t)->word[b])

#else
#include <immintrin.h>

typedef struct tiles {
  char unused; /* the registers are the state */
} tiles;

typedef struct tile_configuration {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} tile_configuration;

/* All eight tiles with 16 rows of 64 bytes. */
static inline void tiles_configure(void) {
  tile_configuration configuration = {.palette = 1};
  for (int32_t i = 0; i < 8; i++) {
    configuration.row_bytes[i] = 64;
    configuration.rows[i] = 16;
  }
  /* gcc 12 takes only the first 8 bytes as the intrinsic's input and would drop the stores to the others. */
  __asm__ volatile("" ::"m"(configuration) : "memory");
  _tile_loadconfig(&configuration);
}
static inline void tiles_release(void) {
  _tile_release();
}
#define TILE_ZERO(t, i) _tile_zero(i)
#define TILE_LOAD(t, i, from, stride) _tile_loadd(i, from, (size_t)(stride))
#define TILE_STORE(t, i, to, stride) _tile_stored(i, to, (size_t)(stride))
#define TILE_MULTIPLY(t, sum, a, b) _tile_dpbf16ps(sum, a, b)

#endif
#endif
