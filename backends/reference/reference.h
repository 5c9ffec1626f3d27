/* What the kernels of the reference share: element access in double, and their declarations.
 *
 * Every kernel reads its operands as double, computes in double in the order of the formula, and rounds once, when it
 * stores. Nothing here is fast on purpose: a kernel is read to learn what a primitive means. */
#ifndef MG_BACKENDS_REFERENCE_H
#define MG_BACKENDS_REFERENCE_H

#include <math.h>

#include "moegauge/backend.h"

/* Element i of a tensor of a stored dtype: its block is decoded. */
static inline double stored_at(const mg_tensor *x, int64_t i) {
  const int64_t block = mg_dtype_block(x->dtype);
  float values[MG_STORED_BLOCK_MAX];
  mg_stored_decode(x->dtype, (const char *)x->data + mg_dtype_run_bytes(x->dtype, i / block * block), block, values);
  return values[i % block];
}

/* Element i of a tensor of any dtype; every i32 is exact in double. */
static inline double at(const mg_tensor *x, int64_t i) {
  switch (x->dtype) {
  case MG_F32: return ((const float *)x->data)[i];
  case MG_BF16: return mg_bf16_to_f32(((const uint16_t *)x->data)[i]);
  case MG_I32: return ((const int32_t *)x->data)[i];
  case MG_F64: return ((const double *)x->data)[i];
  default: return mg_dtype_is_stored(x->dtype) ? stored_at(x, i) : NAN;
  }
}

/* To i32: towards zero, to the nearest end when out of range, NaN to 0. */
static inline int32_t integer_of(double value) {
  if (isnan(value)) return 0;
  if (value <= INT32_MIN) return INT32_MIN;
  if (value >= INT32_MAX) return INT32_MAX;
  return (int32_t)value;
}

/* Stores a value rounded to the tensor's dtype; bf16 is reached through f32. */
static inline void put(const mg_tensor *out, int64_t i, double value) {
  switch (out->dtype) {
  case MG_F32: ((float *)out->data)[i] = (float)value; break;
  case MG_BF16: ((uint16_t *)out->data)[i] = mg_bf16_from_f32((float)value); break;
  case MG_I32: ((int32_t *)out->data)[i] = integer_of(value); break;
  case MG_F64: ((double *)out->data)[i] = value; break;
  default: break;
  }
}

/* An id, offset, slot or position. */
static inline int64_t id_at(const mg_tensor *ids, int64_t i) {
  return ((const int32_t *)ids->data)[i];
}
static inline void put_id(const mg_tensor *ids, int64_t i, int64_t value) {
  ((int32_t *)ids->data)[i] = (int32_t)value;
}

/* An operand of a matrix product as `compute` sees it. */
static inline double operand(double value, mg_dtype compute) {
  if (compute == MG_BF16) return mg_bf16_to_f32(mg_bf16_from_f32((float)value));
  return compute == MG_F32 ? (double)(float)value : value;
}

/* The larger of two; NaN when either is. */
static inline double larger(double a, double b) {
  return a >= b || isnan(a) ? a : b;
}

/* The last number of `offsets`: how many assignments there are. */
static inline int64_t last_offset(const mg_tensor *offsets) {
  return id_at(offsets, mg_tensor_count(offsets) - 1);
}

/* MG_BUG unless every id is in [0, bound) or -1. */
mg_status mg__reference_check_ids(mg_backend *backend, mg_op op, const mg_tensor *ids, int64_t bound);

/* `count` doubles that live until the next call of this function; NULL when memory runs out. */
double *mg__reference_scratch(mg_backend *backend, int64_t count);

/* Matrix `index` of x seen as a list of matrices of `count` elements: a view, or of a stored dtype an f32 copy, which lives
 * until the next call of mg__reference_scratch. False when memory runs out. */
bool mg__reference_matrix(mg_backend *backend, const mg_tensor *x, int64_t index, int64_t count, mg_tensor *out);

/* f(x) and df/dx of the elementwise functions, shared by unary and glu. */
double mg__reference_unary_value(mg_unary kind, double x, double alpha, double beta);
double mg__reference_unary_slope(mg_unary kind, double x, double alpha, double beta);

/* One kernel per primitive: mg__reference_softmax and so on. */
#define MG_REFERENCE_KERNEL(NAME, name, inputs, outputs, what)                                                         \
  mg_status mg__reference_##name(mg_backend *backend, const mg_op_call *call);
MG_OP_LIST(MG_REFERENCE_KERNEL)
#undef MG_REFERENCE_KERNEL

#endif
