/* Fills option structs from JSON by their tables, and writes them back; the only place that checks keys, types and
 * ranges. */
#ifndef MG_BASE_OPTIONS_H
#define MG_BASE_OPTIONS_H

#include <jansson.h>

#include "moegauge/option.h"

/* Every field to its default. */
void mg_options_defaults(const mg_option *table, void *options);

/* Sets the fields named in `object`, leaving the others. Unknown keys (with the nearest known one), wrong types, and
 * values out of range fail with MG_USAGE; the message begins with `where` ("router topk"). `object` may be NULL. */
mg_status mg_options_from_json(mg_context *context, const mg_option *table, const json_t *object, const char *where,
                               void *options);

/* One field from text as typed on a command line ("true", "2", "0.5", "softmax", "2,4"). */
mg_status mg_options_from_text(mg_context *context, const mg_option *table, const char *name, const char *text,
                               const char *where, void *options);

/* All fields, defaults included, as a new JSON object with sorted keys; NULL when memory runs out. */
json_t *mg_options_to_json(const mg_option *table, const void *options);

/* The table itself as a JSON array of {name, type, default, minimum, maximum, choices, help}. */
json_t *mg_options_describe(const mg_option *table);

/* "integer from 1 to 4096", "one of softmax, sigmoid": the allowed values of an option, for help and messages. */
void mg_option_allowed(const mg_option *option, char *text, size_t bytes);
/* The default as text. */
void mg_option_default_text(const mg_option *option, char *text, size_t bytes);

/* The name in `names` (count of them) nearest to `wanted` by edit distance, or NULL if none is near. */
const char *mg_nearest_name(const char *wanted, const char *const *names, size_t count);
/* MG_USAGE: `where` knows no such key; the message names the nearest of those it knows, or all. */
mg_status mg_refuse_key(mg_context *context, const char *where, const char *key, const char *const *known,
                        size_t count);

#endif
