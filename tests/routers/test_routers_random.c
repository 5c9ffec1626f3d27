/* random: distinct uniform experts from the noise stream, one draw per token, sequence or batch. */
#include "support/router_world.h"

enum { T = ROUTER_TOKENS, E = 5, K = 2 };

static void run(router_world *r, uint64_t step, int32_t *ids) {
  router_world_route(r, true, (mg_stream){9, step});
  moe_read_ids(&r->world, r->out.ids, ids, T * K);
}

/* The k largest of E uniform numbers, drawn one after the other. */
static void check_draw(mg_stream stream, int draw, const int32_t *ids) {
  double u[E];
  for (int e = 0; e < E; e++) u[e] = mg_random_uniform(stream, (uint64_t)(draw * E + e));
  for (int s = 0; s < K; s++) {
    int best = 0;
    for (int e = 1; e < E; e++) best = u[e] > u[best] ? e : best;
    assert_int_equal(ids[s], best);
    u[best] = -1;
  }
}

static void tokens_of_a_scope_share_the_largest_draws(void **state) {
  (void)state;
  static const struct {
    const char *spec;
    int each;
  } scopes[] = {{"{'name': 'random'}", 1},
                {"{'name': 'random', 'scope': 'sequence'}", 3},
                {"{'name': 'random', 'scope': 'batch'}", T}};
  for (size_t i = 0; i < MG_COUNT(scopes); i++) {
    router_world r;
    int32_t ids[T * K];
    double weights[T * K];
    router_world_open(&r, scopes[i].spec, E, 1);
    r.sequence_tokens = 3;
    run(&r, 4, ids);
    moe_read(&r.world, r.out.weights, weights, T * K);
    for (int t = 0; t < T; t++) check_draw((mg_stream){9, 4}, t / scopes[i].each, ids + t * K);
    for (int j = 0; j < T * K; j++) assert_close(weights[j], 0.5, 0);
    router_world_close(&r);
  }
}

/* 400 steps of 18 choices over 5 experts: 1440 each, deviation of the count of one expert below 33. */
static void all_experts_are_drawn_equally_often(void **state) {
  (void)state;
  router_world r;
  int32_t ids[T * K];
  int64_t load[E] = {0}, apart = 0;
  router_world_open(&r, "{'name': 'random'}", E, 1);
  for (uint64_t step = 0; step < 400; step++) {
    run(&r, step, ids);
    for (int i = 0; i < T * K; i++) load[ids[i]]++;
    for (int t = 0; t < T; t++) apart += ids[t * K] != ids[t * K + 1];
    mg_tape_reset(r.world.tape);
  }
  for (int e = 0; e < E; e++) assert_in_range(load[e], 1440 - 160, 1440 + 160);
  assert_int_equal(apart, 400 * T);
  router_world_close(&r);
}

static void options_that_do_not_fit_are_refused(void **state) {
  (void)state;
  assert_router_refused("{'name': 'random', 'k': 9}", 8, "k = 9");
  assert_router_refused("{'name': 'random', 'scope': 'epoch'}", 8, "scope");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tokens_of_a_scope_share_the_largest_draws),
      cmocka_unit_test(all_experts_are_drawn_equally_often),
      cmocka_unit_test(options_that_do_not_fit_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
