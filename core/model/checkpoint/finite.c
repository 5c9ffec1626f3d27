/* Looks through the values of a stored tensor for NaN and infinities, which no rule of the formats forbids. */
#include <math.h>

#include "model/checkpoint/internal.h"

/* Values of one step: a multiple of every block. */
enum { CHUNK = 16384, BYTES_A_VALUE_MOST = 8 };

static int64_t count_wrong(const float *values, int64_t count) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; i++) wrong += !isfinite(values[i]);
  return wrong;
}

static int64_t count_wrong_f64(const double *values, int64_t count) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; i++) wrong += !isfinite(values[i]);
  return wrong;
}

static int64_t look(const mg_checkpoint_tensor *tensor, const mg_storage_info *about, const unsigned char *raw,
                    int64_t count, double *values) {
  if (mg_storage_is_real(tensor->storage)) {
    mg_storage_decode(tensor->storage, raw, count, (float *)values);
    return count_wrong((float *)values, count);
  }
  about->to_f64(raw, count, values);
  return count_wrong_f64(values, count);
}

static mg_status look_through(const mg_checkpoint *checkpoint, const mg_checkpoint_tensor *tensor, unsigned char *raw,
                              double *values, int64_t *out) {
  const mg_storage_info *about = mg_storage_about(tensor->storage);
  const mg__file *file = mg__file_of(checkpoint, (size_t)tensor->index);
  uint64_t at = checkpoint->entries[tensor->index].begin;
  const uint64_t end = at + tensor->bytes; /* within the file, or it would not have been opened */
  const uint64_t step = (uint64_t)CHUNK / about->block_values * about->block_bits / 8;
  for (uint64_t bytes; at < end; at += bytes) {
    bytes = end - at < step ? end - at : step;
    if (!mg__file_read(file, raw, bytes, at))
      return mg__file_refuse(checkpoint, file, at, "tensor", tensor->name,
                             "its data cannot be read: the file was cut since it was opened, or its disk fails");
    *out += look(tensor, about, raw, (int64_t)(bytes * 8 / about->block_bits * about->block_values), values);
  }
  return MG_OK;
}

mg_status mg_checkpoint_count_not_finite(const mg_checkpoint *checkpoint, const mg_checkpoint_tensor *tensor,
                                         int64_t *out) {
  enum { RAW_BYTES = CHUNK * BYTES_A_VALUE_MOST, VALUES_BYTES = CHUNK * sizeof(double) };
  const mg_storage_info *about = mg_storage_about(tensor->storage);
  *out = 0;
  if (about->integer) return MG_OK;
  if (!mg_storage_is_real(tensor->storage) && !about->to_f64) {
    *out = -1;
    return MG_OK;
  }
  unsigned char *raw = mg_alloc(checkpoint->context, RAW_BYTES);
  double *values = mg_alloc(checkpoint->context, VALUES_BYTES);
  const mg_status status = raw && values ? look_through(checkpoint, tensor, raw, values, out) : MG_MEMORY;
  mg_free(checkpoint->context, raw, raw ? RAW_BYTES : 0);
  mg_free(checkpoint->context, values, values ? VALUES_BYTES : 0);
  return status;
}
