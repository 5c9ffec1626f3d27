/* Numbers of one element each, little endian: IEEE 754 and bf16; the 8-bit floats of "FP8 Formats for Deep Learning"
 * (Micikevicius et al. 2022: e4m3 has no infinity) and the scale e8m0 of OCP MX (2023); integers. */
#include "model/storage_decode.h"

#include <string.h>

static float from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* The f32 of a sign-less small float without infinities: an exponent of 0 holds multiples of 2^(1 - bias - mantissa). */
static inline float widen(uint32_t bits, uint32_t mantissa, uint32_t bias) {
  const uint32_t exponent = bits >> mantissa;
  if (exponent == 0) return (float)bits * from_bits((127 + 1 - bias - mantissa) << 23);
  return from_bits((bits << (23 - mantissa)) + ((127 - bias) << 23));
}

static inline float with_sign(float magnitude, bool negative) {
  return negative ? -magnitude : magnitude;
}

float mg__f16_to_f32(uint16_t bits) {
  const uint32_t rest = bits & 0x7fffu;
  const float magnitude = rest >= 0x7c00u ? from_bits(0x7f800000u | (rest & 0x3ffu) << 13) : widen(rest, 10, 15);
  return with_sign(magnitude, bits >> 15);
}

static float e4m3_to_f32(uint8_t bits) {
  const uint32_t rest = bits & 0x7fu;
  return with_sign(rest == 0x7fu ? from_bits(0x7fc00000u) : widen(rest, 3, 7), bits >> 7);
}

static float e5m2_to_f32(uint8_t bits) {
  return mg__f16_to_f32((uint16_t)(bits << 8)); /* an f16 cut to its upper half */
}

float mg__e8m0_to_f32(uint8_t bits) {
  if (bits == 0) return from_bits(0x00400000u); /* 2^-127, which f32 holds without a leading one */
  return from_bits(bits == 255 ? 0x7fc00000u : (uint32_t)bits << 23);
}

void mg__decode_f32(const unsigned char *in, int64_t count, float *out) {
  memcpy(out, in, (size_t)count * sizeof *out);
}
void mg__decode_f64(const unsigned char *in, int64_t count, double *out) {
  memcpy(out, in, (size_t)count * sizeof *out);
}

#define DECODE(name, stored, wanted, expression)                                                                       \
  void mg__decode_##name(const unsigned char *in, int64_t count, wanted *out) {                                        \
    for (int64_t i = 0; i < count; i++) {                                                                              \
      stored x;                                                                                                        \
      memcpy(&x, in + (size_t)i * sizeof x, sizeof x);                                                                 \
      out[i] = (expression);                                                                                           \
    }                                                                                                                  \
  }
DECODE(f16, uint16_t, float, mg__f16_to_f32(x))
DECODE(bf16, uint16_t, float, from_bits((uint32_t)x << 16))
DECODE(i64, int64_t, double, (double)x)
DECODE(i32, int32_t, double, (double)x)
DECODE(i16, int16_t, double, (double)x)
DECODE(i8, int8_t, double, (double)x)
DECODE(u64, uint64_t, double, (double)x)
DECODE(u32, uint32_t, double, (double)x)
DECODE(u16, uint16_t, double, (double)x)
DECODE(u8, uint8_t, double, (double)x)

/* Types of 256 values are looked up. */
#define LOOK_UP(name, function)                                                                                        \
  void mg__decode_##name(const unsigned char *in, int64_t count, float *out) {                                         \
    float values[256];                                                                                                 \
    for (int i = 0; i < 256; i++) values[i] = (function)((uint8_t)i);                                                  \
    for (int64_t i = 0; i < count; i++) out[i] = values[in[i]];                                                        \
  }
LOOK_UP(f8_e4m3, e4m3_to_f32)
LOOK_UP(f8_e5m2, e5m2_to_f32)
LOOK_UP(f8_e8m0, mg__e8m0_to_f32)
