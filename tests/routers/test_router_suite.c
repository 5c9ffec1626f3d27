/* Every router of the tree passes the suite under all its kinds of options. */
#include "support/moe_world.h"

#include <string.h>

#include "measure/router_suite.h"

static const char *const routers[] = {
    "{'name': 'topk'}",
    "{'name': 'topk', 'k': 3, 'order': 'after'}",
    "{'name': 'topk', 'k': 1, 'renormalise': false}",
    "{'name': 'topk', 'k': 3, 'score': 'sigmoid', 'scale': 2.5}",
    "{'name': 'topk', 'k': 2, 'score': 'sigmoid', 'renormalise': false}",
    "{'name': 'topk', 'k': 2, 'order': 'after', 'noise': 'learned'}",
    "{'name': 'topk', 'k': 2, 'noise': 'fixed', 'noise_deviation': 0.3}",
    "{'name': 'topk', 'k': 2, 'score': 'sqrt_softplus'}",
    "{'name': 'deepseek', 'score': 'sqrt_softplus'}",
    "{'name': 'tree', 'branching': 2, 'k': 3, 'paths': 'straight'}",
    "{'name': 'tree', 'k': 1, 'paths': 'straight', 'renormalise': false}",
    "{'name': 'switch'}",
    "{'name': 'switch', 'jitter': 0}",
    "{'name': 'tree'}",
    "{'name': 'tree', 'branching': 2, 'k': 3, 'renormalise': false}",
    "{'name': 'tree', 'branching': 2, 'beam': 64}",
    "{'name': 'tree', 'branching': 3, 'k': 1, 'renormalise': false}",
    "{'name': 'top_p'}",
    "{'name': 'top_p', 'p': 0.8, 'most': 3, 'renormalise': true}",
    "{'name': 'top_p', 'p': 1, 'most': 2}",
    "{'name': 'hash'}",
    "{'name': 'hash', 'kind': 'balanced'}",
    "{'name': 'hash', 'k': 2, 'kind': 'position', 'renormalise': true}",
    "{'name': 'hash', 'kind': 'bigram'}",
    "{'name': 'hash', 'kind': 'future'}",
    "{'name': 'hash', 'kind': 'clustered'}",
    "{'name': 'hash', 'kind': 'dispersed'}",
    "{'name': 'sparse_mixer'}",
    "{'name': 'sparse_mixer', 'k': 3, 'jitter': 0.3}",
    "{'name': 'soft'}",
    "{'name': 'soft', 'slots': 3, 'scale': 4}",
    "{'name': 'soft', 'slots': 2, 'normalise': false}",
    "{'name': 'gshard', 'second': 'threshold', 'threshold': 0.3}",
    "{'name': 'gshard'}",
    "{'name': 'gshard', 'second': 'all'}",
    "{'name': 'gshard', 'groups': 3, 'factor': 0.8}",
    "{'name': 'cosine'}",
    "{'name': 'cosine', 'k': 3, 'dimension': 5, 'renormalise': true}",
    "{'name': 'cosine', 'k': 2, 'score': 'sigmoid'}",
    "{'name': 'deepseek'}",
    "{'name': 'deepseek', 'k': 3, 'score': 'softmax', 'bias': 'none', 'renormalise': false}",
    "{'name': 'deepseek', 'k': 3, 'bias': 'proportional', 'groups': 4, 'groups_kept': 2, 'scale': 2.5}",
    "{'name': 'deepseek', 'k': 2, 'groups': 4, 'groups_kept': 2, 'group_score': 'max'}",
    "{'name': 'deepseek', 'k': 3, 'form': 'multiplied', 'groups': 4, 'groups_kept': 2}",
    "{'name': 'expert_choice'}",
    "{'name': 'expert_choice', 'factor': 1, 'scope': 'sequence'}",
    "{'name': 'expert_choice', 'inference': 'threshold', 'renormalise': true}",
    "{'name': 'expert_choice', 'inference': 'learned', 'renormalise': true}",
    "{'name': 'expert_choice', 'cap': 2}",
    "{'name': 'expert_choice', 'cap': 2, 'factor': 1, 'scope': 'sequence'}",
    "{'name': 'random'}",
    "{'name': 'random', 'k': 3, 'scope': 'sequence'}",
    "{'name': 'sinkhorn'}",
    "{'name': 'sinkhorn', 'k': 3, 'score': 'sigmoid'}",
    "{'name': 'base'}",
    "{'name': 'relu', 'start': 1}",
    "{'name': 'relu', 'active': 3, 'start': 0.5, 'balanced': false}",
    "{'name': 'depth', 'loss': 1}",
    "{'name': 'depth', 'capacity': 0.5, 'weight': 'sigmoid', 'evaluation': 'top_k', 'loss': 0}",
    "{'name': 'product_key'}",
    "{'name': 'product_key', 'k': 1, 'query': 8, 'normalise': false, 'renormalise': false}",
    "{'name': 'residual'}",
    "{'name': 'residual', 'k': 3, 'renormalise': true}",
    "{'name': 'quantile'}",
    "{'name': 'quantile', 'k': 3, 'score': 'sigmoid', 'renormalise': true}",
    "{'name': 'quantile', 'k': 3, 'iterations': 4}",
    "{'name': 'quantile', 'selection': 'threshold', 'score': 'sigmoid'}",
};

static bool fail_on_failure(void *user, const mg_router_row *row) {
  if (row->verdict == MG_ROUTER_FAILED) fail_msg("%s: %s: %s", (const char *)user, row->check, row->detail);
  return true;
}

static void every_router_passes(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  for (size_t i = 0; i < MG_COUNT(routers); i++) {
    json_t *spec = moe_json(routers[i]);
    mg_router_summary summary;
    const mg_router_request request = {
        .registry = world.registry, .spec = spec, .backend = "cpu", .user = (void *)(uintptr_t)routers[i]};
    assert_ok(world.context, mg_router_suite_check(world.context, &request, fail_on_failure, &summary));
    assert_int_equal(summary.failed, 0);
    assert_true(summary.passed >= 10);
    json_decref(spec);
  }
  moe_world_close(&world);
}

static bool keep_detail(void *user, const mg_router_row *row) {
  assert_int_equal(row->verdict, MG_ROUTER_NOT_APPLICABLE);
  memcpy(user, row->detail, sizeof row->detail);
  return true;
}

static void a_leak_that_is_declared_is_still_shown(void **state) {
  (void)state;
  static const struct {
    const char *spec, *words;
  } cases[] = {{"{'name': 'expert_choice'}", "earlier tokens see later ones"},
               {"{'name': 'expert_choice', 'cap': 3}", "earlier tokens see later ones"},
               {"{'name': 'soft'}", "earlier tokens see later ones"},
               {"{'name': 'hash', 'kind': 'future'}", "earlier tokens see later ones"},
               {"{'name': 'expert_choice', 'inference': 'threshold'}", "later ones in training"},
               {"{'name': 'base'}", "later ones in training"},
               {"{'name': 'sinkhorn'}", "later ones in training"},
               {"{'name': 'depth', 'capacity': 0.5}", "later ones in training"}};
  moe_world world;
  moe_world_open(&world, MG_F32);
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    char detail[MG_ROUTER_DETAIL_BYTES] = "";
    json_t *spec = moe_json(cases[i].spec);
    mg_router_summary summary;
    const mg_router_request request = {
        .registry = world.registry, .spec = spec, .backend = "cpu", .filter = "causal", .user = detail};
    assert_ok(world.context, mg_router_suite_check(world.context, &request, keep_detail, &summary));
    if (!strstr(detail, cases[i].words)) fail_msg("%s: %s", cases[i].spec, detail);
    json_decref(spec);
  }
  moe_world_close(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_router_passes),
      cmocka_unit_test(a_leak_that_is_declared_is_still_shown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
