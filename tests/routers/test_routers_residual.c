/* residual: logits of one mixture enter those of the next, in a chain of two layers and in a model's first alone. */
#include "support/router_world.h"

#include <math.h>
#include <stdio.h>

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, E = 5, K = 2 };

typedef struct chain {
  moe_world world;
  mg_moe *moe[2];
  mg_moe_record record[2];
  double x[T * D];
} chain;

static void open_chain(chain *c, int32_t first_layer, int64_t second_experts) {
  moe_world_open(&c->world, MG_F64);
  for (int i = 0; i < 2; i++) {
    char text[128], prefix[16];
    snprintf(text, sizeof text, "{'experts': %d, 'width': 2, 'router': {'name': 'residual'}}",
             i ? (int)second_experts : E);
    snprintf(prefix, sizeof prefix, "%d.", i);
    json_t *spec = moe_json(text);
    const mg_moe_place place = {.width = D, .layer = first_layer + i, .prefix = prefix, .seed = 4};
    assert_ok(c->world.context,
              mg_moe_create(c->world.context, c->world.registry, spec, place, c->world.params, &c->moe[i]));
    json_decref(spec);
  }
  for (int64_t i = 0; i < mg_params_count(c->world.params); i++) {
    const mg_param *param = mg_params_at(c->world.params, i);
    moe_normal((uint64_t)i + 3, param->value.data, mg_tensor_count(&param->value));
  }
  moe_normal(50, c->x, T * D);
}

/* Both layers read x; the second also gets the first one's logits, as in a model. */
static void run(chain *c) {
  for (int i = 0; i < 2; i++) {
    const mg_moe_input input = {
        .x = moe_upload(&c->world, c->x, T, D), .sequence_tokens = T, .previous = i ? c->record[0].route.logits : NULL};
    assert_non_null(mg_moe_forward(c->moe[i], c->world.tape, &input, &c->record[i]));
  }
}

static void close_chain(chain *c) {
  mg_moe_destroy(c->moe[0]);
  mg_moe_destroy(c->moe[1]);
  moe_world_close(&c->world);
}

static void param(chain *c, const char *name, double *out, int64_t count) {
  moe_read(&c->world, mg_params_var(c->world.params, c->world.tape, mg_params_find(c->world.params, name)), out, count);
}

static void logits_add_those_of_the_mixture_before(void **state) {
  (void)state;
  chain c;
  double gate[2][E * D], u[E * E], g[2][T * E], w[T * K];
  int32_t ids[T * K];
  open_chain(&c, 0, E);
  assert_false(mg_router_has_param(mg_moe_router(c.moe[0]), "residual"));
  run(&c);
  param(&c, "0.router.gate", gate[0], E * D);
  param(&c, "1.router.gate", gate[1], E * D);
  param(&c, "1.router.residual", u, E * E);
  for (int i = 0; i < 2; i++) moe_read(&c.world, c.record[i].route.logits, g[i], T * E);
  moe_read(&c.world, c.record[1].weights, w, T * K);
  moe_read_ids(&c.world, c.record[1].ids, ids, T * K);
  for (int t = 0; t < T; t++) {
    double sum = 0;
    for (int e = 0; e < E; e++) {
      double first = 0, second = 0;
      for (int d = 0; d < D; d++) first += gate[0][e * D + d] * c.x[t * D + d];
      for (int d = 0; d < D; d++) second += gate[1][e * D + d] * c.x[t * D + d];
      for (int o = 0; o < E; o++) second += u[e * E + o] * g[0][t * E + o];
      assert_close(g[0][t * E + e], first, 1e-12);
      assert_close(g[1][t * E + e], second, 1e-12);
      sum += exp(second);
    }
    for (int j = 0; j < K; j++) {
      int ahead = 0;
      for (int e = 0; e < E; e++) ahead += g[1][t * E + e] > g[1][t * E + ids[t * K + j]];
      assert_int_equal(ahead, j);
      assert_close(w[t * K + j], exp(g[1][t * E + ids[t * K + j]]) / sum, 1e-12);
    }
  }
  close_chain(&c);
}

static void gradients_reach_the_gate_before(void **state) {
  (void)state;
  chain c;
  double most = 0;
  open_chain(&c, 0, E);
  assert_ok(c.world.context, mg_params_zero_gradients(c.world.params));
  run(&c);
  mg_var *loss = mg_sum(c.world.tape, mg_square(c.world.tape, c.record[1].weights));
  assert_ok(c.world.context, mg_tape_backward(c.world.tape, loss));
  const mg_param *gate = mg_params_at(c.world.params, mg_params_find(c.world.params, "0.router.gate"));
  for (int i = 0; i < E * D; i++) most = fmax(most, fabs(((const double *)gate->gradient.data)[i]));
  assert_true(most > 1e-6);
  close_chain(&c);
}

static void a_mixture_of_other_experts_is_not_added(void **state) {
  (void)state;
  chain c;
  double gate[7 * D], g[T * 7];
  open_chain(&c, 0, 7);
  run(&c);
  param(&c, "1.router.gate", gate, 7 * D);
  moe_read(&c.world, c.record[1].route.logits, g, T * 7);
  for (int i = 0; i < T * 7; i++) {
    double want = 0;
    for (int d = 0; d < D; d++) want += gate[i % 7 * D + d] * c.x[i / 7 * D + d];
    assert_close(g[i], want, 1e-12);
  }
  close_chain(&c);
}

static void options_that_do_not_fit_are_refused(void **state) {
  (void)state;
  assert_router_refused("{'name': 'residual', 'k': 6}", E, "k = 6 is more than the 5 experts");
  assert_router_refused("{'name': 'residual', 'k': 1, 'renormalise': true}", E, "renormalise = false");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(logits_add_those_of_the_mixture_before),
      cmocka_unit_test(gradients_reach_the_gate_before),
      cmocka_unit_test(a_mixture_of_other_experts_is_not_added),
      cmocka_unit_test(options_that_do_not_fit_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
