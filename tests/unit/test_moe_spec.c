/* Specifications of layers and routers: what is refused and how, and that a resolved one reads back. */
#include "support/moe_world.h"

#include <string.h>

enum { D = 8 };

typedef struct refusal {
  const char *spec, *words;
} refusal;

static const refusal refusals[] = {
    {"{'experts': 4, 'width': 8}", "'router' is needed"},
    {"{'width': 8, 'router': {'name': 'topk'}}", "'experts' is needed"},
    {"{'experts': 4, 'router': {'name': 'topk'}}", "'width' is needed"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'capcity': {}}", "did you mean 'capacity'?"},
    {"{'expert': 4, 'width': 8, 'router': {'name': 'topk'}}", "did you mean 'experts'?"},
    {"{'experts': 0, 'width': 8, 'router': {'name': 'topk'}}", "'experts' must be an integer from 1"},
    {"{'experts': 4, 'width': 8, 'router': {'k': 2}}", "'name'"},
    {"{'experts': 4, 'width': 8, 'router': 'topk'}", "'name'"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk', 'k': 5}}", "k = 5 is more than the 4 experts"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk', 'kk': 2}}", "did you mean 'k'?"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk', 'k': 1}}", "renormalise = false"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk', 'k': 1, 'order': 'after', 'renormalise': false}}",
     "use order 'before'"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk', 'score': 'sigmoid', 'order': 'after'}}",
     "use score 'softmax'"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk', 'k': 4, 'noise': 'learned'}}", "k below the 4 experts"},
    {"{'experts': 12, 'width': 8, 'router': {'name': 'tree', 'branching': [3, 3]}}", "9 leaves, but the layer has 12"},
    {"{'experts': 12, 'width': 8, 'router': {'name': 'tree', 'branching': 3}}", "9 leaves, but the layer has 12"},
    {"{'experts': 12, 'width': 8, 'router': {'name': 'tree'}}", "12 experts are no tree of 2 even levels"},
    {"{'experts': 16, 'width': 8, 'router': {'name': 'tree', 'branching': [4, 4], 'depth': 3}}", "give one of them"},
    {"{'experts': 16, 'width': 8, 'router': {'name': 'tree', 'k': 4, 'beam': 2}}", "at least k = 4"},
    {"{'experts': 16, 'width': 8, 'router': {'name': 'tree', 'k': 1}}", "renormalise = false"},
    {"{'experts': 16, 'width': 8, 'router': {'name': 'tree', 'k': 20}}", "more than the 16 experts"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'capacity': {'factor': 0}}", "'factor' must be a number"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'capacity': -1}", "'factor' must be a number"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'capacity': {'policy': 'reroute', 'order': 'priority'}}",
     "use order 'position'"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'capacity': {'policy': 'reroute', 'order':"
     " 'batch_priority'}}",
     "use order 'position'"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'losses': {'kind': 'z'}}", "a list was expected"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'losses': ['z']}", "loss 1"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'losses': [{'kind': 'zz'}]}", "one of balance, z"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'losses': [{'window': 4}]}", "needs scope 'global'"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'losses': [{'kind': 'z', 'choices': 1}]}",
     "'choices' is about kind 'balance'"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'losses': [{'kind': 'z', 'groups': 2}]}",
     "'groups' is about kind 'balance'"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'losses': [{'of': 'probs'}]}",
     "'of' is about kind 'importance'"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'relu'}, 'losses': [{'kind': 'importance', 'of': 'probs'}]}",
     "needs probabilities"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'losses': [{'choices': 1, 'scope': 'global',"
     " 'window': 4}]}",
     "use window = 1"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'losses': [{'groups': 3}]}", "multiple of the groups"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'null': {'copy': 0, 'constant': 0}, 'losses': ["
     "{'groups': 2}]}",
     "without null experts"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'losses': [{},{},{},{},{},{},{},{},{}]}", "at most 8"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'losses': [{'kind': 'load'}]}", "loss 'load' needs"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'tree'}, 'losses': [{'kind': 'z'}]}", "loss 'z' needs logits"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'losses': [{'kind': 'entropi'}]}", "load, entropy"},
    {"{'experts': 4, 'width': 8, 'router': {'name': 'topk'}, 'shared': {'widht': 4}}", "did you mean 'width'?"},
    {"[]", "a table of named options was expected"},
};

static void mistakes_are_named_with_their_remedy(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  for (size_t i = 0; i < MG_COUNT(refusals); i++) {
    json_t *spec = moe_json(refusals[i].spec);
    const mg_status status = mg_moe_check_spec(world.context, world.registry, spec, D, 0);
    if (status != MG_USAGE || !strstr(mg_context_message(world.context), refusals[i].words))
      fail_msg("%s: %s: %s", refusals[i].spec, mg_status_name(status), mg_context_message(world.context));
    json_decref(spec);
  }
  moe_world_close(&world);
}

static void unknown_routers_are_refused_as_plugins(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  json_t *spec = moe_json("{'experts': 4, 'width': 8, 'router': {'name': 'topkk'}}");
  assert_refused(world.context, MG_PLUGIN, "topk", mg_moe_check_spec(world.context, world.registry, spec, D, 0));
  json_decref(spec);
  moe_world_close(&world);
}

static void a_failed_layer_leaves_nothing_behind(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  json_t *spec = moe_json("{'experts': 4, 'width': 8, 'router': {'name': 'topk', 'k': 9}}");
  mg_moe *moe = (mg_moe *)&world;
  const mg_moe_place place = {.width = D, .prefix = "x."};
  assert_refused(world.context, MG_USAGE, "k = 9",
                 mg_moe_create(world.context, world.registry, spec, place, world.params, &moe));
  assert_null(moe);
  assert_int_equal(mg_params_count(world.params), 0);
  json_decref(spec);
  moe_world_close(&world);
}

static void a_resolved_specification_reads_back_as_itself(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  json_t *spec = moe_json("{'experts': 16, 'width': 8.0, 'router': {'name': 'tree', 'branching': 4}, 'capacity': 1.5,"
                          " 'losses': [{'kind': 'importance'}, {'scope': 'global', 'window': 3}], 'shared': {}}");
  json_t *resolved, *again;
  assert_ok(world.context, mg_moe_resolve_spec(world.context, world.registry, spec, D, 0, &resolved));
  assert_ok(world.context, mg_moe_resolve_spec(world.context, world.registry, resolved, D, 0, &again));
  assert_true(json_equal(resolved, again));
  const json_t *capacity = json_object_get(resolved, "capacity"), *losses = json_object_get(resolved, "losses");
  assert_string_equal(json_string_value(json_object_get(capacity, "policy")), "drop");
  assert_close(json_number_value(json_object_get(capacity, "factor")), 1.5, 0);
  assert_close(json_number_value(json_object_get(json_array_get(losses, 0), "weight")), 0.1, 0);
  assert_close(json_number_value(json_object_get(json_array_get(losses, 1), "weight")), 0.01, 0);
  assert_int_equal(json_integer_value(json_object_get(json_object_get(resolved, "shared"), "width")), 8);
  json_decref(spec);
  json_decref(resolved);
  json_decref(again);
  moe_world_close(&world);
}

static void shared_experts_are_absent_unless_asked_for(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  json_t *spec = moe_json("{'experts': 4, 'width': 8, 'router': {'name': 'topk'}}"), *resolved, *again;
  assert_ok(world.context, mg_moe_resolve_spec(world.context, world.registry, spec, D, 0, &resolved));
  assert_int_equal(json_integer_value(json_object_get(json_object_get(resolved, "shared"), "experts")), 0);
  assert_string_equal(json_string_value(json_object_get(json_object_get(resolved, "capacity"), "policy")), "none");
  assert_ok(world.context, mg_moe_resolve_spec(world.context, world.registry, resolved, D, 0, &again));
  assert_true(json_equal(resolved, again));
  json_decref(spec);
  json_decref(resolved);
  json_decref(again);
  moe_world_close(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(mistakes_are_named_with_their_remedy),
      cmocka_unit_test(unknown_routers_are_refused_as_plugins),
      cmocka_unit_test(a_failed_layer_leaves_nothing_behind),
      cmocka_unit_test(a_resolved_specification_reads_back_as_itself),
      cmocka_unit_test(shared_experts_are_absent_unless_asked_for),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
