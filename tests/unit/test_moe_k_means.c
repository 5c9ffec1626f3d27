/* Balanced clusters: equal sizes on every level, the planted ones and the best ones found, the same for the same seed. */
#include "support/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "moe/k_means.h"
#include "moegauge/rng.h"

static mg_context *context;

static int open_context(void **state) {
  (void)state;
  return mg_context_create(NULL, &context) == MG_OK ? 0 : 1;
}

static int close_context(void **state) {
  (void)state;
  const size_t left = mg_context_bytes(context);
  mg_context_destroy(context);
  return left != 0;
}

/* Row i lies near centre i % groups, whose coordinates are 0 or `apart`. */
static float *planted(int64_t count, int64_t width, int64_t groups, float apart) {
  const mg_stream noise = mg_stream_named(5, "noise", 0, 0);
  float *rows = malloc((size_t)(count * width) * sizeof *rows);
  assert_non_null(rows);
  for (int64_t i = 0; i < count * width; i++) {
    const bool far = ((i / width) % groups) >> (i % width % 4) & 1;
    rows[i] = (far ? apart : 0.0f) + 0.1f * (float)mg_random_normal(noise, (uint64_t)i);
  }
  return rows;
}

static void assert_permutation(const int32_t *order, int64_t count) {
  bool *seen = calloc((size_t)count, sizeof *seen);
  assert_non_null(seen);
  for (int64_t i = 0; i < count; i++) {
    assert_in_range(order[i], 0, count - 1);
    assert_false(seen[order[i]]);
    seen[order[i]] = true;
  }
  free(seen);
}

static void planted_clusters_are_found(void **state) {
  (void)state;
  const int64_t branching[] = {8, 4};
  int32_t order[32];
  float *rows = planted(32, 6, 8, 3.0f);
  assert_ok(context, mg_k_means_tree(context, rows, 32, 6, branching, 2, 1, order));
  assert_permutation(order, 32);
  for (int64_t i = 0; i < 32; i++) assert_int_equal(order[i] % 8, order[i / 4 * 4] % 8);
  free(rows);
}

/* Two groups of four out of four centres: on the first level the nearer centres share a group. */
static void every_level_is_divided_within_the_one_above(void **state) {
  (void)state;
  static const float centre[] = {0, 1, 100, 101};
  const int64_t branching[] = {2, 2, 2};
  float rows[8];
  int32_t order[8];
  for (int64_t i = 0; i < 8; i++) rows[i] = centre[i % 4] + 0.01f * (float)i;
  assert_ok(context, mg_k_means_tree(context, rows, 8, 1, branching, 3, 3, order));
  assert_permutation(order, 8);
  for (int64_t i = 0; i < 8; i++) {
    assert_int_equal(order[i] % 4 / 2, order[i / 4 * 4] % 4 / 2);
    assert_int_equal(order[i] % 4, order[i / 2 * 2] % 4);
  }
}

/* Squared distances of the rows from the mean of theirs, where bit i of `side` says which of two groups row i is in. */
static double cost_of(const float *rows, int64_t count, int64_t width, unsigned side) {
  double cost = 0;
  for (unsigned g = 0; g < 2; g++)
    for (int64_t c = 0; c < width; c++) {
      double sum = 0, squares = 0;
      for (int64_t i = 0; i < count; i++) {
        if ((side >> i & 1u) != g) continue;
        sum += (double)rows[i * width + c];
        squares += (double)rows[i * width + c] * (double)rows[i * width + c];
      }
      cost += squares - sum * sum / ((double)count / 2);
    }
  return cost;
}

/* On rows without structure the division is within 5 % of the best of all that are equal in size. */
static void a_division_is_near_the_best(void **state) {
  (void)state;
  const int64_t branching[] = {2, 5};
  for (uint64_t trial = 0; trial < 20; trial++) {
    float rows[10 * 3];
    int32_t order[10];
    unsigned side = 0;
    double best = 1e30;
    for (uint64_t i = 0; i < 30; i++) rows[i] = (float)mg_random_normal(mg_stream_named(trial, "rows", 0, 0), i);
    assert_ok(context, mg_k_means_tree(context, rows, 10, 3, branching, 1, 1, order));
    for (int64_t i = 0; i < 5; i++) side |= 1u << order[i];
    for (unsigned other = 0; other < 1u << 10; other++)
      if (__builtin_popcount(other) == 5 && cost_of(rows, 10, 3, other) < best) best = cost_of(rows, 10, 3, other);
    assert_true(cost_of(rows, 10, 3, side) <= 1.05 * best);
  }
}

static void the_seed_decides_and_nothing_else(void **state) {
  (void)state;
  const int64_t branching[] = {4, 16};
  int32_t first[64], again[64];
  float *rows = planted(64, 8, 16, 0.2f);
  assert_ok(context, mg_k_means_tree(context, rows, 64, 8, branching, 2, 7, first));
  assert_ok(context, mg_k_means_tree(context, rows, 64, 8, branching, 2, 7, again));
  assert_memory_equal(first, again, sizeof first);
  assert_permutation(first, 64);
  free(rows);
}

static void equal_rows_are_divided_too(void **state) {
  (void)state;
  const int64_t branching[] = {3, 2};
  const float rows[6] = {1, 1, 1, 1, 1, 1};
  int32_t order[6];
  assert_ok(context, mg_k_means_tree(context, rows, 6, 1, branching, 2, 1, order));
  assert_permutation(order, 6);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(planted_clusters_are_found), cmocka_unit_test(every_level_is_divided_within_the_one_above),
      cmocka_unit_test(a_division_is_near_the_best), cmocka_unit_test(the_seed_decides_and_nothing_else),
      cmocka_unit_test(equal_rows_are_divided_too)};
  return cmocka_run_group_tests(tests, open_context, close_context);
}
