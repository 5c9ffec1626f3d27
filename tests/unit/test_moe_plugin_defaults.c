/* The shortest plugin of moegauge/router.h, which states only what is due, works in a layer. */
#include "support/moe_world.h"

typedef struct short_options {
  int64_t k;
} short_options;
static const mg_option options[] = {MG_OPTION_INT(short_options, k, 2, 1, 4096, "experts kept per token"),
                                    MG_OPTION_END};
static const mg_param_spec params[] = {{"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02, false},
                                       MG_PARAM_END};

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
  const short_options *o = router->options;
  out->logits = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
  out->probs = mg_softmax(tape, out->logits);
  out->ids = mg_top_k(tape, out->probs, o->k, &out->weights);
  return mg_tape_status(tape);
}

static const mg_router_plugin mine = {.abi = MG_ABI,
                                      .size = sizeof(mg_router_plugin),
                                      .name = "mine",
                                      .summary = "Softmax top-k.",
                                      .options = options,
                                      .options_size = sizeof(short_options),
                                      .params = params,
                                      .route = route};

static void a_plugin_may_leave_out_all_but_route(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  assert_ok(world.context, mg_registry_add_router(world.registry, &mine));
  json_t *spec = moe_json("{'experts': 4, 'width': 3, 'router': {'name': 'mine', 'k': 3}, 'capacity': 1.0}");
  const mg_moe_place place = {.width = 4, .prefix = "ffn."};
  mg_moe *moe;
  assert_ok(world.context, mg_moe_create(world.context, world.registry, spec, place, world.params, &moe));
  double x[8 * 4];
  moe_normal(1, x, 8 * 4);
  const mg_moe_input input = {.x = moe_upload(&world, x, 8, 4), .sequence_tokens = 8};
  mg_moe_record record;
  assert_non_null(mg_moe_forward(moe, world.tape, &input, &record));
  assert_int_equal(record.capacity, 6); /* floor(1.0 * 8 * 3 / 4): the choices that came, not the most possible */
  const mg_moe_facts facts = mg_moe_describe(moe);
  assert_int_equal(facts.choices, 3);                            /* the option k */
  assert_close(facts.gate_flops_per_token, 2 * 4 * 4, 0);        /* the parameter that ends in the width */
  assert_close(mg_moe_selection_flops(moe, 2, 8), 2 * 8 * 4, 0); /* one look at every expert's score */
  json_decref(spec);
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

static void more_choices_than_experts_are_refused(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  assert_ok(world.context, mg_registry_add_router(world.registry, &mine));
  json_t *spec = moe_json("{'experts': 4, 'width': 3, 'router': {'name': 'mine', 'k': 5}}");
  assert_refused(world.context, MG_USAGE, "k = 5 is more than the 4 experts of the layer; use 1 to 4",
                 mg_moe_check_spec(world.context, world.registry, spec, 4, 0));
  json_decref(spec);
  moe_world_close(&world);
}

/* What it does not state it does not promise, so a loss that needs it is refused before a run. */
static void what_is_not_promised_is_not_used(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  assert_ok(world.context, mg_registry_add_router(world.registry, &mine));
  json_t *spec = moe_json("{'experts': 4, 'width': 3, 'router': {'name': 'mine'}, 'losses': [{'kind': 'balance'}]}");
  assert_refused(world.context, MG_USAGE, "probabilities",
                 mg_moe_check_spec(world.context, world.registry, spec, 4, 0));
  json_decref(spec);
  moe_world_close(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_plugin_may_leave_out_all_but_route),
      cmocka_unit_test(more_choices_than_experts_are_refused),
      cmocka_unit_test(what_is_not_promised_is_not_used),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
