/* Metadata by key, with the type that the caller demands. */
#include <string.h>

#include "model/checkpoint/internal.h"

static const struct {
  const char *name;
  size_t bytes;
} types[MG_VALUE_TYPE_COUNT] = {
    [MG_VALUE_U8] = {"u8", 1},     [MG_VALUE_I8] = {"i8", 1},     [MG_VALUE_U16] = {"u16", 2},
    [MG_VALUE_I16] = {"i16", 2},   [MG_VALUE_U32] = {"u32", 4},   [MG_VALUE_I32] = {"i32", 4},
    [MG_VALUE_F32] = {"f32", 4},   [MG_VALUE_BOOL] = {"bool", 1}, [MG_VALUE_TEXT] = {"text", 0},
    [MG_VALUE_LIST] = {"list", 0}, [MG_VALUE_U64] = {"u64", 8},   [MG_VALUE_I64] = {"i64", 8},
    [MG_VALUE_F64] = {"f64", 8}};

const char *mg_value_type_name(mg_value_type type) {
  return (unsigned)type < MG_VALUE_TYPE_COUNT ? types[type].name : "unknown";
}

size_t mg__value_bytes(mg_value_type type) {
  return types[type].bytes;
}

int64_t mg_checkpoint_keys(const mg_checkpoint *checkpoint) {
  return (int64_t)checkpoint->keys_count;
}

const char *mg_checkpoint_key(const mg_checkpoint *checkpoint, int64_t index, mg_value *out) {
  const mg__key *key = &checkpoint->keys[index];
  if (checkpoint->format == MG_CHECKPOINT_GGUF)
    mg__gguf_value(&checkpoint->files[0], key, out);
  else
    mg__safetensors_value(&checkpoint->files[0], key, out);
  return &checkpoint->files[0].header[key->name];
}

static const char *key_name_of(const void *owner, size_t index) {
  const mg_checkpoint *checkpoint = owner;
  return &checkpoint->files[0].header[checkpoint->keys[index].name];
}

mg_status mg__index_keys(mg_checkpoint *checkpoint) {
  MG_TRY(mg__names_create(checkpoint->context, checkpoint->keys_count, &checkpoint->key_names));
  for (size_t i = 0; i < checkpoint->keys_count; i++)
    if (mg__names_add(&checkpoint->key_names, checkpoint, key_name_of, i) >= 0)
      return mg__file_refuse(checkpoint, &checkpoint->files[0], MG__NOWHERE, "key", key_name_of(checkpoint, i),
                             "the key occurs twice");
  return MG_OK;
}

bool mg_checkpoint_value(const mg_checkpoint *checkpoint, const char *key, mg_value *out) {
  const int64_t index = mg__names_find(&checkpoint->key_names, checkpoint, key_name_of, key);
  *out = (mg_value){0};
  if (index >= 0) mg_checkpoint_key(checkpoint, index, out);
  return index >= 0;
}

/* ---- getters that demand a type ------------------------------------------------------------------------------------ */

static mg_status refuse(const mg_checkpoint *checkpoint, const char *key, const mg_value *value, const char *wanted) {
  const bool list = value->type == MG_VALUE_LIST;
  return mg__file_refuse(checkpoint, &checkpoint->files[0], MG__NOWHERE, "key", key, "%s was wanted, but it is %s%s",
                         wanted, list ? "a list of " : "", mg_value_type_name(list ? value->element : value->type));
}

/* The value of a key; if it must not be a list, `scalar` says what is wanted instead. */
static mg_status need(const mg_checkpoint *checkpoint, const char *key, const char *scalar, mg_value *out) {
  if (!mg_checkpoint_value(checkpoint, key, out))
    return mg__file_refuse(checkpoint, &checkpoint->files[0], MG__NOWHERE, "key", key, "it is missing, but needed");
  if (scalar && out->type == MG_VALUE_LIST) return refuse(checkpoint, key, out, scalar);
  return MG_OK;
}

mg_status mg_checkpoint_text(const mg_checkpoint *checkpoint, const char *key, const char **out) {
  mg_value value;
  size_t bytes;
  MG_TRY(need(checkpoint, key, "a text", &value));
  mg_value rest = value;
  if (!mg_value_next_text(&rest, out, &bytes)) return refuse(checkpoint, key, &value, "a text");
  if (strlen(*out) == bytes) return MG_OK;
  return mg__file_refuse(checkpoint, &checkpoint->files[0], MG__NOWHERE, "key", key, "a text with a NUL in it");
}

mg_status mg_checkpoint_integer(const mg_checkpoint *checkpoint, const char *key, int64_t least, int64_t most,
                                int64_t *out) {
  mg_value value;
  MG_TRY(need(checkpoint, key, "a whole number", &value));
  mg_value rest = value;
  if (!mg_value_next_integer(&rest, out)) return refuse(checkpoint, key, &value, "a whole number below 2^63");
  if (*out >= least && *out <= most) return MG_OK;
  return mg__file_refuse(checkpoint, &checkpoint->files[0], MG__NOWHERE, "key", key, "%lld is not within [%lld, %lld]",
                         (long long)*out, (long long)least, (long long)most);
}

mg_status mg_checkpoint_real(const mg_checkpoint *checkpoint, const char *key, double *out) {
  mg_value value;
  MG_TRY(need(checkpoint, key, "a real number", &value));
  mg_value rest = value;
  return mg_value_next_real(&rest, out) ? MG_OK : refuse(checkpoint, key, &value, "a real number");
}

mg_status mg_checkpoint_flag(const mg_checkpoint *checkpoint, const char *key, bool *out) {
  mg_value value;
  MG_TRY(need(checkpoint, key, "a bool", &value));
  mg_value rest = value;
  return mg_value_next_flag(&rest, out) ? MG_OK : refuse(checkpoint, key, &value, "a bool");
}

mg_status mg_checkpoint_list(const mg_checkpoint *checkpoint, const char *key, mg_value_type element, mg_value *out) {
  char wanted[32] = "a list of ";
  MG_TRY(need(checkpoint, key, NULL, out));
  if (out->type == MG_VALUE_LIST && out->element == element) return MG_OK;
  return refuse(checkpoint, key, out, strncat(wanted, mg_value_type_name(element), 16));
}
