/* deepseek against its formulas on the host: selection with the bias inside the best groups, weights without it, and the
 * bias after a step. */
#include "support/router_world.h"

#include <math.h>

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, E = 12, K_MAX = 4 };

typedef struct setting {
  const char *spec;
  bool softmax, biased, multiplied, renormalise;
  int k, groups, groups_kept, of_group; /* how many scores of a group are added */
  double scale;
} setting;

static const setting settings[] = {
    {"{'name': 'deepseek', 'k': 3}", false, true, false, true, 3, 1, 1, 0, 1},
    {"{'name': 'deepseek', 'k': 3, 'form': 'multiplied'}", false, true, true, true, 3, 1, 1, 0, 1},
    {"{'name': 'deepseek', 'k': 3, 'bias': 'none'}", false, false, false, true, 3, 1, 1, 0, 1},
    {"{'name': 'deepseek', 'k': 4, 'groups': 4, 'groups_kept': 2, 'scale': 2.5}", false, true, false, true, 4, 4, 2, 2,
     2.5},
    {"{'name': 'deepseek', 'k': 4, 'score': 'softmax', 'bias': 'none', 'groups': 6, 'groups_kept': 3,"
     " 'group_score': 'max', 'renormalise': false}",
     true, false, false, false, 4, 6, 3, 1, 1}};

/* The index of the largest of `count` numbers, which is then removed. */
static int take_largest(double *numbers, int count) {
  int best = 0;
  for (int i = 1; i < count; i++) best = numbers[i] > numbers[best] ? i : best;
  numbers[best] = -(double)INFINITY;
  return best;
}

static double group_score(const double *selection, const setting *s, int group) {
  const int each = E / s->groups;
  double members[E], sum = 0;
  for (int e = 0; e < each; e++) members[e] = selection[group * each + e];
  for (int j = 0; j < s->of_group; j++) {
    double before[E];
    for (int e = 0; e < each; e++) before[e] = members[e];
    sum += before[take_largest(members, each)];
  }
  return sum;
}

/* Puts experts outside the token's best groups out of reach. */
static void limit(double *selection, const setting *s) {
  double scores[E];
  bool kept[E] = {false};
  if (s->groups == 1) return;
  for (int g = 0; g < s->groups; g++) scores[g] = group_score(selection, s, g);
  for (int j = 0; j < s->groups_kept; j++) kept[take_largest(scores, s->groups)] = true;
  for (int e = 0; e < E; e++)
    if (!kept[e / (E / s->groups)]) selection[e] = -(double)INFINITY;
}

static void check_token(const setting *s, const double *h, const double *bias, const int32_t *ids,
                        const double *weights) {
  double all = 0, affinity[E], selection[E], kept = 0;
  for (int e = 0; e < E; e++) all += exp(h[e]);
  for (int e = 0; e < E; e++) {
    affinity[e] = s->softmax ? exp(h[e]) / all : 1 / (1 + exp(-h[e]));
    selection[e] = s->multiplied ? affinity[e] * bias[e] : affinity[e] + bias[e];
  }
  limit(selection, s);
  for (int j = 0; j < s->k; j++) {
    assert_int_equal(ids[j], take_largest(selection, E));
    kept += affinity[ids[j]];
  }
  for (int j = 0; j < s->k; j++)
    assert_close(weights[j], s->scale * affinity[ids[j]] / (s->renormalise ? kept : 1), 1e-12);
}

static void the_bias_selects_and_does_not_weigh(void **state) {
  (void)state;
  for (size_t i = 0; i < MG_COUNT(settings); i++) {
    const setting *s = &settings[i];
    router_world r;
    double h[T * E], bias[E] = {0}, weights[T * K_MAX];
    int32_t ids[T * K_MAX];
    router_world_open(&r, s->spec, E, 0.4);
    for (int e = 0; e < E && s->biased; e++) bias[e] = 0.11 * (e % 5) - 0.2;
    if (s->biased) moe_set_param(&r.world, s->multiplied ? "r.factor" : "r.bias", bias, E);
    router_world_route(&r, false, (mg_stream){0});
    moe_read(&r.world, r.out.logits, h, T * E);
    moe_read(&r.world, r.out.weights, weights, T * s->k);
    moe_read_ids(&r.world, r.out.ids, ids, T * s->k);
    for (int t = 0; t < T; t++) check_token(s, h + t * E, bias, ids + t * s->k, weights + t * s->k);
    router_world_close(&r);
  }
}

/* Loads 4 2 1 1, mean 2. */
static void the_bias_moves_against_the_load(void **state) {
  (void)state;
  static const int32_t demand[] = {4, 2, 1, 1};
  static const double by_sign[] = {-0.01, 0, 0.01, 0.01}, by_share[] = {-0.01, 0, 0.005, 0.005};
  static const double start[] = {0.5, -0.5, 0.25, 0};
  for (int proportional = 0; proportional < 2; proportional++) {
    router_world r;
    double bias[4];
    router_world_open(&r,
                      proportional ? "{'name': 'deepseek', 'bias': 'proportional', 'rate': 0.01}"
                                   : "{'name': 'deepseek', 'rate': 0.01}",
                      4, 1);
    moe_set_param(&r.world, "r.bias", start, 4);
    assert_ok(r.world.context, r.router->plugin->after_step(r.router, r.world.tape, demand));
    mg_tape_reset(r.world.tape);
    router_world_param(&r, "bias", bias, 4);
    for (int e = 0; e < 4; e++) assert_close(bias[e], start[e] + (proportional ? by_share : by_sign)[e], 1e-12);
    router_world_close(&r);
  }
}

/* The factors of a new layer are 1, which changes nothing, and move as a bias does. */
static void a_multiplied_bias_starts_at_one(void **state) {
  (void)state;
  static const int32_t demand[] = {4, 2, 1, 1};
  static const float moved[] = {0.75F, 1, 1.25F, 1.25F};
  moe_world world;
  moe_world_open(&world, MG_F32);
  json_t *spec = moe_json("{'experts': 4, 'width': 2, 'router': {'name': 'deepseek', 'form': 'multiplied',"
                          " 'rate': 0.25}}");
  const mg_moe_place place = {.width = D, .prefix = "", .seed = 1};
  mg_moe *moe;
  assert_ok(world.context, mg_moe_create(world.context, world.registry, spec, place, world.params, &moe));
  const mg_param *factor = mg_params_look(world.params, mg_params_find(world.params, "router.factor"));
  for (int e = 0; e < 4; e++) assert_close(((const float *)factor->value.data)[e], 1, 0);
  mg_router *router = mg_moe_router(moe);
  assert_ok(world.context, router->plugin->after_step(router, world.tape, demand));
  for (int e = 0; e < 4; e++) assert_close(((const float *)factor->value.data)[e], moved[e], 0);
  json_decref(spec);
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

/* A layer whose expert 0 starts far ahead: after some steps no expert has more than twice its share. */
static void steps_of_a_layer_even_out_the_load(void **state) {
  (void)state;
  enum { TOKENS = 64, EXPERTS = 4 };
  moe_world world;
  moe_world_open(&world, MG_F32);
  static double x[TOKENS * D];
  const double start[EXPERTS] = {1, 0, 0, 0};
  double demand[EXPERTS];
  moe_normal(3, x, TOKENS * D);
  json_t *spec = moe_json("{'experts': 4, 'width': 2, 'router': {'name': 'deepseek', 'k': 1, 'renormalise': false,"
                          " 'rate': 0.02}}");
  const mg_moe_place place = {.width = D, .prefix = "", .seed = 1};
  mg_moe *moe;
  assert_ok(world.context, mg_moe_create(world.context, world.registry, spec, place, world.params, &moe));
  moe_set_param(&world, "router.bias", start, EXPERTS);
  for (int step = 0; step < 120; step++) {
    mg_tape_reset(world.tape);
    const mg_moe_input input = {.x = moe_upload(&world, x, TOKENS, D), .sequence_tokens = TOKENS, .training = true};
    mg_moe_record record;
    assert_non_null(mg_moe_forward(moe, world.tape, &input, &record));
    moe_read(&world, record.demand, demand, EXPERTS);
    if (step == 0) assert_close(demand[0], TOKENS, 0);
    assert_ok(world.context, mg_moe_after_step(moe, world.tape, &record));
  }
  for (int e = 0; e < EXPERTS; e++) assert_true(demand[e] <= 2.0 * TOKENS / EXPERTS);
  json_decref(spec);
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

static void options_that_do_not_fit_are_refused(void **state) {
  (void)state;
  assert_router_refused("{'name': 'deepseek', 'k': 9}", 8, "k = 9");
  assert_router_refused("{'name': 'deepseek', 'groups': 3}", 8, "multiple of groups = 3");
  assert_router_refused("{'name': 'deepseek', 'groups': 4, 'groups_kept': 5}", 8, "groups_kept = 5");
  assert_router_refused("{'name': 'deepseek', 'k': 3, 'groups': 4}", 8, "k = 3 is more than the 2");
  assert_router_refused("{'name': 'deepseek', 'groups': 8, 'groups_kept': 4}", 8, "top2");
  assert_router_refused("{'name': 'deepseek', 'k': 1}", 8, "renormalise");
  assert_router_refused("{'name': 'deepseek', 'bias': 'none', 'form': 'multiplied'}", 8, "bias is 'none'");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_bias_selects_and_does_not_weigh), cmocka_unit_test(the_bias_moves_against_the_load),
      cmocka_unit_test(a_multiplied_bias_starts_at_one),     cmocka_unit_test(steps_of_a_layer_even_out_the_load),
      cmocka_unit_test(options_that_do_not_fit_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
