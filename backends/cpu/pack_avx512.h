/* Packing with AVX-512: each row of a 16 x 16 block of words is loaded (and converted) into one register; when the
 * depth runs along memory the block is transposed in registers. */
#ifndef MG_CPU_PACK_AVX512_H
#define MG_CPU_PACK_AVX512_H

#include <immintrin.h>

#include "gemm_pack.h"

enum { PACK_AHEAD = 384, ROWS_AHEAD = 16 }; /* elements, and words of depth, that are asked for before their turn */

/* f32 to bf16 in the low half of each word: nearest even, NaN stays NaN. */
static inline __m512i pack_round(__m512i bits) {
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __mmask16 nan =
      _mm512_cmpgt_epu32_mask(_mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)), _mm512_set1_epi32(0x7f800000));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  return _mm512_srli_epi32(_mm512_mask_mov_epi32(sum, nan, quiet), 16);
}

/* Up to 16 neighbouring elements as f32 bits. */
static inline __m512i pack_load_f32(const cpu_matrix *view, int64_t index, __mmask16 mask) {
  if (view->dtype == MG_F32) return _mm512_maskz_loadu_epi32(mask, (const float *)view->data + index);
  const __m256i half = _mm256_maskz_loadu_epi16(mask, (const uint16_t *)view->data + index);
  return _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
}

/* Up to 16 neighbouring elements as bf16 in the low half of each word. */
static inline __m512i pack_load_bf16(const cpu_matrix *view, int64_t index, __mmask16 mask) {
  if (view->dtype == MG_F32) return pack_round(_mm512_maskz_loadu_epi32(mask, (const float *)view->data + index));
  return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)view->data + index));
}

static inline __mmask16 pack_mask(int64_t count) {
  return (__mmask16)(count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1);
}

/* Depth along memory: 16 words of one lane. */
static inline __m512i pack_along_depth(const cpu_matrix *view, int64_t lane, int64_t depth, int64_t depth_end,
                                       bool round, bool pairs) {
  const int64_t index = lane * view->row + depth, left = depth_end - depth;
  if (!pairs) {
    const __m512i word = pack_load_f32(view, index, pack_mask(left));
    return round ? _mm512_slli_epi32(pack_round(word), 16) : word;
  }
  if (view->dtype == MG_BF16) {
    const __mmask32 mask = left >= 32 ? 0xffffffffu : left <= 0 ? 0u : (1u << left) - 1u;
    return _mm512_maskz_loadu_epi16(mask, (const uint16_t *)view->data + index);
  }
#if defined(__AVX512BF16__) /* takes denormals as 0, as the products of pairs do */
  return (__m512i)_mm512_cvtne2ps_pbh((__m512)pack_load_f32(view, index + 16, pack_mask(left - 16)),
                                      (__m512)pack_load_f32(view, index, pack_mask(left)));
#endif
  const __m512i low = pack_load_bf16(view, index, pack_mask(left));
  const __m512i high = pack_load_bf16(view, index + 16, pack_mask(left - 16));
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(low)), _mm512_cvtepi32_epi16(high), 1);
}

/* Lanes along memory: one word of 16 lanes. */
static inline __m512i pack_along_lanes(const cpu_matrix *view, int64_t lane, __mmask16 mask, int64_t depth,
                                       int64_t depth_end, bool round, bool pairs) {
  const int64_t index = lane + depth * view->column;
  if (!pairs) {
    const __m512i word = pack_load_f32(view, index, depth < depth_end ? mask : 0);
    return round ? _mm512_slli_epi32(pack_round(word), 16) : word;
  }
  /* both rows in one register, then word i from elements i and 16 + i */
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  if (view->dtype == MG_BF16) {
    const uint16_t *row = (const uint16_t *)view->data + index;
    const __m256i first = _mm256_maskz_loadu_epi16(depth < depth_end ? mask : 0, row);
    const __m256i second = _mm256_maskz_loadu_epi16(depth + 1 < depth_end ? mask : 0, row + view->column);
    return _mm512_permutexvar_epi16(order, _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1));
  }
#if defined(__AVX512BF16__)
  const __m512 first = (__m512)pack_load_f32(view, index, depth < depth_end ? mask : 0);
  const __m512 second = (__m512)pack_load_f32(view, index + view->column, depth + 1 < depth_end ? mask : 0);
  return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(second, first));
#endif
  const __m512i low = pack_load_bf16(view, index, depth < depth_end ? mask : 0);
  const __m512i high = pack_load_bf16(view, index + view->column, depth + 1 < depth_end ? mask : 0);
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

/* row[i] word j becomes row[j] word i. */
static inline void pack_transpose(__m512i row[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_epi32(row[2 * i], row[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(row[2 * i], row[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    row[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    row[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    row[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    row[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_i32x4(row[i], row[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(row[i], row[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    row[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    row[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    row[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    row[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

/* 16 words whose bytes lie in memory as they are packed: 64 bytes of each of `lanes` rows, `row_bytes` apart. The last
 * row stands in for those beyond, which are not written. */
static inline void pack_block_as_it_is(uint32_t *dst, int64_t stride, const char *source, int64_t row_bytes,
                                       int32_t lanes) {
  __m512i row[16];
#pragma GCC unroll 16
  for (int32_t l = 0; l < 16; l++) row[l] = _mm512_loadu_si512(source + (l < lanes ? l : lanes - 1) * row_bytes);
  pack_transpose(row);
  const __mmask16 write = pack_mask(lanes);
#pragma GCC unroll 16
  for (int32_t i = 0; i < 16; i++) _mm512_mask_storeu_epi32(dst + i * stride, write, row[i]);
}

static inline void pack_16_lanes(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t lane, int32_t lanes,
                                 int32_t padded, int64_t depth, int64_t depth_end, int64_t words, bool round,
                                 bool pairs) {
  const __mmask16 write = pack_mask(padded), read = pack_mask(lanes);
  const int64_t per_word = pairs ? 2 : 1;
  if (view->row == 1 && view->column != 1) {
    const int64_t bytes = view->dtype == MG_F32 ? 4 : 2;
    for (int64_t w = 0; w < words; w++) {
      for (int64_t d = depth + per_word * (w + ROWS_AHEAD); d < depth + per_word * (w + ROWS_AHEAD + 1); d++)
        if (d < depth_end) _mm_prefetch((const char *)view->data + (lane + d * view->column) * bytes, _MM_HINT_T0);
      _mm512_mask_storeu_epi32(dst + w * stride, write,
                               pack_along_lanes(view, lane, read, depth + per_word * w, depth_end, round, pairs));
    }
    return;
  }
  const int64_t bytes = view->dtype == MG_F32 ? 4 : 2, ahead = depth_end - PACK_AHEAD;
  const bool as_it_is =
      lanes == padded && lanes > 0 && (pairs ? view->dtype == MG_BF16 : view->dtype == MG_F32 && !round);
  for (int64_t w = 0; w < words; w += 16) {
    if (depth + per_word * w < ahead) /* sixteen rows at once are more than the processor foresees by itself */
      for (int32_t l = 0; l < lanes; l++)
        _mm_prefetch((const char *)view->data + ((lane + l) * view->row + depth + per_word * w + PACK_AHEAD) * bytes,
                     _MM_HINT_T1);
    if (as_it_is && depth + per_word * (w + 16) <= depth_end && w + 16 <= words) {
      pack_block_as_it_is(dst + w * stride, stride,
                          (const char *)view->data + (lane * view->row + depth + per_word * w) * bytes,
                          view->row * bytes, lanes);
      continue;
    }
    __m512i row[16];
#pragma GCC unroll 16
    for (int32_t l = 0; l < 16; l++)
      row[l] = l < lanes ? pack_along_depth(view, lane + l, depth + per_word * w, depth_end, round, pairs)
                         : _mm512_setzero_si512();
    pack_transpose(row);
    const int64_t here = cpu_min(16, words - w);
#pragma GCC unroll 16
    for (int32_t i = 0; i < 16; i++)
      if (i < here) _mm512_mask_storeu_epi32(dst + (w + i) * stride, write, row[i]);
  }
}

/* 32 lanes along memory, bf16: both rows of a word are read whole. */
static inline void pack_32_pairs(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t lane, int64_t depth,
                                 int64_t depth_end, int64_t words) {
  const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                       5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
  const uint16_t *row = (const uint16_t *)view->data + lane + depth * view->column;
  for (int64_t w = 0; w < words; w++, row += 2 * view->column) {
    const int64_t left = depth_end - depth - 2 * w;
    if (left > 2 * ROWS_AHEAD + 1) {
      _mm_prefetch((const char *)(row + 2 * ROWS_AHEAD * view->column), _MM_HINT_T0);
      _mm_prefetch((const char *)(row + (2 * ROWS_AHEAD + 1) * view->column), _MM_HINT_T0);
    }
    const __m512i first = left > 0 ? _mm512_loadu_si512(row) : _mm512_setzero_si512();
    const __m512i second = left > 1 ? _mm512_loadu_si512(row + view->column) : _mm512_setzero_si512();
    _mm512_storeu_si512(dst + w * stride, _mm512_permutex2var_epi16(first, low, second));
    _mm512_storeu_si512(dst + w * stride + 16, _mm512_permutex2var_epi16(first, high, second));
  }
}

static inline void pack_avx512(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t lane, int32_t lanes,
                               int32_t padded, int64_t depth, int64_t depth_end, int64_t words, bool round,
                               bool pairs) {
  if (pairs && lanes == 32 && view->dtype == MG_BF16 && view->row == 1 && view->column != 1) {
    pack_32_pairs(dst, stride, view, lane, depth, depth_end, words);
    return;
  }
  for (int32_t first = 0; first < padded; first += 16) {
    const int32_t here = (int32_t)cpu_min(16, padded - first);
    pack_16_lanes(dst + first, stride, view, lane + first, (int32_t)cpu_max(0, cpu_min(here, lanes - first)), here,
                  depth, depth_end, words, round, pairs);
  }
}

/* Rows that run along the depth, each in one piece. */
static inline void pack_rows_avx512(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t row, int32_t rows,
                                    int64_t depth, int64_t depth_end, int64_t words, bool round, bool pairs) {
  const int64_t per_word = pairs ? 2 : 1;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t w = 0; w < words; w += 16)
      _mm512_mask_storeu_epi32(dst + r * stride + w, pack_mask(words - w),
                               pack_along_depth(view, row + r, depth + per_word * w, depth_end, round, pairs));
}

/* 16 words of 16 lanes, each lane in one piece, `stride` words apart; lanes from `lanes` on are zero. */
static inline void pack_tile_avx512(uint32_t *dst, int64_t stride, const cpu_matrix *view, int64_t lane, int32_t lanes,
                                    int64_t depth, int64_t depth_end) {
  __m512i row[16];
  if (view->row == 1 && view->column != 1) {
    for (int32_t w = 0; w < 16; w++)
      row[w] = pack_along_lanes(view, lane, pack_mask(lanes), depth + 2 * w, depth_end, false, true);
    pack_transpose(row);
  } else {
    for (int32_t l = 0; l < 16; l++)
      row[l] = l < lanes ? pack_along_depth(view, lane + l, depth, depth_end, false, true) : _mm512_setzero_si512();
  }
  for (int32_t l = 0; l < 16; l++) _mm512_storeu_si512(dst + l * stride, row[l]);
}

#endif
