/* Dtypes, shapes and the bf16 format. */
#include "moegauge/tensor.h"

#include <stdio.h>
#include <string.h>

static const struct {
  const char *name; /* NULL for what is no dtype */
  int64_t block;    /* elements */
  size_t bytes;     /* of a block */
} dtypes[MG_DTYPE_END] = {
#define STORED(NAME, name, values, bytes) [MG_##NAME] = {#name, values, bytes},
    MG_STORED_LIST(STORED)
#undef STORED
        [MG_F32] = {"f32", 1, 4},
    [MG_BF16] = {"bf16", 1, 2}, [MG_I32] = {"i32", 1, 4}, [MG_F64] = {"f64", 1, 8}};

static bool is_dtype(mg_dtype dtype) {
  return (unsigned)dtype < MG_DTYPE_END && dtypes[dtype].name;
}

const char *mg_dtype_name(mg_dtype dtype) {
  return is_dtype(dtype) ? dtypes[dtype].name : "unknown";
}

size_t mg_dtype_bytes(mg_dtype dtype) {
  return is_dtype(dtype) && dtypes[dtype].block == 1 ? dtypes[dtype].bytes : 0;
}

bool mg_dtype_is_stored(mg_dtype dtype) {
  return (unsigned)dtype > MG_DTYPE_COUNT && is_dtype(dtype);
}

int64_t mg_dtype_block(mg_dtype dtype) {
  return is_dtype(dtype) ? dtypes[dtype].block : 1;
}

size_t mg_dtype_run_bytes(mg_dtype dtype, int64_t count) {
  return is_dtype(dtype) ? (size_t)(count / dtypes[dtype].block) * dtypes[dtype].bytes : 0;
}

bool mg_dtype_from_name(const char *name, mg_dtype *out) {
  for (int i = 0; name && i < MG_DTYPE_COUNT; i++) {
    if (strcmp(name, dtypes[i].name) != 0) continue;
    *out = (mg_dtype)i;
    return true;
  }
  return false;
}

int64_t mg_tensor_count(const mg_tensor *tensor) {
  return mg_tensor_rows(tensor) * mg_tensor_columns(tensor);
}

size_t mg_tensor_bytes(const mg_tensor *tensor) {
  return mg_dtype_run_bytes(tensor->dtype, mg_tensor_count(tensor));
}

int64_t mg_tensor_columns(const mg_tensor *tensor) {
  return tensor->dims > 0 ? tensor->shape[tensor->dims - 1] : 0;
}

int64_t mg_tensor_rows(const mg_tensor *tensor) {
  int64_t rows = 1;
  for (int32_t i = 0; i + 1 < tensor->dims; i++) rows *= tensor->shape[i];
  return rows;
}

bool mg_tensor_same_shape(const mg_tensor *a, const mg_tensor *b) {
  if (a->dims != b->dims) return false;
  for (int32_t i = 0; i < a->dims; i++) {
    if (a->shape[i] != b->shape[i]) return false;
  }
  return true;
}

const char *mg_shape_text(const mg_tensor *tensor, char text[MG_SHAPE_TEXT_BYTES]) {
  size_t used = (size_t)snprintf(text, MG_SHAPE_TEXT_BYTES, "[");
  for (int32_t i = 0; i < tensor->dims && i < MG_DIMS_MAX && used < MG_SHAPE_TEXT_BYTES; i++) {
    used +=
        (size_t)snprintf(text + used, MG_SHAPE_TEXT_BYTES - used, "%s%lld", i ? ", " : "", (long long)tensor->shape[i]);
  }
  if (used < MG_SHAPE_TEXT_BYTES) snprintf(text + used, MG_SHAPE_TEXT_BYTES - used, "]");
  return text;
}

uint16_t mg_bf16_from_f32(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u); /* keep NaN a quiet NaN */
  return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float mg_bf16_to_f32(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}
