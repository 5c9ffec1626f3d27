/* A router written in Lua as both halves of its binding see it: the tables of its plugin, read from its definition. */
#ifndef MG_LUA_ROUTER_DEFINITION_H
#define MG_LUA_ROUTER_DEFINITION_H

#include "lua/state.h"

enum { MG__LUA_OPTIONS_MAX = 32, MG__LUA_PARAMS_MAX = 16, MG__LUA_CHOICES_MAX = 32 };

typedef struct mg__lua_router {
  struct mg__lua_router *next;
  mg_engine *engine;
  mg_router_plugin plugin;
  json_t *definition; /* owns every text that the tables point at */
  mg_option options[MG__LUA_OPTIONS_MAX + 1];
  mg_param_spec params[MG__LUA_PARAMS_MAX + 1];
  const char *words[MG__LUA_OPTIONS_MAX][MG__LUA_CHOICES_MAX + 1];
  uint32_t promises;
  int route, after_step; /* references to the Lua functions; LUA_NOREF = none */
} mg__lua_router;

/* Fills the option and parameter tables, the promises, and those fields of the plugin that point at them, from
 * `definition`, whose keys are in order. MG_USAGE names what is wrong. */
mg_status mg__lua_router_read(mg__lua_router *router);

#endif
