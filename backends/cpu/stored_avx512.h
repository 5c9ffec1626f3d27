/* Stored dtypes decoded sixteen values at a time with AVX-512; each value is the products and differences of
 * moegauge/stored.h, in their order. */
#ifndef MG_CPU_STORED_AVX512_H
#define MG_CPU_STORED_AVX512_H

#include <immintrin.h>

#include "moegauge/stored.h"

/* An f16 factor. */
static inline float stored_half(const unsigned char *in) {
  uint16_t bits;
  memcpy(&bits, in, sizeof bits);
  return _cvtsh_ss(bits);
}

/* Sixteen results, rounded to bf16 (nearest even, NaN stays NaN) if asked. */
static inline void stored_put(float *out, __m512 values, bool round) {
  const __m512i bits = _mm512_castps_si512(values);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __m512i rounded = _mm512_and_si512(sum, _mm512_set1_epi32((int)0xffff0000u));
  const __mmask16 nan = _mm512_cmp_ps_mask(values, values, _CMP_UNORD_Q);
  _mm512_storeu_ps(out, round ? _mm512_castsi512_ps(_mm512_mask_mov_epi32(rounded, nan, bits)) : values);
}

static inline __m128i stored_bytes(const unsigned char *in) {
  return _mm_loadu_si128((const __m128i *)(const void *)in);
}

/* The low or high four bits of sixteen bytes. */
static inline __m128i stored_nibbles(const unsigned char *in, int shift) {
  return _mm_and_si128(_mm_srli_epi16(stored_bytes(in), shift), _mm_set1_epi8(15));
}

static inline __m512 stored_floats(__m128i bytes) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}

/* factor (bytes - middle) */
static inline void stored_centred(__m128i bytes, int middle, float factor, float *out, bool round) {
  const __m512i whole = _mm512_sub_epi32(_mm512_cvtepu8_epi32(bytes), _mm512_set1_epi32(middle));
  stored_put(out, _mm512_mul_ps(_mm512_set1_ps(factor), _mm512_cvtepi32_ps(whole)), round);
}

/* factor bytes - shift */
static inline void stored_shifted(__m128i bytes, float factor, float shift, float *out, bool round) {
  const __m512 scaled = _mm512_mul_ps(_mm512_set1_ps(factor), stored_floats(bytes));
  stored_put(out, _mm512_sub_ps(scaled, _mm512_set1_ps(shift)), round);
}

static inline void stored_f16(const unsigned char *in, int64_t count, float *out, bool round) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16)
    stored_put(out + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(in + 2 * i))), round);
  mg__decode_f16(in + 2 * i, count - i, out + i);
  if (round) stored_round(out + i, count - i);
}

/* An e4m3 with three bits more of exponent is an f16 of 2^-8 of its value; 0x7f and 0xff are NaN. */
static inline __m512 stored_e4m3(const unsigned char *in) {
  const __m256i bits = _mm256_cvtepu8_epi16(stored_bytes(in));
  const __m256i rest = _mm256_and_si256(bits, _mm256_set1_epi16(0x7f));
  const __mmask16 nan = _mm256_cmpeq_epi16_mask(rest, _mm256_set1_epi16(0x7f));
  const __m256i wide = _mm256_mask_mov_epi16(_mm256_slli_epi16(rest, 7), nan, _mm256_set1_epi16(0x7e00));
  const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(bits, _mm256_set1_epi16(0x80)), 8);
  return _mm512_mul_ps(_mm512_cvtph_ps(_mm256_or_si256(wide, sign)), _mm512_set1_ps(256.0F));
}

static inline void stored_f8_e4m3(const unsigned char *in, int64_t count, float *out, bool round) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) stored_put(out + i, stored_e4m3(in + i), round);
  mg__decode_f8_e4m3(in + i, count - i, out + i);
  if (round) stored_round(out + i, count - i);
}

static inline void stored_f8_e5m2(const unsigned char *in, int64_t count, float *out, bool round) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16)
    stored_put(out + i, _mm512_cvtph_ps(_mm256_slli_epi16(_mm256_cvtepu8_epi16(stored_bytes(in + i)), 8)), round);
  mg__decode_f8_e5m2(in + i, count - i, out + i);
  if (round) stored_round(out + i, count - i);
}

static inline void stored_f8_blocks(const unsigned char *in, int64_t count, float *out, bool round) {
  enum { VALUES = 128, BYTES = 132 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) {
    float d;
    memcpy(&d, in, sizeof d);
    for (int i = 0; i < VALUES; i += 16)
      stored_put(out + i, _mm512_mul_ps(_mm512_set1_ps(d), stored_e4m3(in + 4 + i)), round);
  }
}

static inline void stored_q8_0(const unsigned char *in, int64_t count, float *out, bool round) {
  enum { VALUES = 32, BYTES = 34 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) {
    const __m512 d = _mm512_set1_ps(stored_half(in));
    for (int i = 0; i < VALUES; i += 16)
      stored_put(out + i, _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(stored_bytes(in + 2 + i)))), round);
  }
}

static inline void stored_q4_0(const unsigned char *in, int64_t count, float *out, bool round) {
  enum { VALUES = 32, BYTES = 18 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) {
    const float d = stored_half(in);
    stored_centred(stored_nibbles(in + 2, 0), 8, d, out, round);
    stored_centred(stored_nibbles(in + 2, 4), 8, d, out + 16, round);
  }
}

/* q4_k, and with `high` the upper bits of q5_k. */
static inline void stored_runs(const unsigned char *in, const unsigned char *high, const unsigned char *low, float *out,
                               bool round) {
  const float d = stored_half(in), m = stored_half(in + 2);
  for (int run = 0; run < 8; run++) {
    float scale, offset;
    mg__scale_and_offset(in + 4, run, &scale, &offset);
    for (int i = 0; i < 32; i += 16) {
      __m128i bytes = stored_nibbles(low + run / 2 * 32 + i, run % 2 * 4);
      if (high) {
        const __m128i bit = _mm_and_si128(_mm_srli_epi16(stored_bytes(high + i), run), _mm_set1_epi8(1));
        bytes = _mm_or_si128(bytes, _mm_slli_epi16(bit, 4));
      }
      stored_shifted(bytes, d * scale, m * offset, out + run * 32 + i, round);
    }
  }
}

static inline void stored_q4_k(const unsigned char *in, int64_t count, float *out, bool round) {
  enum { VALUES = 256, BYTES = 144 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) stored_runs(in, NULL, in + 16, out, round);
}

static inline void stored_q5_k(const unsigned char *in, int64_t count, float *out, bool round) {
  enum { VALUES = 256, BYTES = 176 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) stored_runs(in, in + 16, in + 48, out, round);
}

static inline void stored_q6_k(const unsigned char *in, int64_t count, float *out, bool round) {
  enum { VALUES = 256, BYTES = 210, HIGH = 128, SCALES = 192, FACTOR = 208 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) {
    const float d = stored_half(in + FACTOR);
    for (int run = 0; run < 16; run++) {
      const int half = run / 8, part = run % 8 / 2, first = run % 2 * 16;
      const __m128i low = stored_nibbles(in + half * 64 + part % 2 * 32 + first, part / 2 * 4);
      const __m128i high = _mm_srli_epi16(stored_bytes(in + HIGH + half * 32 + first), 2 * part);
      const __m128i upper = _mm_slli_epi16(_mm_and_si128(high, _mm_set1_epi8(3)), 4);
      stored_centred(_mm_or_si128(low, upper), 32, d * (float)(int8_t)in[SCALES + run], out + run * 16, round);
    }
  }
}

static inline void stored_mxfp4(const unsigned char *in, int64_t count, float *out, bool round) {
  enum { VALUES = 32, BYTES = 17 };
  const __m512 values = _mm512_setr_ps(0, 0.5F, 1, 1.5F, 2, 3, 4, 6, -0.0F, -0.5F, -1, -1.5F, -2, -3, -4, -6);
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) {
    const __m512 d = _mm512_set1_ps(mg__e8m0_to_f32(in[0]));
    for (int half = 0; half < 2; half++) {
      const __m512i number = _mm512_cvtepu8_epi32(stored_nibbles(in + 1, 4 * half));
      stored_put(out + 16 * half, _mm512_mul_ps(d, _mm512_permutexvar_ps(number, values)), round);
    }
  }
}

#endif
