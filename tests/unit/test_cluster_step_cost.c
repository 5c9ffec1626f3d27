/* Step costs: interpolation by hand, an axis that does not matter, refusal outside the grid, bad tables. */
#include "support/serving.h"

#include "cluster/step_cost.h"

static mg_step_cost *cost_of(mg_context *context, const char *text) {
  json_t *json = mg_serving_spec("%s", text);
  mg_step_cost *cost;
  assert_ok(context, mg_step_cost_from_json(context, "step", json, &cost));
  json_decref(json);
  return cost;
}

static double seconds_at(mg_context *context, const mg_step_cost *cost, double tokens, double mean_context) {
  double seconds;
  assert_ok(context, mg_step_cost_seconds(cost, tokens, mean_context, &seconds));
  return seconds;
}

static const char grid[] = "{'tokens': [1, 11, 31], 'context': [0, 100], 'seconds': [[1, 3], [2, 6], [10, 10]]}";

static void points_of_the_grid_are_given_back(void **state) {
  mg_step_cost *cost = cost_of(*state, grid);
  const double tokens[] = {1, 11, 31}, contexts[] = {0, 100}, seconds[] = {1, 3, 2, 6, 10, 10};
  for (int t = 0; t < 3; t++)
    for (int c = 0; c < 2; c++)
      assert_near(seconds_at(*state, cost, tokens[t], contexts[c]), seconds[2 * t + c], 1e-15);
  mg_step_cost_destroy(cost);
}

/* Half-way along both axes of the first cell: the mean of 1, 3, 2, 6. A quarter of tokens, all of context: 3 + 3/4. */
static void between_them_it_is_bilinear(void **state) {
  mg_step_cost *cost = cost_of(*state, grid);
  assert_near(seconds_at(*state, cost, 6, 50), 3, 1e-12);
  assert_near(seconds_at(*state, cost, 3.5, 100), 3.75, 1e-12);
  assert_near(seconds_at(*state, cost, 21, 25), 0.5 * (3 + 10), 1e-12);
  mg_step_cost_destroy(cost);
}

static void an_axis_of_one_value_does_not_matter(void **state) {
  mg_step_cost *cost = cost_of(*state, "{'tokens': [0, 10], 'context': [7], 'seconds': [[0], [5]]}");
  assert_near(seconds_at(*state, cost, 4, 1e9), 2, 1e-12);
  mg_step_cost_destroy(cost);
  cost = cost_of(*state, "{'tokens': [7], 'context': [0, 10], 'seconds': [[1, 2]]}");
  assert_near(seconds_at(*state, cost, 1e9, 5), 1.5, 1e-12);
  mg_step_cost_destroy(cost);
}

static void outside_the_grid_is_refused_with_both_ranges(void **state) {
  mg_step_cost *cost = cost_of(*state, grid);
  double seconds;
  assert_refused(
      *state, MG_USAGE,
      "step: a step of 32 tokens with a mean context of 50 lies outside the table (1 to 31 tokens, context 0 to 100)",
      mg_step_cost_seconds(cost, 32, 50, &seconds));
  assert_refused(*state, MG_USAGE, "outside", mg_step_cost_seconds(cost, 0.5, 50, &seconds));
  assert_refused(*state, MG_USAGE, "outside", mg_step_cost_seconds(cost, 5, 101, &seconds));
  assert_refused(*state, MG_USAGE, "outside", mg_step_cost_seconds(cost, 5, (double)NAN, &seconds));
  mg_step_cost_destroy(cost);
}

static void bad_tables_are_refused(void **state) {
  static const struct {
    const char *text, *words;
  } bad[] = {
      {"{'tokens': [1], 'context': [1], 'second': [[1]]}", "unknown key 'second'"},
      {"{'context': [1], 'seconds': [[1]]}", "step: a table {tokens"},
      {"{'tokens': [], 'context': [1], 'seconds': []}", "step: a table {tokens"},
      {"{'tokens': [2, 1], 'context': [1], 'seconds': [[1], [1]]}",
       "'tokens' must ascend from 0 or more; entry 2 is 1"},
      {"{'tokens': [1, 1], 'context': [1], 'seconds': [[1], [1]]}", "'tokens' must ascend"},
      {"{'tokens': [-1, 1], 'context': [1], 'seconds': [[1], [1]]}", "entry 1 is -1"},
      {"{'tokens': [1, 'x'], 'context': [1], 'seconds': [[1], [1]]}", "entry 2 of 'tokens' is not a number"},
      {"{'tokens': [1], 'context': [1], 'seconds': [[1], [1]]}", "'seconds' must have one list for each of the 1"},
      {"{'tokens': [1], 'context': [1, 2], 'seconds': [[1]]}", "'seconds' must be a list of 2 numbers"},
      {"{'tokens': [1], 'context': [1], 'seconds': [[-1]]}", "'seconds' must be 0 or more; one of them is -1"},
  };
  for (size_t i = 0; i < MG_COUNT(bad); i++) {
    json_t *json = mg_serving_spec("%s", bad[i].text);
    mg_step_cost *cost;
    assert_refused(*state, MG_USAGE, bad[i].words, mg_step_cost_from_json(*state, "step", json, &cost));
    assert_null(cost);
    json_decref(json);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(points_of_the_grid_are_given_back),
      cmocka_unit_test(between_them_it_is_bilinear),
      cmocka_unit_test(an_axis_of_one_value_does_not_matter),
      cmocka_unit_test(outside_the_grid_is_refused_with_both_ranges),
      cmocka_unit_test(bad_tables_are_refused),
  };
  return cmocka_run_group_tests(tests, mg_testing_open_context, mg_testing_close_context);
}
