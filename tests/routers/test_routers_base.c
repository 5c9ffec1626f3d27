/* base: the auction balances exactly and comes close to the best assignment; evaluation is greedy. */
#include "support/router_world.h"

#include <math.h>

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, MANY = 200 };

/* The sum of scores of the best assignment of tokens t and later to 3 experts with `room` places each. */
static double best_from(const double *h, int t, int *room) {
  double best = -INFINITY;
  if (t == T) return 0;
  for (int e = 0; e < 3; e++) {
    if (!room[e]) continue;
    room[e]--;
    best = fmax(best, h[t * 3 + e] + best_from(h, t + 1, room));
    room[e]++;
  }
  return best;
}

static void the_auction_is_as_good_as_its_bids_promise(void **state) {
  (void)state;
  for (int scale = 1; scale <= 100; scale *= 10) {
    router_world r;
    router_world_open(&r, "{'name': 'base'}", 3, 0.1 * scale);
    double h[T * 3], w[T], got = 0, least = INFINITY, most = -INFINITY;
    int32_t ids[T];
    int room[3] = {3, 3, 3}, load[3] = {0};
    router_world_route(&r, true, (mg_stream){0});
    moe_read(&r.world, r.out.logits, h, T * 3);
    moe_read(&r.world, r.out.weights, w, T);
    moe_read_ids(&r.world, r.out.ids, ids, T);
    for (int i = 0; i < T * 3; i++) {
      least = fmin(least, h[i]);
      most = fmax(most, h[i]);
    }
    for (int t = 0; t < T; t++) {
      load[ids[t]]++;
      got += h[t * 3 + ids[t]];
      assert_close(w[t], 1 / (1 + exp(-h[t * 3 + ids[t]])), 1e-12);
    }
    for (int e = 0; e < 3; e++) assert_int_equal(load[e], 3);
    assert_true(got >= best_from(h, 0, room) - T * fmax(1e-4, (most - least) / 50) - 1e-5);
    router_world_close(&r);
  }
}

static void evaluation_takes_the_best_expert(void **state) {
  (void)state;
  router_world r;
  router_world_open(&r, "{'name': 'base'}", 5, 1);
  double h[T * 5], w[T];
  int32_t ids[T];
  router_world_route(&r, false, (mg_stream){0});
  moe_read(&r.world, r.out.logits, h, T * 5);
  moe_read(&r.world, r.out.weights, w, T);
  moe_read_ids(&r.world, r.out.ids, ids, T);
  for (int t = 0; t < T; t++) {
    for (int e = 0; e < 5; e++) assert_true(h[t * 5 + e] <= h[t * 5 + ids[t]]);
    assert_close(w[t], 1 / (1 + exp(-h[t * 5 + ids[t]])), 1e-12);
  }
  router_world_close(&r);
}

/* Routes MANY tokens, and checks that no expert has more than its share, rounded up. */
static void check_share(const double *x, const double *gate, int64_t experts, int64_t tokens) {
  router_world r;
  router_world_open(&r, "{'name': 'base'}", experts, 1);
  if (gate) moe_set_param(&r.world, "r.gate", gate, experts * D);
  int32_t ids[MANY];
  int64_t load[ROUTER_EXPERTS_MAX] = {0};
  const mg_route_input input = {
      .x = moe_upload(&r.world, x, tokens, D), .tokens = tokens, .sequence_tokens = tokens, .training = true};
  assert_ok(r.world.context, mg_router_route(r.router, r.world.tape, &input, &r.out));
  moe_read_ids(&r.world, r.out.ids, ids, tokens);
  for (int64_t t = 0; t < tokens; t++) load[ids[t]]++;
  for (int64_t e = 0; e < experts; e++) assert_true(load[e] <= (tokens + experts - 1) / experts);
  router_world_close(&r);
}

static void no_expert_gets_more_than_its_share(void **state) {
  (void)state;
  static const int64_t experts[] = {1, 2, 7, 16, 25}, tokens[] = {1, 3, 16, 200};
  double x[MANY * D], zero[MANY * D] = {0}, nan[MANY * D], same[MANY * D], gate[25 * D] = {0};
  moe_normal(3, x, MANY * D);
  for (int i = 0; i < MANY * D; i++) nan[i] = (double)NAN;
  for (int i = 0; i < MANY * D; i++) same[i] = x[i % D];
  for (int d = 0; d < D; d++) gate[d] = 20 * x[d]; /* all tokens want expert 0 by far */
  for (size_t i = 0; i < MG_COUNT(experts); i++)
    for (size_t j = 0; j < MG_COUNT(tokens); j++) {
      check_share(x, NULL, experts[i], tokens[j]);
      check_share(zero, NULL, experts[i], tokens[j]);
      check_share(nan, NULL, experts[i], tokens[j]);
      check_share(same, gate, experts[i], tokens[j]);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_auction_is_as_good_as_its_bids_promise),
      cmocka_unit_test(evaluation_takes_the_best_expert),
      cmocka_unit_test(no_expert_gets_more_than_its_share),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
