/* The decodings of storage types: `count` values from as many whole blocks at `in`, which need not be aligned. */
#ifndef MG_MODEL_STORAGE_DECODE_H
#define MG_MODEL_STORAGE_DECODE_H

#include "model/storage.h"

/* Numbers of one element (storage_numbers.c). */
void mg__decode_f32(const unsigned char *in, int64_t count, float *out);
void mg__decode_f16(const unsigned char *in, int64_t count, float *out);
void mg__decode_bf16(const unsigned char *in, int64_t count, float *out);
void mg__decode_f8_e4m3(const unsigned char *in, int64_t count, float *out);
void mg__decode_f8_e5m2(const unsigned char *in, int64_t count, float *out);
void mg__decode_f8_e8m0(const unsigned char *in, int64_t count, float *out);
void mg__decode_f64(const unsigned char *in, int64_t count, double *out);
void mg__decode_i64(const unsigned char *in, int64_t count, double *out);
void mg__decode_i32(const unsigned char *in, int64_t count, double *out);
void mg__decode_i16(const unsigned char *in, int64_t count, double *out);
void mg__decode_i8(const unsigned char *in, int64_t count, double *out);
void mg__decode_u64(const unsigned char *in, int64_t count, double *out);
void mg__decode_u32(const unsigned char *in, int64_t count, double *out);
void mg__decode_u16(const unsigned char *in, int64_t count, double *out);
void mg__decode_u8(const unsigned char *in, int64_t count, double *out);
float mg__f16_to_f32(uint16_t bits);
float mg__e8m0_to_f32(uint8_t bits);

/* Blocks of quantised values (storage_blocks.c). */
void mg__decode_q8_0(const unsigned char *in, int64_t count, float *out);
void mg__decode_q4_0(const unsigned char *in, int64_t count, float *out);
void mg__decode_q4_k(const unsigned char *in, int64_t count, float *out);
void mg__decode_q5_k(const unsigned char *in, int64_t count, float *out);
void mg__decode_q6_k(const unsigned char *in, int64_t count, float *out);
void mg__decode_mxfp4(const unsigned char *in, int64_t count, float *out);

#endif
