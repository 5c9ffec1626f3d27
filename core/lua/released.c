/* mg.core's released models: a checkpoint loaded onto a backend, its tokenizer, and what is asked of both. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lua/documents.h"
#include "lua/released.h"
#include "lua/saving.h"
#include "measure/peak.h"
#include "measure/score.h"
#include "measure/speed.h"
#include "measure/trace.h"
#include "model/checkpoint_vocabulary.h"
#include "model/config.h"
#include "train/data.h"

static const char released_name[] = "moegauge.released";
enum { LINES_BYTES_MOST = 1 << 30, ROUNDS_MOST = 10000 };

typedef mg__released released;

/* ---- life ---------------------------------------------------------------------------------------------------- */

void mg__released_close(released *r) {
  mg_tape_destroy(r->tape);
  mg_model_destroy(r->model);
  if (!r->from) {
    mg_checkpoint_close(r->checkpoint);
    mg_tokenizer_destroy(r->tokenizer);
    mg_backend_close(r->backend);
    mg_free(r->context, r->path, r->path ? strlen(r->path) + 1 : 0);
  }
  *r = (released){.context = r->context};
}

static int collect(lua_State *L) {
  mg__released_close(luaL_checkudata(L, 1, released_name));
  return 0;
}

released *mg__released_push(lua_State *L) {
  released *r = lua_newuserdatauv(L, sizeof *r, 1);
  *r = (released){.context = mg__engine_of(L)->context};
  luaL_setmetatable(L, released_name);
  return r;
}

released *mg__released_at(lua_State *L, int index) {
  released *r = luaL_checkudata(L, index, released_name);
  if (!r->model) mg__raise_text(L, MG_USAGE, "the model has been closed");
  return r;
}

released *mg__released_root(released *r) {
  while (r->from) r = r->from;
  return r;
}

static released *released_at(lua_State *L) {
  return mg__released_at(L, 1);
}

static mg_status open_model(mg_engine *engine, released *r, const json_t *wanted) {
  const char *path = json_string_value(json_object_get(wanted, "path"));
  const char *backend = json_string_value(json_object_get(wanted, "backend"));
  const char *precision = json_string_value(json_object_get(wanted, "precision"));
  mg_dtype dtype;
  if (!mg_dtype_from_name(precision ? precision : "", &dtype) || (dtype != MG_F32 && dtype != MG_BF16))
    return mg_fail(r->context, MG_USAGE, "mg.load: precision must be \"bf16\" or \"f32\"");
  r->path = mg_alloc(r->context, strlen(path) + 1);
  if (!r->path) return MG_MEMORY;
  memcpy(r->path, path, strlen(path) + 1);
  MG_TRY(mg_checkpoint_guard(r->context));
  MG_TRY(
      mg_backend_open(r->context, engine->settings.registry, backend, json_object_get(wanted, "options"), &r->backend));
  MG_TRY(mg_checkpoint_open(r->context, path, NULL, &r->checkpoint));
  MG_TRY(mg_model_load(r->context, engine->settings.registry, r->backend, json_object_get(wanted, "spec"),
                       json_object_get(wanted, "tensors"), json_object_get(wanted, "ignored"), r->checkpoint, dtype,
                       &r->model));
  r->precision = dtype;
  MG_TRY(mg_tape_create(r->backend, dtype, &r->tape));
  mg_tape_set_recording(r->tape, false);
  return MG_OK;
}

/* load_released{path, spec, tensors, ignored, backend, precision, options} -> a released model */
static int load_released(lua_State *L) {
  mg_engine *engine = mg__engine_of(L);
  json_t **wanted = mg__push_box(L);
  *wanted = mg__to_json(L, 1, MG__NUMBERS_STRICT, "load");
  if (!*wanted) mg__raise(L, MG_USAGE);
  released *r = mg__released_push(L);
  const mg_status status = open_model(engine, r, *wanted);
  if (status == MG_OK) return 1;
  mg__released_close(r);
  mg__raise_plain(L, status, mg_context_message(engine->context));
}

/* ---- models that nobody trained -------------------------------------------------------------------------------- */

static mg_status read_tokenizer(released *r, const mg_dataset *data) {
  json_t *json = mg_dataset_tokenizer(data);
  if (!json) return mg_fail(r->context, MG_USAGE, "mg.draw: the corpus is tokens already; it has no tokenizer to give");
  const mg_status status = mg_tokenizer_from_json(r->context, json, &r->tokenizer);
  json_decref(json);
  return status;
}

static mg_status draw_model(mg_engine *engine, released *r, const json_t *wanted) {
  const json_t *spec = json_object_get(wanted, "spec"), *options = json_object_get(wanted, "options");
  const mg_dtype dtype = strcmp(json_string_value(json_object_get(wanted, "precision")), "f32") == 0 ? MG_F32 : MG_BF16;
  const int64_t vocabulary = json_integer_value(json_object_get(spec, "vocabulary"));
  if (r->tokenizer && mg_tokenizer_vocabulary(r->tokenizer) > vocabulary)
    return mg_fail(r->context, MG_USAGE, "mg.draw: the corpus has %lld tokens, the configuration only %lld",
                   (long long)mg_tokenizer_vocabulary(r->tokenizer), (long long)vocabulary);
  r->path = mg_strdup(r->context, "");
  if (!r->path) return MG_MEMORY;
  const char *backend = json_string_value(json_object_get(wanted, "backend"));
  MG_TRY(mg_backend_open(r->context, engine->settings.registry, backend, options, &r->backend));
  MG_TRY(mg_model_draw(r->context, engine->settings.registry, r->backend, spec, dtype,
                       (uint64_t)json_integer_value(json_object_get(wanted, "seed")), &r->model));
  r->precision = dtype;
  MG_TRY(mg_tape_create(r->backend, dtype, &r->tape));
  mg_tape_set_recording(r->tape, false);
  return MG_OK;
}

/* draw_released({spec, backend, precision, seed, options}, data or nil, filter or nil) -> a model of random weights,
 * with the tokenizer of the corpus */
static int draw_released(lua_State *L) {
  mg_engine *engine = mg__engine_of(L);
  lua_settop(L, 3);
  json_t **wanted = mg__push_box(L), **data = mg__push_box(L);
  mg__document_filter filter;
  mg_dataset *dataset = NULL;
  *wanted = mg__to_json(L, 1, MG__NUMBERS_STRICT, "draw");
  if (!*wanted) mg__raise(L, MG_USAGE);
  if (!lua_isnil(L, 2) && !(*data = mg__to_json(L, 2, MG__NUMBERS_STRICT, "data"))) mg__raise(L, MG_USAGE);
  released *r = mg__released_push(L);
  mg__document_filter_open(L, 3, &filter);
  mg_status status = *data ? mg__data_open(engine, *data, &filter, &dataset) : MG_OK;
  if (status == MG_OK && dataset) status = read_tokenizer(r, dataset);
  if (status == MG_OK) status = draw_model(engine, r, *wanted);
  mg_dataset_close(dataset);
  mg__document_filter_close(L, &filter);
  if (status != MG_OK) mg__released_close(r);
  if (status != MG_OK) mg__raise_plain(L, status, mg_context_message(engine->context));
  return 1;
}

/* ---- text ---------------------------------------------------------------------------------------------------- */

static mg_status need_tokenizer(released *root) {
  if (!root->tokenizer && !root->path[0])
    return mg_fail(root->context, MG_USAGE, "the model was made without a tokenizer; give mg.draw 'data'");
  return root->tokenizer ? MG_OK : mg_model_tokenizer(root->context, root->path, &root->tokenizer);
}

static mg_status encode(released *r, const char *text, size_t bytes, bool special, mg_token_list *list) {
  released *root = mg__released_root(r);
  MG_TRY(need_tokenizer(root));
  return mg_tokenizer_encode(root->tokenizer, text, bytes, special ? MG_ENCODE_ADD_SPECIAL : 0, list);
}

/* Pushes the ids as a list and frees them, or raises. */
static int push_ids(lua_State *L, released *r, mg_status status, mg_token_list *list) {
  json_t **box = mg__push_box(L);
  *box = json_array();
  for (size_t i = 0; i < list->count && status == MG_OK; i++) json_array_append_new(*box, json_integer(list->ids[i]));
  mg_token_list_free(r->context, list);
  if (status != MG_OK) mg__raise_plain(L, status, mg_context_message(r->context));
  mg__push_json(L, *box);
  return 1;
}

/* encode(text, special) -> ids */
static int lua_encode(lua_State *L) {
  size_t bytes;
  released *r = released_at(L);
  const char *text = luaL_checklstring(L, 2, &bytes);
  mg_token_list list = {0};
  return push_ids(L, r, encode(r, text, bytes, lua_toboolean(L, 3), &list), &list);
}

/* encode_file(path, special) -> ids, bytes of the file */
static int encode_file(lua_State *L) {
  released *r = released_at(L);
  const char *path = luaL_checkstring(L, 2);
  const bool special = lua_toboolean(L, 3);
  mg_token_list list = {0};
  char *text = NULL;
  size_t bytes = 0;
  mg_status status = mg_file_read(r->context, path, LINES_BYTES_MOST, &text, &bytes);
  if (status == MG_OK) status = encode(r, text, bytes, special, &list);
  mg_free(r->context, text, text ? bytes + 1 : 0);
  push_ids(L, r, status, &list);
  lua_pushinteger(L, (lua_Integer)bytes);
  return 2;
}

/* ---- passes -------------------------------------------------------------------------------------------------- */

int32_t *mg__released_ids(lua_State *L, int index, int64_t *count) {
  luaL_checktype(L, index, LUA_TTABLE);
  *count = (int64_t)lua_rawlen(L, index);
  int32_t *ids = lua_newuserdatauv(L, (size_t)(*count + 1) * sizeof *ids, 0);
  for (int64_t i = 0; i < *count; i++) {
    lua_rawgeti(L, index, i + 1);
    const lua_Integer id = lua_tointeger(L, -1);
    ids[i] = id >= 0 && id <= INT32_MAX ? (int32_t)id : -1;
    lua_pop(L, 1);
  }
  return ids;
}

mg_status mg__released_check(released *r, mg_status status) {
  const mg_checkpoint *checkpoint = mg__released_root(r)->checkpoint;
  return status == MG_OK && checkpoint ? mg_checkpoint_unchanged(checkpoint) : status;
}

/* score(ids, from) -> ln p of the tokens from `from` (counted from 1, at least 2) on, their number, those predicted */
static int score(lua_State *L) {
  released *r = released_at(L);
  const lua_Integer from = luaL_checkinteger(L, 3);
  int64_t count;
  const int32_t *ids = mg__released_ids(L, 2, &count);
  mg_score out;
  const mg_status status =
      mg__released_check(r, mg_score_tokens(r->model, r->tape, ids, count, (int64_t)from - 1, &out));
  mg_tape_reset(r->tape);
  if (status != MG_OK) mg__raise_plain(L, status, mg_context_message(r->context));
  lua_pushnumber(L, out.log_likelihood);
  lua_pushinteger(L, (lua_Integer)out.tokens);
  lua_pushinteger(L, (lua_Integer)out.greedy);
  return 3;
}

static mg_status trace_passes(released *r, const int32_t *ids, int64_t count, int64_t context, mg_trace *trace) {
  for (int64_t first = 0; first < count; first += context) {
    const int64_t here = count - first < context ? count - first : context;
    const mg_model_batch batch = {.inputs = ids + first, .sequences = 1, .sequence_tokens = here, .last_only = true};
    mg_model_output output;
    mg_tape_reset(r->tape);
    MG_TRY(mg_model_forward(r->model, r->tape, &batch, &output));
    MG_TRY(mg_trace_add(trace, r->tape, ids + first, here, &output));
  }
  return MG_OK;
}

/* trace(ids, context, path): writes the routing of the tokens, `context` in a pass, to the file */
static int lua_trace(lua_State *L) {
  released *r = released_at(L);
  const lua_Integer context = luaL_checkinteger(L, 3);
  const char *path = luaL_checkstring(L, 4);
  int64_t count;
  const int32_t *ids = mg__released_ids(L, 2, &count);
  mg_trace *trace = NULL;
  luaL_argcheck(L, context > 0, 3, "at least one token");
  json_t *about = json_pack("{s:s}", "model", mg__released_root(r)->path);
  mg_status status = mg_trace_create(r->model, &trace);
  if (status == MG_OK) status = mg__released_check(r, trace_passes(r, ids, count, (int64_t)context, trace));
  if (status == MG_OK) status = mg_trace_write(trace, path, about);
  mg_trace_destroy(trace);
  json_decref(about);
  mg_tape_reset(r->tape);
  if (status != MG_OK) mg__raise_plain(L, status, mg_context_message(r->context));
  return 0;
}

/* ---- speed --------------------------------------------------------------------------------------------------- */

static json_t *speed_to_json(const mg_speed *speed) {
  return json_pack("{s:I, s:I, s:f, s:f}", "prefill_ns", (json_int_t)speed->prefill_ns, "decode_ns",
                   (json_int_t)speed->decode_ns, "prefill_flops", speed->prefill_flops, "decode_flops",
                   speed->decode_flops);
}

/* speed(prompt, generate, depth, rounds) -> what each round took, in ns and FLOPs; bytes that a decoded token must read at
 * the mean depth */
static int lua_speed(lua_State *L) {
  released *r = released_at(L);
  const mg_speed_settings settings = {.prompt = luaL_checkinteger(L, 2),
                                      .generate = luaL_checkinteger(L, 3),
                                      .depth = luaL_checkinteger(L, 4),
                                      .rounds = luaL_checkinteger(L, 5),
                                      .seed = 1};
  luaL_argcheck(L, settings.rounds > 0 && settings.rounds <= ROUNDS_MOST, 5, "from 1 to 10000 rounds");
  mg_speed *rounds = lua_newuserdatauv(L, (size_t)settings.rounds * sizeof *rounds, 0);
  const mg_status status = mg__released_check(r, mg_speed_run(r->model, r->tape, r->precision, &settings, rounds));
  if (status != MG_OK) mg__raise_plain(L, status, mg_context_message(r->context));
  json_t **box = mg__push_box(L);
  *box = json_array();
  for (int64_t i = 0; i < settings.rounds; i++) json_array_append_new(*box, speed_to_json(&rounds[i]));
  mg__push_json(L, *box);
  lua_pushnumber(L, mg_speed_decode_bytes(r->model, r->precision, settings.depth + settings.generate / 2));
  return 2;
}

/* backend() -> its name and what took effect */
static int lua_backend(lua_State *L) {
  const released *r = released_at(L);
  char text[256] = "";
  if (r->backend->plugin->describe) r->backend->plugin->describe(r->backend, text, sizeof text);
  lua_pushfstring(L, "%s%s%s", r->backend->plugin->name, *text ? " " : "", text);
  return 1;
}

/* peaks(threads) -> what this machine can do at most, per second; 0 threads = all processors */
static int peaks(lua_State *L) {
  mg_context *context = mg__engine_of(L)->context;
  mg_peak peak;
  const mg_status status = mg_peak_measure(context, (int32_t)luaL_checkinteger(L, 1), &peak);
  if (status != MG_OK) mg__raise_plain(L, status, mg_context_message(context));
  json_t **box = mg__push_box(L);
  *box = json_pack("{s:i, s:f, s:f, s:f, s:f}", "threads", peak.threads, "f32_flops", peak.f32_flops, "bf16_flops",
                   peak.bf16_flops, "amx_flops", peak.amx_flops, "read_bytes", peak.read_bytes);
  mg__push_json(L, *box);
  return 1;
}

/* Copies FROM/name to TO/name; a file that is not there is no error. */
static mg_status copy_beside(const released *root, const char *folder, const char *name) {
  char from[PATH_MAX], to[PATH_MAX], *text;
  size_t bytes;
  if ((size_t)snprintf(from, sizeof from, "%s/%s", root->path, name) >= sizeof from ||
      (size_t)snprintf(to, sizeof to, "%s/%s", folder, name) >= sizeof to)
    return mg_fail(root->context, MG_FILE, "%s/%s: the path is too long", folder, name);
  if (access(from, F_OK) != 0) return MG_OK;
  MG_TRY(mg_file_read(root->context, from, LINES_BYTES_MOST, &text, &bytes));
  const mg_status status = mg_file_write_atomic(root->context, to, text, bytes);
  mg_free(root->context, text, bytes + 1);
  return status;
}

/* The configuration that the model came with. */
static mg_status own_config(const released *root, json_t **out) {
  char file[MG_CONFIG_PATH_BYTES];
  return mg_config_read(root->context, root->path, file, out);
}

/* A vocabulary that came without a tokenizer.json. */
static mg_status own_tokenizer(released *root, json_t **out) {
  *out = NULL;
  if (root->checkpoint && mg_checkpoint_kind(root->checkpoint) != MG_CHECKPOINT_GGUF) return MG_OK;
  if (!root->checkpoint && !root->tokenizer) return MG_OK; /* drawn without a corpus */
  MG_TRY(need_tokenizer(root));
  return mg_tokenizer_released_json(root->tokenizer, out);
}

static mg_status save_all(released *r, const json_t *rules, const json_t *config, const char *folder) {
  json_t *own = NULL, *tokenizer = NULL;
  released *root = mg__released_root(r);
  mg_status status = config ? MG_OK : own_config(root, &own);
  if (status == MG_OK) status = own_tokenizer(root, &tokenizer);
  const mg__saving saving = {.model = r->model,
                             .decoded = r->precision,
                             .rules = rules,
                             .config = config ? config : own,
                             .tokenizer = tokenizer};
  if (status == MG_OK) status = mg__save_folder(r->context, &saving, folder);
  if (status == MG_OK && !tokenizer && root->path[0]) status = copy_beside(root, folder, "tokenizer.json");
  json_decref(own);
  json_decref(tokenizer);
  return status;
}

/* save(tensors, folder, config): the model under the names of its family, with a configuration (nil = the one it came with)
 * and its tokenizer */
static int save(lua_State *L) {
  released *r = released_at(L);
  const char *folder = luaL_checkstring(L, 3);
  lua_settop(L, 4);
  json_t **rules = mg__push_box(L), **config = mg__push_box(L);
  *rules = mg__to_json(L, 2, MG__NUMBERS_STRICT, "tensors");
  if (!lua_isnil(L, 4)) *config = mg__to_json(L, 4, MG__NUMBERS_TYPED, "config");
  if (!*rules || (!lua_isnil(L, 4) && !*config)) mg__raise(L, MG_BUG);
  const mg_status status = mg__released_check(r, save_all(r, *rules, *config, folder));
  if (status != MG_OK) mg__raise_plain(L, status, mg_context_message(r->context));
  return 0;
}

/* spec() -> the resolved specification */
static int spec(lua_State *L) {
  const released *r = released_at(L);
  mg__push_json(L, mg_model_spec(r->model));
  return 1;
}

/* ---- lines of JSON ------------------------------------------------------------------------------------------- */

static bool is_blank(const char *text, size_t length) {
  for (size_t i = 0; i < length; i++)
    if (!strchr(" \t\r", text[i])) return false;
  return true;
}

static json_t *parse_lines(mg_context *context, const char *path, const char *text, size_t bytes) {
  json_t *list = json_array();
  const char *end = text + bytes;
  for (int64_t line = 1; text < end && list; line++) {
    const char *stop = memchr(text, '\n', (size_t)(end - text));
    const size_t length = (size_t)((stop ? stop : end) - text);
    json_error_t error;
    if (!is_blank(text, length)) {
      json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
      if (!value) {
        mg_fail(context, MG_FILE, "%s: line %lld is not JSON: %s", path, (long long)line, error.text);
        json_decref(list);
        return NULL;
      }
      json_array_append_new(list, value);
    }
    text += length + 1;
  }
  return list;
}

/* read_json_lines(path) -> list of values */
static int read_json_lines(lua_State *L) {
  mg_context *context = mg__engine_of(L)->context;
  const char *path = luaL_checkstring(L, 1);
  json_t **box = mg__push_box(L);
  char *text;
  size_t bytes;
  const mg_status status = mg_file_read(context, path, LINES_BYTES_MOST, &text, &bytes);
  if (status != MG_OK) mg__raise_plain(L, status, mg_context_message(context));
  *box = parse_lines(context, path, text, bytes);
  mg_free(context, text, bytes + 1);
  if (!*box) mg__raise_plain(L, MG_FILE, mg_context_message(context));
  mg__push_json(L, *box);
  return 1;
}

void mg__add_released(lua_State *L) {
  static const luaL_Reg functions[] = {{"load_released", load_released},
                                       {"draw_released", draw_released},
                                       {"read_json_lines", read_json_lines},
                                       {"peaks", peaks},
                                       {NULL, NULL}};
  static const luaL_Reg methods[] = {{"encode", lua_encode},
                                     {"encode_file", encode_file},
                                     {"score", score},
                                     {"trace", lua_trace},
                                     {"speed", lua_speed},
                                     {"backend", lua_backend},
                                     {"spec", spec},
                                     {"save", save},
                                     {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  if (luaL_newmetatable(L, released_name)) {
    luaL_newlib(L, methods);
    mg__add_generation_methods(L);
    mg__add_swap_methods(L);
    mg__add_tuning_methods(L);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__gc");
    lua_pushliteral(L, "released model");
    lua_setfield(L, -2, "__metatable");
  }
  lua_pop(L, 1);
}
