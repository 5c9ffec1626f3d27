/* Numbers of one element each that are no stored dtype, little endian: f32, f64 and bf16, the scale e8m0 of OCP MX (2023),
 * and integers. */
#include "model/storage_decode.h"

#include <string.h>

static float from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static float e8m0_to_f32(uint8_t bits) {
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
DECODE(bf16, uint16_t, float, from_bits((uint32_t)x << 16))
DECODE(i64, int64_t, double, (double)x)
DECODE(i32, int32_t, double, (double)x)
DECODE(i16, int16_t, double, (double)x)
DECODE(i8, int8_t, double, (double)x)
DECODE(u64, uint64_t, double, (double)x)
DECODE(u32, uint32_t, double, (double)x)
DECODE(u16, uint16_t, double, (double)x)
DECODE(u8, uint8_t, double, (double)x)

void mg__decode_f8_e8m0(const unsigned char *in, int64_t count, float *out) {
  for (int64_t i = 0; i < count; i++) out[i] = e8m0_to_f32(in[i]);
}
