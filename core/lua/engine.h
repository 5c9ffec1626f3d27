/* The Lua side: opens a state with the moegauge library bound, runs an experiment file, and hands its values to the
 * lab. Lua errors stop here: every function returns a status, with the script's file and line in the message. */
#ifndef MG_LUA_ENGINE_H
#define MG_LUA_ENGINE_H

#include <jansson.h>

#include "host/registry.h"

typedef struct mg_engine mg_engine;

typedef struct mg_engine_settings {
  mg_registry *registry; /* of the same context as the engine */
  const char *scripts;   /* folder that holds moegauge/init.lua; NULL = the build or install tree's */
  const char *cache;     /* folder for corpora and other derived data; NULL = none: opening a corpus fails */
  bool allow_files;      /* gives scripts `io` and all of `os` but exit and execute */
  bool smoke;            /* mg.train stops after two tiny steps */
  size_t memory_bytes;   /* the most a script may hold; 0 = 1 GiB */
  /* Asked now and then while Lua or training runs; true stops with MG_INTERRUPTED. May be NULL. */
  bool (*stopped)(void *user);
  /* Progress of the running case: {"step", "steps", "loss", "tokens_per_second"}, or of a simulation {"step", "steps"} in
   * hours; may be NULL. */
  void (*progress)(void *user, const json_t *progress);
  /* What a model writes, piece by piece as it does; NULL = nobody looks. */
  void (*show)(void *user, const char *text);
  void *user;
} mg_engine_settings;

/* A script may add routers to the registry: destroy the engine last, or ask the registry for nothing after it. */
mg_status mg_engine_create(mg_context *context, const mg_engine_settings *settings, mg_engine **out);
void mg_engine_destroy(mg_engine *engine);

/* Loads FILE.lua, which must return mg.experiment{...}; MG_USAGE with file and line if it does not. `overrides` is a
 * JSON object of --set values (texts), `seeds` a list or NULL. */
mg_status mg_engine_load(mg_engine *engine, const char *path, const json_t *overrides, const json_t *seeds);
/* The loaded experiment's title, cut to `bytes`. */
mg_status mg_engine_title(mg_engine *engine, char *text, size_t bytes);
/* The folder of the Lua library, without links. */
const char *mg_engine_scripts(const mg_engine *engine);
/* The plan: {"title", "name", "axes": {...}, "settings": {...}, "cases": [{"number", "label", "labels", "params",
 * "hash"}, ...]}. Every specification that can be seen without running is checked here. New reference. */
mg_status mg_engine_plan(mg_engine *engine, json_t **plan);
/* Runs one case in this process; *result is what run() returned, as {"metrics", "series", "tables"}, and *provenance
 * what took effect (backend, data checksum, ...). A skipped case is MG_NOTHING. On MG_NUMERIC *result may hold what was
 * recorded until then; else it is NULL on failure. New references. */
mg_status mg_engine_run_case(mg_engine *engine, int64_t number, json_t **result, json_t **provenance);
/* Renders stored results: `format` is "table", "md", "html", "csv" or "json". *out is {"text": for the terminal,
 * "files": {path below the results' folder: content}}, a new reference. Without a loaded experiment the standard report
 * is made. */
mg_status mg_engine_render(mg_engine *engine, const json_t *stored, const char *format, json_t **out);
/* Writes the files of a rendering below `folder`; MG_BUG for a name that no report has, as a sandboxed script may send. */
mg_status mg_report_write(mg_context *context, const json_t *rendered, const char *folder);
/* Two runs as the store gives them, compared by the metrics named ("loss,cv"; "" = the usual ones): {"unlike", "notable", "rows", "only_a", "only_b", "text"}, which
 * scripts/moegauge/compare.lua explains. New reference. */
mg_status mg_engine_compare(mg_engine *engine, const json_t *a, const json_t *b, const char *metrics, json_t **out);

/* What a released model costs by its configuration (a file, or a folder with config.json) at a context of `tokens`:
 * {"result": {...}, "text": "..."}; scripts/moegauge/inspect.lua says what is in it. MG_FILE names file, key and rule. */
mg_status mg_engine_inspect(mg_engine *engine, const char *path, int64_t tokens, json_t **out);
/* A file of configurations with known numbers, counted: {"result": {...}, "text": Markdown, "different": how many numbers
 * differ}; scripts/moegauge/counts.lua says what is in it. */
mg_status mg_engine_counts(mg_engine *engine, const char *path, json_t **out);
/* Loads the model in a folder and does `action` ("eval", "generate", ...) with `settings` as the command line has them and
 * what to go on from as "prompt_text": {"result": {...}, "text": "..."}; scripts/moegauge/released.lua says what is in it. */
mg_status mg_engine_released(mg_engine *engine, const char *action, const char *path, const json_t *settings,
                             json_t **out);
/* Coefficients of the simulator's costs from tables of measurements, with `settings` as the command line has them and
 * "files": {"result": {...}, "text": "...", "lua": the calibration as a Lua file}; scripts/moegauge/cluster/fit.lua. */
mg_status mg_engine_cluster_fit(mg_engine *engine, const json_t *settings, json_t **out);
/* The families of released models: [{"name", "model_types", "runs", "paper"}, ...]. */
mg_status mg_engine_families(mg_engine *engine, json_t **out);

/* Runs any other script file, for tests and tools; its first result goes to *result as JSON (may be NULL). */
mg_status mg_engine_run_file(mg_engine *engine, const char *path, json_t **result);
/* The same for text; `name` stands in messages. */
mg_status mg_engine_run_text(mg_engine *engine, const char *text, const char *name, json_t **result);

#endif
