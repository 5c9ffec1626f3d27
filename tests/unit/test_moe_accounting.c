/* What a layer says of its cost and size is what the tape counted and the store holds. */
#include "support/moe_world.h"

#include <stdio.h>
#include <string.h>

#include "base/counters.h"
#include "tensor/tape_work.h"

enum { T = 12, D = 6, H = 5, E = 4 };

/* Counted FLOPs of one pass per part; everything that does not depend on the width is elementwise. */
static void count_pass(int64_t width, double *flops, mg_moe_facts *facts, mg_moe_counts *counts) {
  moe_world world;
  moe_world_open(&world, MG_F32);
  json_t *spec = moe_json("{'experts': 4, 'width': 5, 'shared': {'experts': 1, 'width': 3},"
                          " 'router': {'name': 'topk', 'k': 2, 'noise': 'learned'}}");
  const mg_moe_place here = {.width = width, .prefix = "ffn."};
  mg_moe *moe;
  assert_ok(world.context, mg_moe_create(world.context, world.registry, spec, here, world.params, &moe));
  json_decref(spec);
  double x[T * 2 * D];
  moe_normal(3, x, T * width);
  const mg_moe_input input = {.x = moe_upload(&world, x, T, width), .sequence_tokens = T};
  mg_moe_record record;
  memset(mg_tape_counters(world.tape), 0, sizeof(mg_counters));
  mg_moe_forward(moe, world.tape, &input, &record);
  assert_ok(world.context, mg_moe_count(moe, world.tape, &record, NULL, NULL, counts));
  memcpy(flops, mg_tape_counters(world.tape)->flops, MG_PART_COUNT * sizeof *flops);
  *facts = mg_moe_describe(moe);
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

static void analytic_flops_are_the_counted_matrix_products(void **state) {
  (void)state;
  double narrow[MG_PART_COUNT], wide[MG_PART_COUNT];
  mg_moe_facts few, many;
  mg_moe_counts counts;
  count_pass(D, narrow, &few, &counts);
  count_pass(2 * D, wide, &many, &counts);
  assert_close(wide[MG_PART_GATE] - narrow[MG_PART_GATE], T * (many.gate_flops_per_token - few.gate_flops_per_token),
               0);
  assert_close(wide[MG_PART_ROUTED] - narrow[MG_PART_ROUTED],
               2 * T * (many.expert_flops_per_assignment - few.expert_flops_per_assignment), 0);
  assert_close(counts.useful_flops, 2 * T * many.expert_flops_per_assignment, 0);
  /* The shared experts' sum with the routed ones is elementwise, one FLOP per element of the output. */
  assert_close(wide[MG_PART_SHARED] - narrow[MG_PART_SHARED],
               T * (many.shared_flops_per_token - few.shared_flops_per_token) + T * D, 0);
}

/* The ledger of one pass under `capacity`: what was counted for each part, the formulas beside it. */
static void check_ledger(const char *capacity) {
  moe_world world;
  moe_world_open(&world, MG_F32);
  char text[256];
  snprintf(text, sizeof text,
           "{'experts': 4, 'width': 5, 'gated': false, 'activation': 'relu', 'router': {'name': "
           "'topk', 'k': 2, 'order': 'before', 'renormalise': false}%s}",
           capacity);
  json_t *spec = moe_json(text);
  const mg_moe_place here = {.width = D, .prefix = "ffn."};
  mg_moe *moe;
  assert_ok(world.context, mg_moe_create(world.context, world.registry, spec, here, world.params, &moe));
  json_decref(spec);
  double x[T * D];
  moe_normal(3, x, T * D);
  const mg_moe_input input = {.x = moe_upload(&world, x, T, D), .sequence_tokens = T};
  mg_moe_record record;
  mg_moe_counts counts;
  memset(mg_tape_counters(world.tape), 0, sizeof(mg_counters));
  mg_moe_forward(moe, world.tape, &input, &record);
  assert_ok(world.context, mg_moe_count(moe, world.tape, &record, NULL, NULL, &counts));
  const double *flops = mg_tape_counters(world.tape)->flops;
  const double rows = (double)(counts.kept + counts.padded_rows), products = 2.0 * 2 * D * H;
  assert_close(flops[MG_PART_GATE], T * (mg_moe_describe(moe).gate_flops_per_token + 5 * E), 0); /* and a softmax */
  assert_close(flops[MG_PART_SELECTION], mg_moe_selection_flops(moe, 1, T), 0);
  assert_close(flops[MG_PART_SELECTION], T * E, 0);              /* each score looked at once */
  assert_close(flops[MG_PART_ROUTED], rows * (products + H), 0); /* and the activation */
  assert_close(flops[MG_PART_COMBINE], 2 * D * rows, 0);
  assert_close(counts.useful_flops, products * (double)counts.kept, 0);
  assert_close(counts.padded_flops, products * (double)counts.padded_rows, 0);
  assert_close(counts.dropped_flops, products * (double)(2 * T - counts.kept), 0);
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

static void the_ledger_of_a_layer_is_what_its_formulas_say(void **state) {
  (void)state;
  check_ledger("");
  check_ledger(", 'capacity': 0.7");
  check_ledger(", 'capacity': {'policy': 'pad', 'factor': 0.7}");
}

/* Biases cost a product with 1 and a sum for each element that they are added to; a constant expert's gate and vector two
 * for each of their parameters. */
static void biases_and_constant_experts_have_their_price(void **state) {
  (void)state;
  static const struct {
    const char *kind;
    double elementwise;
  } rows[] = {{"'gated': false, 'activation': 'relu', 'biases': true", H + 3.0 * (H + D)},
              {"'gated': true, 'activation': 'relu', 'biases': true", 2.0 * H + 3.0 * (2 * H + D)}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    moe_world world;
    moe_world_open(&world, MG_F32);
    char text[256];
    snprintf(text, sizeof text, "{'experts': 4, 'width': 5, %s, 'router': {'name': 'topk', 'k': 2}}", rows[i].kind);
    json_t *spec = moe_json(text);
    mg_moe *moe;
    assert_ok(world.context, mg_moe_create(world.context, world.registry, spec,
                                           (mg_moe_place){.width = D, .prefix = "ffn."}, world.params, &moe));
    json_decref(spec);
    double x[T * D];
    moe_normal(3, x, T * D);
    const mg_moe_input input = {.x = moe_upload(&world, x, T, D), .sequence_tokens = T};
    mg_moe_record record;
    memset(mg_tape_counters(world.tape), 0, sizeof(mg_counters));
    mg_moe_forward(moe, world.tape, &input, &record);
    const mg_moe_facts facts = mg_moe_describe(moe);
    assert_close(facts.expert_elementwise_flops, rows[i].elementwise, 0);
    assert_close(mg_tape_counters(world.tape)->flops[MG_PART_ROUTED],
                 2 * T * (facts.expert_flops_per_assignment + facts.expert_elementwise_flops), 0);
    mg_moe_destroy(moe);
    moe_world_close(&world);
  }
  moe_world world;
  moe_world_open(&world, MG_F32);
  json_t *spec = moe_json("{'experts': 6, 'width': 5, 'null': {'zero': 1, 'copy': 0, 'constant': 2},"
                          " 'router': {'name': 'topk', 'k': 2}}");
  mg_moe *moe;
  assert_ok(world.context, mg_moe_create(world.context, world.registry, spec,
                                         (mg_moe_place){.width = D, .prefix = "ffn."}, world.params, &moe));
  json_decref(spec);
  assert_int_equal(mg_moe_describe(moe).null_parameters, 3 * D * 2);
  assert_close(mg_moe_describe(moe).null_flops_per_token, 2.0 * 3 * D * 2, 0);
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

static void facts_count_parameters(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  json_t *spec = moe_json("{'experts': 4, 'width': 5, 'router': {'name': 'tree', 'k': 2, 'branching': 2},"
                          " 'shared': {}, 'losses': [{'kind': 'balance', 'scope': 'global', 'window': 4}]}");
  const mg_moe_place here = {.width = D, .prefix = "ffn."};
  mg_moe *moe;
  assert_ok(world.context, mg_moe_create(world.context, world.registry, spec, here, world.params, &moe));
  json_decref(spec);
  const mg_moe_facts facts = mg_moe_describe(moe);
  assert_int_equal(facts.router_parameters, (2 + 4) * D);
  assert_int_equal(facts.expert_parameters, 3 * D * H);
  assert_int_equal(facts.shared_parameters, 3 * D * H);
  assert_int_equal(facts.router_parameters + E * facts.expert_parameters + facts.shared_parameters,
                   mg_params_elements(world.params));
  assert_int_equal(facts.groupings_count, 2);
  assert_int_equal(facts.groupings[0], 2);
  assert_int_equal(facts.groupings[1], 4);
  assert_string_equal(facts.loss_names[0], "balance");
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(analytic_flops_are_the_counted_matrix_products),
      cmocka_unit_test(the_ledger_of_a_layer_is_what_its_formulas_say),
      cmocka_unit_test(biases_and_constant_experts_have_their_price),
      cmocka_unit_test(facts_count_parameters),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
