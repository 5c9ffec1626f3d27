/* The fingerprint of a script's values: what a run function computes cannot change unless this does. A function is its
 * stripped bytecode and the fingerprints of its upvalues; a table the sum over its pairs, so that their order plays no
 * part. Comments, line numbers and report functions therefore cause no case to be run again. */
#include <stdio.h>
#include <string.h>

#include "lua/state.h"

enum { DEPTH_MAX = 100, TEXT = MG_HASH_TEXT_BYTES - 1 };

typedef struct walk {
  lua_State *state;
  int open;   /* stack index: objects on the way down to here */
  int shared; /* stack index: module tables that the library's hash covers */
  int depth;
} walk;

/* hash := hash of (hash, bytes). */
static void fold(char hash[MG_HASH_TEXT_BYTES], const void *bytes, size_t size) {
  char both[2 * MG_HASH_TEXT_BYTES];
  memcpy(both, hash, TEXT);
  mg_hash_bytes(bytes, size, both + TEXT);
  mg_hash_bytes(both, 2 * TEXT, hash);
}

static void fold_text(char hash[MG_HASH_TEXT_BYTES], const char *text) {
  fold(hash, text, strlen(text));
}

static void begin(char hash[MG_HASH_TEXT_BYTES], const char *kind) {
  mg_hash_bytes(kind, strlen(kind), hash);
}

static void hash_value(walk *w, int index, char hash[MG_HASH_TEXT_BYTES]);

static int fold_code(lua_State *L, const void *bytes, size_t size, void *hash) {
  (void)L;
  if (size > 0) fold(hash, bytes, size);
  return 0;
}

static void hash_function(walk *w, int index, char hash[MG_HASH_TEXT_BYTES]) {
  lua_State *L = w->state;
  lua_Debug about;
  lua_pushvalue(L, index);
  lua_getinfo(L, ">S", &about);
  begin(hash, "function");
  const char *library = mg__engine_of(L)->scripts;
  if (about.what[0] == 'C' || strncmp(about.source + 1, library, strlen(library)) == 0) {
    char line[32];
    snprintf(line, sizeof line, "%d", about.linedefined);
    fold_text(hash, about.source);
    fold_text(hash, line);
    return;
  }
  lua_pushvalue(L, index);
  lua_dump(L, fold_code, hash, 1);
  lua_pop(L, 1);
  for (int i = 1; lua_getupvalue(L, index, i); i++) {
    char inner[MG_HASH_TEXT_BYTES];
    hash_value(w, lua_gettop(L), inner);
    fold_text(hash, inner);
    lua_pop(L, 1);
  }
}

/* Adds a pair's hash to the sum, in two halves of 64 bits. */
static void add_pair(unsigned long long sum[2], const char pair[MG_HASH_TEXT_BYTES]) {
  unsigned long long high = 0, low = 0;
  sscanf(pair, "%16llx%16llx", &high, &low);
  sum[0] += high;
  sum[1] += low;
}

static void hash_table(walk *w, int index, char hash[MG_HASH_TEXT_BYTES]) {
  lua_State *L = w->state;
  unsigned long long sum[2] = {0, 0};
  char text[64];
  lua_pushnil(L);
  while (lua_next(L, index)) {
    char pair[MG_HASH_TEXT_BYTES], value[MG_HASH_TEXT_BYTES];
    const int top = lua_gettop(L);
    hash_value(w, top - 1, pair);
    hash_value(w, top, value);
    fold_text(pair, value);
    add_pair(sum, pair);
    lua_pop(L, 1);
  }
  begin(hash, "table");
  snprintf(text, sizeof text, "%016llx%016llx", sum[0], sum[1]);
  fold_text(hash, text);
}

/* True if the table at stack index `set` has the value at `index` as a key. */
static bool has_key(lua_State *L, int set, int index) {
  lua_pushvalue(L, index);
  const bool has = lua_rawget(L, set) != LUA_TNIL;
  lua_pop(L, 1);
  return has;
}

static void mark(lua_State *L, int set, int index, bool open) {
  lua_pushvalue(L, index);
  if (open)
    lua_pushboolean(L, 1);
  else
    lua_pushnil(L);
  lua_rawset(L, set);
}

static void hash_object(walk *w, int index, char hash[MG_HASH_TEXT_BYTES]) {
  lua_State *L = w->state;
  if (has_key(L, w->shared, index)) {
    begin(hash, "module");
  } else if (has_key(L, w->open, index) || w->depth >= DEPTH_MAX) {
    begin(hash, "itself");
  } else {
    luaL_checkstack(L, 12, "a script's values lie too deep");
    mark(L, w->open, index, true);
    w->depth++;
    if (lua_isfunction(L, index))
      hash_function(w, index, hash);
    else
      hash_table(w, index, hash);
    w->depth--;
    mark(L, w->open, index, false);
  }
}

static void hash_value(walk *w, int index, char hash[MG_HASH_TEXT_BYTES]) {
  lua_State *L = w->state;
  char text[64];
  begin(hash, luaL_typename(L, index));
  switch (lua_type(L, index)) {
  case LUA_TBOOLEAN: fold_text(hash, lua_toboolean(L, index) ? "true" : "false"); break;
  case LUA_TNUMBER:
    snprintf(text, sizeof text, "%.17g", lua_tonumber(L, index));
    fold_text(hash, text);
    break;
  case LUA_TSTRING: {
    size_t size;
    const char *string = lua_tolstring(L, index, &size);
    fold(hash, string, size);
    break;
  }
  case LUA_TTABLE:
  case LUA_TFUNCTION: hash_object(w, index, hash); break;
  default: break;
  }
}

/* Pushes the set of tables that are not walked: the globals and the library's modules. */
static void push_shared(lua_State *L) {
  lua_newtable(L);
  const int set = lua_gettop(L);
  lua_pushglobaltable(L);
  mark(L, set, set + 1, true);
  lua_pop(L, 1);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, "moegauge.loaded");
  lua_pushnil(L);
  while (lua_next(L, set + 1)) {
    const char *name = lua_tostring(L, -2); /* keys are texts */
    if (strncmp(name, "moegauge", 8) == 0 && lua_istable(L, -1)) mark(L, set, lua_gettop(L), true);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

void mg__value_hash(lua_State *L, int index, char text[MG_HASH_TEXT_BYTES]) {
  index = lua_absindex(L, index);
  const int top = lua_gettop(L);
  luaL_checkstack(L, 12, "fingerprint");
  lua_newtable(L);
  push_shared(L);
  walk w = {.state = L, .open = top + 1, .shared = top + 2};
  hash_value(&w, index, text);
  lua_settop(L, top);
}

/* The files that decide what a run function computes; those that only draw reports are not among them. */
static const char *const library_files[] = {"init.lua", "experiment.lua", "specification.lua"};

mg_status mg__library_hash(mg_engine *engine, char text[MG_HASH_TEXT_BYTES]) {
  begin(text, "library");
  for (size_t i = 0; i < MG_COUNT(library_files); i++) {
    char path[4096], hash[MG_HASH_TEXT_BYTES];
    snprintf(path, sizeof path, "%s/moegauge/%s", engine->scripts, library_files[i]);
    MG_TRY(mg_hash_file(engine->context, path, hash));
    fold_text(text, hash);
  }
  return MG_OK;
}
