/* Option tables to structs and back. */
#include "base/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_MAX = 128, EDIT_MAX = 64 };

static void *field_of(const mg_option *option, void *options) {
  return (char *)options + option->offset;
}
static const void *const_field_of(const mg_option *option, const void *options) {
  return (const char *)options + option->offset;
}

/* Parses "2,4" into a list; false if it is malformed or too long. */
static bool parse_ints(const char *text, mg_option_ints *out) {
  out->count = 0;
  for (const char *cursor = text; *cursor;) {
    if (out->count == MG_OPTION_INTS_MAX) return false;
    char *end;
    errno = 0;
    out->value[out->count++] = strtoll(cursor, &end, 10);
    if (end == cursor || errno || (*end && *end != ',')) return false;
    cursor = *end ? end + 1 : end;
  }
  return true;
}

void mg_options_defaults(const mg_option *table, void *options) {
  for (const mg_option *o = table; o && o->type != MG_OPTION_TYPE_END; o++) {
    void *field = field_of(o, options);
    switch (o->type) {
    case MG_OPTION_TYPE_BOOL: *(bool *)field = o->value != 0.0; break;
    case MG_OPTION_TYPE_INT:
    case MG_OPTION_TYPE_CHOICE: *(int64_t *)field = (int64_t)o->value; break;
    case MG_OPTION_TYPE_FLOAT: *(double *)field = o->value; break;
    case MG_OPTION_TYPE_STRING: snprintf(field, MG_OPTION_STRING_MAX, "%s", o->text ? o->text : ""); break;
    case MG_OPTION_TYPE_INTS: parse_ints(o->text ? o->text : "", field); break;
    case MG_OPTION_TYPE_END: break;
    }
  }
}

static size_t edit_distance(const char *a, const char *b) {
  const size_t rows = strlen(a), columns = strlen(b);
  if (rows > EDIT_MAX || columns > EDIT_MAX) return SIZE_MAX;
  size_t line[EDIT_MAX + 1];
  for (size_t j = 0; j <= columns; j++) line[j] = j;
  for (size_t i = 1; i <= rows; i++) {
    size_t diagonal = line[0];
    line[0] = i;
    for (size_t j = 1; j <= columns; j++) {
      const size_t above = line[j];
      size_t best = diagonal + (a[i - 1] != b[j - 1]);
      if (above + 1 < best) best = above + 1;
      if (line[j - 1] + 1 < best) best = line[j - 1] + 1;
      line[j] = best;
      diagonal = above;
    }
  }
  return line[columns];
}

const char *mg_nearest_name(const char *wanted, const char *const *names, size_t count) {
  const size_t length = strlen(wanted);
  size_t best = length / 2 + 1; /* further away is no likely typing error */
  const char *nearest = NULL;
  for (size_t i = 0; i < count; i++) {
    const size_t distance = edit_distance(wanted, names[i]);
    if (distance <= best && (!nearest || distance < best)) {
      best = distance;
      nearest = names[i];
    }
  }
  return nearest;
}

void mg_option_allowed(const mg_option *option, char *text, size_t bytes) {
  switch (option->type) {
  case MG_OPTION_TYPE_BOOL: snprintf(text, bytes, "true or false"); break;
  case MG_OPTION_TYPE_INT:
    snprintf(text, bytes, "an integer from %.0f to %.0f", option->minimum, option->maximum);
    break;
  case MG_OPTION_TYPE_FLOAT: snprintf(text, bytes, "a number from %g to %g", option->minimum, option->maximum); break;
  case MG_OPTION_TYPE_INTS:
    snprintf(text, bytes, "a list of at most %d integers from %.0f to %.0f", MG_OPTION_INTS_MAX, option->minimum,
             option->maximum);
    break;
  case MG_OPTION_TYPE_STRING: snprintf(text, bytes, "a text of at most %d bytes", MG_OPTION_STRING_MAX - 1); break;
  case MG_OPTION_TYPE_CHOICE: {
    size_t used = (size_t)snprintf(text, bytes, "one of");
    for (size_t i = 0; option->choices[i] && used < bytes; i++)
      used += (size_t)snprintf(text + used, bytes - used, "%s %s", i ? "," : "", option->choices[i]);
    break;
  }
  case MG_OPTION_TYPE_END: break;
  }
}

void mg_option_default_text(const mg_option *option, char *text, size_t bytes) {
  switch (option->type) {
  case MG_OPTION_TYPE_BOOL: snprintf(text, bytes, "%s", option->value != 0.0 ? "true" : "false"); break;
  case MG_OPTION_TYPE_INT: snprintf(text, bytes, "%.0f", option->value); break;
  case MG_OPTION_TYPE_FLOAT: snprintf(text, bytes, "%g", option->value); break;
  case MG_OPTION_TYPE_CHOICE: snprintf(text, bytes, "%s", option->choices[(size_t)option->value]); break;
  case MG_OPTION_TYPE_STRING:
  case MG_OPTION_TYPE_INTS: snprintf(text, bytes, "%s", option->text ? option->text : ""); break;
  case MG_OPTION_TYPE_END: break;
  }
}

static mg_status refuse_value(mg_context *context, const mg_option *option, const char *where, const char *came) {
  char allowed[512];
  mg_option_allowed(option, allowed, sizeof allowed);
  return mg_fail(context, MG_USAGE, "%s: '%s' must be %s, not %s", where, option->name, allowed, came);
}

mg_status mg_refuse_key(mg_context *context, const char *where, const char *key, const char *const *known,
                        size_t count) {
  const char *nearest = mg_nearest_name(key, known, count);
  if (nearest) return mg_fail(context, MG_USAGE, "%s: unknown key '%s'; did you mean '%s'?", where, key, nearest);
  char list[512] = "none";
  size_t used = 0;
  for (size_t i = 0; i < count && used < sizeof list; i++)
    used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", known[i]);
  return mg_fail(context, MG_USAGE, "%s: unknown key '%s'; known keys: %s", where, key, list);
}

static mg_status refuse_key(mg_context *context, const mg_option *table, const char *key, const char *where) {
  const char *names[NAMES_MAX] = {NULL};
  size_t count = 0;
  for (const mg_option *o = table; o && o->type != MG_OPTION_TYPE_END && count < NAMES_MAX; o++)
    names[count++] = o->name;
  return mg_refuse_key(context, where, key, names, count);
}

static const mg_option *find(const mg_option *table, const char *name) {
  for (const mg_option *o = table; o && o->type != MG_OPTION_TYPE_END; o++)
    if (strcmp(o->name, name) == 0) return o;
  return NULL;
}

/* Reads an integer that may have come through Lua as the float 2.0. */
static bool integer_of(const json_t *value, int64_t *out) {
  if (json_is_integer(value)) {
    *out = json_integer_value(value);
    return true;
  }
  const double number = json_is_real(value) ? json_real_value(value) : NAN;
  if (!(fabs(number) <= 9007199254740992.0) || number != floor(number)) return false;
  *out = (int64_t)number;
  return true;
}

static bool in_range(const mg_option *option, double number) {
  return number >= option->minimum && number <= option->maximum; /* false for NaN */
}

static bool set_choice(const mg_option *option, const char *word, int64_t *out) {
  for (int64_t i = 0; word && option->choices[i]; i++)
    if (strcmp(option->choices[i], word) == 0) {
      *out = i;
      return true;
    }
  return false;
}

static bool set_ints(const mg_option *option, const json_t *value, mg_option_ints *out) {
  mg_option_ints list = {.count = 1};
  if (integer_of(value, &list.value[0]) && in_range(option, (double)list.value[0])) { /* one number is a list of one */
    *out = list;
    return true;
  }
  list.count = 0;
  if (!json_is_array(value) || json_array_size(value) > MG_OPTION_INTS_MAX) return false;
  for (size_t i = 0; i < json_array_size(value); i++) {
    int64_t number;
    if (!integer_of(json_array_get(value, i), &number) || !in_range(option, (double)number)) return false;
    list.value[list.count++] = number;
  }
  *out = list;
  return true;
}

static bool set_field(const mg_option *option, const json_t *value, void *field) {
  int64_t integer;
  switch (option->type) {
  case MG_OPTION_TYPE_BOOL:
    if (!json_is_boolean(value)) return false;
    *(bool *)field = json_is_true(value);
    return true;
  case MG_OPTION_TYPE_INT:
    if (!integer_of(value, &integer) || !in_range(option, (double)integer)) return false;
    *(int64_t *)field = integer;
    return true;
  case MG_OPTION_TYPE_FLOAT:
    if (!json_is_number(value) || !in_range(option, json_number_value(value))) return false;
    *(double *)field = json_number_value(value);
    return true;
  case MG_OPTION_TYPE_CHOICE: return json_is_string(value) && set_choice(option, json_string_value(value), field);
  case MG_OPTION_TYPE_STRING:
    if (!json_is_string(value) || json_string_length(value) >= MG_OPTION_STRING_MAX) return false;
    snprintf(field, MG_OPTION_STRING_MAX, "%s", json_string_value(value));
    return true;
  case MG_OPTION_TYPE_INTS: return set_ints(option, value, field);
  case MG_OPTION_TYPE_END: break;
  }
  return false;
}

static mg_status set_or_refuse(mg_context *context, const mg_option *option, const json_t *value, const char *where,
                               void *options) {
  if (set_field(option, value, field_of(option, options))) return MG_OK;
  char *came = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
  const mg_status status = refuse_value(context, option, where, came ? came : "that");
  free(came);
  return status;
}

mg_status mg_options_from_json(mg_context *context, const mg_option *table, const json_t *object, const char *where,
                               void *options) {
  if (!object) return MG_OK;
  if (!json_is_object(object))
    return mg_fail(context, MG_USAGE, "%s: a table of named options was expected, for example { %s = ... }", where,
                   table && table->type != MG_OPTION_TYPE_END ? table->name : "name");
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)object, key, value) {
    const mg_option *option = find(table, key);
    if (!option) return refuse_key(context, table, key, where);
    MG_TRY(set_or_refuse(context, option, value, where, options));
  }
  return MG_OK;
}

/* The JSON value that a word on the command line stands for, by the option's type; NULL if it cannot be one. */
static json_t *json_from_text(const mg_option *option, const char *text) {
  char *end;
  mg_option_ints list;
  errno = 0;
  switch (option->type) {
  case MG_OPTION_TYPE_BOOL:
    if (strcmp(text, "true") == 0) return json_true();
    return strcmp(text, "false") == 0 ? json_false() : NULL;
  case MG_OPTION_TYPE_INT:
  case MG_OPTION_TYPE_FLOAT: {
    const double number = strtod(text, &end);
    if (end == text || *end || errno || !isfinite(number)) return NULL;
    return json_real(number);
  }
  case MG_OPTION_TYPE_INTS: {
    if (!parse_ints(text, &list)) return NULL;
    json_t *array = json_array();
    for (int64_t i = 0; i < list.count; i++) json_array_append_new(array, json_integer(list.value[i]));
    return array;
  }
  default: return json_string(text);
  }
}

mg_status mg_options_from_text(mg_context *context, const mg_option *table, const char *name, const char *text,
                               const char *where, void *options) {
  const mg_option *option = find(table, name);
  if (!option) return refuse_key(context, table, name, where);
  json_t *value = json_from_text(option, text);
  mg_status status = MG_OK;
  if (json_is_string(value))
    status = set_or_refuse(context, option, value, where, options);
  else if (!value || !set_field(option, value, field_of(option, options)))
    status = refuse_value(context, option, where, text); /* as it was typed: 0, not 0.0 */
  json_decref(value);
  return status;
}

static json_t *field_to_json(const mg_option *option, const void *field) {
  switch (option->type) {
  case MG_OPTION_TYPE_BOOL: return json_boolean(*(const bool *)field);
  case MG_OPTION_TYPE_INT: return json_integer(*(const int64_t *)field);
  case MG_OPTION_TYPE_FLOAT: return json_real(*(const double *)field);
  case MG_OPTION_TYPE_CHOICE: return json_string(option->choices[*(const int64_t *)field]);
  case MG_OPTION_TYPE_STRING: return json_string(field);
  case MG_OPTION_TYPE_INTS: {
    const mg_option_ints *list = field;
    json_t *array = json_array();
    for (int64_t i = 0; i < list->count; i++) json_array_append_new(array, json_integer(list->value[i]));
    return array;
  }
  case MG_OPTION_TYPE_END: break;
  }
  return json_null();
}

json_t *mg_options_to_json(const mg_option *table, const void *options) {
  json_t *object = json_object();
  for (const mg_option *o = table; object && o && o->type != MG_OPTION_TYPE_END; o++)
    json_object_set_new(object, o->name, field_to_json(o, const_field_of(o, options)));
  return object;
}

static const char *const type_names[] = {"end", "bool", "int", "float", "choice", "string", "ints"};

json_t *mg_options_describe(const mg_option *table) {
  json_t *array = json_array();
  for (const mg_option *o = table; array && o && o->type != MG_OPTION_TYPE_END; o++) {
    char allowed[512], standard[MG_OPTION_STRING_MAX];
    mg_option_allowed(o, allowed, sizeof allowed);
    mg_option_default_text(o, standard, sizeof standard);
    json_array_append_new(array, json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", o->name, "type", type_names[o->type],
                                           "default", standard, "allowed", allowed, "help", o->help));
  }
  return array;
}
