/* Metadata as JSON. */
#include <math.h>

#include "model/checkpoint/gguf.h"

enum { LIST_MOST = 256 };

/* The next element, an integer of more than 2^63 - 1. */
static double next_large(mg_value *value) {
  const double large = (double)mg__little_endian(value->data, sizeof(uint64_t));
  value->data += sizeof(uint64_t);
  value->count--;
  return large;
}

/* The next element; NULL if memory runs out or a text is no UTF-8. */
static json_t *next_json(mg_value *value) {
  int64_t integer;
  double real;
  bool flag;
  const char *text;
  size_t bytes;
  if (mg_value_next_integer(value, &integer)) return json_integer(integer);
  if (mg_value_next_real(value, &real)) return isfinite(real) ? json_real(real) : json_null();
  if (mg_value_next_flag(value, &flag)) return json_boolean(flag);
  if (mg_value_next_text(value, &text, &bytes)) return json_stringn(text, bytes);
  return json_real(next_large(value));
}

static json_t *list_json(mg_value value) {
  if (value.count > LIST_MOST) return json_integer(value.count);
  json_t *list = json_array();
  while (list && value.count > 0) {
    json_t *element = next_json(&value);
    json_array_append_new(list, element ? element : json_null()); /* null keeps the others in their places */
  }
  return list;
}

json_t *mg_checkpoint_metadata(const mg_checkpoint *checkpoint) {
  json_t *all = json_object();
  for (int64_t i = 0; all && i < mg_checkpoint_keys(checkpoint); i++) {
    mg_value value;
    const char *key = mg_checkpoint_key(checkpoint, i, &value);
    json_t *json = value.type == MG_VALUE_LIST ? list_json(value) : next_json(&value);
    if (json) json_object_set_new_nocheck(all, key, json);
  }
  return all;
}
