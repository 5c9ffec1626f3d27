/* EPLB gives its published vectors; every policy places every expert; exchanges conserve slots and lower the maximum. */
#include "cluster/placement.h"
#include "support/testing.h"

static mg_context *context;

static int open_context(void **state) {
  (void)state;
  return mg_context_create(NULL, &context) != MG_OK;
}

static int close_context(void **state) {
  (void)state;
  const bool clean = mg_context_bytes(context) == 0;
  mg_context_destroy(context);
  return clean ? 0 : -1;
}

static const double load0[] = {90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86};
static const double load1[] = {20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27};

/* The README's example: 12 experts in 4 groups, 16 slots on 8 ranks of 2 nodes. */
static mg_place_request example(const double *load, int64_t groups, int64_t nodes) {
  return (mg_place_request){.load = load, .experts = 12, .slots = 16, .ranks = 8, .nodes = nodes, .groups = groups};
}

static void expect_slots(const mg_place_request *request, const int32_t expected[16], double max_over_mean) {
  int32_t expert[16];
  double rank_load[8], most = 0, sum = 0;
  assert_ok(context, mg_place(context, mg_place_eplb, NULL, request, expert));
  for (int s = 0; s < 16; s++) assert_int_equal(expert[s], expected[s]);
  assert_ok(context, mg_place_rank_loads(context, request, expert, rank_load));
  for (int d = 0; d < 8; d++) {
    most = fmax(most, rank_load[d]);
    sum += rank_load[d];
  }
  assert_near(most / (sum / 8), max_over_mean, 5e-5);
}

static void eplb_gives_the_published_hierarchical_vectors(void **state) {
  (void)state;
  const mg_place_request first = example(load0, 4, 2), second = example(load1, 4, 2);
  expect_slots(&first, (const int32_t[]){5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1}, 1.2081);
  expect_slots(&second, (const int32_t[]){7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1}, 1.2422);
}

static void eplb_gives_the_global_vectors(void **state) {
  (void)state;
  const mg_place_request first = example(load0, 1, 1), second = example(load1, 1, 1);
  expect_slots(&first, (const int32_t[]){10, 6, 10, 7, 0, 2, 11, 4, 5, 9, 5, 4, 8, 3, 1, 1}, 1.0726);
  expect_slots(&second, (const int32_t[]){1, 10, 2, 4, 5, 11, 5, 0, 6, 7, 6, 3, 8, 8, 9, 7}, 1.1903);
}

static void eplb_is_global_where_groups_do_not_divide_over_nodes(void **state) {
  (void)state;
  const mg_place_request odd = example(load0, 3, 2);
  expect_slots(&odd, (const int32_t[]){10, 6, 10, 7, 0, 2, 11, 4, 5, 9, 5, 4, 8, 3, 1, 1}, 1.0726);
}

static void eplb_gives_the_published_rank_loads(void **state) {
  (void)state;
  static const double expected[] = {121.5, 86.5, 125, 113, 147.5, 131.5, 156, 152};
  const mg_place_request request = example(load0, 4, 2);
  int32_t expert[16];
  double rank_load[8];
  assert_ok(context, mg_place(context, mg_place_eplb, NULL, &request, expert));
  assert_ok(context, mg_place_rank_loads(context, &request, expert, rank_load));
  for (int d = 0; d < 8; d++) assert_near(rank_load[d], expected[d], 1e-9);
}

static void distinct_leaves_no_copy_beside_another(void **state) {
  (void)state;
  const mg_place_request request = example(load1, 1, 1);
  int32_t expert[16];
  assert_ok(context, mg_place(context, mg_place_eplb_distinct, NULL, &request, expert));
  for (int d = 0; d < 8; d++) assert_int_not_equal(expert[2 * d], expert[2 * d + 1]);
}

static void every_policy_places_every_expert(void **state) {
  (void)state;
  for (const mg_place_policy *policy = mg_place_policies; policy->name; policy++)
    for (int64_t nodes = 1; nodes <= 4; nodes *= 2) {
      mg_place_request request = example(load0, 4, nodes);
      int32_t expert[16];
      request.seed = 3;
      assert_ok(context, mg_place(context, policy->place, NULL, &request, expert));
    }
}

static void simple_policies_by_hand(void **state) {
  (void)state;
  static const double load[] = {4, 3, 2, 1};
  const mg_place_request request = {.load = load, .experts = 4, .slots = 4, .ranks = 2, .nodes = 1, .groups = 1};
  int32_t expert[4];
  assert_ok(context, mg_place(context, mg_place_contiguous, NULL, &request, expert));
  assert_memory_equal(expert, ((const int32_t[]){0, 1, 2, 3}), sizeof expert);
  assert_ok(context, mg_place(context, mg_place_round_robin, NULL, &request, expert));
  assert_memory_equal(expert, ((const int32_t[]){0, 2, 1, 3}), sizeof expert);
  assert_ok(context, mg_place(context, mg_place_greedy, NULL, &request, expert));
  assert_memory_equal(expert, ((const int32_t[]){0, 3, 1, 2}), sizeof expert);
}

static mg_status lose_an_expert(mg_context *c, void *user, const mg_place_request *request, int32_t *expert) {
  (void)c;
  for (int64_t s = 0; s < request->slots; s++) expert[s] = (int32_t)(s % (request->experts - 1));
  if (user) expert[0] = 99;
  return MG_OK;
}

static void wrong_requests_and_results_are_refused(void **state) {
  (void)state;
  int32_t expert[16];
  mg_place_request r = example(load0, 4, 2);
  assert_refused(context, MG_USAGE, "no slot for expert 11", mg_place(context, lose_an_expert, NULL, &r, expert));
  assert_refused(context, MG_USAGE, "slot 0 holds 99", mg_place(context, lose_an_expert, &r, &r, expert));
  r.slots = 12;
  assert_refused(context, MG_USAGE, "do not divide over 8 ranks", mg_place(context, mg_place_eplb, NULL, &r, expert));
  r.slots = 8;
  assert_refused(context, MG_USAGE, "too few for 12", mg_place(context, mg_place_eplb, NULL, &r, expert));
  r = example(load0, 5, 2);
  assert_refused(context, MG_USAGE, "into 5 groups", mg_place(context, mg_place_eplb, NULL, &r, expert));
  r = example(load0, 4, 3);
  assert_refused(context, MG_USAGE, "over 3 nodes", mg_place(context, mg_place_eplb, NULL, &r, expert));
  mg_place_function place;
  assert_refused(context, MG_USAGE, "did you mean 'eplb'", mg_place_find(context, "epl", &place));
}

static double heaviest(const mg_place_request *request, const int32_t *expert) {
  double rank_load[8], most = 0;
  assert_ok(context, mg_place_rank_loads(context, request, expert, rank_load));
  for (int d = 0; d < 8; d++) most = fmax(most, rank_load[d]);
  return most;
}

static void replanning_lowers_the_maximum_within_its_budget(void **state) {
  (void)state;
  const mg_place_request old = example(load0, 1, 1), new = example(load1, 1, 1);
  int32_t expert[16], before[16];
  assert_ok(context, mg_place(context, mg_place_eplb, NULL, &old, before));
  double last = heaviest(&new, before);
  for (int64_t budget = 2; budget <= 8; budget += 2) {
    int64_t moved, received[8], counted;
    memcpy(expert, before, sizeof expert);
    assert_ok(context, mg_replan(context, &new, budget, expert, &moved));
    assert_true(moved <= budget);
    assert_ok(context, mg_placement_moves(context, &new, before, expert, received, &counted));
    assert_true(counted <= moved);
    assert_true(heaviest(&new, expert) <= last);
    last = heaviest(&new, expert);
  }
  assert_true(last < heaviest(&new, before));
}

static void moves_count_what_each_rank_lacks(void **state) {
  (void)state;
  static const double load[] = {1, 1, 1, 1};
  const mg_place_request request = {.load = load, .experts = 4, .slots = 4, .ranks = 2, .nodes = 1, .groups = 1};
  const int32_t from[] = {0, 1, 2, 3};
  int32_t to[] = {1, 2, 3, 0};
  int64_t received[2], moves;
  assert_ok(context, mg_placement_moves(context, &request, from, to, received, &moves));
  assert_memory_equal(to, ((const int32_t[]){2, 1, 0, 3}), sizeof to);
  assert_int_equal(received[0], 1);
  assert_int_equal(received[1], 1);
  assert_int_equal(moves, 2);
}

/* A copy beside another is made on the rank itself: one expert comes to each rank, however many slots it fills. */
static void moves_do_not_count_copies_of_what_is_there(void **state) {
  (void)state;
  static const double load[] = {1, 1, 1};
  const mg_place_request request = {.load = load, .experts = 3, .slots = 6, .ranks = 2, .nodes = 1, .groups = 1};
  const int32_t from[] = {0, 1, 2, 2, 2, 1};
  int32_t to[] = {0, 0, 1, 0, 0, 2};
  int64_t received[2], moves;
  assert_ok(context, mg_placement_moves(context, &request, from, to, received, &moves));
  assert_int_equal(received[0], 0);
  assert_int_equal(received[1], 1);
  assert_int_equal(moves, 1);
}

/* The published procedure where it has little to say: no load, all of it on one expert, no spare slot, more ranks than
 * experts. */
static void eplb_places_degenerate_loads(void **state) {
  (void)state;
  static const double none[12] = {0}, one[12] = {0, 0, 0, 0, 0, 7};
  int32_t expert[24];
  double rank_load[24];
  mg_place_request r = example(none, 1, 1);
  assert_ok(context, mg_place(context, mg_place_eplb, NULL, &r, expert));
  r.load = one;
  assert_ok(context, mg_place(context, mg_place_eplb, NULL, &r, expert));
  assert_ok(context, mg_place_rank_loads(context, &r, expert, rank_load));
  for (int d = 0; d < 5; d++) assert_near(rank_load[d], 7.0 / 5, 1e-12); /* its five copies lie on five ranks */
  for (int d = 5; d < 8; d++) assert_near(rank_load[d], 0, 0);
  r.slots = 12;
  r.ranks = 4;
  assert_ok(context, mg_place(context, mg_place_eplb, NULL, &r, expert));
  assert_ok(context, mg_place_rank_loads(context, &r, expert, rank_load));
  assert_near(rank_load[0], 7, 0);
  r.slots = r.ranks = 24;
  r.load = load0;
  for (const mg_place_policy *policy = mg_place_policies; policy->name; policy++)
    assert_ok(context, mg_place(context, policy->place, NULL, &r, expert));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(eplb_gives_the_published_hierarchical_vectors),
                                     cmocka_unit_test(eplb_gives_the_global_vectors),
                                     cmocka_unit_test(eplb_is_global_where_groups_do_not_divide_over_nodes),
                                     cmocka_unit_test(eplb_gives_the_published_rank_loads),
                                     cmocka_unit_test(distinct_leaves_no_copy_beside_another),
                                     cmocka_unit_test(every_policy_places_every_expert),
                                     cmocka_unit_test(simple_policies_by_hand),
                                     cmocka_unit_test(wrong_requests_and_results_are_refused),
                                     cmocka_unit_test(replanning_lowers_the_maximum_within_its_budget),
                                     cmocka_unit_test(moves_count_what_each_rank_lacks),
                                     cmocka_unit_test(moves_do_not_count_copies_of_what_is_there),
                                     cmocka_unit_test(eplb_places_degenerate_loads)};
  return cmocka_run_group_tests(tests, open_context, close_context);
}
