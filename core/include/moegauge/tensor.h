/* A tensor: a dense, row-major block of one dtype in some backend's memory. There are no strides: a view of the same
 * elements under another shape is another mg_tensor with the same data pointer. */
#ifndef MOEGAUGE_TENSOR_H
#define MOEGAUGE_TENSOR_H

#include "moegauge/context.h"

/* Stored dtypes: weights as released checkpoints keep them. Only the weight of a product, the table of gather_rows and
 * the input of cast may have one; they are decoded where they are used, and cast to f32 says what they mean. A row is a
 * whole number of blocks. X(NAME, name, values of a block, bytes of a block); moegauge/stored.h has the
 * formulas. */
// clang-format off
#define MG_STORED_LIST(X)                                                                          \
  X(F16, f16, 1, 2)                                                                                \
  X(F8_E4M3, f8_e4m3, 1, 1)                                                                        \
  X(F8_E5M2, f8_e5m2, 1, 1)                                                                        \
  X(F8_BLOCKS, f8_blocks, 128, 132)                                                                \
  X(Q8_0, q8_0, 32, 34)                                                                            \
  X(Q4_0, q4_0, 32, 18)                                                                            \
  X(Q4_K, q4_k, 256, 144)                                                                          \
  X(Q5_K, q5_k, 256, 176)                                                                          \
  X(Q6_K, q6_k, 256, 210)                                                                          \
  X(MXFP4, mxfp4, 32, 17)
// clang-format on

/* f64 exists for gradient checks on the reference backend. i32 holds ids, offsets and positions. MG_DTYPE_COUNT is the
 * number of dtypes that are computed in; the stored ones come after it. */
typedef enum mg_dtype {
  MG_F32,
  MG_BF16,
  MG_I32,
  MG_F64,
  MG_DTYPE_COUNT,
#define MG_STORED_ENUM(NAME, name, values, bytes) MG_##NAME,
  MG_STORED_LIST(MG_STORED_ENUM)
#undef MG_STORED_ENUM
      MG_DTYPE_END
} mg_dtype;

enum { MG_STORED_BLOCK_MAX = 256 }; /* values of the largest block, which all others divide */

enum { MG_DIMS_MAX = 4 };

typedef struct mg_tensor {
  void *data; /* in the backend's memory; NULL only when there are no elements */
  int64_t shape[MG_DIMS_MAX];
  int32_t dims; /* 1 .. MG_DIMS_MAX */
  mg_dtype dtype;
} mg_tensor;

MG_API const char *mg_dtype_name(mg_dtype dtype);
/* Bytes of one element; 0 where elements share a block. */
MG_API size_t mg_dtype_bytes(mg_dtype dtype);
MG_API bool mg_dtype_is_stored(mg_dtype dtype);
/* Elements of a block: 1 where each has bytes of its own. */
MG_API int64_t mg_dtype_block(mg_dtype dtype);
/* Bytes of `count` elements, a whole number of blocks. */
MG_API size_t mg_dtype_run_bytes(mg_dtype dtype, int64_t count);
/* `count` elements of a stored dtype, a whole number of blocks, as f32; `blocks` need not be aligned. */
MG_API void mg_stored_decode(mg_dtype dtype, const void *blocks, int64_t count, float *out);
/* "f32" -> MG_F32; false if the name is unknown or that of a stored dtype. */
MG_API bool mg_dtype_from_name(const char *name, mg_dtype *out);

/* Elements of the whole tensor, and its size in bytes. A tensor with a zero dimension has 0 elements. */
MG_API int64_t mg_tensor_count(const mg_tensor *tensor);
MG_API size_t mg_tensor_bytes(const mg_tensor *tensor);

/* A tensor seen as a matrix: the last dimension is the columns, all others together the rows. */
MG_API int64_t mg_tensor_columns(const mg_tensor *tensor);
MG_API int64_t mg_tensor_rows(const mg_tensor *tensor);

MG_API bool mg_tensor_same_shape(const mg_tensor *a, const mg_tensor *b);

enum { MG_SHAPE_TEXT_BYTES = 96 };
/* Writes "[512, 64]" into `text` and returns it, for messages. */
MG_API const char *mg_shape_text(const mg_tensor *tensor, char text[MG_SHAPE_TEXT_BYTES]);

/* bf16 is the upper half of an f32; conversion rounds to nearest even and keeps NaN. */
MG_API uint16_t mg_bf16_from_f32(float value);
MG_API float mg_bf16_to_f32(uint16_t bits);

#endif
