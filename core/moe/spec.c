/* Specifications of nested objects, on the option tables. */
#include "moe/spec.h"

#include <stdio.h>
#include <string.h>

enum { KEYS_MAX = 64 };

static size_t known_keys(const mg_option *table, const mg_spec_part *parts, size_t parts_count, const char **keys) {
  size_t count = 0;
  for (const mg_option *o = table; o && o->type != MG_OPTION_TYPE_END && count < KEYS_MAX; o++) keys[count++] = o->name;
  for (size_t i = 0; i < parts_count && count < KEYS_MAX; i++) keys[count++] = parts[i].name;
  return count;
}

static mg_status check_keys(mg_context *context, const mg_option *table, const mg_spec_part *parts, size_t parts_count,
                            const json_t *object, const char *where) {
  const char *keys[KEYS_MAX];
  const size_t count = known_keys(table, parts, parts_count, keys);
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)object, key, value) {
    bool known = false;
    for (size_t i = 0; i < count && !known; i++) known = strcmp(keys[i], key) == 0;
    if (!known) return mg_refuse_key(context, where, key, keys, count);
  }
  return MG_OK;
}

mg_status mg_spec_read(mg_context *context, const mg_option *table, mg_spec_part *parts, size_t parts_count,
                       const json_t *object, const char *where, void *options) {
  mg_options_defaults(table, options);
  for (size_t i = 0; i < parts_count; i++) parts[i].value = NULL;
  if (!object) return MG_OK;
  if (!json_is_object(object)) return mg_fail(context, MG_USAGE, "%s: a table of named options was expected", where);
  MG_TRY(check_keys(context, table, parts, parts_count, object, where));
  json_t *flat = json_copy((json_t *)object);
  if (!flat) return mg_fail(context, MG_MEMORY, "%s: no memory to read the specification", where);
  for (size_t i = 0; i < parts_count; i++) {
    parts[i].value = json_object_get(object, parts[i].name);
    if (parts[i].value) json_object_del(flat, parts[i].name);
  }
  const mg_status status = mg_options_from_json(context, table, flat, where, options);
  json_decref(flat);
  return status;
}
