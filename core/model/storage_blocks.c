/* Quantised blocks as GGUF lays them out (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and its type table).
 *
 * q8_0, q4_0:   32 values, one f16 factor d:  x = d q;  x = d (q - 8)
 * q4_K, q5_K:   256 values in 8 runs of 32, f16 factors d and m; each run has a 6-bit scale s and offset o:
 *               x = d s q - m o
 * q6_K:         256 values in 16 runs of 16, one f16 factor d; each run has an 8-bit scale s:  x = d s (q - 32)
 * mxfp4:        32 values, one scale 2^(e - 127):  x = 2^(e - 127) f4(q)
 *
 * 4-bit values lie as two halves: the low nibbles are the first half of a run (or pair of runs), the high the second. */
#include <string.h>

#include "model/storage_decode.h"

static float half_at(const unsigned char *in) {
  return mg__f16_to_f32((uint16_t)(in[0] | in[1] << 8));
}

void mg__decode_q8_0(const unsigned char *in, int64_t count, float *out) {
  enum { VALUES = 32, BYTES = 34 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) {
    const float d = half_at(in);
    for (int i = 0; i < VALUES; i++) out[i] = d * (float)(int8_t)in[2 + i];
  }
}

void mg__decode_q4_0(const unsigned char *in, int64_t count, float *out) {
  enum { VALUES = 32, BYTES = 18 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) {
    const float d = half_at(in);
    for (int i = 0; i < VALUES / 2; i++) {
      out[i] = d * (float)((in[2 + i] & 15) - 8);
      out[i + VALUES / 2] = d * (float)((in[2 + i] >> 4) - 8);
    }
  }
}

/* Scale and offset of run 0 .. 7 from 12 packed bytes: the first four runs have their 6 bits in one byte, the others
 * 4 bits in the last four bytes and 2 on top of the first eight. */
static void scale_and_offset(const unsigned char packed[12], int run, float *scale, float *offset) {
  if (run < 4) {
    *scale = (float)(packed[run] & 63);
    *offset = (float)(packed[run + 4] & 63);
  } else {
    *scale = (float)((packed[run + 4] & 15) | (packed[run - 4] >> 6) << 4);
    *offset = (float)((packed[run + 4] >> 4) | (packed[run] >> 6) << 4);
  }
}

/* The common form of q4_K and q5_K; `high` holds bit 4 of the values, bit r of byte i for run r, or is NULL. */
static void decode_runs(const unsigned char *in, const unsigned char *high, const unsigned char *low, float *out) {
  const float d = half_at(in), m = half_at(in + 2);
  for (int run = 0; run < 8; run++) {
    float scale, offset;
    scale_and_offset(in + 4, run, &scale, &offset);
    const float factor = d * scale, shift = m * offset;
    for (int i = 0; i < 32; i++) {
      const int nibble = (low[run / 2 * 32 + i] >> (run % 2 * 4)) & 15;
      const int bit = high ? (high[i] >> run & 1) << 4 : 0;
      out[run * 32 + i] = factor * (float)(nibble | bit) - shift;
    }
  }
}

void mg__decode_q4_k(const unsigned char *in, int64_t count, float *out) {
  enum { VALUES = 256, BYTES = 144 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) decode_runs(in, NULL, in + 16, out);
}

void mg__decode_q5_k(const unsigned char *in, int64_t count, float *out) {
  enum { VALUES = 256, BYTES = 176 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) decode_runs(in, in + 16, in + 48, out);
}

/* 128 values: part p of 4 has its low nibble in low[p % 2 * 32 + i], its upper two bits in high[i]. */
static void decode_q6_half(float d, const unsigned char *low, const unsigned char *high, const unsigned char *scales,
                           float *out) {
  for (int part = 0; part < 4; part++)
    for (int i = 0; i < 32; i++) {
      const int nibble = (low[part % 2 * 32 + i] >> (part / 2 * 4)) & 15;
      const int upper = (high[i] >> (2 * part) & 3) << 4;
      out[part * 32 + i] = d * (float)(int8_t)scales[part * 2 + i / 16] * (float)((nibble | upper) - 32);
    }
}

void mg__decode_q6_k(const unsigned char *in, int64_t count, float *out) {
  enum { VALUES = 256, BYTES = 210, HIGH = 128, SCALES = 192, FACTOR = 208 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) {
    const float d = half_at(in + FACTOR);
    decode_q6_half(d, in, in + HIGH, in + SCALES, out);
    decode_q6_half(d, in + 64, in + HIGH + 32, in + SCALES + 8, out + 128);
  }
}

static const float f4_values[16] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6, -0.0F, -0.5F, -1, -1.5F, -2, -3, -4, -6};

void mg_storage_decode_mxfp4(uint8_t scale, const uint8_t numbers[32], float out[32]) {
  const float d = mg__e8m0_to_f32(scale);
  for (int i = 0; i < 32; i++) out[i] = d * f4_values[numbers[i] & 15];
}

void mg__decode_mxfp4(const unsigned char *in, int64_t count, float *out) {
  enum { VALUES = 32, BYTES = 17 };
  for (; count > 0; count -= VALUES, in += BYTES, out += VALUES) {
    uint8_t numbers[VALUES];
    for (int i = 0; i < VALUES / 2; i++) {
      numbers[i] = in[1 + i] & 15;
      numbers[i + VALUES / 2] = in[1 + i] >> 4;
    }
    mg_storage_decode_mxfp4(in[0], numbers, out);
  }
}
