/* How checkpoint files store numbers: the dtypes of safetensors and the blocks of GGUF, their sizes, and how the values
 * are decoded. A row of a tensor is a whole number of blocks. */
#ifndef MG_MODEL_STORAGE_H
#define MG_MODEL_STORAGE_H

#include "moegauge/tensor.h"

/* X(NAME, name, safetensors name or NULL, GGUF number or -1, values of a block, bits of a block, decoding). A decoding is
 * REAL(to f32), STORED(the dtype that has these blocks), WIDE(to f64), WHOLE(integers, to f64), or SIZE: known by its
 * size alone. */
// clang-format off
#define MG_STORAGE_LIST(X, REAL, STORED, WIDE, WHOLE, SIZE)                                                \
  X(F64, "f64", "F64", 28, 1, 64, WIDE(mg__decode_f64))                                            \
  X(F32, "f32", "F32", 0, 1, 32, REAL(mg__decode_f32))                                             \
  X(F16, "f16", "F16", 1, 1, 16, STORED(MG_F16))                                             \
  X(BF16, "bf16", "BF16", 30, 1, 16, REAL(mg__decode_bf16))                                        \
  X(F8_E4M3, "f8_e4m3", "F8_E4M3", -1, 1, 8, STORED(MG_F8_E4M3))                             \
  X(F8_E5M2, "f8_e5m2", "F8_E5M2", -1, 1, 8, STORED(MG_F8_E5M2))                             \
  X(F8_E8M0, "f8_e8m0", "F8_E8M0", -1, 1, 8, REAL(mg__decode_f8_e8m0))                             \
  X(F8_E4M3FNUZ, "f8_e4m3fnuz", "F8_E4M3FNUZ", -1, 1, 8, SIZE)                                     \
  X(F8_E5M2FNUZ, "f8_e5m2fnuz", "F8_E5M2FNUZ", -1, 1, 8, SIZE)                                     \
  X(F6_E2M3, "f6_e2m3", "F6_E2M3", -1, 1, 6, SIZE)                                                 \
  X(F6_E3M2, "f6_e3m2", "F6_E3M2", -1, 1, 6, SIZE)                                                 \
  X(F4, "f4", "F4", -1, 1, 4, SIZE)                                                                \
  X(C64, "c64", "C64", -1, 1, 64, SIZE)                                                            \
  X(I64, "i64", "I64", 27, 1, 64, WHOLE(mg__decode_i64))                                           \
  X(I32, "i32", "I32", 26, 1, 32, WHOLE(mg__decode_i32))                                           \
  X(I16, "i16", "I16", 25, 1, 16, WHOLE(mg__decode_i16))                                           \
  X(I8, "i8", "I8", 24, 1, 8, WHOLE(mg__decode_i8))                                                \
  X(U64, "u64", "U64", -1, 1, 64, WHOLE(mg__decode_u64))                                           \
  X(U32, "u32", "U32", -1, 1, 32, WHOLE(mg__decode_u32))                                           \
  X(U16, "u16", "U16", -1, 1, 16, WHOLE(mg__decode_u16))                                           \
  X(U8, "u8", "U8", -1, 1, 8, WHOLE(mg__decode_u8))                                                \
  X(BOOL, "bool", "BOOL", -1, 1, 8, WHOLE(mg__decode_u8))                                          \
  X(Q4_0, "q4_0", NULL, 2, 32, 144, STORED(MG_Q4_0))                                         \
  X(Q4_1, "q4_1", NULL, 3, 32, 160, SIZE)                                                          \
  X(Q5_0, "q5_0", NULL, 6, 32, 176, SIZE)                                                          \
  X(Q5_1, "q5_1", NULL, 7, 32, 192, SIZE)                                                          \
  X(Q8_0, "q8_0", NULL, 8, 32, 272, STORED(MG_Q8_0))                                         \
  X(Q8_1, "q8_1", NULL, 9, 32, 320, SIZE)                                                          \
  X(Q2_K, "q2_k", NULL, 10, 256, 672, SIZE)                                                        \
  X(Q3_K, "q3_k", NULL, 11, 256, 880, SIZE)                                                        \
  X(Q4_K, "q4_k", NULL, 12, 256, 1152, STORED(MG_Q4_K))                                      \
  X(Q5_K, "q5_k", NULL, 13, 256, 1408, STORED(MG_Q5_K))                                      \
  X(Q6_K, "q6_k", NULL, 14, 256, 1680, STORED(MG_Q6_K))                                      \
  X(Q8_K, "q8_k", NULL, 15, 256, 2336, SIZE)                                                       \
  X(IQ2_XXS, "iq2_xxs", NULL, 16, 256, 528, SIZE)                                                  \
  X(IQ2_XS, "iq2_xs", NULL, 17, 256, 592, SIZE)                                                    \
  X(IQ3_XXS, "iq3_xxs", NULL, 18, 256, 784, SIZE)                                                  \
  X(IQ1_S, "iq1_s", NULL, 19, 256, 400, SIZE)                                                      \
  X(IQ4_NL, "iq4_nl", NULL, 20, 32, 144, SIZE)                                                     \
  X(IQ3_S, "iq3_s", NULL, 21, 256, 880, SIZE)                                                      \
  X(IQ2_S, "iq2_s", NULL, 22, 256, 656, SIZE)                                                      \
  X(IQ4_XS, "iq4_xs", NULL, 23, 256, 1088, SIZE)                                                   \
  X(IQ1_M, "iq1_m", NULL, 29, 256, 448, SIZE)                                                      \
  X(TQ1_0, "tq1_0", NULL, 34, 256, 432, SIZE)                                                      \
  X(TQ2_0, "tq2_0", NULL, 35, 256, 528, SIZE)                                                      \
  X(MXFP4, "mxfp4", NULL, 39, 32, 136, STORED(MG_MXFP4))                                     \
  X(NVFP4, "nvfp4", NULL, 40, 64, 288, SIZE)
// clang-format on

typedef enum mg_storage {
#define MG_STORAGE_ENUM(NAME, name, safetensors, gguf, values, bits, decoding) MG_STORAGE_##NAME,
#define MG_STORAGE_NOTHING(decoder)
  MG_STORAGE_LIST(MG_STORAGE_ENUM, MG_STORAGE_NOTHING, MG_STORAGE_NOTHING, MG_STORAGE_NOTHING, MG_STORAGE_NOTHING, )
#undef MG_STORAGE_ENUM
#undef MG_STORAGE_NOTHING
      MG_STORAGE_COUNT
} mg_storage;

typedef struct mg_storage_info {
  const char *name;
  uint32_t block_values; /* along a row */
  uint32_t block_bits;   /* a multiple of 8 but for f4 and f6 */
  /* One of the three, or none for what is known by its size alone. The functions write `count` values, a multiple of
   * block_values, from as many whole blocks; `in` need not be aligned. */
  mg_dtype stored; /* decoded by mg_stored_decode; not a stored dtype = none */
  void (*to_f32)(const unsigned char *in, int64_t count, float *out);
  void (*to_f64)(const unsigned char *in, int64_t count, double *out); /* f64 and integers */
  bool integer;
} mg_storage_info;

const mg_storage_info *mg_storage_about(mg_storage storage);
/* "BF16" -> MG_STORAGE_BF16; false if the name is unknown. `bytes` of `name` are read. */
bool mg_storage_from_safetensors(const char *name, size_t bytes, mg_storage *out);
bool mg_storage_from_gguf(uint32_t number, mg_storage *out);
/* The name that a safetensors header uses; NULL if it has none. */
const char *mg_storage_safetensors_name(mg_storage storage);
/* The storage whose bytes are those of a tensor of this dtype; MG_STORAGE_COUNT if there is none. */
mg_storage mg_storage_of_dtype(mg_dtype dtype);
/* Whether values are decoded to f32 first, and the decoding. */
bool mg_storage_is_real(mg_storage storage);
void mg_storage_decode(mg_storage storage, const unsigned char *in, int64_t count, float *out);

#endif
