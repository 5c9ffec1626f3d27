/* hash: the expert is a fixed function of the key of its kind, and of nothing else. */
#include "support/router_world.h"

#include <math.h>

enum { T = ROUTER_TOKENS, D = ROUTER_WIDTH, L = 3, V = ROUTER_VOCABULARY };

static void run(router_world *r, int32_t *ids, int64_t count) {
  r->sequence_tokens = L;
  router_world_route(r, true, (mg_stream){1, 1});
  moe_read_ids(&r->world, r->out.ids, ids, count);
}

/* The keys written out: sequences of 3 tokens, ids x0 .. x8. */
static void each_kind_hashes_its_key(void **state) {
  (void)state;
  enum { E = 8 };
  static const char *const specs[] = {"{'name': 'hash'}", "{'name': 'hash', 'kind': 'position'}",
                                      "{'name': 'hash', 'kind': 'previous'}", "{'name': 'hash', 'kind': 'bigram'}",
                                      "{'name': 'hash', 'kind': 'future'}"};
  const mg_stream stream = mg_stream_named(1, "hash", 0, 0);
  for (size_t kind = 0; kind < MG_COUNT(specs); kind++) {
    router_world r;
    int32_t ids[T];
    double weights[T];
    router_world_open(&r, specs[kind], E, 1);
    run(&r, ids, T);
    moe_read(&r.world, r.out.weights, weights, T);
    for (int t = 0; t < T; t++) {
      const int64_t own = r.token_ids[t], before = t % L ? r.token_ids[t - 1] : V,
                    after = t % L < L - 1 ? r.token_ids[t + 1] : V;
      const int64_t keys[] = {own, t % L, before, before * (V + 1) + own, after};
      assert_int_equal(ids[t], mg_random_below(stream, (uint64_t)keys[kind], E));
      assert_close(weights[t], 1, 0);
    }
    router_world_close(&r);
  }
}

static void a_token_id_always_has_its_expert(void **state) {
  (void)state;
  router_world r;
  int32_t ids[T];
  router_world_open(&r, "{'name': 'hash', 'seed': 5}", 32, 1);
  for (int t = 0; t < T; t++) r.token_ids[t] = t % 2 ? 7 : 30;
  run(&r, ids, T);
  for (int t = 2; t < T; t++) assert_int_equal(ids[t], ids[t - 2]);
  assert_int_not_equal(ids[0], ids[1]);
  router_world_close(&r);
}

/* Ids 0 .. 6399 over 16 experts: 400 each, deviation 19.4; layers and seeds disagree on all but about one in 16. */
static void ids_spread_evenly_and_differently_in_each_layer(void **state) {
  (void)state;
  const mg_stream one = mg_stream_named(1, "hash", 0, 0), two = mg_stream_named(1, "hash", 1, 0);
  int64_t load[16] = {0}, same = 0;
  for (uint64_t id = 0; id < 6400; id++) {
    load[mg_random_below(one, id, 16)]++;
    same += mg_random_below(one, id, 16) == mg_random_below(two, id, 16);
  }
  for (int e = 0; e < 16; e++) assert_in_range(load[e], 322, 478);
  assert_in_range(same, 322, 478);
}

static void several_hashes_choose_from_their_own_experts(void **state) {
  (void)state;
  enum { E = 12, K = 3 };
  router_world r;
  int32_t ids[T * K];
  double weights[T * K];
  for (int renormalise = 0; renormalise < 2; renormalise++) {
    router_world_open(&r, renormalise ? "{'name': 'hash', 'k': 3, 'renormalise': true}" : "{'name': 'hash', 'k': 3}", E,
                      1);
    run(&r, ids, T * K);
    moe_read(&r.world, r.out.weights, weights, T * K);
    for (int i = 0; i < T * K; i++) {
      const mg_stream stream = mg_stream_named(1, "hash", 0, (uint64_t)i % K);
      assert_int_equal(ids[i], i % K * 4 + (int)mg_random_below(stream, (uint64_t)r.token_ids[i / K], 4));
      assert_close(weights[i], renormalise ? 1.0 / K : 1, 1e-15);
    }
    router_world_close(&r);
  }
}

/* 2 experts, counts 9 5 4 3 3 and zeros; with one added to each: id 0 to 0 (10), 1 and 2 to 1 (11), 3 to 0 (14), 4 to 1
 * (15), 5 to 0 (15), then the lighter of the two in turn, expert 0 when they are equal. */
static void the_balanced_table_gives_frequent_ids_to_the_emptiest_expert(void **state) {
  (void)state;
  static const int32_t experts[T] = {0, 1, 1, 0, 1, 0, 0, 1, 0};
  router_world r;
  int32_t ids[T];
  int64_t counts[V] = {9, 5, 4, 3, 3};
  const double empty[V] = {0};
  router_world_open(&r, "{'name': 'hash', 'kind': 'balanced'}", 2, 1);
  moe_set_param(&r.world, "r.table", empty, V);
  for (int t = 0; t < T; t++) r.token_ids[t] = t;
  run(&r, ids, T);
  for (int t = 0; t < T; t++) assert_int_equal(ids[t], -1);
  assert_true(mg_router_wants_text(r.router));
  assert_ok(r.world.context, mg_router_prepare(r.router, r.world.tape, &(mg_router_text){.counts = counts}));
  run(&r, ids, T);
  assert_memory_equal(ids, experts, sizeof ids);
  counts[0] = 0; /* other data does not change a table that is there */
  assert_ok(r.world.context, mg_router_prepare(r.router, r.world.tape, &(mg_router_text){.counts = counts}));
  run(&r, ids, T);
  assert_memory_equal(ids, experts, sizeof ids);
  router_world_close(&r);
}

/* max/mean - 1 over the tokens that `counts` stand for. */
static double violation_of(const char *spec, const int64_t *counts) {
  enum { E = 4 };
  router_world r;
  double load[E] = {0}, most = 0, all = 0;
  const double empty[V] = {0};
  router_world_open(&r, spec, E, 1);
  if (mg_router_has_param(r.router, "table")) moe_set_param(&r.world, "r.table", empty, V);
  assert_ok(r.world.context, mg_router_prepare(r.router, r.world.tape, &(mg_router_text){.counts = counts}));
  for (int first = 0; first < V; first += T) {
    int32_t ids[T];
    for (int t = 0; t < T; t++) r.token_ids[t] = (first + t) % V;
    run(&r, ids, T);
    for (int t = 0; t < T && first + t < V; t++) load[ids[t]] += (double)counts[first + t];
  }
  for (int e = 0; e < E; e++) {
    most = load[e] > most ? load[e] : most;
    all += load[e];
  }
  router_world_close(&r);
  return most * E / all - 1;
}

static void balanced_loads_are_more_even_than_random_ones(void **state) {
  (void)state;
  int64_t zipf[V];
  for (int id = 0; id < V; id++) zipf[id] = 10000 / (id + 4);
  const double balanced = violation_of("{'name': 'hash', 'kind': 'balanced'}", zipf);
  assert_true(balanced < 0.02);
  assert_true(violation_of("{'name': 'hash'}", zipf) > 5 * balanced);
}

/* A text in which the first 25 ids stand among themselves and the others too, so that there are two clusters. */
static void expert_of_every_id(const char *spec, double *experts) {
  enum { E = 2, LENGTH = 20000 };
  static int32_t text[LENGTH];
  const mg_stream stream = mg_stream_named(3, "words", 0, 0);
  const double empty[V] = {0};
  router_world r;
  for (int64_t i = 0; i < LENGTH; i++) {
    const bool later = i / 50 % 2; /* documents of 49 ids */
    const int32_t id = (int32_t)mg_random_below(stream, (uint64_t)i, V / 2);
    text[i] = i % 50 == 49 ? -1 : (later ? V / 2 : 0) + (i % 7 ? id : 0);
  }
  router_world_open(&r, spec, E, 1);
  moe_set_param(&r.world, "r.table", empty, V);
  assert_true(mg_router_wants_text(r.router));
  assert_ok(r.world.context,
            mg_router_prepare(r.router, r.world.tape, &(mg_router_text){.ids = text, .length = LENGTH}));
  router_world_param(&r, "table", experts, V);
  router_world_close(&r);
}

static void ids_that_stand_together_share_an_expert_when_clustered(void **state) {
  (void)state;
  double experts[V];
  expert_of_every_id("{'name': 'hash', 'kind': 'clustered'}", experts);
  for (int id = 0; id < V; id++) assert_close(experts[id], experts[id < V / 2 ? 0 : V / 2], 0);
  assert_true(experts[0] + experts[V / 2] == 3); /* numbers from 1: one and the other */
}

static void ids_that_stand_together_are_dealt_out_when_dispersed(void **state) {
  (void)state;
  double experts[V], first[3] = {0}, second[3] = {0};
  expert_of_every_id("{'name': 'hash', 'kind': 'dispersed'}", experts);
  for (int id = 0; id < V; id++) (id < V / 2 ? first : second)[(int)experts[id]]++;
  assert_true(first[1] + first[2] == V / 2 && fabs(first[1] - first[2]) == 1);
  assert_true(second[1] + second[2] == V / 2 && fabs(second[1] - second[2]) == 1);
}

/* Ids that the text lacks, and all ids of an empty text, are dealt out in turn. */
static void unseen_ids_are_spread(void **state) {
  (void)state;
  router_world r;
  double experts[V], load[5] = {0};
  const double empty[V] = {0};
  router_world_open(&r, "{'name': 'hash', 'kind': 'clustered'}", 4, 1);
  moe_set_param(&r.world, "r.table", empty, V);
  assert_ok(r.world.context, mg_router_prepare(r.router, r.world.tape, &(mg_router_text){0}));
  router_world_param(&r, "table", experts, V);
  for (int id = 0; id < V; id++) load[(int)experts[id]]++;
  for (int e = 1; e <= 4; e++) assert_in_range(load[e], V / 4, V / 4 + 1);
  router_world_close(&r);
}

static void only_the_oracle_does_not_promise_causality(void **state) {
  (void)state;
  static const struct {
    const char *spec;
    bool causal;
  } kinds[] = {{"{'name': 'hash'}", true},
               {"{'name': 'hash', 'kind': 'position'}", true},
               {"{'name': 'hash', 'kind': 'clustered'}", true},
               {"{'name': 'hash', 'kind': 'previous'}", true},
               {"{'name': 'hash', 'kind': 'bigram'}", true},
               {"{'name': 'hash', 'kind': 'future'}", false}};
  for (size_t i = 0; i < MG_COUNT(kinds); i++) {
    router_world r;
    router_world_open(&r, kinds[i].spec, 8, 1);
    assert_int_equal((mg_router_promises(r.router) & MG_ROUTER_CAUSAL) != 0, kinds[i].causal);
    router_world_close(&r);
  }
}

static void options_that_do_not_fit_are_refused(void **state) {
  (void)state;
  assert_router_refused("{'name': 'hash', 'k': 9}", 8, "k = 9");
  assert_router_refused("{'name': 'hash', 'k': 3}", 8, "multiple of k = 3");
  assert_router_refused("{'name': 'hash', 'kind': 'next'}", 8, "kind");
  assert_router_refused("{'name': 'hash', 'kind': 'balanced', 'k': 2}", 8, "k must be 1");
  assert_router_refused("{'name': 'hash', 'kind': 'clustered', 'k': 2}", 8, "kind 'clustered' has one table");
  moe_world world;
  moe_world_open(&world, MG_F32);
  json_t *spec = moe_json("{'name': 'hash'}");
  const mg_router_place place = {.width = 4, .experts = 8};
  assert_refused(world.context, MG_USAGE, "needs token ids",
                 mg_router_check_spec(world.context, world.registry, spec, place));
  json_decref(spec);
  moe_world_close(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_kind_hashes_its_key),
      cmocka_unit_test(a_token_id_always_has_its_expert),
      cmocka_unit_test(ids_spread_evenly_and_differently_in_each_layer),
      cmocka_unit_test(several_hashes_choose_from_their_own_experts),
      cmocka_unit_test(the_balanced_table_gives_frequent_ids_to_the_emptiest_expert),
      cmocka_unit_test(balanced_loads_are_more_even_than_random_ones),
      cmocka_unit_test(ids_that_stand_together_share_an_expert_when_clustered),
      cmocka_unit_test(ids_that_stand_together_are_dealt_out_when_dispersed),
      cmocka_unit_test(unseen_ids_are_spread),
      cmocka_unit_test(only_the_oracle_does_not_promise_causality),
      cmocka_unit_test(options_that_do_not_fit_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
