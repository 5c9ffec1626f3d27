/* The table of storage types, from their one list. */
#include "model/storage.h"

#include <string.h>

#include "model/storage_decode.h"

#define REAL(decoder) .to_f32 = (decoder)
#define STORED(dtype) .stored = (dtype)
#define WIDE(decoder) .to_f64 = (decoder)
#define WHOLE(decoder) .to_f64 = (decoder), .integer = true
#define SIZE .to_f32 = NULL
#define ROW(NAME, word, safetensors_word, number, values, bits, decoding)                                              \
  [MG_STORAGE_##NAME] = {                                                                                              \
      {.name = (word), .block_values = (values), .block_bits = (bits), decoding}, (safetensors_word), (number)},

static const struct {
  mg_storage_info about;
  const char *safetensors; /* NULL if the format lacks it */
  int gguf;                /* -1 if the format lacks it */
} table[MG_STORAGE_COUNT] = {MG_STORAGE_LIST(ROW, REAL, STORED, WIDE, WHOLE, SIZE)};

const mg_storage_info *mg_storage_about(mg_storage storage) {
  return &table[storage].about;
}

bool mg_storage_from_safetensors(const char *name, size_t bytes, mg_storage *out) {
  for (int i = 0; i < MG_STORAGE_COUNT; i++) {
    const char *known = table[i].safetensors;
    if (!known || strlen(known) != bytes || memcmp(known, name, bytes) != 0) continue;
    *out = (mg_storage)i;
    return true;
  }
  return false;
}

bool mg_storage_from_gguf(uint32_t number, mg_storage *out) {
  for (int i = 0; i < MG_STORAGE_COUNT; i++) {
    if (table[i].gguf < 0 || (uint32_t)table[i].gguf != number) continue;
    *out = (mg_storage)i;
    return true;
  }
  return false;
}

const char *mg_storage_safetensors_name(mg_storage storage) {
  return table[storage].safetensors;
}

mg_storage mg_storage_of_dtype(mg_dtype dtype) {
  static const mg_dtype computed[] = {MG_F32, MG_BF16, MG_I32, MG_F64};
  static const mg_storage same[] = {MG_STORAGE_F32, MG_STORAGE_BF16, MG_STORAGE_I32, MG_STORAGE_F64};
  for (size_t i = 0; i < MG_COUNT(computed); i++)
    if (computed[i] == dtype) return same[i];
  for (int i = 0; i < MG_STORAGE_COUNT && mg_dtype_is_stored(dtype); i++)
    if (table[i].about.stored == dtype) return (mg_storage)i;
  return MG_STORAGE_COUNT;
}

bool mg_storage_is_real(mg_storage storage) {
  return table[storage].about.to_f32 || mg_dtype_is_stored(table[storage].about.stored);
}

void mg_storage_decode(mg_storage storage, const unsigned char *in, int64_t count, float *out) {
  const mg_storage_info *about = &table[storage].about;
  if (about->to_f32)
    about->to_f32(in, count, out);
  else
    mg_stored_decode(about->stored, in, count, out);
}
