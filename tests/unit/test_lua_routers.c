/* Routers in Lua route as their twins in C to the last bit, in training and out of it, and so do their buffers move. */
#include "support/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lua/engine.h"
#include "moe/router.h"

enum { T = 40, D = 24, E = 8, SEQUENCE = 20, BYTES_MAX = 4 * T * E };

typedef struct world {
  mg_context *context;
  mg_registry *registry;
  mg_engine *engine;
  mg_backend *backend;
  char scripts[4096], file[4096];
} world;

static void open_world(world *w) {
  const char *source = getenv("MOEGAUGE_SOURCE");
  snprintf(w->scripts, sizeof w->scripts, "%s/scripts", source);
  snprintf(w->file, sizeof w->file, "%s/experiments/lua_routers.lua", source);
  assert_int_equal(mg_context_create(NULL, &w->context), MG_OK);
  assert_ok(w->context, mg_registry_create(w->context, &w->registry));
  assert_ok(w->context, mg_testing_register(w->registry));
  const mg_engine_settings settings = {.registry = w->registry, .scripts = w->scripts};
  assert_ok(w->context, mg_engine_create(w->context, &settings, &w->engine));
  assert_ok(w->context, mg_engine_run_file(w->engine, w->file, NULL));
  assert_ok(w->context, mg_backend_open(w->context, w->registry, "cpu", NULL, &w->backend));
}

static void close_world(world *w) {
  mg_backend_close(w->backend);
  mg_engine_destroy(w->engine);
  mg_registry_destroy(w->registry);
  mg_context_destroy(w->context);
}

/* All that one router gave: two passes, with a step of the optimiser between them. */
typedef struct trace {
  size_t bytes;
  char data[16 * BYTES_MAX];
} trace;

static void append(const world *w, mg_tape *tape, const mg_var *x, trace *out) {
  const size_t bytes = x ? mg_tensor_bytes(mg_var_tensor(x)) : 0;
  assert_true(out->bytes + bytes <= sizeof out->data);
  if (x) assert_ok(w->context, mg_tape_download(tape, x, out->data + out->bytes, bytes));
  out->bytes += bytes;
}

static void pass(const world *w, mg_router *router, mg_tape *tape, bool training, trace *out) {
  static const int64_t shape[] = {T, D};
  float x[T * D];
  const mg_stream stream = mg_stream_named(7, "states", 0, 0);
  for (uint64_t i = 0; i < T * D; i++) x[i] = (float)mg_random_normal(stream, i);
  mg_tape_reset(tape);
  const mg_route_input in = {.x = mg_tape_upload(tape, MG_F32, 2, shape, x),
                             .tokens = T,
                             .sequence_tokens = SEQUENCE,
                             .training = training,
                             .noise = {4, 5}};
  mg_route_output routed;
  assert_ok(w->context, mg_router_route(router, tape, &in, &routed));
  const mg_var *const outputs[] = {routed.ids, routed.weights, routed.probs, routed.logits};
  for (size_t i = 0; i < MG_COUNT(outputs); i++) append(w, tape, outputs[i], out);
}

static void run(const world *w, const char *name, const char *options, trace *out) {
  char text[256];
  mg_params *params;
  mg_router *router;
  mg_tape *tape;
  const int32_t demand[E] = {9, 1, 5, 0, 7, 5, 5, 8};
  snprintf(text, sizeof text, "{\"name\": \"%s\"%s}", name, options);
  json_t *spec = json_loads(text, 0, NULL);
  const mg_router_place place = {.width = D, .experts = E, .vocabulary = 50};
  memset(out, 0, sizeof *out);
  assert_ok(w->context, mg_tape_create(w->backend, MG_F32, &tape));
  assert_ok(w->context, mg_params_create(w->backend, MG_F32, &params));
  assert_ok(w->context, mg_router_create(w->context, w->registry, spec, place, params, "r.", 3, &router));
  pass(w, router, tape, true, out);
  if (router->plugin->after_step) assert_ok(w->context, router->plugin->after_step(router, tape, demand));
  pass(w, router, tape, false, out);
  assert_true(mg_router_promises(router) != 0);
  json_decref(spec);
  mg_router_destroy(router);
  mg_params_destroy(params);
  mg_tape_destroy(tape);
}

static void routers_in_lua_are_their_twins_to_the_bit(void **state) {
  (void)state;
  static const struct {
    const char *name, *options;
  } twins[] = {{"topk", ""},
               {"topk", ", \"k\": 3"},
               {"switch", ""},
               {"switch", ", \"jitter\": 0.3"},
               {"deepseek", ", \"rate\": 0.05"},
               {"expert_choice", ""},
               {"expert_choice", ", \"factor\": 1.3"}};
  static trace c, lua;
  world w;
  open_world(&w);
  for (size_t i = 0; i < MG_COUNT(twins); i++) {
    char name[64];
    snprintf(name, sizeof name, "lua_%s", twins[i].name);
    run(&w, twins[i].name, twins[i].options, &c);
    run(&w, name, twins[i].options, &lua);
    assert_true(c.bytes > 0);
    if (c.bytes != lua.bytes || memcmp(c.data, lua.data, c.bytes) != 0)
      fail_msg("%s and %s differ%s", twins[i].name, name, twins[i].options);
  }
  close_world(&w);
}

/* The deepseek pair would agree without after_step too if the bias did not matter: it changes the second pass. */
static void the_bias_that_a_step_moves_changes_choices(void **state) {
  (void)state;
  static trace still, moved;
  world w;
  open_world(&w);
  run(&w, "lua_deepseek", ", \"rate\": 0", &still);
  run(&w, "lua_deepseek", ", \"rate\": 0.05", &moved);
  assert_memory_equal(still.data, moved.data, still.bytes / 2);
  assert_memory_not_equal(still.data + still.bytes / 2, moved.data + still.bytes / 2, T * 2 * sizeof(int32_t));
  close_world(&w);
}

static void refuse(world *w, const char *definition, const char *words) {
  char text[512];
  json_t *value = NULL;
  snprintf(text, sizeof text, "return require('moegauge').router.define { name = 'bad', route = function() end, %s }",
           definition);
  assert_refused(w->context, MG_USAGE, words, mg_engine_run_text(w->engine, text, "=chunk", &value));
}

static void definitions_that_cannot_work_are_refused(void **state) {
  (void)state;
  world w;
  open_world(&w);
  refuse(&w, "choices = 'kk'", "choices must be a number, the name of a number option");
  refuse(&w, "params = { gate = { shape = { 'expert', 'width' } } }", "params.gate: a dimension of 'shape' is");
  refuse(&w, "params = { gate = { shape = { 'experts' }, inti = 'zero' } }", "did you mean 'init'?");
  refuse(&w, "options = { k = { defalt = 2 } }", "did you mean 'default'?");
  refuse(&w, "after_step = 3", "after_step");
  refuse(&w, "promises = { 'casual' }", "promises.casual: is none of");
  close_world(&w);
}

static void route_refused(world *w, const char *name, const char *body, const char *words) {
  char text[512];
  json_t *value = NULL;
  mg_params *params;
  mg_router *router;
  mg_tape *tape;
  snprintf(text, sizeof text,
           "require('moegauge').router.define { name = '%s', options = { k = 2 }, route = function(r, x) %s end }",
           name, body);
  assert_ok(w->context, mg_engine_run_text(w->engine, text, "=chunk", &value));
  json_decref(value);
  json_t *spec = json_pack("{s:s}", "name", name);
  const mg_router_place place = {.width = D, .experts = E};
  assert_ok(w->context, mg_tape_create(w->backend, MG_F32, &tape));
  assert_ok(w->context, mg_params_create(w->backend, MG_F32, &params));
  assert_ok(w->context, mg_router_create(w->context, w->registry, spec, place, params, "r.", 3, &router));
  const int64_t shape[] = {T, D};
  const mg_route_input in = {.x = mg_fill(tape, MG_F32, 2, shape, 1), .tokens = T, .sequence_tokens = SEQUENCE};
  mg_route_output routed;
  assert_true(mg_router_route(router, tape, &in, &routed) != MG_OK);
  if (!strstr(mg_context_message(w->context), words))
    fail_msg("'%s' is not in: %s", words, mg_context_message(w->context));
  json_decref(spec);
  mg_router_destroy(router);
  mg_params_destroy(params);
  mg_tape_destroy(tape);
}

static void slips_inside_route_are_named(void **state) {
  (void)state;
  world w;
  open_world(&w);
  route_refused(&w, "one", "return { id = x:softmax():top_k(r.k) }", "returned 'id', which is none of ids, weights");
  route_refused(&w, "two", "return { ids = x:softmax():top_k(r.kk) }", "there is no r.kk (did you mean r.k?)");
  route_refused(&w, "three", "return { ids = x:sofmax() }", "no method 'sofmax'; did you mean 'softmax'?");
  close_world(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(routers_in_lua_are_their_twins_to_the_bit),
      cmocka_unit_test(the_bias_that_a_step_moves_changes_choices),
      cmocka_unit_test(slips_inside_route_are_named),
      cmocka_unit_test(definitions_that_cannot_work_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
