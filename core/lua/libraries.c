/* What a script may use of Lua: libraries opened one by one, text chunks only (bytecode can crash the interpreter),
 * `require` limited to the script's folder and the library, no finalizers (a loop in one cannot be stopped), no files
 * and no processes unless the user allows files. This keeps honest scripts honest; the wall against a hostile one is
 * lab/sandbox.h. */
#include <ctype.h>
#include <limits.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#include "lua/state.h"

enum { SCRIPT_BYTES_MAX = 16 << 20, WATCH_INSTRUCTIONS = 10000, SEED = 1234 };

/* ---- loading ------------------------------------------------------------------------------------------------ */

static int load_text(lua_State *L, const char *text, size_t bytes, const char *name) {
  return luaL_loadbufferx(L, text, bytes, name, "t");
}

int mg__load_file(lua_State *L, const char *path) {
  mg_engine *engine = mg__engine_of(L);
  char name[PATH_MAX + 2], *text;
  size_t bytes;
  const mg_status status = mg_file_read(engine->context, path, SCRIPT_BYTES_MAX, &text, &bytes);
  if (status != MG_OK) mg__raise_plain(L, status, mg_context_message(engine->context));
  snprintf(name, sizeof name, "@%s", path);
  const char *start = text;
  if (bytes > 1 && text[0] == '#') /* a first line for the shell */
    while (*start && *start != '\n') start++;
  const bool compiled = *start == LUA_SIGNATURE[0];
  const int code = load_text(L, start, bytes - (size_t)(start - text), name);
  mg_free(engine->context, text, bytes + 1);
  if (code != LUA_OK && compiled)
    mg__raise_text(L, MG_USAGE, "%s: is compiled Lua, which is not run; give the source", path);
  return code;
}

/* load(text [, name [, mode [, environment]]]): the mode is always text. */
static int text_load(lua_State *L) {
  size_t bytes;
  if (lua_type(L, 1) != LUA_TSTRING) return luaL_error(L, "load takes a text here, not a %s", luaL_typename(L, 1));
  const char *text = lua_tolstring(L, 1, &bytes);
  const bool environment = !lua_isnone(L, 4);
  if (load_text(L, text, bytes, luaL_optstring(L, 2, text)) != LUA_OK) {
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
  }
  if (environment) {
    lua_pushvalue(L, 4);
    lua_setupvalue(L, -2, 1);
  }
  return 1;
}

/* ---- require ------------------------------------------------------------------------------------------------ */

static const char loaded_key[] = "moegauge.loaded", loading[] = "moegauge.loading";

static bool module_name_is_good(const char *name) {
  if (!*name || *name == '.') return false;
  for (const char *c = name; *c; c++)
    if (!isalnum((unsigned char)*c) && *c != '_' && *c != '-' && (*c != '.' || c[1] == '.' || !c[1])) return false;
  return strlen(name) < 128;
}

static bool readable(const char *path) {
  FILE *file = fopen(path, "re");
  if (file) fclose(file);
  return file != NULL;
}

/* Writes the first of FOLDER/a/b.lua and FOLDER/a/b/init.lua that exists; false if there is none. */
static bool find_module(const char *folder, const char *name, char *path, size_t bytes) {
  if (!*folder) return false;
  char relative[160];
  snprintf(relative, sizeof relative, "%s", name);
  for (char *c = relative; *c; c++)
    if (*c == '.') *c = '/';
  snprintf(path, bytes, "%s/%s.lua", folder, relative);
  if (readable(path)) return true;
  snprintf(path, bytes, "%s/%s/init.lua", folder, relative);
  return readable(path);
}

/* The library comes first, so that no file beside an experiment can stand in for a part of it. */
static void locate_module(lua_State *L, const char *name, char *path, size_t bytes) {
  const mg_engine *engine = mg__engine_of(L);
  if (!module_name_is_good(name)) luaL_error(L, "require '%s': a name like 'folder.module' was expected", name);
  const bool own = strcmp(name, "moegauge") == 0 || strncmp(name, "moegauge.", 9) == 0;
  if (own ? find_module(engine->scripts, name, path, bytes) : find_module(engine->folder, name, path, bytes)) return;
  luaL_error(L, "require '%s': there is no %s.lua in %s", name, name,
             own ? engine->scripts : (*engine->folder ? engine->folder : "the script's folder"));
}

static int require_module(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  char path[PATH_MAX];
  lua_settop(L, 1);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, loaded_key); /* 2 */
  if (lua_getfield(L, 2, name) != LUA_TNIL) {
    if (lua_touserdata(L, -1) == (const void *)loading) return luaL_error(L, "require '%s': it requires itself", name);
    return 1;
  }
  lua_pop(L, 1);
  locate_module(L, name, path, sizeof path);
  if (mg__load_file(L, path) != LUA_OK) return lua_error(L);
  lua_pushlightuserdata(L, (void *)(uintptr_t)loading);
  lua_setfield(L, 2, name);
  lua_pushvalue(L, 1);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
    lua_pushnil(L);
    lua_setfield(L, 2, name);
    return lua_error(L);
  }
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_pushboolean(L, 1);
  }
  lua_pushvalue(L, -1);
  lua_setfield(L, 2, name);
  return 1;
}

/* ---- the rest ----------------------------------------------------------------------------------------------- */

static int print_to_log(lua_State *L) {
  luaL_Buffer line;
  if (mg__engine_of(L)->probing) return 0; /* the case itself will say it */
  const int count = lua_gettop(L);
  luaL_buffinit(L, &line);
  for (int i = 1; i <= count; i++) {
    if (i > 1) luaL_addchar(&line, '\t');
    luaL_tolstring(L, i, NULL);
    luaL_addvalue(&line);
  }
  luaL_pushresult(&line);
  mg_log_line(mg__engine_of(L)->context, MG_LOG_INFO, "%s", lua_tostring(L, -1));
  return 0;
}

/* collectgarbage "count" and nothing else: a script must not change what is measured. */
static int count_memory(lua_State *L) {
  const char *what = luaL_optstring(L, 1, "count");
  if (strcmp(what, "count") != 0) return luaL_error(L, "collectgarbage: only \"count\" is allowed, not \"%s\"", what);
  lua_pushnumber(L, (lua_Number)mg__engine_of(L)->used_bytes / 1024);
  return 1;
}

/* setmetatable, upvalue 1 being Lua's own, without finalizers. */
static int safe_setmetatable(lua_State *L) {
  if (lua_istable(L, 2)) {
    lua_pushliteral(L, "__gc");
    if (lua_rawget(L, 2) != LUA_TNIL) return luaL_error(L, "a finalizer (__gc) is not allowed: nothing could stop it");
    lua_settop(L, 2);
  }
  lua_settop(L, 2);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  lua_call(L, 2, 1);
  return 1;
}

static int refuse_global(lua_State *L) {
  if (strcmp(luaL_tolstring(L, 2, NULL), "mg") == 0)
    return luaL_error(L, "'mg' is not there yet; begin the file with `local mg <const> = require \"moegauge\"`");
  return luaL_error(L, "'%s' is not a local variable; write `local %s` (an experiment has no globals)",
                    luaL_tolstring(L, 2, NULL), luaL_tolstring(L, 2, NULL));
}

static void open_library(lua_State *L, const char *name, lua_CFunction open) {
  luaL_requiref(L, name, open, 1);
  lua_pop(L, 1);
}

static void remove_fields(lua_State *L, const char *table, const char *const *names) {
  lua_getglobal(L, table);
  for (; *names; names++) {
    lua_pushnil(L);
    lua_setfield(L, -2, *names);
  }
  lua_pop(L, 1);
}

/* Leaves only `names` in a library. */
static void keep_fields(lua_State *L, const char *table, const char *const *names) {
  lua_getglobal(L, table);
  lua_newtable(L);
  for (; *names; names++) {
    lua_getfield(L, -2, *names);
    lua_setfield(L, -2, *names);
  }
  lua_setglobal(L, table);
  lua_pop(L, 1);
}

static void open_system(lua_State *L, bool files) {
  static const char *const harmless[] = {"time", "clock", "date", "difftime", NULL};
  static const char *const processes[] = {"exit", "execute", "setlocale", "tmpname", NULL};
  static const char *const pipes[] = {"popen", NULL};
  open_library(L, LUA_OSLIBNAME, luaopen_os);
  if (!files) {
    keep_fields(L, LUA_OSLIBNAME, harmless);
    return;
  }
  remove_fields(L, LUA_OSLIBNAME, processes);
  open_library(L, LUA_IOLIBNAME, luaopen_io);
  remove_fields(L, LUA_IOLIBNAME, pipes);
}

static void replace_globals(lua_State *L) {
  static const luaL_Reg functions[] = {{"load", text_load},
                                       {"require", require_module},
                                       {"print", print_to_log},
                                       {"collectgarbage", count_memory},
                                       {NULL, NULL}};
  static const char *const removed[] = {"dofile", "loadfile", "warn", NULL};
  lua_pushglobaltable(L);
  luaL_setfuncs(L, functions, 0);
  lua_getfield(L, -1, "setmetatable");
  lua_pushcclosure(L, safe_setmetatable, 1);
  lua_setfield(L, -2, "setmetatable");
  for (const char *const *name = removed; *name; name++) {
    lua_pushnil(L);
    lua_setfield(L, -2, *name);
  }
  lua_createtable(L, 0, 3);
  lua_pushcfunction(L, refuse_global);
  lua_setfield(L, -2, "__newindex");
  lua_pushcfunction(L, refuse_global);
  lua_setfield(L, -2, "__index");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  lua_setmetatable(L, -2);
  lua_pop(L, 1);
}

/* Random numbers must be the same in every run; stock Lua seeds itself by time and addresses. */
static void seed_random(lua_State *L) {
  lua_getglobal(L, LUA_MATHLIBNAME);
  lua_getfield(L, -1, "randomseed");
  lua_pushinteger(L, SEED);
  lua_call(L, 1, 0);
  lua_pop(L, 1);
}

void mg__open_libraries(lua_State *L) {
  static const char *const traceback[] = {"traceback", NULL};
  static const char *const bytecode[] = {"dump", NULL};
  open_library(L, LUA_GNAME, luaopen_base);
  open_library(L, LUA_COLIBNAME, luaopen_coroutine);
  open_library(L, LUA_TABLIBNAME, luaopen_table);
  open_library(L, LUA_STRLIBNAME, luaopen_string);
  open_library(L, LUA_MATHLIBNAME, luaopen_math);
  open_library(L, LUA_UTF8LIBNAME, luaopen_utf8);
  open_library(L, LUA_DBLIBNAME, luaopen_debug);
  keep_fields(L, LUA_DBLIBNAME, traceback);
  remove_fields(L, LUA_STRLIBNAME, bytecode);
  open_system(L, mg__engine_of(L)->settings.allow_files);
  seed_random(L);
  replace_globals(L);
  lua_pushnil(L); /* luaL_requiref left the libraries, `debug` and `os` whole, where package would look */
  lua_setfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
}

/* ---- the watch ---------------------------------------------------------------------------------------------- */

static void watch(lua_State *L, lua_Debug *at) {
  (void)at;
  mg_engine *engine = mg__engine_of(L);
  const bool stopped = engine->settings.stopped && engine->settings.stopped(engine->settings.user);
  const bool spent = engine->probing && (engine->instructions_left -= WATCH_INSTRUCTIONS) < 0;
  if (!stopped && !spent) return;
  lua_sethook(L, watch, LUA_MASKLINE | LUA_MASKCOUNT, 1); /* a pcall in a loop must not swallow it for ever */
  mg__raise_text(L, stopped ? MG_INTERRUPTED : MG_NOTHING, "%s", stopped ? "interrupted" : "the probe took too long");
}

void mg__watch(lua_State *L) {
  lua_sethook(L, watch, LUA_MASKCOUNT, WATCH_INSTRUCTIONS);
}
