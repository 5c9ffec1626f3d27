/* The Lua side: opens a state with the moegauge library bound, runs an experiment file, and hands its values to the
 * lab. */
#ifndef MG_LUA_ENGINE_H
#define MG_LUA_ENGINE_H

#include <jansson.h>

#include "host/registry.h"

typedef struct mg_engine mg_engine;

typedef struct mg_engine_settings {
  mg_registry *registry;
  const char *scripts; /* folder that holds the moegauge Lua library; NULL = the build or install tree's */
  const char *cache;   /* folder for corpora and other derived data */
} mg_engine_settings;

mg_status mg_engine_create(mg_context *context, const mg_engine_settings *settings, mg_engine **out);
void mg_engine_destroy(mg_engine *engine);

/* Loads FILE.lua, which must return mg.experiment{...}; MG_USAGE with file and line if it does not. `overrides` is a
 * JSON object of --set values, `seeds` a list or NULL. */
mg_status mg_engine_load(mg_engine *engine, const char *path, const json_t *overrides, const json_t *seeds);
/* The plan: {"title", "name", "cases": [{"number", "label", "params"}], ...}. New reference. */
mg_status mg_engine_plan(mg_engine *engine, json_t **plan);
/* Runs one case in this process; *result is what run() returned, as {"metrics", "series", "tables"}. */
mg_status mg_engine_run_case(mg_engine *engine, int64_t number, json_t **result);
/* Writes reports of stored results: `format` is "table", "md", "html", "csv" or "json". Text goes to *out (malloc'd).
 */
mg_status mg_engine_report(mg_engine *engine, const json_t *stored, const char *format, const char *folder, char **out);

#endif
