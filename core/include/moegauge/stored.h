/* What stored dtypes mean, as f32: inline, so that a backend compiles the loops for its own instruction set. Every value
 * is rounded after each operation as written; with -ffp-contract=off all backends get the same bits.
 *
 * Numbers of one element are IEEE 754's f16 and the 8-bit floats of "FP8 Formats for Deep Learning" (Micikevicius et al.
 * 2022, arXiv 2209.05433: e4m3 has no infinity). Blocks are those of GGUF
 * (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and its type table), but for f8_blocks, which are the tiles
 * of DeepSeek-V3 (arXiv 2412.19437) cut into rows:
 *
 * f8_blocks:    128 values, one f32 factor d:  x = d e4m3(q)
 * q8_0, q4_0:   32 values, one f16 factor d:  x = d q;  x = d (q - 8)
 * q4_k, q5_k:   256 values in 8 runs of 32, f16 factors d and m; each run has a 6-bit scale s and offset o:
 *               x = d s q - m o
 * q6_k:         256 values in 16 runs of 16, one f16 factor d; each run has an 8-bit scale s:  x = d s (q - 32)
 * mxfp4:        32 values, one scale 2^(e - 127):  x = 2^(e - 127) f4(q) (OCP MX, 2023)
 *
 * 4-bit values lie as two halves: the low nibbles are the first half of a run (or pair of runs), the high the second. */
#ifndef MOEGAUGE_STORED_H
#define MOEGAUGE_STORED_H

#include <string.h>

#include "moegauge/tensor.h"

/* ---- numbers: written without branches, for loops over many ---- */

static inline float mg__bits_to_f32(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* The bits of the f32 of a small float without sign, infinities and NaN; an exponent of 0 holds multiples of
 * 2^(1 - bias - mantissa). */
static inline uint32_t mg__widen_bits(uint32_t bits, uint32_t mantissa, uint32_t bias) {
  const float small = (float)(int32_t)bits * mg__bits_to_f32((127 + 1 - bias - mantissa) << 23);
  uint32_t small_bits;
  memcpy(&small_bits, &small, sizeof small_bits);
  return bits >> mantissa == 0 ? small_bits : (bits << (23 - mantissa)) + ((127 - bias) << 23);
}

static inline float mg__f16_to_f32(uint32_t bits) {
  const uint32_t rest = bits & 0x7fffu, plain = mg__widen_bits(rest, 10, 15),
                 special = 0x7f800000u | (rest & 0x3ffu) << 13;
  return mg__bits_to_f32((rest >= 0x7c00u ? special : plain) | (bits & 0x8000u) << 16);
}

static inline float mg__e4m3_to_f32(uint32_t bits) {
  const uint32_t rest = bits & 0x7fu, plain = mg__widen_bits(rest, 3, 7);
  return mg__bits_to_f32((rest == 0x7fu ? 0x7fc00000u : plain) | (bits & 0x80u) << 24);
}

static inline float mg__e8m0_to_f32(uint32_t bits) {
  const uint32_t special = bits == 0 ? 0x00400000u : 0x7fc00000u; /* 2^-127 has no leading one in f32 */
  return mg__bits_to_f32(bits == 0 || bits == 255 ? special : bits << 23);
}

/* Magnitudes 0, 0.5, 1, 1.5, 2, 3, 4, 6: those from 1 on have a leading one. */
static inline float mg__f4_to_f32(uint32_t bits) {
  const uint32_t rest = bits & 7u, half = 0x3f000000u, small = rest == 0 ? 0 : half;
  return mg__bits_to_f32((rest < 2u ? small : (rest << 22) + half) | (bits & 8u) << 28);
}

static inline float mg__f16_at(const unsigned char *in) {
  return mg__f16_to_f32(in[0] | (uint32_t)in[1] << 8);
}

static inline void mg__decode_f16(const unsigned char *restrict in, int64_t count, float *restrict out) {
  for (int64_t i = 0; i < count; i++) {
    uint16_t bits;
    memcpy(&bits, in + 2 * i, sizeof bits);
    out[i] = mg__f16_to_f32(bits);
  }
}

static inline void mg__decode_f8_e4m3(const unsigned char *restrict in, int64_t count, float *restrict out) {
  for (int64_t i = 0; i < count; i++) out[i] = mg__e4m3_to_f32(in[i]);
}

/* An f16 cut to its upper half. */
static inline void mg__decode_f8_e5m2(const unsigned char *restrict in, int64_t count, float *restrict out) {
  for (int64_t i = 0; i < count; i++) out[i] = mg__f16_to_f32((uint32_t)in[i] << 8);
}

/* ---- blocks ---- */

static inline void mg__decode_f8_blocks(const unsigned char *restrict in, int64_t count, float *restrict out) {
  enum { VALUES = 128, BYTES = 132 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) {
    float d;
    memcpy(&d, in, sizeof d);
    for (int i = 0; i < VALUES; i++) out[i] = d * mg__e4m3_to_f32(in[4 + i]);
  }
}

static inline void mg__decode_q8_0(const unsigned char *restrict in, int64_t count, float *restrict out) {
  enum { VALUES = 32, BYTES = 34 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) {
    const float d = mg__f16_at(in);
    for (int i = 0; i < VALUES; i++) out[i] = d * (float)(int8_t)in[2 + i];
  }
}

static inline void mg__decode_q4_0(const unsigned char *restrict in, int64_t count, float *restrict out) {
  enum { VALUES = 32, BYTES = 18 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) {
    const float d = mg__f16_at(in);
    for (int i = 0; i < VALUES / 2; i++) out[i] = d * (float)((in[2 + i] & 15) - 8);
    for (int i = 0; i < VALUES / 2; i++) out[i + VALUES / 2] = d * (float)((in[2 + i] >> 4) - 8);
  }
}

/* Scale and offset of run 0 .. 7 from 12 packed bytes: the first four runs have their 6 bits in one byte, the others
 * 4 bits in the last four bytes and 2 on top of the first eight. */
static inline void mg__scale_and_offset(const unsigned char packed[12], int run, float *scale, float *offset) {
  if (run < 4) {
    *scale = (float)(packed[run] & 63);
    *offset = (float)(packed[run + 4] & 63);
  } else {
    *scale = (float)((packed[run + 4] & 15) | (packed[run - 4] >> 6) << 4);
    *offset = (float)((packed[run + 4] >> 4) | (packed[run] >> 6) << 4);
  }
}

static inline void mg__decode_q4_k(const unsigned char *restrict in, int64_t count, float *restrict out) {
  enum { VALUES = 256, BYTES = 144, LOW = 16 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) {
    const float d = mg__f16_at(in), m = mg__f16_at(in + 2);
    for (int run = 0; run < 8; run++) {
      float scale, offset;
      mg__scale_and_offset(in + 4, run, &scale, &offset);
      const unsigned char *low = in + LOW + run / 2 * 32;
      const float factor = d * scale, shift = m * offset;
      for (int i = 0; i < 32; i++) out[run * 32 + i] = factor * (float)(low[i] >> (run % 2 * 4) & 15) - shift;
    }
  }
}

/* As q4_k, with bit 4 of the values of run r in bit r of 32 bytes. */
static inline void mg__decode_q5_k(const unsigned char *restrict in, int64_t count, float *restrict out) {
  enum { VALUES = 256, BYTES = 176, HIGH = 16, LOW = 48 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) {
    const float d = mg__f16_at(in), m = mg__f16_at(in + 2);
    for (int run = 0; run < 8; run++) {
      float scale, offset;
      mg__scale_and_offset(in + 4, run, &scale, &offset);
      const unsigned char *low = in + LOW + run / 2 * 32, *high = in + HIGH;
      const float factor = d * scale, shift = m * offset;
      for (int i = 0; i < 32; i++)
        out[run * 32 + i] = factor * (float)((low[i] >> (run % 2 * 4) & 15) | (high[i] >> run & 1) << 4) - shift;
    }
  }
}

/* Two halves of 128 values: part p of 4 has its low nibbles in low[p % 2 * 32 + i], its upper two bits in high[i]. */
static inline void mg__decode_q6_k(const unsigned char *restrict in, int64_t count, float *restrict out) {
  enum { VALUES = 256, BYTES = 210, HIGH = 128, SCALES = 192, FACTOR = 208 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES)
    for (int run = 0; run < 16; run++) {
      const int half = run / 8, part = run % 8 / 2, first = run % 2 * 16;
      const unsigned char *low = in + half * 64 + part % 2 * 32 + first, *high = in + HIGH + half * 32 + first;
      const float factor = mg__f16_at(in + FACTOR) * (float)(int8_t)in[SCALES + run];
      for (int i = 0; i < 16; i++) {
        const int nibble = low[i] >> (part / 2 * 4) & 15, upper = (high[i] >> (2 * part) & 3) << 4;
        out[run * 16 + i] = factor * (float)((nibble | upper) - 32);
      }
    }
}

static inline void mg__decode_mxfp4(const unsigned char *restrict in, int64_t count, float *restrict out) {
  enum { VALUES = 32, BYTES = 17 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) {
    const float d = mg__e8m0_to_f32(in[0]);
    for (int i = 0; i < VALUES / 2; i++) out[i] = d * mg__f4_to_f32(in[1 + i] & 15u);
    for (int i = 0; i < VALUES / 2; i++) out[i + VALUES / 2] = d * mg__f4_to_f32(in[1 + i] >> 4);
  }
}

#endif
