/* Gradients of the layer's output and losses agree with finite differences, for every parameter, under every router and
 * policy; and each parameter of a router gets one. */
#include "support/gradient.h"
#include "support/moe_world.h"

#include <math.h>

enum { T = 7, D = 4 };

typedef struct problem {
  mg_moe *moe;
  bool loss;
} problem;

static mg_var *build(mg_world *world, void *user) {
  const problem *p = user;
  double x[T * D];
  moe_normal(11, x, T * D);
  const int64_t shape[] = {T, D};
  const mg_moe_input input = {
      .x = mg_world_constant(world, MG_F64, 2, shape, x), .sequence_tokens = T, .training = true, .noise = {5, 6}};
  mg_moe_record record;
  mg_var *y = mg_moe_forward(p->moe, world->tape, &input, &record);
  return p->loss ? record.loss : y;
}

static void spread(moe_world *world) {
  double numbers[512];
  for (int64_t i = 0; i < mg_params_count(world->params); i++) {
    const mg_param *param = mg_params_at(world->params, i);
    const int64_t count = mg_tensor_count(&param->value);
    if (param->fixed) continue;
    moe_normal((uint64_t)i + 40, numbers, count);
    moe_set_param(world, param->name, numbers, count);
  }
}

static void check(const char *text, bool loss) {
  moe_world world;
  moe_world_open(&world, MG_F64);
  mg_world plain = {world.context, world.registry, world.backend, world.tape};
  json_t *spec = moe_json(text);
  const mg_moe_place place = {.width = D, .prefix = "ffn."};
  problem p = {.loss = loss};
  assert_ok(world.context, mg_moe_create(world.context, world.registry, spec, place, world.params, &p.moe));
  json_decref(spec);
  spread(&world);
  mg_check_param_gradients(&plain, text, world.params, build, &p);
  mg_moe_destroy(p.moe);
  moe_world_close(&world);
}

static const char *const routers[] = {
    "{'name': 'topk', 'k': 2}",
    "{'name': 'topk', 'k': 2, 'renormalise': false, 'scale': 2.5}",
    "{'name': 'topk', 'k': 2, 'order': 'after'}",
    "{'name': 'topk', 'k': 3, 'score': 'sigmoid'}",
    "{'name': 'topk', 'k': 2, 'order': 'after', 'noise': 'learned'}",
    "{'name': 'switch', 'jitter': 0.1}",
    "{'name': 'tree', 'k': 2, 'branching': 2}",
    "{'name': 'tree', 'k': 3, 'branching': 2, 'beam': 3, 'renormalise': false}",
    "{'name': 'tree', 'k': 1, 'branching': [4, 2], 'renormalise': false}",
    "{'name': 'tree', 'k': 2, 'branching': [2, 4], 'beam': 8}",
    "{'name': 'gshard', 'groups': 2}",
    "{'name': 'cosine', 'k': 2}",
    "{'name': 'deepseek', 'k': 3, 'groups': 2, 'groups_kept': 2}",
    "{'name': 'expert_choice'}",
    "{'name': 'top_p', 'p': 0.7, 'most': 4}",
    "{'name': 'sinkhorn', 'k': 2}",
    "{'name': 'quantile', 'k': 2}",
};

static void outputs_of_every_router_have_right_gradients(void **state) {
  (void)state;
  char text[512];
  for (size_t i = 0; i < MG_COUNT(routers); i++) {
    snprintf(text, sizeof text, "{'experts': 8, 'width': 3, 'router': %s, 'shared': {'width': 2}}", routers[i]);
    check(text, false);
  }
}

static void balance_and_importance_have_right_gradients_under_every_router(void **state) {
  (void)state;
  char text[512];
  for (size_t i = 0; i < MG_COUNT(routers); i++) {
    snprintf(text, sizeof text,
             "{'experts': 8, 'width': 1, 'router': %s, 'losses': [{'kind': 'balance', 'weight': 1, 'scope': 'global'}, "
             "{'kind': 'importance', 'weight': 1}]}",
             routers[i]);
    check(text, true);
  }
}

static void z_load_and_entropy_have_right_gradients(void **state) {
  (void)state;
  check("{'experts': 8, 'width': 1, 'router': {'name': 'topk', 'k': 2, 'noise': 'learned'}, 'losses': "
        "[{'kind': 'z', 'weight': 1}, {'kind': 'load', 'weight': 1}, {'kind': 'entropy', 'weight': 1}, "
        "{'kind': 'balance', 'weight': 1, 'scope': 'sequence'}, {'kind': 'balance', 'weight': 1, 'scope': 'shuffle'}]}",
        true);
}

static void null_experts_have_right_gradients(void **state) {
  (void)state;
  static const char layer[] = "{'experts': 6, 'width': 3, 'router': {'name': 'topk', 'k': 3, 'renormalise': false},"
                              " 'null': {'zero': 1, 'copy': 1, 'constant': 2}, 'losses': [{'weight': 1}]}";
  check(layer, false);
  check("{'experts': 4, 'width': 3, 'router': {'name': 'top_p'}, 'null': {'zero': 0, 'copy': 0, 'constant': 1},"
        " 'capacity': {'policy': 'reroute', 'factor': 1}}",
        false);
}

/* T is a prime: one sequence, whose slots of several experts are null ones. */
static void slots_have_right_gradients(void **state) {
  (void)state;
  check("{'experts': 4, 'width': 3, 'router': {'name': 'soft', 'slots': 2}, 'shared': {'width': 2},"
        " 'null': {'zero': 1, 'copy': 1, 'constant': 1}}",
        false);
  check("{'experts': 4, 'width': 1, 'router': {'name': 'soft', 'slots': 2}, 'losses': [{'kind': 'importance'}]}", true);
}

static void outputs_have_right_gradients_under_every_policy(void **state) {
  (void)state;
  static const char *const policies[] = {"'drop', 'factor': 0.8", "'drop', 'factor': 0.8, 'order': 'priority'",
                                         "'pad', 'factor': 0.8", "'reroute', 'factor': 1"};
  char text[512];
  for (size_t i = 0; i < MG_COUNT(policies); i++) {
    snprintf(text, sizeof text,
             "{'experts': 4, 'width': 3, 'gated': %s, 'activation': 'gelu', 'router': {'name': 'topk', 'k': 2}, "
             "'capacity': {'policy': %s}}",
             i % 2 ? "true" : "false", policies[i]);
    check(text, false);
  }
}

static void weighed_inputs_have_right_gradients(void **state) {
  (void)state;
  check("{'experts': 4, 'width': 3, 'router': {'name': 'topk', 'k': 2, 'score': 'sigmoid', 'renormalise': false},"
        " 'scale_inputs': true, 'capacity': {'policy': 'drop', 'factor': 0.8}}",
        false);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(outputs_of_every_router_have_right_gradients),
      cmocka_unit_test(balance_and_importance_have_right_gradients_under_every_router),
      cmocka_unit_test(z_load_and_entropy_have_right_gradients),
      cmocka_unit_test(null_experts_have_right_gradients),
      cmocka_unit_test(slots_have_right_gradients),
      cmocka_unit_test(outputs_have_right_gradients_under_every_policy),
      cmocka_unit_test(weighed_inputs_have_right_gradients),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
