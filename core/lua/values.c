/* Values that cross between Lua and JSON. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lua/state.h"

enum { DEPTH_MAX = 64, PATH_BYTES = 256, EXACT_MAX = 53 };

static const char box_name[] = "moegauge.box", list_name[] = "moegauge.list";

/* ---- boxes -------------------------------------------------------------------------------------------------- */

static int release_box(lua_State *L) {
  json_t **box = luaL_checkudata(L, 1, box_name);
  json_decref(*box);
  *box = NULL;
  return 0;
}

json_t **mg__push_box(lua_State *L) {
  json_t **box = lua_newuserdatauv(L, sizeof(void *), 0); /* one pointer */
  *box = NULL;
  luaL_setmetatable(L, box_name);
  return box;
}

void mg__open_values(lua_State *L) {
  luaL_newmetatable(L, box_name);
  lua_pushcfunction(L, release_box);
  lua_setfield(L, -2, "__gc");
  luaL_newmetatable(L, list_name); /* marks a table as a list, so that an empty one stays a list */
  lua_pushboolean(L, 1);
  lua_setfield(L, -2, "__metatable");
  lua_pop(L, 2);
}

/* ---- Lua to JSON -------------------------------------------------------------------------------------------- */

typedef struct writer {
  lua_State *state;
  mg_context *context;
  mg__numbers numbers;
  int depth;
  char path[PATH_BYTES]; /* where we are, for messages */
} writer;

static json_t *refuse(const writer *w, const char *why) {
  mg_fail(w->context, MG_USAGE, "%s: %s", w->path, why);
  return NULL;
}

static json_t *write_number(const writer *w, int index) {
  if (lua_isinteger(w->state, index)) return json_integer(lua_tointeger(w->state, index));
  const double number = lua_tonumber(w->state, index);
  if (isfinite(number)) {
    const bool exact = w->numbers != MG__NUMBERS_TYPED && fabs(number) <= ldexp(1.0, EXACT_MAX);
    const bool whole = exact && number == floor(number);
    return whole ? json_integer((json_int_t)number) : json_real(number);
  }
  return w->numbers == MG__NUMBERS_RESULT ? json_null() : refuse(w, "NaN and infinity are not allowed here");
}

static json_t *write_value(writer *w, int index);

/* Writes the value on top of the stack with `step` added to the path, and pops it. */
static json_t *write_inside(writer *w, const char *step) {
  const size_t length = strlen(w->path);
  snprintf(w->path + length, sizeof w->path - length, "%s", step);
  json_t *value = write_value(w, lua_gettop(w->state));
  if (value) w->path[length] = '\0'; /* after a failure the path is part of the message */
  lua_pop(w->state, 1);
  return value;
}

static json_t *write_list(writer *w, int index, lua_Integer length) {
  json_t *list = json_array();
  for (lua_Integer i = 1; list && i <= length; i++) {
    char step[32];
    snprintf(step, sizeof step, "[%lld]", (long long)i);
    lua_rawgeti(w->state, index, i);
    json_t *value = write_inside(w, step);
    if (!value || json_array_append_new(list, value) != 0) {
      json_decref(list);
      return NULL;
    }
  }
  return list;
}

static json_t *write_object(writer *w, int index) {
  json_t *object = json_object();
  lua_pushnil(w->state);
  while (object && lua_next(w->state, index)) {
    if (lua_type(w->state, -2) != LUA_TSTRING) {
      lua_pop(w->state, 2);
      json_decref(object);
      return refuse(w, "a table must be a list (1, 2, 3, ...) or have only names as keys, not a mixture");
    }
    const char *key = lua_tostring(w->state, -2);
    char step[128];
    snprintf(step, sizeof step, "%s%s", w->path[0] ? "." : "", key);
    json_t *value = write_inside(w, step);
    if (!value || json_object_set_new(object, key, value) != 0) {
      if (value) refuse(w, "a key is not UTF-8");
      lua_pop(w->state, 1);
      json_decref(object);
      return NULL;
    }
  }
  return object;
}

/* True when the table's keys are exactly 1 .. length. */
static bool is_list(lua_State *L, int index, lua_Integer length) {
  if (length == 0) {
    bool marked = false;
    if (lua_getmetatable(L, index)) {
      luaL_getmetatable(L, list_name);
      marked = lua_rawequal(L, -1, -2);
      lua_pop(L, 2);
    }
    lua_pushnil(L);
    const bool empty = !lua_next(L, index);
    if (!empty) lua_pop(L, 2);
    return marked && empty;
  }
  lua_Integer keys = 0;
  lua_pushnil(L);
  while (lua_next(L, index)) {
    const bool good = lua_isinteger(L, -2) && lua_tointeger(L, -2) >= 1 && lua_tointeger(L, -2) <= length;
    lua_pop(L, 1);
    if (!good) {
      lua_pop(L, 1);
      return false;
    }
    keys++;
  }
  return keys == length;
}

static json_t *write_table(writer *w, int index) {
  if (w->depth >= DEPTH_MAX || !lua_checkstack(w->state, 8))
    return refuse(w, "a table lies too deep; does it contain itself?");
  w->depth++;
  const lua_Integer length = (lua_Integer)lua_rawlen(w->state, index);
  json_t *value = is_list(w->state, index, length) ? write_list(w, index, length) : write_object(w, index);
  w->depth--;
  return value;
}

static json_t *write_value(writer *w, int index) {
  switch (lua_type(w->state, index)) {
  case LUA_TBOOLEAN: return json_boolean(lua_toboolean(w->state, index));
  case LUA_TNUMBER: return write_number(w, index);
  case LUA_TSTRING: {
    size_t bytes;
    const char *text = lua_tolstring(w->state, index, &bytes);
    json_t *value = json_stringn(text, bytes);
    return value ? value : refuse(w, "a text is not UTF-8");
  }
  case LUA_TTABLE: return write_table(w, index);
  case LUA_TNIL: return json_null();
  case LUA_TLIGHTUSERDATA:
    if (!lua_touserdata(w->state, index)) return json_null(); /* core.null */
    /* fall through */
  default: {
    char why[96];
    snprintf(why, sizeof why, "a %s cannot be stored; use numbers, texts, booleans and tables",
             lua_typename(w->state, lua_type(w->state, index)));
    return refuse(w, why);
  }
  }
}

json_t *mg__to_json(lua_State *L, int index, mg__numbers numbers, const char *where) {
  writer w = {.state = L, .context = mg__engine_of(L)->context, .numbers = numbers};
  snprintf(w.path, sizeof w.path, "%s", where);
  const int top = lua_gettop(L);
  mg_fail(w.context, MG_MEMORY, "%s: out of host memory", where); /* unless a better reason follows */
  json_t *value = lua_checkstack(L, 8) ? write_value(&w, lua_absindex(L, index)) : NULL;
  lua_settop(L, top);
  return value;
}

/* ---- JSON to Lua -------------------------------------------------------------------------------------------- */

static void push_list(lua_State *L, const json_t *json) {
  size_t index;
  json_t *value;
  lua_createtable(L, (int)json_array_size(json), 0);
  json_array_foreach(json, index, value) {
    if (json_is_null(value))
      lua_pushnumber(L, (lua_Number)NAN);
    else
      mg__push_json(L, value);
    lua_rawseti(L, -2, (lua_Integer)index + 1);
  }
  luaL_setmetatable(L, list_name);
}

static void push_object(lua_State *L, const json_t *json) {
  const char *key;
  json_t *value;
  lua_createtable(L, 0, (int)json_object_size(json));
  json_object_foreach((json_t *)json, key, value) {
    mg__push_json(L, value);
    lua_setfield(L, -2, key);
  }
}

void mg__push_json(lua_State *L, const json_t *json) {
  luaL_checkstack(L, 8, "JSON lies too deep");
  switch (json ? json_typeof(json) : JSON_NULL) {
  case JSON_OBJECT: push_object(L, json); break;
  case JSON_ARRAY: push_list(L, json); break;
  case JSON_STRING: lua_pushlstring(L, json_string_value(json), json_string_length(json)); break;
  case JSON_INTEGER: lua_pushinteger(L, json_integer_value(json)); break;
  case JSON_REAL: lua_pushnumber(L, json_real_value(json)); break;
  case JSON_TRUE:
  case JSON_FALSE: lua_pushboolean(L, json_is_true(json)); break;
  case JSON_NULL: lua_pushnil(L); break;
  }
}
