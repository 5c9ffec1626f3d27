/* Packing of operands into 32-bit words, in plain C and, with AVX-512, sixteen lanes by sixteen words at a time. */
#ifndef MG_CPU_GEMM_PACK_H
#define MG_CPU_GEMM_PACK_H

#include "kernels.h"

static inline float pack_element(const cpu_matrix *view, int64_t lane, int64_t depth) {
  const int64_t index = lane * view->row + depth * view->column;
  return view->dtype == MG_F32 ? ((const float *)view->data)[index]
                               : cpu_bf16_to_f32(((const uint16_t *)view->data)[index]);
}

static inline uint32_t pack_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

/* One f32, rounded to bf16 precision if asked. */
static inline uint32_t pack_f32_word(const cpu_matrix *view, int64_t lane, int64_t depth, int64_t depth_end,
                                     bool round) {
  if (depth >= depth_end) return 0;
  const float value = pack_element(view, lane, depth);
  return round ? (uint32_t)cpu_bf16_from_f32(value) << 16 : pack_bits(value);
}

/* Two bf16, the lower depth in the lower half. */
static inline uint32_t pack_bf16_word(const cpu_matrix *view, int64_t lane, int64_t depth, int64_t depth_end) {
  const uint32_t low = depth < depth_end ? cpu_bf16_from_f32(pack_element(view, lane, depth)) : 0;
  const uint32_t high = depth + 1 < depth_end ? cpu_bf16_from_f32(pack_element(view, lane, depth + 1)) : 0;
  return low | high << 16;
}

static inline void pack_plain(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t lane, int32_t lanes,
                              int32_t padded, int64_t depth, int64_t depth_end, int64_t words, bool round, bool pairs) {
  for (int64_t w = 0; w < words; w++) {
    for (int32_t l = 0; l < lanes; l++)
      dst[w * stride + l] = pairs ? pack_bf16_word(view, lane + l, depth + 2 * w, depth_end)
                                  : pack_f32_word(view, lane + l, depth + w, depth_end, round);
    for (int32_t l = lanes; l < padded; l++) dst[w * stride + l] = 0;
  }
}

static inline void pack_rows_plain(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t row, int32_t rows,
                                   int64_t depth, int64_t depth_end, int64_t words, bool round, bool pairs) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t w = 0; w < words; w++)
      dst[r * stride + w] = pairs ? pack_bf16_word(view, row + r, depth + 2 * w, depth_end)
                                  : pack_f32_word(view, row + r, depth + w, depth_end, round);
}

/* c (+)= x for one row, rounded to bf16. */
static inline void store_bf16_plain(uint16_t *c, const float *x, int64_t columns, bool accumulate, bool stream) {
  (void)stream;
#pragma omp simd
  for (int64_t i = 0; i < columns; i++) c[i] = cpu_bf16_from_f32(accumulate ? cpu_bf16_to_f32(c[i]) + x[i] : x[i]);
}

#endif
