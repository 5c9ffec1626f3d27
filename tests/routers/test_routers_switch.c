/* switch: the weight is the raw probability of the most probable expert; jitter in training only; small initial gate. */
#include "support/router_world.h"

#include <math.h>

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, E = 8 };

static void the_weight_is_the_highest_probability(void **state) {
  (void)state;
  router_world r;
  router_world_open(&r, "{'name': 'switch'}", E, 1);
  double gate[E * D], weights[T];
  int32_t ids[T];
  router_world_route(&r, false, (mg_stream){0});
  router_world_param(&r, "gate", gate, E * D);
  moe_read_ids(&r.world, r.out.ids, ids, T);
  moe_read(&r.world, r.out.weights, weights, T);
  for (int t = 0; t < T; t++) {
    double p[E], sum = 0;
    int best = 0;
    for (int e = 0; e < E; e++) {
      double h = 0;
      for (int d = 0; d < D; d++) h += gate[e * D + d] * r.x[t * D + d];
      sum += p[e] = exp(h);
      if (p[e] > p[best]) best = e;
    }
    assert_int_equal(ids[t], best);
    assert_close(weights[t], p[best] / sum, 1e-12);
  }
  router_world_close(&r);
}

/* |x' / x - 1| < jitter, so logits move by less than jitter * sum |w x|. */
static void jitter_scales_the_input_within_its_bounds_in_training(void **state) {
  (void)state;
  router_world r;
  router_world_open(&r, "{'name': 'switch', 'jitter': 0.1}", E, 1);
  double gate[E * D], clean[T * E], jittered[T * E], moved = 0;
  router_world_param(&r, "gate", gate, E * D);
  router_world_route(&r, false, (mg_stream){8, 8});
  moe_read(&r.world, r.out.logits, clean, T * E);
  router_world_route(&r, true, (mg_stream){8, 8});
  moe_read(&r.world, r.out.logits, jittered, T * E);
  for (int t = 0; t < T; t++)
    for (int e = 0; e < E; e++) {
      double bound = 0;
      for (int d = 0; d < D; d++) bound += 0.1 * fabs(gate[e * D + d] * r.x[t * D + d]);
      const double change = fabs(jittered[t * E + e] - clean[t * E + e]);
      assert_true(change <= bound + 1e-12);
      moved += change;
    }
  assert_true(moved > 0.1);
  router_world_close(&r);
}

/* Deviation sqrt(0.1 / D), cut at two deviations, which leaves a deviation of 0.880 times that. */
static void the_gate_starts_small_and_cut(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  json_t *spec = moe_json("{'name': 'switch'}");
  mg_router *router;
  const mg_router_place place = {.width = 64, .experts = 64};
  assert_ok(world.context,
            mg_router_create(world.context, world.registry, spec, place, world.params, "r.", 1, &router));
  static double gate[64 * 64];
  moe_read(&world, mg_params_var(world.params, world.tape, 0), gate, 64 * 64);
  const double deviation = sqrt(0.1 / 64);
  double squares = 0;
  for (int i = 0; i < 64 * 64; i++) {
    assert_true(fabs(gate[i]) <= 2 * deviation * 1.0001);
    squares += gate[i] * gate[i];
  }
  assert_close(sqrt(squares / (64 * 64)) / deviation, 0.880, 0.03);
  json_decref(spec);
  mg_router_destroy(router);
  moe_world_close(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_weight_is_the_highest_probability),
      cmocka_unit_test(jitter_scales_the_input_within_its_bounds_in_training),
      cmocka_unit_test(the_gate_starts_small_and_cut),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
