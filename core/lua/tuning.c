/* Methods of a released model that measure it on a corpus, fit the buffers of its routers, and train it. */
#include <fnmatch.h>
#include <string.h>

#include "lua/documents.h"
#include "lua/released.h"
#include "lua/tracing.h"
#include "lua/training.h"
#include "train/adapt.h"

/* What each of the methods works on: (model, data, specification, filter, ...). */
typedef struct tuning {
  mg_engine *engine;
  mg__released *r;
  json_t *data_spec, *spec; /* borrowed from boxes */
  mg__document_filter filter;
  mg_dataset *data;
  json_t **result; /* in a box */
} tuning;

static void open_tuning(lua_State *L, const char *where, tuning *t) {
  luaL_checkstack(L, 16, where);
  *t = (tuning){.engine = mg__engine_of(L), .r = mg__released_at(L, 1)};
  t->data_spec = mg__boxed(L, 2, "data");
  t->spec = mg__boxed(L, 3, where);
  t->result = mg__push_box(L);
  mg__document_filter_open(L, 4, &t->filter);
}

/* A corpus speaks of tokens as the model does: one that came with the model's files was made so, another is compared. */
static mg_status check_tokenizer(const tuning *t) {
  const mg__released *root = mg__released_root(t->r);
  if (root->path[0]) return MG_OK;
  json_t *mine = root->tokenizer ? mg_tokenizer_to_json(root->tokenizer) : NULL,
         *theirs = mg_dataset_tokenizer(t->data);
  const bool same = mine && theirs && json_equal(mine, theirs);
  json_decref(mine);
  json_decref(theirs);
  if (same) return MG_OK;
  return mg_fail(t->engine->context, MG_USAGE,
                 "the corpus has another tokenizer than the model; use the corpus that it was generated for");
}

/* Opens the corpus, and notes in the case's provenance what model was asked. */
static mg_status begin(tuning *t) {
  MG_TRY(mg__data_open(t->engine, t->data_spec, &t->filter, &t->data));
  MG_TRY(check_tokenizer(t));
  json_t *provenance = t->engine->provenance;
  if (!provenance) return MG_OK;
  const mg_backend_plugin *plugin = t->r->backend->plugin;
  char text[512] = "";
  if (plugin->describe) plugin->describe(t->r->backend, text, sizeof text);
  json_object_set_new(provenance, "backend", json_string(plugin->name));
  json_object_set_new(provenance, "backend_effect", json_string(text));
  json_object_set_new(provenance, "checkpoint", json_string(mg__released_root(t->r)->path));
  json_object_set_new(provenance, "model", json_deep_copy(mg_model_spec(t->r->model)));
  return MG_OK;
}

static int end(lua_State *L, tuning *t, mg_status status) {
  mg_dataset_close(t->data);
  mg__document_filter_close(L, &t->filter);
  return mg__push_training(L, mg__released_check(t->r, status), *t->result);
}

/* evaluate(data, spec, filter or nil) -> { metrics, series, tables } */
static int evaluate(lua_State *L) {
  tuning t;
  lua_settop(L, 4);
  open_tuning(L, "evaluate", &t);
  mg_status status = begin(&t);
  if (status == MG_OK) status = mg_evaluate(t.engine->context, t.r->model, t.data, t.spec, t.result);
  return end(L, &t, status);
}

/* trace_corpus(data, spec, filter or nil) -> {}: writes the routing of the validation split */
static int trace_corpus(lua_State *L) {
  tuning t;
  lua_settop(L, 4);
  open_tuning(L, "trace", &t);
  mg_status status = begin(&t);
  if (status == MG_OK) status = mg__trace_corpus(t.r->model, t.r->tape, t.data, t.spec);
  mg_tape_reset(t.r->tape);
  *t.result = json_object();
  return end(L, &t, status);
}

/* compare_routing(data, spec, filter or nil, other) -> { metrics, series, tables } */
static int compare_routing(lua_State *L) {
  tuning t;
  lua_settop(L, 5);
  const mg__released *other = mg__released_at(L, 5);
  open_tuning(L, "compare_routing", &t);
  mg_status status = begin(&t);
  if (status == MG_OK)
    status = mg_compare_routing(t.engine->context, t.r->model, other->model, t.data, t.spec, t.result);
  return end(L, &t, status);
}

/* calibrate(data, spec, filter or nil) -> { metrics, series, tables } */
static int calibrate(lua_State *L) {
  tuning t;
  lua_settop(L, 4);
  open_tuning(L, "calibrate", &t);
  mg_status status = begin(&t);
  if (status == MG_OK) status = mg_calibrate(t.engine->context, t.r->model, t.data, t.spec, t.result);
  mg_tape_reset(t.r->tape);
  return end(L, &t, status);
}

/* distil(data, spec, filter or nil, teacher, experts or nil) -> { metrics, series, tables } */
static int distil(lua_State *L) {
  tuning t;
  lua_settop(L, 6);
  mg__released *teacher = mg__released_at(L, 5);
  const json_t *experts = lua_isnil(L, 6) ? NULL : mg__boxed(L, 6, "experts");
  open_tuning(L, "distil", &t);
  mg_status status = begin(&t);
  if (status == MG_OK)
    status = mg_distil(t.engine->context, teacher->model, t.r->model, experts, t.data, t.spec, t.result);
  mg_tape_reset(t.r->tape);
  return end(L, &t, status);
}

/* ---- training ------------------------------------------------------------------------------------------------- */

static bool matches(const json_t *patterns, const char *name) {
  for (size_t i = 0; i < json_array_size(patterns); i++)
    if (fnmatch(json_string_value(json_array_get(patterns, i)), name, 0) == 0) return true;
  return false;
}

/* Makes the matching parameters trainable, and the buffers writable, which their routers move after a step. */
static mg_status choose(tuning *t, const json_t *patterns) {
  mg_params *params = mg_model_params(t->r->model);
  int64_t chosen = 0;
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    const mg_param *param = mg_params_look(params, i);
    if (param->fixed) MG_TRY(mg_params_own(params, i));
    if (param->fixed || !matches(patterns, param->name)) continue;
    MG_TRY(mg_params_train(params, i));
    chosen++;
  }
  return chosen ? MG_OK
                : mg_fail(t->engine->context, MG_USAGE,
                          "mg.train: 'trainable' matches no parameter that is trained; names are like "
                          "layers.0.feed_forward.router.gate, and * stands for any characters");
}

static mg_status train(tuning *t, const json_t *patterns) {
  mg_params *params = mg_model_params(t->r->model);
  const mg_train_hooks hooks = {mg__pass_progress, t->engine};
  if (t->r->lent)
    return mg_fail(
        t->engine->context, MG_USAGE,
        "mg.train: the models that with_router made of this one use its weights; train one of those, or load "
        "it again");
  MG_TRY(begin(t));
  mg_status status = choose(t, patterns);
  if (status == MG_OK) status = mg_train(t->engine->context, t->r->model, t->data, t->spec, &hooks, t->result);
  for (int64_t i = 0; i < mg_params_count(params); i++) mg_params_freeze(params, i);
  mg_tape_reset(t->r->tape);
  return status;
}

/* train(data, spec, filter or nil, patterns) -> { metrics, series, tables } */
static int lua_train(lua_State *L) {
  tuning t;
  lua_settop(L, 5);
  const json_t *patterns = mg__boxed(L, 5, "trainable");
  open_tuning(L, "train", &t);
  return end(L, &t, train(&t, patterns));
}

void mg__add_tuning_methods(lua_State *L) {
  static const luaL_Reg methods[] = {{"evaluate", evaluate},
                                     {"compare_routing", compare_routing},
                                     {"calibrate", calibrate},
                                     {"distil", distil},
                                     {"train", lua_train},
                                     {"trace_corpus", trace_corpus},
                                     {NULL, NULL}};
  luaL_setfuncs(L, methods, 0);
}
