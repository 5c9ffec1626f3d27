/* A router at its place: buffers that it may overwrite, and choices that are fewer than the most. */
#include "support/moe_world.h"

#include <string.h>

enum { E = 4 };

static const mg_param_spec params[] = {{"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       {"bias", {MG_DIM_EXPERTS}, MG_INIT_ZERO, 0, true},
                                       MG_PARAM_END};

static int64_t choices(const mg_router *router) {
  return router->experts;
}

static double half(const mg_router *router) {
  return (double)router->experts / 2;
}

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  mg_var *scores = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
  out->ids = mg_top_k(tape, scores, router->experts, &out->weights);
  return mg_tape_status(tape);
}

static const mg_router_plugin buffered = {.abi = MG_ABI,
                                          .size = sizeof(mg_router_plugin),
                                          .name = "buffered",
                                          .summary = "Has a buffer.",
                                          .params = params,
                                          .choices = choices,
                                          .route = route,
                                          .mean_choices = half};

static mg_router *open_router(moe_world *world, mg_dtype dtype, const mg_router_plugin *plugin) {
  moe_world_open(world, dtype);
  assert_ok(world->context, mg_registry_add_router(world->registry, plugin));
  json_t *spec = json_pack("{s:s}", "name", plugin->name);
  const mg_router_place place = {.width = 3, .experts = E};
  mg_router *router;
  assert_ok(world->context,
            mg_router_create(world->context, world->registry, spec, place, world->params, "r.", 1, &router));
  json_decref(spec);
  return router;
}

static void a_buffer_holds_what_was_stored(void **state) {
  (void)state;
  static const mg_dtype dtypes[] = {MG_F32, MG_F64};
  for (size_t i = 0; i < MG_COUNT(dtypes); i++) {
    moe_world world;
    mg_router *router = open_router(&world, dtypes[i], &buffered);
    const int64_t shape[] = {1, E};
    const float numbers[E] = {1, -2, 0.5F, 8};
    mg_var *value = mg_tape_upload(world.tape, MG_F32, 2, shape, numbers);
    double read[E];
    assert_ok(world.context, mg_router_store(router, world.tape, "bias", value));
    mg_tape_reset(world.tape);
    moe_read(&world, mg_router_param(router, world.tape, "bias"), read, E);
    for (int e = 0; e < E; e++) assert_close(read[e], (double)numbers[e], 0);
    mg_router_destroy(router);
    moe_world_close(&world);
  }
}

static void only_a_buffer_of_the_same_size_is_overwritten(void **state) {
  (void)state;
  moe_world world;
  mg_router *router = open_router(&world, MG_F32, &buffered);
  const int64_t few[] = {3}, many[] = {E, 3};
  mg_var *small = mg_fill(world.tape, MG_F32, 1, few, 1), *large = mg_fill(world.tape, MG_F32, 2, many, 1);
  assert_refused(world.context, MG_PLUGIN, "3 elements to 'bias', which has 4",
                 mg_router_store(router, world.tape, "bias", small));
  assert_refused(world.context, MG_PLUGIN, "'gate', which is no fixed",
                 mg_router_store(router, world.tape, "gate", large));
  assert_refused(world.context, MG_PLUGIN, "'none'", mg_router_store(router, world.tape, "none", small));
  mg_router_destroy(router);
  moe_world_close(&world);
}

/* A plugin compiled before mean_choices existed has a shorter table. */
static void mean_choices_default_to_the_most(void **state) {
  (void)state;
  moe_world world;
  mg_router *router = open_router(&world, MG_F32, &buffered);
  assert_close(mg_router_mean_choices(router), E / 2.0, 0);
  mg_router_destroy(router);
  moe_world_close(&world);
  mg_router_plugin older = buffered;
  older.size = offsetof(mg_router_plugin, mean_choices);
  router = open_router(&world, MG_F32, &older);
  assert_close(mg_router_mean_choices(router), E, 0);
  mg_router_destroy(router);
  moe_world_close(&world);
}

/* ---- slots ------------------------------------------------------------------------------------------------- */

static int64_t two_slots(const mg_router *router) {
  (void)router;
  return 2;
}

static mg_status mix(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const int64_t shape[] = {in->tokens, 2 * router->experts};
  out->dispatch = mg_fill(tape, MG_F64, 2, shape, 1);
  out->combine = out->dispatch;
  return mg_tape_status(tape);
}

static mg_status mix_without_combine(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  MG_TRY(mix(router, tape, in, out));
  out->combine = NULL;
  return MG_OK;
}

static mg_status mix_too_few(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  MG_TRY(mix(router, tape, in, out));
  out->dispatch = mg_slice(tape, out->dispatch, 0, 3);
  return mg_tape_status(tape);
}

static void refuse_mixture(const mg_router_plugin *plugin, const char *words) {
  moe_world world;
  mg_router *router = open_router(&world, MG_F64, plugin);
  const double x[6] = {0};
  const mg_route_input in = {.x = moe_upload(&world, x, 2, 3), .tokens = 2, .sequence_tokens = 2};
  mg_route_output out;
  assert_refused(world.context, MG_PLUGIN, words, mg_router_route(router, world.tape, &in, &out));
  mg_router_destroy(router);
  moe_world_close(&world);
}

static void a_mixture_must_be_whole_and_announced(void **state) {
  (void)state;
  mg_router_plugin plugin = {
      .abi = MG_ABI, .size = sizeof(mg_router_plugin), .name = "mixer", .summary = "Mixes tokens.", .route = mix};
  refuse_mixture(&plugin, "its table has no .slots");
  plugin.slots = two_slots;
  plugin.route = mix_without_combine;
  refuse_mixture(&plugin, "returned no combine; wanted real [2, 8]");
  plugin.route = mix_too_few;
  refuse_mixture(&plugin, "returned dispatch of shape [2, 3] and type f64; wanted real [2, 8]");
  plugin.size = offsetof(mg_router_plugin, slots); /* compiled before slots existed */
  plugin.route = mix;
  refuse_mixture(&plugin, "its table has no .slots");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_buffer_holds_what_was_stored),
      cmocka_unit_test(only_a_buffer_of_the_same_size_is_overwritten),
      cmocka_unit_test(mean_choices_default_to_the_most),
      cmocka_unit_test(a_mixture_must_be_whole_and_announced),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
