/* The fingerprint of a script's values: what a run function computes cannot change unless this does. A function is its
 * stripped bytecode and the fingerprints of its upvalues; a table the sum over its pairs, so that their order plays no
 * part. Comments, line numbers and report functions therefore cause no case to be run again. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

/* ---- bytecode ------------------------------------------------------------------------------------------------

 * Lua 5.4's dump of a function keeps the lines where it begins and ends, even stripped. They are left out here, so that
 * moving a function changes nothing. Format: ldump.c of Lua 5.4. */

typedef struct dump {
  mg_context *context;
  unsigned char *bytes;
  size_t size, room;
  size_t at; /* how far it was read */
  bool bad;  /* the dump is not what we expect, or memory ran out */
} dump;

enum { DUMP_HEADER = 32, NESTING_MAX = 200 }; /* 31 bytes of header, and one that counts upvalues */

static int collect(lua_State *L, const void *bytes, size_t size, void *user) {
  (void)L;
  dump *d = user;
  if (d->size + size > d->room) {
    const size_t room = 2 * d->room + size + 256;
    unsigned char *more = mg_resize(d->context, d->bytes, d->room, room);
    if (!more) return 1;
    d->bytes = more;
    d->room = room;
  }
  if (size > 0) memcpy(d->bytes + d->size, bytes, size);
  d->size += size;
  return 0;
}

/* A number in groups of 7 bits, the last one marked. */
static size_t read_number(dump *d) {
  size_t number = 0;
  while (d->at < d->size) {
    const unsigned char byte = d->bytes[d->at++];
    number = number << 7 | (byte & 0x7f);
    if (byte & 0x80) return number;
  }
  d->bad = true;
  return 0;
}

static void skip(dump *d, size_t count, size_t each) {
  if (count > (d->size - d->at) / each)
    d->bad = true;
  else
    d->at += count * each;
}

static void skip_text(dump *d) {
  const size_t size = read_number(d); /* one more than its length; 0 = none */
  if (size > 0) skip(d, size - 1, 1);
}

static void skip_constants(dump *d) {
  enum { INTEGER = 0x03, FLOAT = 0x13, SHORT_TEXT = 0x04, LONG_TEXT = 0x14 };
  for (size_t left = read_number(d); left > 0 && !d->bad; left--) {
    const unsigned char type = d->at < d->size ? d->bytes[d->at] : 0;
    skip(d, 1, 1);
    if (type == INTEGER || type == FLOAT) skip(d, 8, 1);
    if (type == SHORT_TEXT || type == LONG_TEXT) skip_text(d);
  }
}

/* Folds one function and those inside it, all but their lines. */
static void fold_function(dump *d, int depth, char hash[MG_HASH_TEXT_BYTES]) {
  skip_text(d); /* the source, absent when stripped */
  read_number(d);
  read_number(d);
  const size_t first = d->at;
  skip(d, 3, 1);
  skip(d, read_number(d), 4); /* code */
  skip_constants(d);
  skip(d, read_number(d), 3); /* upvalues */
  size_t inner = read_number(d);
  if (d->bad || depth > NESTING_MAX) {
    d->bad = true;
    return;
  }
  fold(hash, d->bytes + first, d->at - first);
  for (; inner > 0 && !d->bad; inner--) fold_function(d, depth + 1, hash);
  for (int empty = 0; empty < 4; empty++) /* debug information, stripped */
    if (read_number(d) != 0) d->bad = true;
}

/* Folds the bytecode of the function on top of the stack. */
static void fold_code(lua_State *L, char hash[MG_HASH_TEXT_BYTES]) {
  dump d = {.context = mg__engine_of(L)->context};
  const bool dumped = lua_dump(L, collect, &d, 1) == 0;
  char body[MG_HASH_TEXT_BYTES];
  begin(body, "code");
  d.at = DUMP_HEADER;
  d.bad = !dumped || d.size < DUMP_HEADER;
  if (!d.bad) fold_function(&d, 0, body);
  if (d.bad || d.at != d.size) /* another format: all of it, lines included */
    fold(hash, d.bytes ? d.bytes : (const unsigned char *)"", d.size);
  else
    fold_text(hash, body);
  mg_free(d.context, d.bytes, d.room);
}

/* ---- values -------------------------------------------------------------------------------------------------- */

static void hash_function(walk *w, int index, char hash[MG_HASH_TEXT_BYTES]) {
  lua_State *L = w->state;
  lua_Debug about;
  lua_pushvalue(L, index);
  lua_getinfo(L, ">S", &about);
  begin(hash, "function");
  const char *library = mg__engine_of(L)->scripts;
  if (about.what[0] == 'C' || about.source[0] == '\0' || strncmp(about.source + 1, library, strlen(library)) == 0) {
    char line[32];
    snprintf(line, sizeof line, "%d", about.linedefined);
    fold_text(hash, about.source);
    fold_text(hash, line);
    return;
  }
  lua_pushvalue(L, index);
  fold_code(L, hash);
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

/* ---- the library --------------------------------------------------------------------------------------------- */

/* Files that only show results; every other one may take part in computing them. */
static const char *const views[] = {"chart.lua",   "compare.lua", "expectation.lua", "format.lua", "html.lua",
                                    "metrics.lua", "paper.lua",   "report.lua",      "result.lua"};

static bool takes_part(const char *name) {
  const size_t length = strlen(name);
  if (length < 4 || strcmp(name + length - 4, ".lua") != 0) return false;
  for (size_t i = 0; i < MG_COUNT(views); i++)
    if (strcmp(name, views[i]) == 0) return false;
  return true;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_seen(const struct dirent *entry) {
  return entry->d_name[0] != '.';
}

static mg_status fold_folder(mg_context *context, const char *folder, char text[MG_HASH_TEXT_BYTES]);

static mg_status fold_entry(mg_context *context, const char *folder, const char *name, char text[MG_HASH_TEXT_BYTES]) {
  char path[PATH_MAX], hash[MG_HASH_TEXT_BYTES];
  struct stat about;
  const int length = snprintf(path, sizeof path, "%s/%s", folder, name);
  if (length < 0 || (size_t)length >= sizeof path)
    return mg_fail(context, MG_FILE, "%s/%s: the path is too long", folder, name);
  if (stat(path, &about) == 0 && S_ISDIR(about.st_mode)) return fold_folder(context, path, text);
  if (!takes_part(name)) return MG_OK;
  fold_text(text, name);
  MG_TRY(mg_hash_file(context, path, hash));
  fold_text(text, hash);
  return MG_OK;
}

static mg_status fold_folder(mg_context *context, const char *folder, char text[MG_HASH_TEXT_BYTES]) {
  struct dirent **entries;
  const int count = scandir(folder, &entries, is_seen, by_name);
  if (count < 0) return mg_fail(context, MG_FILE, "%s: cannot be read: %s", folder, strerror(errno));
  mg_status status = MG_OK;
  for (int i = 0; i < count; i++) {
    if (status == MG_OK) status = fold_entry(context, folder, entries[i]->d_name, text);
    free(entries[i]);
  }
  free(entries);
  return status;
}

mg_status mg__library_hash(mg_engine *engine, char text[MG_HASH_TEXT_BYTES]) {
  char folder[PATH_MAX];
  begin(text, "library");
  const int length = snprintf(folder, sizeof folder, "%s/moegauge", engine->scripts);
  if (length < 0 || (size_t)length >= sizeof folder)
    return mg_fail(engine->context, MG_FILE, "%s: the path is too long", engine->scripts);
  return fold_folder(engine->context, folder, text);
}
