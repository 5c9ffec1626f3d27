/* Lua errors that carry a status, and the one place where they become messages of the context. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lua/state.h"

enum { MESSAGE_BYTES = 2048 };

static const char error_name[] = "moegauge.error";

/* error_name's value: {status, message} in the table's array part. */
static int error_text(lua_State *L) {
  lua_rawgeti(L, 1, 2);
  return 1;
}

void mg__open_errors(lua_State *L) {
  luaL_newmetatable(L, error_name);
  lua_pushcfunction(L, error_text);
  lua_setfield(L, -2, "__tostring");
  lua_pop(L, 1);
}

static bool is_library(lua_State *L, const char *source) {
  const char *folder = mg__engine_of(L)->scripts;
  const size_t length = strlen(folder);
  return source[0] == '@' && strncmp(source + 1, folder, length) == 0 &&
         strncmp(source + 1 + length, "/moegauge/", 10) == 0;
}

/* Pushes "file:line: " of the innermost Lua function that is the user's, or "". */
static void push_user_line(lua_State *L) {
  lua_Debug at;
  for (int level = 0; lua_getstack(L, level, &at); level++) {
    lua_getinfo(L, "Sl", &at);
    if (at.currentline > 0 && !is_library(L, at.source)) {
      lua_pushfstring(L, "%s:%d: ", at.source[0] == '@' ? at.source + 1 : at.short_src, at.currentline);
      return;
    }
  }
  const char *place = mg__engine_of(L)->place; /* `return mg.train{...}` is a tail call: its line is gone */
  if (*place)
    lua_pushfstring(L, "%s: ", place);
  else
    lua_pushliteral(L, "");
}

/* Raises the text on top of the stack. */
static _Noreturn void raise_top(lua_State *L, mg_status status) {
  lua_createtable(L, 2, 0);
  lua_insert(L, -2);
  lua_rawseti(L, -2, 2);
  lua_pushinteger(L, status);
  lua_rawseti(L, -2, 1);
  luaL_setmetatable(L, error_name);
  lua_error(L);
  __builtin_unreachable();
}

_Noreturn void mg__raise_plain(lua_State *L, mg_status status, const char *message) {
  luaL_checkstack(L, 8, "error");
  lua_pushstring(L, message);
  raise_top(L, status);
}

_Noreturn void mg__raise_text(lua_State *L, mg_status status, const char *format, ...) {
  char text[MESSAGE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  luaL_checkstack(L, 8, "error");
  push_user_line(L);
  const char *line = lua_tostring(L, -1);
  if (strncmp(text, line, strlen(line)) == 0) { /* a message that came up through a second call */
    lua_pop(L, 1);
    lua_pushliteral(L, "");
  }
  lua_pushstring(L, text);
  lua_concat(L, 2);
  raise_top(L, status);
}

_Noreturn void mg__raise(lua_State *L, mg_status status) {
  mg__raise_text(L, status, "%s", mg_context_message(mg__engine_of(L)->context));
}

/* The error on top as a status and a message; pops it. Raises nothing: only raw access. */
static mg_status take_error(mg_engine *engine, mg_status otherwise) {
  lua_State *L = engine->state;
  mg_status status = otherwise;
  if (lua_istable(L, -1)) {
    lua_rawgeti(L, -1, 1);
    if (lua_isinteger(L, -1)) status = (mg_status)lua_tointeger(L, -1);
    lua_pop(L, 1);
    lua_rawgeti(L, -1, 2);
    mg_fail(engine->context, status, "%s", lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "an error table");
    lua_pop(L, 1);
  } else if (lua_type(L, -1) == LUA_TSTRING) {
    mg_fail(engine->context, status, "%s", lua_tostring(L, -1));
  } else {
    mg_fail(engine->context, status, "the script raised a %s as its error", luaL_typename(L, -1));
  }
  lua_pop(L, 1);
  return status;
}

mg_status mg__protected_call(mg_engine *engine, int arguments, int results, mg_status otherwise) {
  const int code = lua_pcall(engine->state, arguments, results, 0);
  if (code == LUA_OK) return MG_OK;
  return take_error(engine, code == LUA_ERRMEM ? MG_MEMORY : otherwise);
}
