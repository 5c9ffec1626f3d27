/* Typed values of GGUF metadata: u32 type, then a number, a text (u64 length, bytes), or a list (u32 element type, u64
 * count, elements). Lists of lists do not occur in models and are refused, so nothing here calls itself. */
#include <string.h>

#include "model/checkpoint/gguf.h"

/* ---- checking ------------------------------------------------------------------------------------------------------ */

static mg_status read_type(mg__gguf *gguf, mg_value_type *out) {
  uint64_t number;
  MG_TRY(mg__gguf_number(gguf, 4, &number));
  if (number >= MG_VALUE_TYPE_COUNT) return mg__gguf_refuse(gguf, "a type of value that GGUF does not know");
  *out = (mg_value_type)number;
  return MG_OK;
}

static mg_status read_flags(mg__gguf *gguf, uint64_t begin) {
  for (uint64_t i = begin; i < gguf->at; i++)
    if ((unsigned char)gguf->file->header[i] > 1) return mg__gguf_refuse(gguf, "a bool that is neither 0 nor 1");
  return MG_OK;
}

/* `count` values of one type, texts or numbers. */
static mg_status read_values(mg__gguf *gguf, mg_value_type type, uint64_t count) {
  uint64_t bytes, begin, length;
  uint32_t text;
  if (type == MG_VALUE_TEXT) {
    for (uint64_t i = 0; i < count; i++)
      MG_TRY(mg__gguf_text(gguf, gguf->checkpoint->limits.text_bytes, &text, &length));
    return MG_OK;
  }
  if (!mg__multiply(count, mg__value_bytes(type), &bytes))
    return mg__gguf_refuse(gguf, "a list of more than 2^64 bytes");
  MG_TRY(mg__gguf_take(gguf, bytes, &begin));
  return type == MG_VALUE_BOOL ? read_flags(gguf, begin) : MG_OK;
}

mg_status mg__gguf_read_value(mg__gguf *gguf) {
  mg_value_type type = MG_VALUE_LIST;
  uint64_t count = 0;
  MG_TRY(read_type(gguf, &type));
  if (type != MG_VALUE_LIST) return read_values(gguf, type, 1);
  MG_TRY(read_type(gguf, &type));
  MG_TRY(mg__gguf_number(gguf, 8, &count));
  if (type == MG_VALUE_LIST) return mg__gguf_refuse(gguf, "a list of lists");
  if (count > gguf->checkpoint->limits.list_elements) return mg__gguf_refuse(gguf, "a list longer than the limit");
  return read_values(gguf, type, count);
}

/* ---- decoding: of what was checked ---------------------------------------------------------------------------------- */

/* The top byte of a text's length is the first of the text itself since it was checked (mg__gguf_text). */
static uint64_t text_bytes(const unsigned char *length) {
  return mg__little_endian(length, 7);
}

void mg__gguf_value(const mg__file *file, const mg__key *key, mg_value *out) {
  const unsigned char *data = (const unsigned char *)&file->header[key->value];
  *out = (mg_value){.type = (mg_value_type)mg__little_endian(data, 4), .count = 1, .data = &data[4]};
  if (out->type == MG_VALUE_LIST) {
    out->element = (mg_value_type)mg__little_endian(&data[4], 4);
    out->count = (int64_t)mg__little_endian(&data[8], 8);
    out->data = &data[16];
  } else if (out->type == MG_VALUE_TEXT) {
    out->text_bytes = (size_t)text_bytes(&data[4]);
    out->data = &data[11];
  }
}

/* The type of the next value; MG_VALUE_LIST if none is left. */
static mg_value_type next_type(const mg_value *value) {
  if (value->count <= 0) return MG_VALUE_LIST;
  return value->type == MG_VALUE_LIST ? value->element : value->type;
}

static void advance(mg_value *value, size_t bytes) {
  value->data = &value->data[bytes];
  value->count--;
}

bool mg_value_next_integer(mg_value *value, int64_t *out) {
  const mg_value_type type = next_type(value);
  const unsigned bytes = (unsigned)mg__value_bytes(type);
  if (bytes == 0 || type == MG_VALUE_F32 || type == MG_VALUE_F64 || type == MG_VALUE_BOOL) return false;
  const bool negative = type == MG_VALUE_I8 || type == MG_VALUE_I16 || type == MG_VALUE_I32 || type == MG_VALUE_I64;
  uint64_t bits = mg__little_endian(value->data, bytes);
  if (negative && bytes < 8 && bits >> ((bytes << 3) - 1)) bits |= UINT64_MAX << (bytes << 3);
  if (!negative && bits > INT64_MAX) return false;
  *out = (int64_t)bits;
  advance(value, bytes);
  return true;
}

bool mg_value_next_real(mg_value *value, double *out) {
  const mg_value_type type = next_type(value);
  float narrow;
  if (type == MG_VALUE_F32) {
    memcpy(&narrow, value->data, sizeof narrow);
    *out = narrow;
  } else if (type == MG_VALUE_F64) {
    memcpy(out, value->data, sizeof *out);
  } else {
    return false;
  }
  advance(value, mg__value_bytes(type));
  return true;
}

bool mg_value_next_flag(mg_value *value, bool *out) {
  if (next_type(value) != MG_VALUE_BOOL) return false;
  *out = value->data[0] != 0;
  advance(value, 1);
  return true;
}

bool mg_value_next_text(mg_value *value, const char **out, size_t *bytes) {
  if (next_type(value) != MG_VALUE_TEXT) return false;
  const bool list = value->type == MG_VALUE_LIST;
  *bytes = list ? (size_t)text_bytes(value->data) : value->text_bytes;
  if (list) value->data = &value->data[7];
  *out = (const char *)value->data;
  advance(value, *bytes);
  if (list) value->data = &value->data[1]; /* the NUL */
  return true;
}

/* ---- what the reader itself needs ------------------------------------------------------------------------------------ */

static mg_status note_integer(const mg__gguf *gguf, mg_value *value, int64_t *out) {
  if (*out >= 0) return mg__gguf_refuse(gguf, "the key occurs twice");
  if (value->type != MG_VALUE_LIST && mg_value_next_integer(value, out) && *out >= 0) return MG_OK;
  return mg__gguf_refuse(gguf, "it is no whole number of at least 0");
}

mg_status mg__gguf_note(mg__gguf *gguf, const mg__key *key) {
  const char *name = &gguf->file->header[key->name];
  mg_value value;
  int64_t number;
  mg__gguf_value(gguf->file, key, &value);
  if (strcmp(name, "split.no") == 0) return note_integer(gguf, &value, &gguf->split_number);
  if (strcmp(name, "split.count") == 0) return note_integer(gguf, &value, &gguf->split_count);
  if (strcmp(name, "split.tensors.count") == 0) return note_integer(gguf, &value, &gguf->split_tensors);
  if (strcmp(name, "general.alignment") != 0) return MG_OK;
  if (gguf->alignment_seen) return mg__gguf_refuse(gguf, "the key occurs twice");
  if (value.type != MG_VALUE_U32 || !mg_value_next_integer(&value, &number))
    return mg__gguf_refuse(gguf, "it is no u32");
  gguf->alignment_seen = true;
  gguf->alignment = (uint64_t)number;
  return MG_OK;
}
