/* relu against its formulas, and its controller against the sparsity it is to reach. */
#include "support/router_world.h"

#include <math.h>

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, E = 6 };

/* Routes in training and reads logits, weights and ids; the loss over lambda is computed on the host. */
static double route(router_world *r, double *h, double *w, int32_t *ids) {
  double loss;
  router_world_route(r, true, (mg_stream){0});
  moe_read(&r->world, r->out.logits, h, T * E);
  moe_read(&r->world, r->out.weights, w, T * E);
  moe_read_ids(&r->world, r->out.ids, ids, T * E);
  moe_read(&r->world, r->out.loss, &loss, 1);
  return loss;
}

static void positive_scores_are_choices_and_weights(void **state) {
  (void)state;
  router_world r;
  router_world_open(&r, "{'name': 'relu'}", E, 1);
  double h[T * E], w[T * E];
  int32_t ids[T * E];
  int chosen = 0;
  route(&r, h, w, ids);
  for (int i = 0; i < T * E; i++) {
    assert_int_equal(ids[i], h[i] > 0 ? i % E : -1);
    assert_close(w[i], h[i] > 0 ? h[i] : 0, 0);
    chosen += h[i] > 0;
  }
  assert_true(chosen > T && chosen < T * E - T);
  router_world_close(&r);
}

static void the_loss_is_the_papers(void **state) {
  (void)state;
  for (int balanced = 0; balanced < 2; balanced++) {
    router_world r;
    router_world_open(&r,
                      balanced ? "{'name': 'relu', 'active': 1.5, 'start': 0.25}"
                               : "{'name': 'relu', 'active': 1.5, 'start': 0.25, 'balanced': false}",
                      E, 1);
    double h[T * E], w[T * E], exponent, want = 0;
    int32_t ids[T * E];
    const double loss = route(&r, h, w, ids);
    router_world_param(&r, "exponent", &exponent, 1);
    for (int e = 0; e < E; e++) {
      double f = 0, sum = 0;
      for (int t = 0; t < T; t++) f += E / (1.5 * T) * (h[t * E + e] > 0);
      for (int t = 0; t < T; t++) sum += w[t * E + e];
      want += (balanced ? f : 1) * sum / T;
    }
    assert_close(loss, 0.25 * pow(1.2, exponent) * want, 1e-9);
    router_world_close(&r);
  }
}

/* Demand above `active` per token raises lambda by the rate, demand below lowers it, the right demand leaves it. */
static void lambda_follows_the_sparsity(void **state) {
  (void)state;
  router_world r;
  router_world_open(&r, "{'name': 'relu', 'active': 2, 'start': 0.01, 'rate': 1.5}", E, 1);
  static const int32_t demand[][E] = {
      {9, 9, 0, 0, 0, 1}, {9, 9, 1, 1, 1, 1}, {9, 9, 0, 0, 0, 0}, {1, 1, 1, 1, 1, 1}, {0}};
  static const double exponents[] = {1, 2, 2, 1, 0};
  double h[T * E], w[T * E];
  int32_t ids[T * E];
  const double before = route(&r, h, w, ids);
  for (int i = 0; i < 5; i++) {
    r.router->step_tokens = T;
    assert_ok(r.world.context, r.router->plugin->after_step(r.router, r.world.tape, demand[i]));
    mg_tape_reset(r.world.tape);
    assert_close(route(&r, h, w, ids), before * pow(1.5, exponents[i]), 1e-9);
  }
  router_world_close(&r);
}

/* In a layer, with gradient descent on the router's loss alone, the choices per token come down to what was asked. */
static void the_controller_reaches_its_sparsity_in_a_layer(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F64);
  json_t *spec =
      moe_json("{'experts': 6, 'width': 2, 'router': {'name': 'relu', 'active': 1, 'start': 0.001, 'rate': 1.1}}");
  const mg_moe_place place = {.width = D, .prefix = "ffn.", .seed = 3};
  mg_moe *moe;
  mg_moe_counts counts;
  assert_ok(world.context, mg_moe_create(world.context, world.registry, spec, place, world.params, &moe));
  json_decref(spec);
  enum { MANY = 64 };
  double x[MANY * D];
  moe_normal(5, x, MANY * D);
  for (int t = 0; t < MANY; t++) x[t * D] = 1; /* one constant element, as hidden states have: it can lower a score */
  mg_param *gate = mg_params_at(world.params, mg_params_find(world.params, "ffn.router.gate"));
  moe_normal(6, gate->value.data, E * D);
  for (int step = 0; step < 150; step++) {
    const mg_moe_input input = {.x = moe_upload(&world, x, MANY, D), .sequence_tokens = MANY, .training = true};
    mg_moe_record record;
    assert_ok(world.context, mg_params_zero_gradients(world.params));
    assert_non_null(mg_moe_forward(moe, world.tape, &input, &record));
    assert_ok(world.context, mg_tape_backward(world.tape, record.loss));
    assert_ok(world.context, mg_moe_count(moe, world.tape, &record, NULL, NULL, &counts));
    for (int i = 0; i < E * D; i++) ((double *)gate->value.data)[i] -= ((double *)gate->gradient.data)[i];
    assert_int_equal(mg_moe_router(moe)->step_tokens, MANY);
    assert_ok(world.context, mg_moe_after_step(moe, world.tape, &record));
    assert_int_equal(mg_moe_router(moe)->step_tokens, 0);
    if (step == 0) assert_true(counts.demand > 2 * MANY);
    mg_tape_reset(world.tape);
  }
  assert_true(counts.demand <= MANY);
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

static void options_that_do_not_fit_are_refused(void **state) {
  (void)state;
  assert_router_refused("{'name': 'relu', 'active': 6.5}", E, "active = 6.5 is more than the 6 experts");
  assert_router_refused("{'name': 'relu', 'active': 0}", E, "'active'");
  assert_router_refused("{'name': 'relu', 'rate': 0.9}", E, "'rate'");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(positive_scores_are_choices_and_weights),
      cmocka_unit_test(the_loss_is_the_papers),
      cmocka_unit_test(lambda_follows_the_sparsity),
      cmocka_unit_test(the_controller_reaches_its_sparsity_in_a_layer),
      cmocka_unit_test(options_that_do_not_fit_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
