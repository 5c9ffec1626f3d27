/* A released model's method that goes on from a prompt, and hands over text as soon as it is whole characters. */
#include <string.h>

#include "base/vector.h"
#include "lua/released.h"
#include "model/generate.h"

enum { ENDS_MOST = 64 };

typedef struct writing {
  mg_engine *engine;
  mg__released *r;
  mg_tokenizer *tokenizer; /* NULL: ids alone */
  const mg_generate_settings *settings;
  mg_token_list list;
  mg_text text; /* of all tokens so far */
  size_t shown; /* bytes of it that were handed over */
  int each;     /* reference of a function that is told every token; LUA_NOREF = none */
  mg_status status;
} writing;

/* Bytes of `text` but for a character at its end that more tokens may complete. */
static size_t whole_characters(const mg_text *text) {
  for (size_t back = 1; back <= 3 && back <= text->count; back++) {
    const unsigned char byte = (unsigned char)text->bytes[text->count - back];
    if ((byte & 0xc0) == 0x80) continue;
    const size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? text->count - back : text->count;
  }
  return text->count;
}

static mg_status decode(writing *w) {
  w->text.count = 0;
  if (!w->tokenizer) return MG_OK;
  return mg_tokenizer_decode(w->tokenizer, w->list.ids, (int64_t)w->list.count, MG_DECODE_SKIP_SPECIAL, &w->text);
}

typedef struct piece {
  int each;
  int32_t id; /* the token that it came with; -1 = none */
  const char *text;
  size_t bytes;
} piece;

static int tell(lua_State *L) {
  const piece *p = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, p->each);
  if (p->id >= 0)
    lua_pushinteger(L, p->id);
  else
    lua_pushnil(L);
  lua_pushlstring(L, p->text, p->bytes);
  lua_call(L, 2, 0);
  return 0;
}

static mg_status call_each(mg_engine *engine, piece *p) {
  if (!lua_checkstack(engine->state, 8)) return mg_fail(engine->context, MG_MEMORY, "no memory for Lua");
  lua_pushcfunction(engine->state, tell);
  lua_pushlightuserdata(engine->state, p);
  return mg__protected_call(engine, 1, 0, MG_USAGE);
}

/* Hands over the text up to `end` that was not yet, with the token that it came with, or none (-1). */
static mg_status show(writing *w, size_t end, int32_t id) {
  piece p = {.each = w->each, .id = id, .text = w->text.bytes ? w->text.bytes + w->shown : ""};
  p.bytes = end > w->shown ? end - w->shown : 0;
  w->shown += p.bytes;
  return w->each != LUA_NOREF && (id >= 0 || p.bytes) ? call_each(w->engine, &p) : MG_OK;
}

static bool take(void *user, int32_t id) {
  writing *w = user;
  const mg_engine_settings *settings = &w->engine->settings;
  w->status = MG_VECTOR_RESERVE(w->r->context, w->list.ids, w->list.room, w->list.count + 1);
  if (w->status != MG_OK) return false;
  w->list.ids[w->list.count++] = id;
  w->status = decode(w);
  if (w->status == MG_OK) w->status = show(w, whole_characters(&w->text), id);
  if (w->status == MG_OK && settings->stopped && settings->stopped(settings->user))
    w->status = mg_fail(w->r->context, MG_INTERRUPTED, "stopped while generating");
  return w->status == MG_OK;
}

static lua_Number number_field(lua_State *L, int index, const char *key) {
  lua_getfield(L, index, key);
  const lua_Number value = luaL_checknumber(L, -1);
  lua_pop(L, 1);
  return value;
}

/* The integers in field `key` of the table at `index`. */
static int64_t list_field(lua_State *L, int index, const char *key, int32_t list[ENDS_MOST]) {
  int64_t count = 0;
  lua_getfield(L, index, key);
  for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, -1) && count < ENDS_MOST - 1; i++) {
    lua_rawgeti(L, -1, i);
    list[count++] = (int32_t)lua_tointeger(L, -1);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
  return count;
}

static bool has_ended(const writing *w) {
  const mg_generate_settings *s = w->settings;
  for (int64_t i = 0; i < s->ends_count && w->list.count; i++)
    if (w->list.ids[w->list.count - 1] == s->ends[i]) return true;
  return false;
}

/* Pushes what was written and frees it: ids, text or nil, whether a token ended it. */
static int push_written(lua_State *L, writing *w, mg_status status) {
  json_t **box = mg__push_box(L);
  *box = json_array();
  for (size_t i = 0; i < w->list.count && status == MG_OK; i++)
    json_array_append_new(*box, json_integer(w->list.ids[i]));
  const bool texts = w->tokenizer != NULL, ended = has_ended(w);
  lua_pushlstring(L, w->text.bytes ? w->text.bytes : "", status == MG_OK ? w->text.count : 0);
  mg_token_list_free(w->r->context, &w->list);
  mg_text_free(w->r->context, &w->text);
  if (status != MG_OK) mg__raise_plain(L, status, mg_context_message(w->r->context));
  mg__push_json(L, *box);
  if (texts)
    lua_pushvalue(L, -2);
  else
    lua_pushnil(L);
  lua_pushboolean(L, ended);
  return 3;
}

/* generate(ids, {tokens, temperature, top_k, top_p, seed, ends}, each or nil) -> ids, text or nil, ended */
static int lua_generate(lua_State *L) {
  lua_settop(L, 4);
  mg__released *r = mg__released_at(L, 1);
  luaL_checktype(L, 3, LUA_TTABLE);
  int32_t ends[ENDS_MOST];
  writing w = {.engine = mg__engine_of(L), .r = r, .each = LUA_NOREF};
  mg_generate_settings settings = {.tokens = (int64_t)number_field(L, 3, "tokens"),
                                   .temperature = number_field(L, 3, "temperature"),
                                   .top_k = (int64_t)number_field(L, 3, "top_k"),
                                   .top_p = number_field(L, 3, "top_p"),
                                   .seed = (uint64_t)number_field(L, 3, "seed"),
                                   .ends = ends,
                                   .ends_count = list_field(L, 3, "ends", ends),
                                   .each = take,
                                   .user = &w};
  w.settings = &settings;
  int64_t count;
  const int32_t *ids = mg__released_ids(L, 2, &count);
  w.tokenizer = mg__released_root(r)->tokenizer;
  if (w.tokenizer && mg_tokenizer_eos(w.tokenizer) >= 0) ends[settings.ends_count++] = mg_tokenizer_eos(w.tokenizer);
  if (!lua_isnil(L, 4)) {
    lua_pushvalue(L, 4);
    w.each = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  mg_status status = mg__released_check(r, mg_generate(r->model, r->tape, r->precision, ids, count, &settings));
  if (w.status != MG_OK) status = w.status;
  if (status == MG_OK) status = show(&w, w.text.count, -1);
  luaL_unref(L, LUA_REGISTRYINDEX, w.each);
  return push_written(L, &w, status);
}

void mg__add_generation_methods(lua_State *L) {
  static const luaL_Reg methods[] = {{"generate", lua_generate}, {NULL, NULL}};
  luaL_setfuncs(L, methods, 0);
}
