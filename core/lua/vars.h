/* Variables of the tape as Lua values. */
#ifndef MG_LUA_VARS_H
#define MG_LUA_VARS_H

#include "lua/state.h"
#include "moegauge/tape.h"

void mg__open_vars(lua_State *L);
/* Pushes a Var of the current router call; nil for NULL. */
void mg__push_var(lua_State *L, mg_var *var);
/* The variable at `index`; raises when it is none, or one of an earlier call. */
mg_var *mg__check_var(lua_State *L, int index);
/* The same, NULL for nil. */
mg_var *mg__optional_var(lua_State *L, int index);
/* mg.core.var_methods() -> name -> signature */
int mg__var_methods(lua_State *L);

#endif
