/* mg.core's specifications and training: what a script describes as tables becomes models, corpora and runs here. Each
 * function gathers its inputs first (Lua may raise then), works without touching Lua, frees what it made, and only then
 * raises or pushes. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/options.h"
#include "lua/documents.h"
#include "lua/saving.h"
#include "lua/tracing.h"
#include "lua/training.h"
#include "train/adapt.h"

/* A layer of this shape stands in for the real one while a feed-forward is checked by itself; the model's own check
 * knows the real shape. */
enum { NOMINAL_WIDTH = 1024, NOMINAL_VOCABULARY = 1024 };

static const char backend_key[] = "backend";

/* ---- checks ------------------------------------------------------------------------------------------------- */

/* A dense feed-forward is checked inside a model that is otherwise standard. */
static mg_status check_dense(mg_engine *engine, json_t *spec) {
  json_t *model = json_pack("{s:O, s:i}", "feed_forward", spec, "vocabulary", NOMINAL_VOCABULARY);
  if (!model) return mg_fail(engine->context, MG_MEMORY, "mg.dense: no memory");
  const mg_status status = mg_model_check_spec(engine->context, engine->settings.registry, model);
  json_decref(model);
  return status;
}

static mg_status check_moe(mg_engine *engine, json_t *spec) {
  return mg_moe_check_spec(engine->context, engine->settings.registry, spec, NOMINAL_WIDTH, NOMINAL_VOCABULARY);
}

/* The seed travels in the table and is no part of the specification; the vocabulary will be the corpus's. */
static mg_status check_model(mg_engine *engine, json_t *spec) {
  const json_t *seed = json_object_get(spec, "seed");
  if (seed && (!json_is_integer(seed) || json_integer_value(seed) < 0))
    return mg_fail(engine->context, MG_USAGE, "mg.model: 'seed' must be a whole number from 0 up");
  json_object_del(spec, "seed");
  if (!json_object_get(spec, "vocabulary")) json_object_set_new(spec, "vocabulary", json_integer(NOMINAL_VOCABULARY));
  return mg_model_check_spec(engine->context, engine->settings.registry, spec);
}

static mg_status check_corpus(mg_engine *engine, json_t *spec) {
  if (!json_object_get(spec, "corpus"))
    return mg_fail(engine->context, MG_USAGE, "mg.corpus: 'corpus' is needed: \"manpages\", \"synthetic\" or a folder");
  const bool filtered =
      json_object_get(spec, "filter") != NULL; /* its fingerprint; the function stays with the script */
  json_object_del(spec, "filter");
  return mg_dataset_check(engine->context, spec, filtered);
}

static mg_status check_train(mg_engine *engine, json_t *spec) {
  return mg_train_check_spec(engine->context, spec, NULL);
}

/* Flat keys: the table is all there is to check. */
static mg_status check_flat(mg_engine *engine, const json_t *spec, const mg_option *table, const char *where) {
  enum { SETTINGS_BYTES = 1024 };
  _Alignas(max_align_t) char settings[SETTINGS_BYTES];
  return mg_options_from_json(engine->context, table, spec, where, settings);
}

static mg_status check_evaluate(mg_engine *engine, json_t *spec) {
  return check_flat(engine, spec, mg_evaluate_options(), "evaluate");
}

static mg_status check_calibrate(mg_engine *engine, json_t *spec) {
  return check_flat(engine, spec, mg_calibrate_options(), "calibrate");
}

static mg_status check_distil(mg_engine *engine, json_t *spec) {
  return check_flat(engine, spec, mg_distil_options(), "distil");
}

static mg_status check_trace(mg_engine *engine, json_t *spec) {
  return check_flat(engine, spec, mg__trace_options(), "trace");
}

/* Only the name: the options are checked against the plugin's table by the caller, the fit by the layer. */
static mg_status check_router(mg_engine *engine, json_t *spec) {
  const mg_router_plugin *plugin;
  const char *name = json_string_value(json_object_get(spec, "name"));
  MG_TRY(mg_registry_router(engine->settings.registry, name ? name : "", &plugin));
  char *options = plugin->options_size ? mg_alloc(engine->context, plugin->options_size) : NULL;
  if (plugin->options_size && !options) return MG_MEMORY;
  char where[160];
  snprintf(where, sizeof where, "mg.router.%s", plugin->name);
  json_object_del(spec, "name");
  const mg_status status = mg_options_from_json(engine->context, plugin->options, spec, where, options);
  mg_free(engine->context, options, plugin->options_size);
  return status;
}

static const struct {
  const char *kind;
  mg_status (*check)(mg_engine *engine, json_t *spec); /* may change `spec` */
} checks[] = {
    {"dense", check_dense},   {"moe", check_moe},       {"model", check_model},       {"corpus", check_corpus},
    {"train", check_train},   {"router", check_router}, {"evaluate", check_evaluate}, {"calibrate", check_calibrate},
    {"distil", check_distil}, {"trace", check_trace}};

/* check(kind, table): raises at the script's line when the specification is wrong */
static int check(lua_State *L) {
  const char *kind = luaL_checkstring(L, 1);
  json_t **box = mg__push_box(L);
  *box = mg__to_json(L, 2, MG__NUMBERS_STRICT, kind);
  if (!*box) mg__raise(L, MG_USAGE);
  for (size_t i = 0; i < MG_COUNT(checks); i++) {
    if (strcmp(kind, checks[i].kind) != 0) continue;
    const mg_status status = checks[i].check(mg__engine_of(L), *box);
    if (status != MG_OK) mg__raise(L, status);
    return 0;
  }
  mg__raise_text(L, MG_BUG, "there is no kind of specification '%s'", kind);
}

/* router_options(name) -> names of the options of a router */
static int router_options(lua_State *L) {
  const mg_router_plugin *plugin;
  const char *name = luaL_checkstring(L, 1);
  const mg_status status = mg_registry_router(mg__engine_of(L)->settings.registry, name, &plugin);
  if (status != MG_OK) mg__raise(L, status);
  lua_newtable(L);
  lua_Integer count = 0;
  for (const mg_option *o = plugin->options; o && o->type != MG_OPTION_TYPE_END; o++) {
    lua_pushstring(L, o->name);
    lua_rawseti(L, -2, ++count);
  }
  return 1;
}

/* ---- run-wide settings -------------------------------------------------------------------------------------- */

static const char *backend_name(mg_engine *engine) {
  const char *wanted = json_string_value(json_object_get(engine->run_settings, backend_key));
  if (wanted) return wanted;
  mg_plugin_entry entry;
  const bool fast = mg_registry_entry(engine->settings.registry, MG_PLUGIN_BACKEND, "cpu", &entry) == MG_OK;
  return fast && !entry.problem ? "cpu" : "reference";
}

static int push_backend_name(lua_State *L) {
  lua_pushstring(L, backend_name(mg__engine_of(L)));
  return 1;
}

static mg_status check_settings(mg_engine *engine, const json_t *settings) {
  const json_t *backend = json_object_get(settings, backend_key), *precision = json_object_get(settings, "precision"),
               *threads = json_object_get(settings, "threads");
  const mg_backend_plugin *plugin;
  if (backend && !json_is_string(backend))
    return mg_fail(engine->context, MG_USAGE, "--set backend: the name of a backend was expected");
  if (backend) MG_TRY(mg_registry_backend(engine->settings.registry, json_string_value(backend), &plugin));
  const char *wanted = json_string_value(precision);
  if (precision && (!wanted || (strcmp(wanted, "bf16") != 0 && strcmp(wanted, "f32") != 0)))
    return mg_fail(engine->context, MG_USAGE, "--set precision: bf16 or f32 was expected");
  if (threads && (!json_is_integer(threads) || json_integer_value(threads) < 1))
    return mg_fail(engine->context, MG_USAGE, "--set threads: a whole number from 1 up was expected");
  return MG_OK;
}

static int lua_check_settings(lua_State *L) {
  json_t **box = mg__push_box(L);
  *box = mg__to_json(L, 1, MG__NUMBERS_STRICT, "settings");
  if (!*box) mg__raise(L, MG_USAGE);
  const mg_status status = check_settings(mg__engine_of(L), *box);
  if (status != MG_OK) mg__raise(L, status);
  return 0;
}

static int run_settings(lua_State *L) {
  const mg_engine *engine = mg__engine_of(L);
  if (engine->run_settings)
    mg__push_json(L, engine->run_settings);
  else
    lua_newtable(L);
  return 1;
}

/* ---- training ----------------------------------------------------------------------------------------------- */

typedef struct training {
  mg_engine *engine;
  json_t *model_spec, *data_spec, *train_spec; /* borrowed from boxes */
  mg__document_filter filter;
  mg_dataset *data;
  mg_backend *backend;
  mg_model *model;
  json_t *save;  /* {folder, config, tensors}; NULL = the model is not kept */
  json_t *trace; /* of mg__trace_options; NULL = the routing is not kept */
  json_t *result;
} training;

bool mg__pass_progress(void *user, const mg_train_progress *progress) {
  const mg_engine_settings *settings = &((mg_engine *)user)->settings;
  if (settings->progress) {
    json_t *json =
        json_pack("{s:I, s:I, s:f, s:f}", "step", (json_int_t)progress->step, "steps", (json_int_t)progress->steps,
                  "loss", progress->loss, "tokens_per_second", progress->tokens_per_second);
    if (json) settings->progress(settings->user, json); /* NULL while the loss is not finite */
    json_decref(json);
  }
  return !(settings->stopped && settings->stopped(settings->user));
}

/* A model's table without its seed, for the corpus's vocabulary. */
static void settle_model(json_t *spec, int64_t vocabulary) {
  json_object_del(spec, "seed");
  json_object_set_new(spec, "vocabulary", json_integer(vocabulary));
}

static mg_status open_data(training *t) {
  MG_TRY(mg__data_open(t->engine, t->data_spec, &t->filter, &t->data));
  const char *name;
  json_t *other;
  settle_model(t->model_spec, mg_dataset_vocabulary(t->data));
  json_object_foreach(json_object_get(t->train_spec, "evaluations"), name, other)
      settle_model(other, mg_dataset_vocabulary(t->data));
  return MG_OK;
}

static bool has_option(const mg_option *table, const char *name) {
  for (; table && table->type != MG_OPTION_TYPE_END; table++)
    if (strcmp(table->name, name) == 0) return true;
  return false;
}

static mg_status open_backend(training *t) {
  mg_engine *engine = t->engine;
  const char *name = backend_name(engine);
  const mg_backend_plugin *plugin;
  char text[512] = "";
  MG_TRY(mg_registry_backend(engine->settings.registry, name, &plugin));
  const json_t *threads = json_object_get(engine->run_settings, "threads");
  const bool pass = threads && has_option(plugin->options, "threads");
  json_t *options = pass ? json_pack("{s:I}", "threads", json_integer_value(threads)) : NULL;
  const mg_status status = mg_backend_open(engine->context, engine->settings.registry, name, options, &t->backend);
  json_decref(options);
  MG_TRY(status);
  if (plugin->describe) plugin->describe(t->backend, text, sizeof text);
  json_object_set_new(engine->provenance, backend_key, json_string(name));
  json_object_set_new(engine->provenance, "backend_effect", json_string(text));
  return MG_OK;
}

/* Everything that can stand in the way of saving is asked before training. */
static mg_status prepare_saving(training *t, json_t **tokenizer) {
  json_t *own = t->save ? mg_dataset_tokenizer(t->data) : NULL, *config = json_object_get(t->save, "config");
  const mg_status status = mg__saved_tokenizer(t->engine->context, own, tokenizer);
  json_decref(own);
  if (status != MG_OK) return mg_fail_where(t->engine->context, status, "mg.train: save");
  if (!config) return MG_OK;
  json_object_set_new(config, "vocab_size", json_integer(mg_dataset_vocabulary(t->data)));
  json_object_set_new(config, "dtype", json_string("float32"));
  static const char *const ends[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
  for (size_t i = 0; i < MG_COUNT(ends); i++) json_object_set_new(config, ends[i], json_null());
  return MG_OK;
}

static mg_status save_trained(const training *t, const json_t *tokenizer) {
  const mg__saving saving = {.model = t->model,
                             .rules = json_object_get(t->save, "tensors"),
                             .config = json_object_get(t->save, "config"),
                             .tokenizer = tokenizer};
  if (!t->save) return MG_OK;
  return mg__save_folder(t->engine->context, &saving, json_string_value(json_object_get(t->save, "folder")));
}

/* Whether there will be a routing to trace. */
static mg_status check_tracing(const training *t) {
  mg_trace *trace;
  if (!t->trace) return MG_OK;
  MG_TRY(mg_trace_create(t->model, &trace));
  mg_trace_destroy(trace);
  return MG_OK;
}

/* The routing of the trained model, computed with the precision of the training. */
static mg_status trace_trained(const training *t) {
  const char *precision = json_string_value(json_object_get(t->train_spec, "precision"));
  mg_tape *tape;
  if (!t->trace) return MG_OK;
  MG_TRY(mg_tape_create(t->backend, precision && strcmp(precision, "f32") == 0 ? MG_F32 : MG_BF16, &tape));
  mg_tape_set_recording(tape, false);
  const mg_status status = mg__trace_corpus(t->model, tape, t->data, t->trace);
  mg_tape_destroy(tape);
  return status;
}

static mg_status train_and_save(training *t, const mg_train_hooks *hooks) {
  json_t *tokenizer;
  MG_TRY(check_tracing(t));
  MG_TRY(prepare_saving(t, &tokenizer));
  mg_status status = mg_train(t->engine->context, t->model, t->data, t->train_spec, hooks, &t->result);
  if (status == MG_OK) status = save_trained(t, tokenizer);
  if (status == MG_OK) status = trace_trained(t);
  json_decref(tokenizer);
  return status;
}

static mg_status train(training *t) {
  mg_context *context = t->engine->context;
  const json_t *seed = json_object_get(t->model_spec, "seed");
  const uint64_t seed_value = seed ? (uint64_t)json_integer_value(seed) : 1;
  MG_TRY(open_data(t));
  MG_TRY(open_backend(t));
  MG_TRY(
      mg_model_create(context, t->engine->settings.registry, t->backend, t->model_spec, MG_F32, seed_value, &t->model));
  json_object_set_new(t->engine->provenance, "model", json_deep_copy(mg_model_spec(t->model)));
  const mg_train_hooks hooks = {mg__pass_progress, t->engine};
  return train_and_save(t, &hooks);
}

static void release(const training *t) {
  mg_model_destroy(t->model);
  mg_backend_close(t->backend);
  mg_dataset_close(t->data);
}

json_t *mg__boxed(lua_State *L, int index, const char *where) {
  json_t **box = mg__push_box(L);
  *box = mg__to_json(L, index, MG__NUMBERS_STRICT, where);
  if (!*box) mg__raise(L, MG_USAGE);
  return *box;
}

/* train(model, data, spec, filter or nil, save or nil, trace or nil) -> { metrics, series, tables } */
static int lua_train(lua_State *L) {
  mg_engine *engine = mg__engine_of(L);
  luaL_checkstack(L, 16, "train");
  lua_settop(L, 6);
  if (!engine->provenance) mg__raise_text(L, MG_USAGE, "mg.train can only be called in an experiment's run function");
  training t = {.engine = engine,
                .model_spec = mg__boxed(L, 1, "model"),
                .data_spec = mg__boxed(L, 2, "data"),
                .train_spec = mg__boxed(L, 3, "train")};
  json_t **save = mg__push_box(L);
  if (!lua_isnil(L, 5) && !(*save = mg__to_json(L, 5, MG__NUMBERS_TYPED, "save"))) mg__raise(L, MG_BUG);
  t.save = *save;
  if (!lua_isnil(L, 6)) t.trace = mg__boxed(L, 6, "trace");
  json_t **result = mg__push_box(L);
  mg__document_filter_open(L, 4, &t.filter);
  const mg_status status = train(&t);
  *result = t.result;
  release(&t);
  mg__document_filter_close(L, &t.filter);
  return mg__push_training(L, status, *result);
}

int mg__push_training(lua_State *L, mg_status status, const json_t *result) {
  mg_engine *engine = mg__engine_of(L);
  if (status != MG_OK) {
    json_decref(engine->partial);
    engine->partial = json_incref((json_t *)(uintptr_t)result);
    mg__raise(L, status);
  }
  mg__push_json(L, result);
  return 1;
}

void mg__add_training(lua_State *L) {
  static const luaL_Reg functions[] = {{"check", check},
                                       {"check_settings", lua_check_settings},
                                       {"router_options", router_options},
                                       {"backend_name", push_backend_name},
                                       {"run_settings", run_settings},
                                       {"train", lua_train},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
