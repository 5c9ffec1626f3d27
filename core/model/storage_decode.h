/* The decodings of storage types that are no dtype: `count` values at `in`, which need not be aligned. */
#ifndef MG_MODEL_STORAGE_DECODE_H
#define MG_MODEL_STORAGE_DECODE_H

#include "model/storage.h"

void mg__decode_f32(const unsigned char *in, int64_t count, float *out);
void mg__decode_bf16(const unsigned char *in, int64_t count, float *out);
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

#endif
