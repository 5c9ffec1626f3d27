/* mg.core's look into GGUF files: their metadata as a table, which tensors they hold, and the numbers of short vectors. */
#include "lua/state.h"
#include "model/checkpoint.h"

static const char gguf_name[] = "moegauge.gguf";
enum { VECTOR_MOST = 65536 };

typedef struct gguf {
  mg_context *context;
  mg_checkpoint *checkpoint;
} gguf;

static int collect(lua_State *L) {
  gguf *g = luaL_checkudata(L, 1, gguf_name);
  mg_checkpoint_close(g->checkpoint);
  g->checkpoint = NULL;
  return 0;
}

/* The file of a function made by read_gguf. */
static const gguf *file_of(lua_State *L) {
  return lua_touserdata(L, lua_upvalueindex(1));
}

/* has(name) -> whether there is such a tensor */
static int has(lua_State *L) {
  lua_pushboolean(L, mg_checkpoint_find(file_of(L)->checkpoint, luaL_checkstring(L, 1)) >= 0);
  return 1;
}

/* values(name) -> the numbers of a vector of at most VECTOR_MOST; nil if there is none of that name or it is no such one */
static int values(lua_State *L) {
  const gguf *g = file_of(L);
  mg_checkpoint_tensor tensor;
  const int64_t index = mg_checkpoint_find(g->checkpoint, luaL_checkstring(L, 1));
  if (index < 0) return 0;
  mg_checkpoint_at(g->checkpoint, index, &tensor);
  if (tensor.dims != 1 || tensor.columns > VECTOR_MOST) return 0;
  float *numbers = lua_newuserdatauv(L, (size_t)(tensor.columns + 1) * sizeof *numbers, 0);
  const mg_status status = mg_checkpoint_read(g->checkpoint, &tensor, 0, tensor.rows, MG_F32, numbers);
  if (status != MG_OK) mg__raise_plain(L, status, mg_context_message(g->context));
  lua_createtable(L, (int)tensor.columns, 0);
  for (int64_t i = 0; i < tensor.columns; i++) {
    lua_pushnumber(L, (double)numbers[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* Sets NAME of the table on top to a function on the file at `index`. */
static void add_function(lua_State *L, int index, const char *name, lua_CFunction function) {
  lua_pushvalue(L, index);
  lua_pushcclosure(L, function, 1);
  lua_setfield(L, -2, name);
}

/* read_gguf(path) -> { file =, metadata =, has(name), values(name) }; nil where the model at the path is no GGUF file */
static int read_gguf(lua_State *L) {
  mg_context *context = mg__engine_of(L)->context;
  const char *path = luaL_checkstring(L, 1);
  if (!mg_checkpoint_names_gguf(context, path)) return 0;
  json_t **metadata = mg__push_box(L);
  gguf *g = lua_newuserdatauv(L, sizeof *g, 0);
  *g = (gguf){.context = context};
  luaL_setmetatable(L, gguf_name);
  const int at = lua_gettop(L);
  const mg_status status = mg_checkpoint_open(context, path, NULL, &g->checkpoint);
  if (status != MG_OK) mg__raise_plain(L, status, mg_context_message(context));
  *metadata = mg_checkpoint_metadata(g->checkpoint);
  if (!*metadata) mg__raise_text(L, MG_MEMORY, "out of host memory");
  lua_createtable(L, 0, 4);
  lua_pushstring(L, mg_checkpoint_path(g->checkpoint));
  lua_setfield(L, -2, "file");
  mg__push_json(L, *metadata);
  lua_setfield(L, -2, "metadata");
  add_function(L, at, "has", has);
  add_function(L, at, "values", values);
  return 1;
}

void mg__add_gguf(lua_State *L) {
  static const luaL_Reg functions[] = {{"read_gguf", read_gguf}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
  if (luaL_newmetatable(L, gguf_name)) {
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__gc");
    lua_pushliteral(L, "GGUF file");
    lua_setfield(L, -2, "__metatable");
  }
  lua_pop(L, 1);
}
