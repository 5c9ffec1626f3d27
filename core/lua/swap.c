/* Methods of a released model that make another of it under another routing, and fit its gates. */
#include <string.h>

#include "lua/released.h"
#include "lua/training.h"
#include "model/fit.h"

/* What may be missing is decided in the library; "random" alone leaves nothing of the old routers. */
static mg_routers routers_of(const char *gate) {
  return strcmp(gate, "random") == 0 ? MG_ROUTERS_DRAW_ALL : MG_ROUTERS_DRAW_MISSING;
}

static mg_status derive(mg__released *from, mg__released *r, const mg_model_change *change) {
  r->from = from;
  r->backend = from->backend;
  r->path = from->path;
  r->precision = from->precision;
  MG_TRY(mg_model_derive(from->model, change, &r->model));
  from->lent = true;
  MG_TRY(mg_tape_create(r->backend, from->precision, &r->tape));
  mg_tape_set_recording(r->tape, false);
  return MG_OK;
}

/* derive(spec, experts or nil, gate, seed) -> another model with the same weights */
static int lua_derive(lua_State *L) {
  lua_settop(L, 5);
  mg__released *from = mg__released_at(L, 1);
  const json_t *spec = mg__boxed(L, 2, "with_router"), *experts = lua_isnil(L, 3) ? NULL : mg__boxed(L, 3, "experts");
  const mg_model_change change = {.spec = spec,
                                  .experts = experts,
                                  .routers = routers_of(luaL_checkstring(L, 4)),
                                  .seed = (uint64_t)luaL_checkinteger(L, 5)};
  mg__released *r = mg__released_push(L);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  const mg_status status = derive(from, r, &change);
  if (status == MG_OK) return 1;
  mg__released_close(r);
  mg__raise(L, status);
}

/* The list of integers at `index` in a userdata on the stack. */
static int64_t *integers_at(lua_State *L, int index, int64_t *count) {
  luaL_checktype(L, index, LUA_TTABLE);
  *count = (int64_t)lua_rawlen(L, index);
  int64_t *list = lua_newuserdatauv(L, (size_t)(*count + 1) * sizeof *list, 0);
  for (int64_t i = 0; i < *count; i++) {
    lua_rawgeti(L, index, i + 1);
    list[i] = lua_tointeger(L, -1);
    lua_pop(L, 1);
  }
  return list;
}

/* order_experts(gate, branching, experts, seed) -> the experts, numbered from 0, as leaves of a tree */
static int order_experts(lua_State *L) {
  mg__released *r = mg__released_at(L, 1);
  const char *gate = luaL_checkstring(L, 2);
  const lua_Integer experts = luaL_checkinteger(L, 4), seed = luaL_checkinteger(L, 5);
  int64_t levels;
  luaL_argcheck(L, experts > 0 && experts <= 65536, 4, "a number of experts");
  const int64_t *branching = integers_at(L, 3, &levels);
  int32_t *order = lua_newuserdatauv(L, (size_t)experts * sizeof *order, 0);
  const mg_status status =
      mg_model_order_experts(r->model, gate, branching, levels, (uint64_t)seed, order, (int64_t)experts);
  if (status != MG_OK) mg__raise(L, status);
  lua_createtable(L, (int)experts, 0);
  for (lua_Integer i = 0; i < experts; i++) {
    lua_pushinteger(L, order[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* set_means(node, from, gate, order): rows of a gate become means of rows of the other model's */
static int set_means(lua_State *L) {
  mg__released *r = mg__released_at(L, 1), *from = mg__released_at(L, 3);
  const char *node = luaL_checkstring(L, 2), *gate = luaL_checkstring(L, 4);
  int64_t count;
  const int64_t *list = integers_at(L, 5, &count);
  int32_t *order = lua_newuserdatauv(L, (size_t)(count + 1) * sizeof *order, 0);
  for (int64_t i = 0; i < count; i++) {
    luaL_argcheck(L, list[i] >= 0 && list[i] < count, 5, "a permutation");
    order[i] = (int32_t)list[i];
  }
  const mg_status status = mg_model_set_means(r->model, node, from->model, gate, order, count);
  if (status != MG_OK) mg__raise(L, status);
  return 0;
}

void mg__add_swap_methods(lua_State *L) {
  static const luaL_Reg methods[] = {
      {"derive", lua_derive}, {"order_experts", order_experts}, {"set_means", set_means}, {NULL, NULL}};
  luaL_setfuncs(L, methods, 0);
}
