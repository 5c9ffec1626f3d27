/* mg.core: what the Lua library asks of C. Every function here unwinds what it holds before it raises. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/options.h"
#include "lua/state.h"
#include "moe/balance.h"

/* Pushes a malloc'd text and frees it, also when Lua has no memory for it: the text rides in a box till then. */
static int push_text(lua_State *L, char *text, size_t bytes) {
  json_t **box = mg__push_box(L);
  *box = json_stringn_nocheck(text, bytes);
  free(text);
  if (!*box) mg__raise_text(L, MG_MEMORY, "out of host memory");
  lua_pushlstring(L, json_string_value(*box), json_string_length(*box));
  return 1;
}

/* to_json(value) -> text; NaN and infinity become null. */
static int to_json(lua_State *L) {
  luaL_checkany(L, 1);
  json_t **box = mg__push_box(L);
  *box = mg__to_json(L, 1, MG__NUMBERS_RESULT, "value");
  if (!*box) mg__raise(L, MG_USAGE);
  char *text = json_dumps(*box, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
  if (!text) mg__raise_text(L, MG_MEMORY, "out of host memory");
  return push_text(L, text, strlen(text));
}

/* to_json_strict(value, where) -> text; NaN, infinity and what cannot be stored raise, naming the place */
static int to_json_strict(lua_State *L) {
  const char *where = luaL_checkstring(L, 2);
  json_t **box = mg__push_box(L);
  *box = mg__to_json(L, 1, MG__NUMBERS_STRICT, where);
  if (!*box) mg__raise(L, MG_USAGE);
  char *text = json_dumps(*box, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
  if (!text) mg__raise_text(L, MG_MEMORY, "out of host memory");
  return push_text(L, text, strlen(text));
}

/* from_json(text) -> value */
static int from_json(lua_State *L) {
  size_t bytes;
  json_error_t error;
  const char *text = luaL_checklstring(L, 1, &bytes);
  json_t **box = mg__push_box(L);
  *box = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
  if (!*box) mg__raise_text(L, MG_USAGE, "line %d: %s", error.line, error.text);
  mg__push_json(L, *box);
  return 1;
}

/* list(table) -> the same table, marked as a list even when it is empty */
static int list(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  luaL_setmetatable(L, "moegauge.list");
  return 1;
}

/* run_gnuplot(script) -> svg */
static int run_gnuplot(lua_State *L) {
  size_t bytes, svg_bytes;
  char *svg;
  const char *script = luaL_checklstring(L, 1, &bytes);
  const mg_status status = mg__gnuplot(mg__engine_of(L)->context, script, bytes, &svg, &svg_bytes);
  if (status != MG_OK) mg__raise(L, status);
  return push_text(L, svg, svg_bytes);
}

static mg_status status_named(lua_State *L, int index) {
  const char *name = luaL_checkstring(L, index);
  for (int status = MG_OK + 1; status < MG_STATUS_COUNT; status++)
    if (strcmp(mg_status_name((mg_status)status), name) == 0) return (mg_status)status;
  return MG_BUG;
}

/* fail(status, message): raises at the script's line, "usage" being a mistake in the script */
static int fail(lua_State *L) {
  mg__raise_text(L, status_named(L, 1), "%s", luaL_checkstring(L, 2));
}

/* fail_plain(status, message): the same for a message that names its line already */
static int fail_plain(lua_State *L) {
  const mg_status status = status_named(L, 1);
  mg__raise_plain(L, status, luaL_checkstring(L, 2));
}

/* error_of(error) -> status name or nil, message */
static int error_of(lua_State *L) {
  luaL_checkany(L, 1);
  luaL_getmetatable(L, "moegauge.error");
  if (!lua_getmetatable(L, 1) || !lua_rawequal(L, -1, -2)) {
    lua_pushnil(L);
    luaL_tolstring(L, 1, NULL);
    return 2;
  }
  lua_rawgeti(L, 1, 1);
  lua_pushstring(L, mg_status_name((mg_status)lua_tointeger(L, -1)));
  lua_rawgeti(L, 1, 2);
  return 2;
}

/* nearest(word, words) -> the most similar of words, or nil */
static int nearest(lua_State *L) {
  enum { WORDS_MAX = 256 };
  const char *words[WORDS_MAX];
  size_t count = 0;
  const char *wanted = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  const lua_Integer length = (lua_Integer)lua_rawlen(L, 2);
  luaL_checkstack(L, WORDS_MAX + 8, "words");
  for (lua_Integer i = 1; i <= length && count < WORDS_MAX; i++) {
    if (lua_rawgeti(L, 2, i) == LUA_TSTRING) words[count++] = lua_tostring(L, -1); /* stays on the stack while used */
  }
  const char *found = mg_nearest_name(wanted, words, count);
  if (found)
    lua_pushstring(L, found);
  else
    lua_pushnil(L);
  return 1;
}

/* hash_value(value) -> fingerprint */
static int hash_value(lua_State *L) {
  char hash[MG_HASH_TEXT_BYTES];
  luaL_checkany(L, 1);
  mg__value_hash(L, 1, hash);
  lua_pushstring(L, hash);
  return 1;
}

/* router(name): fails with the registry's words when there is no such router */
static int router(lua_State *L) {
  const mg_router_plugin *plugin;
  const mg_status status = mg_registry_router(mg__engine_of(L)->settings.registry, luaL_checkstring(L, 1), &plugin);
  if (status != MG_OK) mg__raise(L, status);
  return 0;
}

typedef struct name_list {
  json_t *names;
} name_list;

static bool add_name(void *user, const mg_plugin_entry *entry) {
  name_list *list_of = user;
  return json_array_append_new(list_of->names, json_string(entry->name)) == 0;
}

/* routers() -> names of all routers, sorted */
static int routers(lua_State *L) {
  mg_engine *engine = mg__engine_of(L);
  json_t **box = mg__push_box(L);
  *box = json_array();
  name_list all = {*box};
  const mg_status status = mg_registry_each(engine->settings.registry, MG_PLUGIN_ROUTER, add_name, &all);
  if (status != MG_OK) mg__raise(L, status);
  mg__push_json(L, *box);
  return 1;
}

/* random_floor(experts, k, tokens) -> CV and MaxVio that uniform random routing of so many tokens shows on average */
static int random_floor(lua_State *L) {
  enum { RUNS = 32 };
  const lua_Integer experts = luaL_checkinteger(L, 1), k = luaL_checkinteger(L, 2), tokens = luaL_checkinteger(L, 3);
  const mg_balance_floor least = mg_balance_random_floor(experts, k, tokens, RUNS, 1);
  lua_pushnumber(L, least.cv);
  lua_pushnumber(L, least.max_violation);
  return 2;
}

/* enter(f): f's place stands in messages that have no line of their own */
static int enter(lua_State *L) {
  mg_engine *engine = mg__engine_of(L);
  lua_Debug about;
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  lua_getinfo(L, ">S", &about);
  const char *source = about.source[0] == '@' ? about.source + 1 : about.short_src;
  snprintf(engine->place, sizeof engine->place, "%.480s:%d", source, about.linedefined);
  return 0;
}

/* probe(instructions, f, ...) -> done, result or error, out of instructions; mg.train only checks meanwhile */
static int probe(lua_State *L) {
  mg_engine *engine = mg__engine_of(L);
  const lua_Integer most = luaL_checkinteger(L, 1);
  lua_remove(L, 1);
  engine->probing = true;
  engine->instructions_left = most;
  const int code = lua_pcall(L, lua_gettop(L) - 1, 1, 0);
  const bool spent = engine->instructions_left < 0;
  engine->probing = false;
  engine->place[0] = '\0';
  mg__watch(L);
  lua_pushboolean(L, code == LUA_OK);
  lua_insert(L, 1);
  lua_pushboolean(L, spent);
  return 3;
}

/* probing() -> true while a probe runs */
static int probing(lua_State *L) {
  lua_pushboolean(L, mg__engine_of(L)->probing);
  return 1;
}

/* show(text): to whoever looks on while a model writes */
static int show(lua_State *L) {
  const mg_engine_settings *to = &mg__engine_of(L)->settings;
  const char *text = luaL_checkstring(L, 1);
  if (to->show) to->show(to->user, text);
  return 0;
}

void mg__push_core(lua_State *L) {
  static const luaL_Reg functions[] = {{"to_json", to_json},
                                       {"to_json_strict", to_json_strict},
                                       {"from_json", from_json},
                                       {"list", list},
                                       {"run_gnuplot", run_gnuplot},
                                       {"fail", fail},
                                       {"fail_plain", fail_plain},
                                       {"error_of", error_of},
                                       {"nearest", nearest},
                                       {"hash_value", hash_value},
                                       {"router", router},
                                       {"routers", routers},
                                       {"random_floor", random_floor},
                                       {"enter", enter},
                                       {"probe", probe},
                                       {"probing", probing},
                                       {"show", show},
                                       {NULL, NULL}};
  luaL_newlib(L, functions);
  mg__add_training(L);
  mg__add_inspect(L);
  mg__add_gguf(L);
  mg__add_released(L);
  mg__add_routers(L);
  mg__add_serving(L);
  mg__add_cluster(L);
  lua_pushliteral(L, MG_VERSION);
  lua_setfield(L, -2, "version");
  lua_pushlightuserdata(L, NULL); /* null, which a table cannot hold as nil */
  lua_setfield(L, -2, "null");
  lua_pushboolean(L, mg__engine_of(L)->settings.smoke);
  lua_setfield(L, -2, "smoke");
}
