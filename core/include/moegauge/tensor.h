/* A tensor: a dense, row-major block of one dtype in some backend's memory. There are no strides: a view of the same
 * elements under another shape is another mg_tensor with the same data pointer. */
#ifndef MOEGAUGE_TENSOR_H
#define MOEGAUGE_TENSOR_H

#include "moegauge/context.h"

/* f64 exists for gradient checks on the reference backend. i32 holds ids, offsets and positions. */
typedef enum mg_dtype { MG_F32, MG_BF16, MG_I32, MG_F64, MG_DTYPE_COUNT } mg_dtype;

enum { MG_DIMS_MAX = 4 };

typedef struct mg_tensor {
  void *data; /* in the backend's memory; NULL only when there are no elements */
  int64_t shape[MG_DIMS_MAX];
  int32_t dims; /* 1 .. MG_DIMS_MAX */
  mg_dtype dtype;
} mg_tensor;

MG_API const char *mg_dtype_name(mg_dtype dtype);
MG_API size_t mg_dtype_bytes(mg_dtype dtype);
/* "f32" -> MG_F32; false if the name is unknown. */
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
