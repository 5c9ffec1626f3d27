/* mg.core's look at released models: a configuration as a table, and what a specification costs. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/options.h"
#include "lua/state.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/model.h"

/* The names of an object in the file's order, those of null values too, which a Lua table cannot hold. */
static json_t *names_of(const json_t *object) {
  json_t *names = json_array();
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)object, key, value) json_array_append_new(names, json_string(key));
  return names;
}

/* read_config(path) -> { file =, config =, names = } */
static int read_config(lua_State *L) {
  char file[MG_CONFIG_PATH_BYTES];
  json_t *config;
  const char *path = luaL_checkstring(L, 1);
  json_t **box = mg__push_box(L);
  const mg_status status = mg_config_read(mg__engine_of(L)->context, path, file, &config);
  if (status != MG_OK) mg__raise_plain(L, status, mg_context_message(mg__engine_of(L)->context));
  *box = json_pack("{s:s, s:o, s:o}", "file", file, "config", config, "names", names_of(config));
  if (!*box) mg__raise_text(L, MG_MEMORY, "out of host memory");
  mg__push_json(L, *box);
  return 1;
}

/* ---- what a path stands for ------------------------------------------------------------------------------------- */

static void add_stamp(json_t *stamps, const char *path) {
  struct stat file;
  if (stat(path, &file) != 0 || !S_ISREG(file.st_mode)) return;
  json_object_set_new(stamps, path,
                      json_pack("[I, I, I]", (json_int_t)file.st_size, (json_int_t)file.st_mtim.tv_sec,
                                (json_int_t)file.st_mtim.tv_nsec));
}

/* stamp(path) -> names, sizes and times of the file or of the files in the folder: something else after a change. It does
 * not read them, as checkpoints may be of any size. */
static int stamp(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  json_t **stamps = mg__push_box(L);
  *stamps = json_object();
  DIR *folder = opendir(path);
  for (const struct dirent *entry; folder && (entry = readdir(folder));) {
    char full[MG_CONFIG_PATH_BYTES];
    if ((size_t)snprintf(full, sizeof full, "%s/%s", path, entry->d_name) < sizeof full) add_stamp(*stamps, full);
  }
  if (folder) closedir(folder);
  add_stamp(*stamps, path);
  char *text = json_dumps(*stamps, JSON_COMPACT | JSON_SORT_KEYS);
  char hash[MG_HASH_TEXT_BYTES] = "";
  if (text) mg_hash_bytes(text, strlen(text), hash);
  free(text);
  lua_pushstring(L, hash);
  return 1;
}

/* ---- the values of a checkpoint ---------------------------------------------------------------------------------- */

static mg_status count_values(const mg_checkpoint *checkpoint, json_t *wrong, int64_t *values, int64_t *unread) {
  mg_checkpoint_tensor tensor;
  int64_t count;
  for (int64_t i = 0; i < mg_checkpoint_count(checkpoint); i++) {
    mg_checkpoint_at(checkpoint, i, &tensor);
    MG_TRY(mg_checkpoint_count_not_finite(checkpoint, &tensor, &count));
    *unread += count < 0;
    if (count >= 0) *values += tensor.rows * tensor.columns;
    if (count > 0)
      json_array_append_new(wrong, json_pack("{s:s, s:I}", "tensor", tensor.name, "not_finite", (json_int_t)count));
  }
  return mg_checkpoint_unchanged(checkpoint);
}

/* check_values(path) -> { file =, tensors =, values =, unread =, not_finite = list of { tensor =, not_finite = } } */
static int check_values(lua_State *L) {
  mg_context *context = mg__engine_of(L)->context;
  mg_checkpoint *checkpoint;
  int64_t values = 0, unread = 0;
  json_t **box = mg__push_box(L);
  mg_status status = mg_checkpoint_open(context, luaL_checkstring(L, 1), NULL, &checkpoint);
  if (status == MG_OK) {
    json_t *wrong = json_array();
    status = count_values(checkpoint, wrong, &values, &unread);
    *box = json_pack("{s:s, s:I, s:I, s:I, s:o}", "file", mg_checkpoint_path(checkpoint), "tensors",
                     (json_int_t)mg_checkpoint_count(checkpoint), "values", (json_int_t)values, "unread",
                     (json_int_t)unread, "not_finite", wrong);
    mg_checkpoint_close(checkpoint);
  }
  if (status != MG_OK) mg__raise_plain(L, status, mg_context_message(context));
  if (!*box) mg__raise_text(L, MG_MEMORY, "out of host memory");
  mg__push_json(L, *box);
  return 1;
}

/* ---- what a specification costs --------------------------------------------------------------------------------- */

static json_t *flops_json(const mg_model *model, int64_t tokens,
                          void (*flops_of)(const mg_model *, int64_t, double[MG_PART_COUNT])) {
  double flops[MG_PART_COUNT];
  flops_of(model, tokens, flops);
  json_t *json = json_object();
  for (int part = 0; part < MG_PART_COUNT; part++)
    json_object_set_new(json, mg_part_name((mg_part)part), json_real(flops[part]));
  return json;
}

static json_t *parameters_json(const mg_model *model) {
  const mg_params *params = mg_model_description(model);
  json_t *list = json_array();
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    const mg_param *param = mg_params_look(params, i);
    json_t *shape = json_array();
    for (int32_t d = 0; d < param->value.dims; d++) json_array_append_new(shape, json_integer(param->value.shape[d]));
    json_array_append_new(list, json_pack("{s:s, s:o, s:s, s:b}", "name", param->name, "shape", shape, "part",
                                          mg_model_part_names[mg_model_part_of(param->name)], "fixed", param->fixed));
  }
  return list;
}

static json_t *size_json(const mg_model_size *size) {
  json_t *parts = json_object();
  for (int part = 0; part < MG_MODEL_PART_COUNT; part++)
    json_object_set_new(parts, mg_model_part_names[part], json_integer(size->part[part]));
  return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o}", "total", (json_int_t)size->total, "active",
                   (json_int_t)size->active, "buffers", (json_int_t)size->buffers, "routed_active",
                   (json_int_t)size->routed_active, "routed_most", (json_int_t)size->routed_most, "parts", parts);
}

static json_t *description(const mg_context *context, const mg_model *model, int64_t tokens, bool listed) {
  const mg_model_size size = mg_model_count(model);
  const mg_model_cache cache = mg_model_cache_per_token(model);
  json_t *json =
      json_pack("{s:o, s:{s:I, s:I}, s:o, s:o, s:O}", "size", size_json(&size), "cache", "own", (json_int_t)cache.own,
                "cross", (json_int_t)cache.cross, "causal", flops_json(model, tokens, mg_model_flops_per_token), "full",
                flops_json(model, tokens, mg_model_flops_per_token_full), "spec", mg_model_spec(model));
  if (json && listed) json_object_set_new(json, "parameters", parameters_json(model));
  const mg_status runs = mg_model_runs(model);
  if (json && runs != MG_OK) json_object_set_new(json, "cannot_run", json_string(mg_context_message(context)));
  return json;
}

/* describe(spec, tokens, listed) -> { size =, cache =, causal =, full =, spec =, parameters =, cannot_run = reason }; a
 * wrong specification gives nil and the reason */
static int describe(lua_State *L) {
  mg_engine *engine = mg__engine_of(L);
  const int64_t tokens = luaL_checkinteger(L, 2);
  const bool listed = lua_toboolean(L, 3);
  json_t **spec = mg__push_box(L), **result = mg__push_box(L);
  *spec = mg__to_json(L, 1, MG__NUMBERS_STRICT, "model");
  if (!*spec) mg__raise(L, MG_USAGE);
  mg_model *model;
  const mg_status status = mg_model_describe(engine->context, engine->settings.registry, *spec, &model);
  if (status == MG_OK) *result = description(engine->context, model, tokens, listed);
  if (status == MG_OK) mg_model_destroy(model);
  if (status == MG_USAGE) {
    lua_pushnil(L);
    lua_pushstring(L, mg_context_message(engine->context));
    return 2;
  }
  if (status != MG_OK) mg__raise(L, status);
  if (!*result) mg__raise_text(L, MG_MEMORY, "out of host memory");
  mg__push_json(L, *result);
  return 1;
}

void mg__add_inspect(lua_State *L) {
  static const luaL_Reg functions[] = {{"read_config", read_config},
                                       {"describe", describe},
                                       {"stamp", stamp},
                                       {"check_values", check_values},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
