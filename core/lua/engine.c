/* The engine: one Lua state with an accounted, limited allocator, and the calls of engine.h as protected calls into the
 * library's Lua files. */
#include "lua/engine.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lua/state.h"
#include "lua/vars.h"

static const size_t standard_memory_bytes = (size_t)1 << 30;

mg_engine *mg__engine_of(lua_State *L) {
  return *(mg_engine **)lua_getextraspace(L);
}

/* ---- life --------------------------------------------------------------------------------------------------- */

/* Lua's allocator on the context's. A block that shrinks never fails, as Lua demands. */
static void *allocate(void *user, void *pointer, size_t old_size, size_t size) {
  mg_engine *engine = user;
  if (!pointer) old_size = 0; /* Lua passes a type there */
  if (size > old_size && size - old_size > engine->most_bytes - engine->used_bytes) return NULL;
  void *result = mg_resize(engine->context, pointer, old_size, size);
  if (!result && size > 0) return size <= old_size ? pointer : NULL;
  engine->used_bytes += size - old_size;
  return result;
}

static bool holds_library(const char *folder) {
  char probe[PATH_MAX + 32];
  snprintf(probe, sizeof probe, "%s/moegauge/init.lua", folder);
  return access(probe, R_OK) == 0;
}

/* The folder as it lies from the library: in a build or a prefix, or below a lib/ARCHITECTURE folder as on Debian. */
static void find_beside_library(char path[PATH_MAX]) {
  static const char *const below[] = {"..", "../.."};
  Dl_info about;
  char here[PATH_MAX] = ".";
  if (dladdr((void *)(uintptr_t)mg_engine_create, &about) && about.dli_fname && !realpath(about.dli_fname, here))
    snprintf(here, sizeof here, "%s", about.dli_fname);
  char *slash = strrchr(here, '/');
  if (slash) *slash = '\0';
  for (size_t i = 0; i < MG_COUNT(below); i++) {
    snprintf(path, PATH_MAX, "%.4000s/%s/share/moegauge", here, below[i]);
    if (holds_library(path)) return;
  }
}

static mg_status find_scripts(mg_engine *engine, const char *wanted) {
  char path[PATH_MAX], real[PATH_MAX];
  const char *named = wanted ? wanted : getenv("MOEGAUGE_SCRIPTS");
  if (named)
    snprintf(path, sizeof path, "%s", named);
  else
    find_beside_library(path);
  if (!holds_library(path) || !realpath(path, real))
    return mg_fail(engine->context, MG_FILE, "%s: the Lua library is not there; name its folder in MOEGAUGE_SCRIPTS",
                   path);
  engine->scripts = mg_strdup(engine->context, real);
  return engine->scripts ? MG_OK : MG_MEMORY;
}

static int open_everything(lua_State *L) {
  mg__open_values(L);
  mg__open_errors(L);
  mg__open_vars(L);
  mg__open_libraries(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, "moegauge.loaded"); /* require finds it there */
  mg__push_core(L);
  lua_setfield(L, -2, "moegauge.core");
  return 0;
}

static mg_status open_state(mg_engine *engine) {
  engine->state = lua_newstate(allocate, engine);
  if (!engine->state) return mg_fail(engine->context, MG_MEMORY, "no memory for a Lua state");
  *(mg_engine **)lua_getextraspace(engine->state) = engine;
  lua_pushcfunction(engine->state, open_everything);
  MG_TRY(mg__protected_call(engine, 0, 0, MG_BUG));
  mg__watch(engine->state);
  return MG_OK;
}

mg_status mg_engine_create(mg_context *context, const mg_engine_settings *settings, mg_engine **out) {
  *out = NULL;
  mg_engine *engine = mg_alloc(context, sizeof *engine);
  if (!engine) return MG_MEMORY;
  engine->context = context;
  engine->settings = *settings;
  engine->most_bytes = settings->memory_bytes ? settings->memory_bytes : standard_memory_bytes;
  mg_status status = find_scripts(engine, settings->scripts);
  if (status == MG_OK && !(engine->folder = mg_strdup(context, ""))) status = MG_MEMORY;
  if (status == MG_OK) status = open_state(engine);
  if (status == MG_OK)
    *out = engine;
  else
    mg_engine_destroy(engine);
  return status;
}

static void free_text(mg_context *context, char *text) {
  if (text) mg_free(context, text, strlen(text) + 1);
}

void mg_engine_destroy(mg_engine *engine) {
  if (!engine) return;
  if (engine->state) lua_close(engine->state);
  mg__free_routers(engine);
  json_decref(engine->run_settings);
  json_decref(engine->provenance);
  json_decref(engine->partial);
  free_text(engine->context, engine->scripts);
  free_text(engine->context, engine->folder);
  mg_free(engine->context, engine, sizeof *engine);
}

/* ---- calls into the library --------------------------------------------------------------------------------- */

/* Pushes require("moegauge.experiment")[name]. Runs inside a protected call. */
static void push_library_function(lua_State *L, const char *module, const char *name) {
  lua_getglobal(L, "require");
  lua_pushstring(L, module);
  lua_call(L, 1, 1);
  lua_getfield(L, -1, name);
  lua_remove(L, -2);
}

typedef struct library_call {
  const char *module, *function;
  const json_t *arguments[3]; /* passed as Lua values, nil for NULL */
  int64_t number;             /* passed first when not 0 */
  bool with_experiment;       /* passes the loaded experiment before all others */
  mg__numbers numbers;        /* how the result is read */
  const char *where;          /* begins messages about the result */
  json_t *result;             /* new reference: the first value returned */
} library_call;

static int call_library(lua_State *L) {
  library_call *call = lua_touserdata(L, 1);
  int count = 0;
  push_library_function(L, call->module, call->function);
  if (call->with_experiment && ++count) lua_getfield(L, LUA_REGISTRYINDEX, "moegauge.experiment");
  if (call->number && ++count) lua_pushinteger(L, call->number);
  for (size_t i = 0; i < MG_COUNT(call->arguments); i++, count++) mg__push_json(L, call->arguments[i]);
  lua_call(L, count, 1);
  call->result = mg__to_json(L, -1, call->numbers, call->where);
  if (!call->result) mg__raise(L, MG_USAGE);
  return 0;
}

static mg_status library(mg_engine *engine, library_call *call, mg_status otherwise) {
  lua_pushcfunction(engine->state, call_library);
  lua_pushlightuserdata(engine->state, call);
  return mg__protected_call(engine, 1, 0, otherwise);
}

/* ---- loading ------------------------------------------------------------------------------------------------ */

static int load_experiment(lua_State *L) {
  const char *path = lua_touserdata(L, 1);
  if (mg__load_file(L, path) != LUA_OK) return lua_error(L);
  lua_call(L, 0, 1);
  push_library_function(L, "moegauge.experiment", "check_loaded");
  lua_pushvalue(L, -2);
  lua_pushstring(L, path);
  lua_call(L, 2, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "moegauge.experiment");
  return 0;
}

/* The folder of `path`, in which `require` looks. */
static mg_status set_folder(mg_engine *engine, const char *path) {
  char folder[PATH_MAX];
  snprintf(folder, sizeof folder, "%s", path);
  char *slash = strrchr(folder, '/');
  if (slash)
    *(slash == folder ? slash + 1 : slash) = '\0';
  else
    snprintf(folder, sizeof folder, ".");
  char *copy = mg_strdup(engine->context, folder);
  if (!copy) return MG_MEMORY;
  free_text(engine->context, engine->folder);
  engine->folder = copy;
  return MG_OK;
}

mg_status mg_engine_load(mg_engine *engine, const char *path, const json_t *overrides, const json_t *seeds) {
  if (access(path, R_OK) != 0)
    return mg_fail(engine->context, MG_FILE, "%s: cannot be read: %s", path, strerror(errno));
  MG_TRY(set_folder(engine, path));
  lua_pushcfunction(engine->state, load_experiment);
  lua_pushlightuserdata(engine->state, (void *)(uintptr_t)path);
  snprintf(engine->place, sizeof engine->place, "%s", path);
  const mg_status loaded = mg__protected_call(engine, 1, 0, MG_USAGE);
  engine->place[0] = '\0';
  MG_TRY(loaded);
  library_call call = {.module = "moegauge.experiment",
                       .function = "configure",
                       .with_experiment = true,
                       .arguments = {overrides, seeds},
                       .where = "settings"};
  MG_TRY(library(engine, &call, MG_USAGE));
  json_decref(engine->run_settings);
  engine->run_settings = call.result;
  return MG_OK;
}

typedef struct title_call {
  char *text;
  size_t bytes;
} title_call;

static int copy_title(lua_State *L) {
  const title_call *call = lua_touserdata(L, 1);
  lua_getfield(L, LUA_REGISTRYINDEX, "moegauge.experiment");
  lua_getfield(L, -1, "title");
  snprintf(call->text, call->bytes, "%s", lua_tostring(L, -1));
  return 0;
}

mg_status mg_engine_title(mg_engine *engine, char *text, size_t bytes) {
  title_call call = {text, bytes};
  lua_pushcfunction(engine->state, copy_title);
  lua_pushlightuserdata(engine->state, &call);
  return mg__protected_call(engine, 1, 0, MG_USAGE);
}

const char *mg_engine_scripts(const mg_engine *engine) {
  return engine->scripts;
}

/* ---- the plan ----------------------------------------------------------------------------------------------- */

/* Adds the checksums of the plugins that the script named to what a case's hash covers. */
static void add_plugin_hashes(mg_engine *engine, const json_t *names, mg_plugin_kind kind, json_t *into) {
  size_t index;
  json_t *name;
  json_array_foreach(names, index, name) {
    mg_plugin_entry entry;
    if (mg_registry_entry(engine->settings.registry, kind, json_string_value(name), &entry) == MG_OK)
      json_object_set_new(into, json_string_value(name), json_string(entry.hash));
  }
}

static mg_status hash_cases(mg_engine *engine, json_t *plan) {
  char library_hash[MG_HASH_TEXT_BYTES];
  MG_TRY(mg__library_hash(engine, library_hash));
  json_t *plugins = json_object();
  add_plugin_hashes(engine, json_object_get(plan, "routers"), MG_PLUGIN_ROUTER, plugins);
  add_plugin_hashes(engine, json_object_get(plan, "backends"), MG_PLUGIN_BACKEND, plugins);
  size_t index;
  json_t *one;
  json_array_foreach(json_object_get(plan, "cases"), index, one) {
    json_t *key =
        json_pack("{s:s, s:s, s:O, s:O, s:O, s:O, s:b}", "version", MG_VERSION, "library", library_hash, "params",
                  json_object_get(one, "params"), "settings", json_object_get(plan, "settings"), "source",
                  json_object_get(plan, "source"), "plugins", plugins, "smoke", engine->settings.smoke);
    char *text = key ? json_dumps(key, JSON_COMPACT | JSON_SORT_KEYS) : NULL, hash[MG_HASH_TEXT_BYTES];
    json_decref(key);
    if (!text) {
      json_decref(plugins);
      return mg_fail(engine->context, MG_MEMORY, "no memory for a case's hash");
    }
    mg_hash_bytes(text, strlen(text), hash);
    free(text);
    json_object_set_new(one, "hash", json_string(hash));
  }
  json_decref(plugins);
  return MG_OK;
}

mg_status mg_engine_plan(mg_engine *engine, json_t **plan) {
  *plan = NULL;
  library_call call = {.module = "moegauge.experiment", .function = "plan", .with_experiment = true, .where = "plan"};
  MG_TRY(library(engine, &call, MG_USAGE));
  const mg_status status = hash_cases(engine, call.result);
  if (status == MG_OK)
    *plan = call.result;
  else
    json_decref(call.result);
  return status;
}

/* ---- running and reporting ---------------------------------------------------------------------------------- */

mg_status mg_engine_run_case(mg_engine *engine, int64_t number, json_t **result, json_t **provenance) {
  *result = NULL;
  json_decref(engine->provenance);
  json_decref(engine->partial);
  engine->partial = NULL;
  engine->provenance = json_object();
  library_call call = {.module = "moegauge.experiment",
                       .function = "run_case",
                       .with_experiment = true,
                       .number = number,
                       .numbers = MG__NUMBERS_RESULT,
                       .where = "result"};
  const mg_status status = library(engine, &call, MG_CASES_FAILED);
  engine->place[0] = '\0';
  *provenance = json_incref(engine->provenance);
  *result = status == MG_OK ? call.result : json_incref(engine->partial);
  return status;
}

mg_status mg_engine_render(mg_engine *engine, const json_t *stored, const char *format, json_t **out) {
  *out = NULL;
  json_t *wanted = json_string(format);
  library_call call = {.module = "moegauge.experiment",
                       .function = "render",
                       .with_experiment = true,
                       .arguments = {stored, wanted},
                       .numbers = MG__NUMBERS_RESULT,
                       .where = "report"};
  const mg_status status = library(engine, &call, MG_USAGE);
  json_decref(wanted);
  *out = call.result;
  return status;
}

mg_status mg_engine_compare(mg_engine *engine, const json_t *a, const json_t *b, const char *metrics, json_t **out) {
  *out = NULL;
  json_t *names = json_string(metrics);
  if (!names) return mg_fail(engine->context, MG_USAGE, "the names of metrics are not UTF-8 text");
  library_call call = {.module = "moegauge.compare",
                       .function = "run",
                       .arguments = {a, b, names},
                       .numbers = MG__NUMBERS_RESULT,
                       .where = "comparison"};
  const mg_status status = library(engine, &call, MG_BUG);
  json_decref(names);
  MG_TRY(status);
  *out = call.result;
  return MG_OK;
}

/* ---- released models ----------------------------------------------------------------------------------------- */

/* A function of the library about the model or models at `path`. */
static mg_status about_path(mg_engine *engine, const char *module, const char *path, int64_t tokens, json_t **out) {
  *out = NULL;
  json_t *path_value = json_string(path), *tokens_value = json_integer(tokens);
  library_call call = {.module = module,
                       .function = "command",
                       .arguments = {path_value, tokens_value},
                       .numbers = MG__NUMBERS_RESULT,
                       .where = module};
  const mg_status status = path_value ? library(engine, &call, MG_BUG)
                                      : mg_fail(engine->context, MG_FILE, "the path of the model is not UTF-8");
  json_decref(path_value);
  json_decref(tokens_value);
  *out = call.result;
  return status;
}

mg_status mg_engine_inspect(mg_engine *engine, const char *path, int64_t tokens, json_t **out) {
  return about_path(engine, "moegauge.inspect", path, tokens, out);
}

mg_status mg_engine_counts(mg_engine *engine, const char *path, json_t **out) {
  return about_path(engine, "moegauge.counts", path, 0, out);
}

mg_status mg_engine_released(mg_engine *engine, const char *action, const char *path, const json_t *settings,
                             json_t **out) {
  *out = NULL;
  json_t *action_value = json_string(action), *path_value = json_string(path);
  library_call call = {.module = "moegauge.released",
                       .function = "command",
                       .arguments = {action_value, path_value, settings},
                       .numbers = MG__NUMBERS_RESULT,
                       .where = action};
  const mg_status status = path_value ? library(engine, &call, MG_BUG)
                                      : mg_fail(engine->context, MG_FILE, "the path of the model is not UTF-8");
  json_decref(action_value);
  json_decref(path_value);
  *out = call.result;
  return status;
}

mg_status mg_engine_cluster_fit(mg_engine *engine, const json_t *settings, json_t **out) {
  library_call call = {.module = "moegauge.cluster.fit",
                       .function = "command",
                       .arguments = {settings},
                       .numbers = MG__NUMBERS_RESULT,
                       .where = "fit"};
  *out = NULL;
  MG_TRY(library(engine, &call, MG_BUG));
  *out = call.result;
  return MG_OK;
}

mg_status mg_engine_families(mg_engine *engine, json_t **out) {
  library_call call = {.module = "moegauge.inspect", .function = "families", .where = "families"};
  *out = NULL;
  MG_TRY(library(engine, &call, MG_BUG));
  *out = call.result;
  return MG_OK;
}

/* ---- other scripts ------------------------------------------------------------------------------------------ */

typedef struct script {
  const char *path, *text, *name;
  bool wants_result; /* a value that is not wanted need not be storable: an experiment holds functions */
  json_t *result;
} script;

static int run_script(lua_State *L) {
  script *s = lua_touserdata(L, 1);
  const int code = s->path ? mg__load_file(L, s->path) : luaL_loadbufferx(L, s->text, strlen(s->text), s->name, "t");
  if (code != LUA_OK) return lua_error(L);
  lua_call(L, 0, 1);
  if (!s->wants_result) return 0;
  s->result = mg__to_json(L, -1, MG__NUMBERS_RESULT, "value");
  if (!s->result) mg__raise(L, MG_USAGE);
  return 0;
}

static mg_status run(mg_engine *engine, script *s, json_t **result) {
  lua_pushcfunction(engine->state, run_script);
  lua_pushlightuserdata(engine->state, s);
  s->wants_result = result != NULL;
  if (result) *result = NULL;
  MG_TRY(mg__protected_call(engine, 1, 0, MG_USAGE));
  if (result) *result = s->result;
  return MG_OK;
}

mg_status mg_engine_run_file(mg_engine *engine, const char *path, json_t **result) {
  MG_TRY(set_folder(engine, path));
  return run(engine, &(script){.path = path}, result);
}

mg_status mg_engine_run_text(mg_engine *engine, const char *text, const char *name, json_t **result) {
  return run(engine, &(script){.text = text, .name = name}, result);
}
