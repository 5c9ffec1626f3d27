/* Routers written in Lua: mg.router.define{...} becomes a router plugin whose functions call back into the script. The
 * definition is kept as JSON (names, options, shapes) beside references to its Lua functions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/options.h"
#include "lua/router_definition.h"
#include "lua/vars.h"

typedef mg__lua_router lua_router;

/* ---- the plugin's functions -------------------------------------------------------------------------------------- */

static const lua_router *router_of(const mg_router *router) {
  return router->plugin->user;
}

/* The value of a number option, or the experts by that name; `otherwise` when there is none of that name. */
static double option_value(const mg_router *router, const char *name, double otherwise) {
  if (strcmp(name, "experts") == 0) return (double)router->experts;
  for (const mg_option *o = router->plugin->options; o && o->type != MG_OPTION_TYPE_END; o++) {
    if (strcmp(o->name, name) != 0) continue;
    const void *field = (const char *)router->options + o->offset;
    if (o->type == MG_OPTION_TYPE_INT) return (double)*(const int64_t *)field;
    if (o->type == MG_OPTION_TYPE_FLOAT) return *(const double *)field;
  }
  return otherwise;
}

/* A part of the definition that is a number or the name of one. */
static double number_of(const mg_router *router, const char *part, double otherwise) {
  const json_t *wanted = json_object_get(router_of(router)->definition, part);
  if (json_is_number(wanted)) return json_number_value(wanted);
  return json_is_string(wanted) ? option_value(router, json_string_value(wanted), otherwise) : otherwise;
}

static int64_t dimension(const mg_router *router, int32_t param, int32_t dim) {
  const lua_router *r = router_of(router);
  const json_t *entry = json_object_get(json_object_get(r->definition, "params"), r->params[param].name);
  const char *name = json_string_value(json_array_get(json_object_get(entry, "shape"), (size_t)dim));
  return name ? (int64_t)option_value(router, name, 0) : 0;
}

static int64_t slots(const mg_router *router) {
  return (int64_t)number_of(router, "slots", 0);
}

/* The default is the option k, else 1; a router with slots chooses all. */
static int64_t choices(const mg_router *router) {
  if (slots(router)) return router->experts;
  return (int64_t)number_of(router, "choices", option_value(router, "k", 1));
}

static double mean_choices(const mg_router *router) {
  return number_of(router, "mean_choices", (double)choices(router));
}

/* The default is one selection over all experts for each token, none with slots. */
static double selection_flops(const mg_router *router, const mg_route_input *call) {
  return (double)call->tokens * number_of(router, "selection", slots(router) ? 0 : (double)router->experts);
}

static mg_status check(const mg_router *router) {
  const int64_t count = choices(router);
  if (count >= 1 && count <= router->experts) return MG_OK;
  return mg_fail(router->context, MG_USAGE, "router %s: chooses %lld experts, but the layer has %lld; use 1 to %lld",
                 router->plugin->name, (long long)count, (long long)router->experts, (long long)router->experts);
}

static uint32_t promises(const mg_router *router) {
  return router_of(router)->promises;
}

/* ---- one call ------------------------------------------------------------------------------------------------------ */

typedef struct route_call {
  const lua_router *definition;
  mg_router *router;
  mg_tape *tape;
  const mg_route_input *in; /* of route; NULL in after_step */
  mg_route_output *out;
  const int32_t *demand; /* of after_step */
  int64_t draws;         /* how many random tensors the script asked for */
} route_call;

/* r:param(name) -> Var */
static int get_param(lua_State *L) {
  const route_call *call = mg__engine_of(L)->route;
  const char *name = luaL_checkstring(L, 2);
  if (!call) mg__raise_text(L, MG_USAGE, "r:param can only be called while route or after_step runs");
  mg_var *var = mg_router_has_param(call->router, name) ? mg_router_param(call->router, call->tape, name) : NULL;
  if (!var) mg__raise_text(L, MG_USAGE, "router %s has no parameter '%s'", call->router->plugin->name, name);
  mg__push_var(L, var);
  return 1;
}

/* r:store(name, value): overwrites a fixed parameter. */
static int store(lua_State *L) {
  const route_call *call = mg__engine_of(L)->route;
  const char *name = luaL_checkstring(L, 2);
  mg_var *value = mg__check_var(L, 3);
  if (!call) mg__raise_text(L, MG_USAGE, "r:store can only be called while route or after_step runs");
  const mg_status status = mg_router_store(call->router, call->tape, name, value);
  if (status != MG_OK) mg__raise(L, status);
  return 0;
}

/* The first tensor of a call comes from the layer's noise stream, as a router in C would draw it, later ones from streams
 * of their own. */
static int draw(lua_State *L, mg_random_kind kind, double low, double high) {
  route_call *call = mg__engine_of(L)->route;
  const int64_t shape[] = {luaL_checkinteger(L, 2), luaL_checkinteger(L, 3)};
  if (!call || !call->in) mg__raise_text(L, MG_USAGE, "random numbers can only be drawn while route runs");
  const mg_stream noise = call->in->noise;
  const uint64_t number = (uint64_t)call->draws++;
  const mg_stream stream = number ? mg_stream_named(noise.seed, "lua router", noise.stream, number) : noise;
  mg_var *var = mg_random(call->tape, mg_var_dtype(call->in->x), 2, shape, kind, stream, low, high);
  if (!var) mg__raise(L, mg_tape_status(call->tape));
  mg__push_var(L, var);
  return 1;
}

/* r:normal(rows, columns [, deviation]) -> Var */
static int normal(lua_State *L) {
  return draw(L, MG_RANDOM_NORMAL, 0, luaL_optnumber(L, 4, 1));
}

/* r:uniform(rows, columns [, low, high]) -> Var */
static int uniform(lua_State *L) {
  return draw(L, MG_RANDOM_UNIFORM, luaL_optnumber(L, 4, 0), luaL_optnumber(L, 5, 1));
}

static void set_integer(lua_State *L, const char *name, int64_t value) {
  lua_pushinteger(L, value);
  lua_setfield(L, -2, name);
}

/* r.NAME that is not there. */
static int no_field(lua_State *L) {
  const char *names[MG__LUA_OPTIONS_MAX + 16], *wanted = luaL_tolstring(L, 2, NULL);
  size_t count = 0;
  lua_pushnil(L);
  while (lua_next(L, 1)) {
    if (lua_type(L, -2) == LUA_TSTRING && count < MG_COUNT(names)) names[count++] = lua_tostring(L, -2);
    lua_pop(L, 1);
  }
  const char *nearest = mg_nearest_name(wanted, names, count);
  mg__raise_text(L, MG_USAGE,
                 "there is no r.%s%s%s%s; r has the options by name, width, experts, layer, tokens, training "
                 "and the methods param, store, normal and uniform",
                 wanted, nearest ? " (did you mean r." : "", nearest ? nearest : "", nearest ? "?)" : "");
}

/* Makes the table on top refuse keys that it does not have. */
static void make_strict(lua_State *L) {
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, no_field);
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, -2);
}

/* Pushes r: the options by name, the shape of the layer, and methods. */
static void push_view(lua_State *L, const route_call *call) {
  static const luaL_Reg methods[] = {
      {"param", get_param}, {"store", store}, {"normal", normal}, {"uniform", uniform}, {NULL, NULL}};
  json_t **box = mg__push_box(L);
  *box = mg_options_to_json(call->router->plugin->options, call->router->options);
  if (!*box) mg__raise_text(L, MG_MEMORY, "out of host memory");
  mg__push_json(L, *box);
  luaL_setfuncs(L, methods, 0);
  set_integer(L, "width", call->router->width);
  set_integer(L, "experts", call->router->experts);
  set_integer(L, "layer", call->router->layer);
  set_integer(L, "tokens", call->in ? call->in->tokens : call->router->step_tokens);
  if (call->in) set_integer(L, "sequence_tokens", call->in->sequence_tokens);
  lua_pushboolean(L, !call->in || call->in->training);
  lua_setfield(L, -2, "training");
  make_strict(L);
  lua_remove(L, -2);
}

static const char *const results[] = {"ids",  "weights",  "probs",   "logits", "load",
                                      "loss", "dispatch", "combine", "wanted"};

/* Keys of the returned table that mean nothing. */
static void check_results(lua_State *L) {
  lua_pushnil(L);
  while (lua_next(L, -2)) {
    const char *key = luaL_tolstring(L, -2, NULL);
    bool known = false;
    for (size_t i = 0; i < MG_COUNT(results); i++) known |= strcmp(key, results[i]) == 0;
    const char *nearest = mg_nearest_name(key, results, MG_COUNT(results));
    if (!known)
      mg__raise_text(L, MG_PLUGIN,
                     "route returned '%s', which is none of ids, weights, probs, logits, load, loss, dispatch, "
                     "combine and wanted%s%s%s",
                     key, nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    lua_pop(L, 2);
  }
}

static mg_var *take(lua_State *L, const char *key) {
  lua_getfield(L, -1, key);
  mg_var *var = mg__optional_var(L, -1);
  lua_pop(L, 1);
  return var;
}

static int call_route(lua_State *L) {
  const route_call *call = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->definition->route);
  push_view(L, call);
  mg__push_var(L, call->in->x);
  mg__push_var(L, call->in->token_ids);
  lua_call(L, 3, 1);
  if (!lua_istable(L, -1))
    mg__raise_text(L, MG_PLUGIN, "route must return { ids =, weights =, ... }, not a %s", luaL_typename(L, -1));
  check_results(L);
  *call->out =
      (mg_route_output){take(L, "ids"),  take(L, "weights"),  take(L, "probs"),   take(L, "logits"), take(L, "load"),
                        take(L, "loss"), take(L, "dispatch"), take(L, "combine"), take(L, "wanted")};
  return 0;
}

/* The demand [E] in the dtype of the router's parameters. */
static mg_var *demand_of(const route_call *call) {
  const mg_param_spec *params = call->router->plugin->params;
  mg_var *like = params ? mg_router_param(call->router, call->tape, params[0].name) : NULL;
  mg_var *counts = mg_tape_upload(call->tape, MG_I32, 1, &call->router->experts, call->demand);
  return mg_cast(call->tape, counts, mg_var_dtype(like));
}

static int call_after_step(lua_State *L) {
  const route_call *call = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->definition->after_step);
  push_view(L, call);
  mg_var *demand = demand_of(call);
  if (!demand) mg__raise(L, mg_tape_status(call->tape));
  mg__push_var(L, demand);
  lua_call(L, 2, 0);
  return 0;
}

/* Runs one of the two above. */
static mg_status enter(route_call *call, lua_CFunction function) {
  mg_engine *engine = call->definition->engine;
  mg_router *router = call->router;
  if (!lua_checkstack(engine->state, 8)) return mg_fail(router->context, MG_MEMORY, "no memory for a call into Lua");
  engine->generation++;
  engine->tape = call->tape;
  engine->route = call;
  lua_pushcfunction(engine->state, function);
  lua_pushlightuserdata(engine->state, call);
  const mg_status status = mg__protected_call(engine, 1, 0, MG_PLUGIN);
  engine->tape = NULL;
  engine->route = NULL;
  if (status != MG_OK) return mg_fail(router->context, status, "%s", mg_context_message(engine->context));
  return mg_tape_status(call->tape);
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  route_call call = {.definition = router_of(router), .router = router, .tape = tape, .in = in, .out = out};
  return enter(&call, call_route);
}

static mg_status after_step(mg_router *router, mg_tape *tape, const int32_t *demand) {
  route_call call = {.definition = router_of(router), .router = router, .tape = tape, .demand = demand};
  if (call.definition->after_step == LUA_NOREF) return MG_OK;
  const mg_status status = enter(&call, call_after_step);
  return status == MG_OK ? MG_OK : mg_fail_where(router->context, status, "router %s", router->plugin->name);
}

/* ---- defining ------------------------------------------------------------------------------------------------------ */

static void free_router(lua_router *r) {
  json_decref(r->definition);
  mg_free(r->engine->context, r, sizeof *r);
}

void mg__free_routers(mg_engine *engine) {
  while (engine->routers) {
    lua_router *next = engine->routers->next;
    free_router(engine->routers);
    engine->routers = next;
  }
}

static mg_status build(lua_router *r) {
  const char *summary = json_string_value(json_object_get(r->definition, "summary"));
  r->plugin = (mg_router_plugin){.abi = MG_ABI,
                                 .size = sizeof(mg_router_plugin),
                                 .name = json_string_value(json_object_get(r->definition, "name")),
                                 .summary = summary ? summary : "A router written in Lua.",
                                 .paper = json_string_value(json_object_get(r->definition, "paper")),
                                 .check = check,
                                 .dimension = dimension,
                                 .choices = choices,
                                 .promises = promises,
                                 .route = route,
                                 .after_step = after_step,
                                 .mean_choices = mean_choices,
                                 .slots = slots,
                                 .selection_flops = selection_flops,
                                 .user = r};
  MG_TRY(mg__lua_router_read(r));
  return mg_registry_add_router(r->engine->settings.registry, &r->plugin);
}

/* Makes the plugin of a definition without its functions; takes the definition over. */
static mg_status create(mg_engine *engine, json_t *definition, lua_router **out) {
  lua_router *r = mg_alloc(engine->context, sizeof *r);
  *out = NULL;
  if (!r) {
    json_decref(definition);
    return MG_MEMORY;
  }
  r->engine = engine;
  r->definition = definition;
  r->route = r->after_step = LUA_NOREF;
  const mg_status status = build(r);
  if (status != MG_OK) {
    free_router(r);
    return status;
  }
  r->next = engine->routers;
  engine->routers = r;
  *out = r;
  return MG_OK;
}

/* A copy whose keys are in order: parameters must be made in the same order in every process. */
static json_t *in_order(const json_t *definition) {
  char *text = json_dumps(definition, JSON_SORT_KEYS | JSON_COMPACT);
  json_t *copy = text ? json_loads(text, 0, NULL) : NULL;
  free(text);
  return copy;
}

/* A reference to a function of the definition at 1. */
static int keep_function(lua_State *L, const char *name) {
  if (lua_getfield(L, 1, name) == LUA_TFUNCTION) return luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pop(L, 1);
  return LUA_NOREF;
}

/* define_router(definition): registers it. Its functions are kept as references, all else as data. */
static int define_router(lua_State *L) {
  lua_router *r;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_newtable(L); /* 2: the definition without its functions */
  lua_pushnil(L);
  while (lua_next(L, 1)) {
    if (lua_isfunction(L, -1)) {
      lua_pop(L, 1);
      continue;
    }
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, 2);
  }
  json_t **box = mg__push_box(L);
  *box = mg__to_json(L, 2, MG__NUMBERS_STRICT, "mg.router.define");
  if (!*box) mg__raise(L, MG_USAGE);
  json_t *definition = in_order(*box);
  if (!definition) mg__raise_text(L, MG_MEMORY, "out of host memory");
  const mg_status status = create(mg__engine_of(L), definition, &r);
  if (status != MG_OK) mg__raise(L, status);
  r->route = keep_function(L, "route");
  r->after_step = keep_function(L, "after_step");
  return 0;
}

void mg__add_routers(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"define_router", define_router}, {"var_methods", mg__var_methods}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
