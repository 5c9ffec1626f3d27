/* mg.core's serving simulation: a specification with policies that may be functions of the script. */
#include "cluster/serving.h"

#include <math.h>

#include "cluster/step_cost.h"
#include "lua/state.h"

typedef struct serving {
  mg_engine *engine;
  int policies; /* reference to the table of functions by pool, or LUA_NOREF */
} serving;

/* One question to a policy, for a protected call. */
typedef struct question {
  const serving *of;
  const char *pool;
  const mg_scaling_state *state;
  double *wanted;
} question;

static void set_number(lua_State *L, const char *name, double value) {
  lua_pushnumber(L, value);
  lua_setfield(L, -2, name);
}

static void set_count(lua_State *L, const char *name, int64_t value) {
  lua_pushinteger(L, (lua_Integer)value);
  lua_setfield(L, -2, name);
}

static void push_state(lua_State *L, const mg_scaling_state *state) {
  lua_createtable(L, 0, 8);
  set_number(L, "hours", state->seconds / 3600.0);
  set_number(L, "requests_per_second", state->requests_per_second);
  set_number(L, "tokens_per_second", state->tokens_per_second);
  set_number(L, "utilisation", state->utilisation);
  set_count(L, "queued", state->queued);
  set_count(L, "instances", state->instances);
  set_count(L, "starting", state->starting);
  if (isfinite(state->forecast_tokens_per_second))
    set_number(L, "forecast_tokens_per_second", state->forecast_tokens_per_second);
}

static int ask(lua_State *L) {
  const question *q = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, q->of->policies);
  lua_getfield(L, -1, q->pool);
  push_state(L, q->state);
  lua_call(L, 1, 1);
  *q->wanted = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : (double)NAN;
  if (!isfinite(*q->wanted))
    mg__raise_text(L, MG_USAGE, "%s.scaling: the policy must return a number of instances, not a %s", q->pool,
                   lua_type(L, -1) == LUA_TNUMBER ? "NaN or an infinity" : luaL_typename(L, -1));
  return 0;
}

static mg_status decide(void *user, const char *pool, const mg_scaling_state *state, double *wanted) {
  const serving *s = user;
  question q = {s, pool, state, wanted};
  if (!lua_checkstack(s->engine->state, 8)) return mg_fail(s->engine->context, MG_MEMORY, "no memory for Lua");
  lua_pushcfunction(s->engine->state, ask);
  lua_pushlightuserdata(s->engine->state, &q);
  return mg__protected_call(s->engine, 1, 0, MG_USAGE);
}

static bool pass_progress(void *user, double seconds, double all_seconds) {
  const mg_engine_settings *settings = &((const serving *)user)->engine->settings;
  if (settings->progress) {
    json_t *json = json_pack("{s:f, s:f}", "step", seconds / 3600.0, "steps", all_seconds / 3600.0);
    if (json) settings->progress(settings->user, json);
    json_decref(json);
  }
  return !(settings->stopped && settings->stopped(settings->user));
}

/* Recorded requests are data: their checksum is provenance. */
static mg_status note_recorded(mg_engine *engine, const json_t *spec) {
  char hash[MG_HASH_TEXT_BYTES];
  const char *path = json_string_value(json_object_get(json_object_get(spec, "arrivals"), "replay"));
  if (!path || !engine->provenance) return MG_OK;
  MG_TRY(mg_hash_file(engine->context, path, hash));
  json_object_set_new(engine->provenance, "data_checksum", json_string(hash));
  return MG_OK;
}

static json_t **boxed(lua_State *L, const char *where) {
  json_t **box = mg__push_box(L);
  *box = mg__to_json(L, 1, MG__NUMBERS_STRICT, where);
  if (!*box) mg__raise(L, MG_USAGE);
  return box;
}

/* check_serving(spec): raises at the script's line when the specification is wrong */
static int check_serving(lua_State *L) {
  json_t **spec = boxed(L, "mg.serving");
  const mg_status status = mg_serving_check(mg__engine_of(L)->context, *spec);
  if (status != MG_OK) mg__raise(L, status);
  return 0;
}

/* check_step_cost(table): the same for the cost of a step */
static int check_step_cost(lua_State *L) {
  mg_step_cost *cost;
  json_t **table = boxed(L, "mg.step_cost");
  const mg_status status = mg_step_cost_from_json(mg__engine_of(L)->context, "mg.step_cost", *table, &cost);
  if (status != MG_OK) mg__raise(L, status);
  mg_step_cost_destroy(cost);
  return 0;
}

/* serve(spec, policies) -> { metrics, series, tables } */
static int serve(lua_State *L) {
  mg_engine *engine = mg__engine_of(L);
  serving s = {.engine = engine, .policies = LUA_NOREF};
  const mg_serving_hooks hooks = {.decide = decide, .progress = pass_progress, .user = &s};
  luaL_checkstack(L, 16, "serve");
  luaL_checktype(L, 2, LUA_TTABLE);
  json_t **spec = boxed(L, "mg.serving"), **result = mg__push_box(L);
  lua_pushvalue(L, 2);
  s.policies = luaL_ref(L, LUA_REGISTRYINDEX);
  mg_status status = note_recorded(engine, *spec);
  if (status == MG_OK) status = mg_serving_run(engine->context, *spec, &hooks, result);
  luaL_unref(L, LUA_REGISTRYINDEX, s.policies);
  if (status != MG_OK) mg__raise(L, status);
  mg__push_json(L, *result);
  return 1;
}

void mg__add_serving(lua_State *L) {
  static const luaL_Reg functions[] = {
      {"check_serving", check_serving}, {"check_step_cost", check_step_cost}, {"serve", serve}, {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
