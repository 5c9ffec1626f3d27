/* mg.core's cluster simulator: specifications and measurements go in as tables, results come out. */
#include <stdio.h>
#include <string.h>

#include "cluster/calibration.h"
#include "cluster/routing.h"
#include "cluster/simulation.h"
#include "lua/state.h"

/* The table at `index` as JSON in a box. */
static json_t **table_at(lua_State *L, int index, const char *where) {
  luaL_checktype(L, index, LUA_TTABLE);
  json_t **box = mg__push_box(L);
  *box = mg__to_json(L, index, MG__NUMBERS_STRICT, where);
  if (!*box) mg__raise(L, MG_USAGE);
  return box;
}

/* Pushes the result, or raises. */
static int answer(lua_State *L, mg_status status, json_t **result) {
  if (status != MG_OK) mg__raise(L, status);
  if (!*result) mg__raise_text(L, MG_MEMORY, "out of host memory");
  mg__push_json(L, *result);
  return 1;
}

/* check_cluster(spec) */
static int check_cluster(lua_State *L) {
  json_t **spec = table_at(L, 1, "cluster");
  const mg_status status = mg_simulation_check(mg__engine_of(L)->context, *spec);
  if (status != MG_OK) mg__raise(L, status);
  return 0;
}

/* Adds a text to those of one fact of the case's provenance, once. */
static void note(const mg_engine *engine, const char *fact, const char *text) {
  const char *known = json_string_value(json_object_get(engine->provenance, fact));
  if (!known)
    json_object_set_new(engine->provenance, fact, json_string(text));
  else if (!strstr(known, text))
    json_object_set_new(engine->provenance, fact, json_sprintf("%s, %s", known, text));
}

/* What the costs of each simulated accelerator rest on, and which recorded traces were read. */
static void note_sources(const mg_engine *engine, const json_t *spec) {
  const char *name = json_string_value(json_object_get(json_object_get(spec, "accelerator"), "name"));
  const char *costs = json_string_value(json_object_get(spec, "costs"));
  const char *trace = json_string_value(json_object_get(json_object_get(spec, "trace"), "path"));
  char text[2 * MG_OPTION_STRING_MAX];
  if (!engine->provenance) return;
  snprintf(text, sizeof text, "%s%s", name ? name : "accelerator",
           costs && strcmp(costs, "roofline") == 0 ? " (roofline only)" : " (calibrated)");
  note(engine, "cluster_costs", text);
  if (trace) note(engine, "cluster_trace", trace);
}

/* simulate(spec) -> result of mg_simulation_run */
static int simulate(lua_State *L) {
  json_t **spec = table_at(L, 1, "cluster"), **result = mg__push_box(L);
  const mg_status status = mg_simulation_run(mg__engine_of(L)->context, *spec, result);
  if (status == MG_OK) note_sources(mg__engine_of(L), *spec);
  return answer(L, status, result);
}

/* placement_requests(spec) -> list of what a placement is asked */
static int placement_requests(lua_State *L) {
  json_t **spec = table_at(L, 1, "cluster"), **result = mg__push_box(L);
  return answer(L, mg_simulation_requests(mg__engine_of(L)->context, *spec, result), result);
}

/* simulate_grid(spec, grid) -> what mg.step_cost holds */
static int simulate_grid(lua_State *L) {
  json_t **spec = table_at(L, 1, "cluster"), **grid = table_at(L, 2, "grid"), **result = mg__push_box(L);
  const mg_status status = mg_simulation_step_costs(mg__engine_of(L)->context, *spec, *grid, result);
  if (status == MG_OK) note_sources(mg__engine_of(L), *spec);
  return answer(L, status, result);
}

static mg_status write_through(mg_engine *engine, const json_t *spec, const char *path) {
  mg_backend *backend;
  MG_TRY(mg_backend_open(engine->context, engine->settings.registry, "reference", NULL, &backend));
  const mg_status status = mg_simulation_write_trace(engine->context, spec, backend, path);
  mg_backend_close(backend);
  return status;
}

/* write_trace(spec, path) */
static int write_trace(lua_State *L) {
  json_t **spec = table_at(L, 1, "cluster");
  const mg_status status = write_through(mg__engine_of(L), *spec, luaL_checkstring(L, 2));
  if (status != MG_OK) mg__raise(L, status);
  return 0;
}

/* describe_trace(path) -> { tokens, texts, layers, experts, choices } */
static int describe_trace(lua_State *L) {
  mg_context *context = mg__engine_of(L)->context;
  mg_routing_facts facts;
  const mg_status status = mg_routing_describe(context, luaL_checkstring(L, 1), &facts);
  if (status != MG_OK) mg__raise(L, status);
  json_t **result = mg__push_box(L);
  *result = json_pack("{s:I, s:I, s:I, s:I, s:I}", "tokens", (json_int_t)facts.tokens, "texts", (json_int_t)facts.texts,
                      "layers", (json_int_t)facts.layers, "experts", (json_int_t)facts.experts, "choices",
                      (json_int_t)facts.choices);
  return answer(L, status, result);
}

static mg_status fit(mg_context *context, const json_t *given, json_t **out) {
  mg_accelerator accelerator;
  mg_measurements data = {0};
  size_t index;
  json_t *path;
  MG_TRY(mg_accelerator_read(context, json_object_get(given, "accelerator"), &accelerator));
  mg_status status = MG_OK;
  json_array_foreach(json_object_get(given, "files"), index, path) {
    if (status == MG_OK)
      status =
          mg_measurements_read(context, json_string_value(path), &accelerator, json_object_get(given, "where"), &data);
  }
  if (status == MG_OK) status = mg_calibration_fit(context, &accelerator, &data, out);
  mg_measurements_free(context, &data);
  return status;
}

/* fit_costs{ files =, accelerator =, where = } -> calibration */
static int fit_costs(lua_State *L) {
  json_t **given = table_at(L, 1, "fit"), **result = mg__push_box(L);
  const mg_status status = fit(mg__engine_of(L)->context, *given, result);
  if (status != MG_OK) mg__raise_plain(L, status, mg_context_message(mg__engine_of(L)->context));
  return answer(L, status, result);
}

void mg__add_cluster(lua_State *L) {
  static const luaL_Reg functions[] = {{"check_cluster", check_cluster},
                                       {"simulate", simulate},
                                       {"placement_requests", placement_requests},
                                       {"simulate_grid", simulate_grid},
                                       {"write_trace", write_trace},
                                       {"describe_trace", describe_trace},
                                       {"fit_costs", fit_costs},
                                       {NULL, NULL}};
  luaL_setfuncs(L, functions, 0);
}
