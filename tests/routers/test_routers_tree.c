/* tree against the product of its conditional softmaxes, written out on the host for any shape and beam. */
#include "support/router_world.h"

#include <math.h>
#include <string.h>

#include "base/counters.h"
#include "tensor/tape_work.h"

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, NODES_MAX = 64 };

/* Path probability of every node of one level for one token, given those of the level above ([1] at the root). */
static void expand(router_world *r, int level, int64_t parents, int64_t b, const double *above, const double *x,
                   double *out) {
  char name[16];
  double weight[NODES_MAX * D];
  snprintf(name, sizeof name, "level%d", level);
  router_world_param(r, name, weight, parents * b * D);
  for (int64_t p = 0; p < parents; p++) {
    double sum = 0;
    for (int64_t n = p * b; n < (p + 1) * b; n++) {
      double score = 0;
      for (int d = 0; d < D; d++) score += weight[n * D + d] * x[d];
      sum += out[n] = exp(score);
    }
    for (int64_t n = p * b; n < (p + 1) * b; n++) out[n] *= above[p] / sum;
  }
}

/* Zeroes all but the `beam` most probable nodes; equal ones by lowest number. */
static void prune(double *path, int64_t nodes, int64_t beam) {
  double kept[NODES_MAX] = {0};
  for (int64_t j = 0; j < beam && j < nodes; j++) {
    int64_t best = 0;
    for (int64_t n = 1; n < nodes; n++)
      if (path[n] > path[best]) best = n;
    kept[best] = path[best];
    path[best] = -1;
  }
  memcpy(path, kept, (size_t)nodes * sizeof *path);
}

/* Leaf probabilities of one token; 0 where the beam did not look. */
static int64_t leaves_of(router_world *r, const int64_t *branching, int levels, int64_t beam, const double *x,
                         double *leaves) {
  double above[NODES_MAX] = {1};
  int64_t nodes = 1;
  for (int l = 0; l < levels; l++) {
    if (l) prune(above, nodes, beam);
    expand(r, l + 1, nodes, branching[l], above, x, leaves);
    nodes *= branching[l];
    memcpy(above, leaves, (size_t)nodes * sizeof *above);
  }
  return nodes;
}

typedef struct shape {
  const char *spec;
  int levels;
  int64_t branching[4], experts, beam, k;
  bool renormalise;
} shape;

static const shape shapes[] = {
    {"{'name': 'tree', 'k': 3, 'branching': [4, 3], 'beam': 4, 'renormalise': false}", 2, {4, 3}, 12, 4, 3, false},
    {"{'name': 'tree', 'k': 3, 'branching': [4, 3], 'beam': 4}", 2, {4, 3}, 12, 4, 3, true},
    {"{'name': 'tree', 'branching': [2, 2, 2, 2]}", 4, {2, 2, 2, 2}, 16, 2, 2, true},
    {"{'name': 'tree', 'depth': 3, 'beam': 3}", 3, {3, 3, 3}, 27, 3, 2, true},
    {"{'name': 'tree', 'branching': [3, 2, 4], 'k': 2, 'beam': 24}", 3, {3, 2, 4}, 24, 24, 2, true},
    {"{'name': 'tree', 'branching': 5, 'k': 2}", 2, {5, 5}, 25, 2, 2, true},
    {"{'name': 'tree', 'branching': [10], 'k': 10, 'depth': 1, 'renormalise': false}", 1, {10}, 10, 10, 10, false},
    {"{'name': 'tree', 'k': 5, 'branching': [2, 4, 2]}", 3, {2, 4, 2}, 16, 5, 5, true},
};

static void check_shape(const shape *s) {
  router_world r;
  router_world_open(&r, s->spec, s->experts, 0.8);
  double probs[T * NODES_MAX], weights[T * NODES_MAX];
  int32_t ids[T * NODES_MAX];
  router_world_route(&r, false, (mg_stream){0});
  moe_read(&r.world, r.out.probs, probs, T * s->experts);
  moe_read(&r.world, r.out.weights, weights, T * s->k);
  moe_read_ids(&r.world, r.out.ids, ids, T * s->k);
  for (int t = 0; t < T; t++) {
    double leaves[NODES_MAX], best[NODES_MAX], sum = 0;
    assert_int_equal(leaves_of(&r, s->branching, s->levels, s->beam, r.x + t * D, leaves), s->experts);
    for (int64_t e = 0; e < s->experts; e++) assert_close(probs[t * s->experts + e], leaves[e], 1e-12);
    memcpy(best, leaves, sizeof best);
    prune(best, s->experts, s->k);
    for (int64_t e = 0; e < s->experts; e++) sum += best[e];
    for (int64_t j = 0; j < s->k; j++) {
      const int32_t id = ids[t * s->k + j];
      assert_true(best[id] > 0);
      assert_close(weights[t * s->k + j], best[id] / (s->renormalise ? sum : 1), 1e-12);
      if (j) assert_true(weights[t * s->k + j] <= weights[t * s->k + j - 1]);
    }
  }
  router_world_close(&r);
}

static void every_shape_and_beam_gives_the_product_of_its_gates(void **state) {
  (void)state;
  for (size_t i = 0; i < MG_COUNT(shapes); i++) check_shape(&shapes[i]);
}

/* Shazeer et al. 2017, eq. 12 with all groups kept: G_primary(x)_i * G_i(x)_j. */
static void two_levels_with_all_groups_are_the_papers_product(void **state) {
  (void)state;
  enum { A = 4, B = 3 };
  router_world r;
  router_world_open(&r, "{'name': 'tree', 'k': 2, 'branching': [4, 3], 'beam': 4, 'renormalise': false}", A * B, 1);
  double primary[A * D], secondary[A * B * D], probs[T * A * B];
  router_world_route(&r, false, (mg_stream){0});
  router_world_param(&r, "level1", primary, A * D);
  router_world_param(&r, "level2", secondary, A * B * D);
  moe_read(&r.world, r.out.probs, probs, T * A * B);
  for (int t = 0; t < T; t++) {
    double g[A], total = 0;
    for (int i = 0; i < A; i++) {
      double score = 0;
      for (int d = 0; d < D; d++) score += primary[i * D + d] * r.x[t * D + d];
      total += g[i] = exp(score);
    }
    for (int i = 0; i < A; i++) {
      double gi[B], group = 0;
      for (int j = 0; j < B; j++) {
        double score = 0;
        for (int d = 0; d < D; d++) score += secondary[(i * B + j) * D + d] * r.x[t * D + d];
        group += gi[j] = exp(score);
      }
      for (int j = 0; j < B; j++) assert_close(probs[(t * A + i) * B + j], g[i] / total * gi[j] / group, 1e-12);
    }
  }
  router_world_close(&r);
}

static void a_beam_over_every_node_gives_a_distribution(void **state) {
  (void)state;
  router_world r;
  router_world_open(&r, "{'name': 'tree', 'branching': [2, 3, 4], 'beam': 6}", 24, 1);
  double probs[T * 24];
  router_world_route(&r, false, (mg_stream){0});
  moe_read(&r.world, r.out.probs, probs, T * 24);
  for (int t = 0; t < T; t++) {
    double sum = 0;
    for (int e = 0; e < 24; e++) sum += probs[t * 24 + e];
    assert_close(sum, 1, 1e-12);
  }
  router_world_close(&r);
}

/* The width enters matrix products alone, so what a wider input adds is the evaluated gates. */
static double counted(const char *spec, int64_t experts, int64_t width, double *analytic) {
  moe_world world;
  moe_world_open(&world, MG_F32);
  json_t *json = moe_json(spec);
  mg_router *router;
  const mg_router_place place = {.width = width, .experts = experts};
  assert_ok(world.context,
            mg_router_create(world.context, world.registry, json, place, world.params, "r.", 1, &router));
  double x[T * 16];
  moe_normal(1, x, T * width);
  const mg_route_input input = {.x = moe_upload(&world, x, T, width), .tokens = T, .sequence_tokens = T};
  mg_route_output out;
  mg_tape_set_part(world.tape, MG_PART_GATE);
  memset(mg_tape_counters(world.tape), 0, sizeof(mg_counters));
  assert_ok(world.context, mg_router_route(router, world.tape, &input, &out));
  const double flops = mg_tape_counters(world.tape)->flops[MG_PART_GATE];
  *analytic = T * mg_router_gate_flops(router);
  json_decref(json);
  mg_router_destroy(router);
  moe_world_close(&world);
  return flops;
}

static void only_gates_below_kept_nodes_are_evaluated(void **state) {
  (void)state;
  double narrow, wide;
  for (size_t i = 0; i < MG_COUNT(shapes); i++) {
    const double less = counted(shapes[i].spec, shapes[i].experts, 8, &narrow);
    const double more = counted(shapes[i].spec, shapes[i].experts, 16, &wide);
    assert_close(more - less, wide - narrow, 0);
  }
  counted("{'name': 'tree', 'branching': 4, 'k': 2}", 64, 8, &narrow); /* 4 + 8 + 8 gates of 64 */
  assert_close(narrow, T * 2 * 8 * 20, 0);
}

/* The gradient of a sum of the weights, each times its place, for the gates of level 1 [2,D]. */
static void gradient_of(const char *spec, double *weights, int32_t *ids, double *gradient) {
  router_world r;
  double places[T * 2];
  router_world_open(&r, spec, 4, 0.8);
  router_world_route(&r, true, (mg_stream){0});
  moe_read(&r.world, r.out.weights, weights, T * 2);
  moe_read_ids(&r.world, r.out.ids, ids, T * 2);
  for (int i = 0; i < T * 2; i++) places[i] = i + 1;
  mg_var *sum = mg_sum(r.world.tape, mg_mul(r.world.tape, r.out.weights, moe_upload(&r.world, places, T, 2)));
  assert_ok(r.world.context, mg_params_zero_gradients(r.world.params));
  assert_ok(r.world.context, mg_tape_backward(r.world.tape, sum));
  memcpy(gradient, mg_params_at(r.world.params, 0)->gradient.data, 2 * D * sizeof *gradient);
  router_world_close(&r);
}

static void straight_paths_weigh_hard_and_learn_soft(void **state) {
  (void)state;
  double soft[T * 2], hard[T * 2], soft_gradient[2 * D], hard_gradient[2 * D];
  int32_t soft_ids[T * 2], hard_ids[T * 2];
  gradient_of("{'name': 'tree', 'branching': 2}", soft, soft_ids, soft_gradient);
  gradient_of("{'name': 'tree', 'branching': 2, 'paths': 'straight'}", hard, hard_ids, hard_gradient);
  for (int i = 0; i < T * 2; i++) assert_close(hard[i], 0.5, 1e-12);
  assert_memory_equal(soft_ids, hard_ids, sizeof soft_ids);
  for (int i = 0; i < 2 * D; i++) assert_close(hard_gradient[i], soft_gradient[i], 1e-12);
  assert_true(fabs(soft_gradient[0]) > 1e-6);
}

static void levels_are_named_as_groupings(void **state) {
  (void)state;
  router_world r;
  router_world_open(&r, "{'name': 'tree', 'branching': [2, 3, 4]}", 24, 1);
  int64_t groups[8];
  assert_int_equal(mg_router_groupings(r.router, groups, 8), 3);
  assert_int_equal(groups[0], 2);
  assert_int_equal(groups[1], 6);
  assert_int_equal(groups[2], 24);
  router_world_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_shape_and_beam_gives_the_product_of_its_gates),
      cmocka_unit_test(two_levels_with_all_groups_are_the_papers_product),
      cmocka_unit_test(a_beam_over_every_node_gives_a_distribution),
      cmocka_unit_test(only_gates_below_kept_nodes_are_evaluated),
      cmocka_unit_test(straight_paths_weigh_hard_and_learn_soft),
      cmocka_unit_test(levels_are_named_as_groupings),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
