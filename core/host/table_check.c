/* Checks a plugin's table and its option and parameter tables, so that the rest of the core may rely on them. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/options.h"
#include "host/plugin.h"

/* A table without its end row would be read into other data; no honest table is this long. */
enum { OPTIONS_MAX = 64, PARAMS_MAX = 64, CHOICES_MAX = 64, NAME_MAX_BYTES = 64, OPTIONS_BYTES_MAX = 1 << 20 };

size_t mg__plugin_table_bytes(mg_plugin_kind kind) {
  return kind == MG_PLUGIN_ROUTER ? sizeof(mg_router_plugin) : sizeof(mg_backend_plugin);
}

const char *mg__plugin_kind_name(mg_plugin_kind kind) {
  return kind == MG_PLUGIN_ROUTER ? "router" : "backend";
}

/* The fields that this ABI began with; everything after them may be missing and then counts as zero. */
static size_t least_bytes(mg_plugin_kind kind) {
  return kind == MG_PLUGIN_ROUTER ? offsetof(mg_router_plugin, user) : offsetof(mg_backend_plugin, memory);
}

mg_status mg__plugin_header_check(mg_context *context, mg_plugin_kind kind, const void *table, const char *where) {
  uint32_t words[2]; /* abi, size: both tables begin with them */
  if (!table) return mg_fail(context, MG_PLUGIN, "%s: its entry returned NULL instead of a table", where);
  memcpy(words, table, sizeof words);
  if (words[0] != MG_ABI)
    return mg_fail(context, MG_PLUGIN,
                   "%s: has plugin ABI %u, this moegauge %s has ABI %u; rebuild it against this moegauge", where,
                   words[0], MG_VERSION, MG_ABI);
  if (words[1] < least_bytes(kind))
    return mg_fail(
        context, MG_PLUGIN,
        "%s: its table has %u bytes, at least %zu are needed; set .size = sizeof(mg_%s_plugin) and rebuild it "
        "against this moegauge",
        where, words[1], least_bytes(kind), mg__plugin_kind_name(kind));
  return MG_OK;
}

static bool name_is_good(const char *name) {
  if (!name || !*name) return false;
  size_t length = 0;
  for (; name[length]; length++)
    if (length >= NAME_MAX_BYTES ||
        !(islower((unsigned char)name[length]) || isdigit((unsigned char)name[length]) || strchr("_-", name[length])))
      return false;
  return true;
}

/* ---- options ---------------------------------------------------------------------------------------------- */

static size_t field_bytes(mg_option_type type) {
  switch (type) {
  case MG_OPTION_TYPE_BOOL: return sizeof(bool);
  case MG_OPTION_TYPE_INT:
  case MG_OPTION_TYPE_CHOICE: return sizeof(int64_t);
  case MG_OPTION_TYPE_FLOAT: return sizeof(double);
  case MG_OPTION_TYPE_STRING: return MG_OPTION_STRING_MAX;
  case MG_OPTION_TYPE_INTS: return sizeof(mg_option_ints);
  case MG_OPTION_TYPE_END: break;
  }
  return 0;
}

static int64_t choices_count(const mg_option *option) {
  int64_t count = 0;
  while (option->choices && count <= CHOICES_MAX && option->choices[count]) count++;
  return count;
}

/* Why the row itself makes no sense, whatever the value; NULL if it does. */
static const char *row_fault(const mg_option *option, size_t options_size) {
  const size_t bytes = field_bytes(option->type);
  if (bytes == 0) return "has an unknown type";
  if (!option->help) return "has no help text";
  if (option->offset > options_size || bytes > options_size - option->offset)
    return "lies outside the options struct; set .options_size = sizeof of it";
  if (!(option->minimum <= option->maximum)) return "has a minimum above its maximum";
  if (option->type == MG_OPTION_TYPE_STRING && option->text && strlen(option->text) >= MG_OPTION_STRING_MAX)
    return "has a default that is too long";
  if (option->type != MG_OPTION_TYPE_CHOICE)
    return option->type == MG_OPTION_TYPE_INT && option->value != floor(option->value)
               ? "is an integer but its default is not"
               : NULL;
  const int64_t count = choices_count(option);
  if (count == 0 || count > CHOICES_MAX) return "has no list of choices that ends in NULL";
  if (!(option->value >= 0 && option->value < (double)count) || option->value != floor(option->value))
    return "has a default that is none of its choices";
  return NULL;
}

/* A default must be a value that the option would accept: write the defaults out and read them back through the checks
 * that every user's value passes. */
static mg_status check_defaults(mg_context *context, const mg_option *table, size_t size, const char *where) {
  void *options = mg_alloc(context, size);
  if (!options) return MG_MEMORY;
  mg_options_defaults(table, options);
  json_t *json = mg_options_to_json(table, options);
  mg_status status = json ? mg_options_from_json(context, table, json, where, options) : MG_MEMORY;
  if (status == MG_USAGE)
    status =
        mg_fail(context, MG_PLUGIN, "%s; this is its own default: mend its option table", mg_context_message(context));
  json_decref(json);
  mg_free(context, options, size);
  return status;
}

static bool repeats(const mg_option *table, size_t row) {
  for (size_t i = 0; i < row; i++)
    if (strcmp(table[i].name, table[row].name) == 0) return true;
  return false;
}

static mg_status check_options(mg_context *context, const mg_option *table, size_t size, const char *where) {
  size_t count = 0;
  for (; table && table[count].type != MG_OPTION_TYPE_END; count++) {
    const mg_option *row = &table[count];
    if (count == OPTIONS_MAX)
      return mg_fail(context, MG_PLUGIN, "%s: has more than %d options; does its table end with MG_OPTION_END?", where,
                     OPTIONS_MAX);
    if (!name_is_good(row->name))
      return mg_fail(context, MG_PLUGIN, "%s: option %zu has no name of lower-case letters, digits and '_'", where,
                     count + 1);
    const char *fault = repeats(table, count) ? "is there twice" : row_fault(row, size);
    if (fault) return mg_fail(context, MG_PLUGIN, "%s: option '%s' %s", where, row->name, fault);
  }
  if (count == 0) return MG_OK;
  if (size > OPTIONS_BYTES_MAX)
    return mg_fail(context, MG_PLUGIN, "%s: its options struct is said to have %zu bytes", where, size);
  return check_defaults(context, table, size, where);
}

/* ---- parameters and functions ------------------------------------------------------------------------------ */

static bool dimension_is_good(int64_t dimension) {
  return dimension >= MG_DIM_CUSTOM; /* a size, or one of the five names */
}

static mg_status check_params(mg_context *context, const mg_router_plugin *plugin, const char *where) {
  const mg_param_spec *table = plugin->params;
  for (size_t i = 0; table && table[i].name; i++) {
    if (i == PARAMS_MAX)
      return mg_fail(context, MG_PLUGIN, "%s: has more than %d parameters; does its table end with MG_PARAM_END?",
                     where, PARAMS_MAX);
    bool custom = false, good = name_is_good(table[i].name) && table[i].shape[0] != MG_DIM_NONE;
    for (size_t d = 0; d < MG_DIMS_MAX; d++) {
      good = good && dimension_is_good(table[i].shape[d]);
      custom = custom || table[i].shape[d] == MG_DIM_CUSTOM;
    }
    if (!good) return mg_fail(context, MG_PLUGIN, "%s: parameter %zu has no proper name or shape", where, i + 1);
    if (custom && !plugin->dimension)
      return mg_fail(context, MG_PLUGIN, "%s: parameter '%s' has a custom dimension, but the table has no .dimension",
                     where, table[i].name);
  }
  return MG_OK;
}

static mg_status missing(mg_context *context, const char *where, const char *field) {
  return mg_fail(context, MG_PLUGIN, "%s: its table has no .%s, which every plugin of its kind must set", where, field);
}

static mg_status check_router(mg_context *context, const mg_router_plugin *plugin, const char *where) {
  if (!plugin->route) return missing(context, where, "route");
  MG_TRY(check_params(context, plugin, where));
  return check_options(context, plugin->options, plugin->options_size, where);
}

static mg_status check_backend(mg_context *context, const mg_backend_plugin *plugin, const char *where) {
  if (!plugin->open) return missing(context, where, "open");
  if (!plugin->close) return missing(context, where, "close");
  if (!plugin->allocate) return missing(context, where, "allocate");
  if (!plugin->release) return missing(context, where, "release");
  if (!plugin->upload) return missing(context, where, "upload");
  if (!plugin->download) return missing(context, where, "download");
  if (!plugin->synchronize) return missing(context, where, "synchronize");
  if (!plugin->describe) return missing(context, where, "describe");
  if (!plugin->kernels || plugin->kernels_count == 0) return missing(context, where, "kernels");
  if (plugin->step_begin && !plugin->step_end) return missing(context, where, "step_end");
  return check_options(context, plugin->options, plugin->options_size, where);
}

mg_status mg__plugin_table_check(mg_context *context, mg_plugin_kind kind, const void *table, const char *where) {
  MG_TRY(mg__plugin_header_check(context, kind, table, where));
  const bool is_router = kind == MG_PLUGIN_ROUTER;
  const mg_router_plugin *router = table;
  const mg_backend_plugin *backend = table;
  const char *name = is_router ? router->name : backend->name;
  if (!name_is_good(name))
    return mg_fail(context, MG_PLUGIN, "%s: its table has no .name of lower-case letters, digits, '-' and '_'", where);
  if (!(is_router ? router->summary : backend->summary)) return missing(context, where, "summary");
  return is_router ? check_router(context, router, where) : check_backend(context, backend, where);
}
