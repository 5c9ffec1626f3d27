/* Arrivals: rates, curves and bursts have the moments they should, groups keep them, recorded files are read or refused;
 * scaling policies decide as worked by hand; percentiles of durations. */
#include "support/serving.h"

#include <stdio.h>
#include <unistd.h>

#include "cluster/arrivals.h"
#include "cluster/durations.h"

static mg_arrivals *arrivals_of(mg_context *context, int64_t group, const char *text) {
  json_t *json = mg_serving_spec("%s", text);
  mg_arrivals *arrivals;
  assert_ok(context, mg_arrivals_create(context, json, 1, group, &arrivals));
  json_decref(json);
  return arrivals;
}

typedef struct moments {
  double gap, gap_cv, prompt, prompt_cv, output, output_cv;
} moments;

static double cv_of(double sum, double squares, double count) {
  const double mean = sum / count;
  return sqrt(squares / count - mean * mean) / mean;
}

static moments moments_of(mg_context *context, int64_t group, const char *text) {
  enum { COUNT = 200000 };
  mg_arrivals *arrivals = arrivals_of(context, group, text);
  mg_request request = {0};
  double last = 0, gap[2] = {0}, prompt[2] = {0}, output[2] = {0};
  for (int i = 0; i < COUNT; i++) {
    assert_true(mg_arrivals_next(arrivals, &request));
    const double values[] = {request.seconds - last, request.prompt_tokens, request.output_tokens};
    assert_true(values[0] >= 0 && values[1] >= 1 && values[2] >= 1);
    last = request.seconds;
    gap[0] += values[0], gap[1] += values[0] * values[0];
    prompt[0] += values[1], prompt[1] += values[1] * values[1];
    output[0] += values[2], output[1] += values[2] * values[2];
  }
  mg_arrivals_destroy(arrivals);
  return (moments){gap[0] / COUNT,    cv_of(gap[0], gap[1], COUNT),
                   prompt[0] / COUNT, cv_of(prompt[0], prompt[1], COUNT),
                   output[0] / COUNT, cv_of(output[0], output[1], COUNT)};
}

static void gaps_and_lengths_have_their_moments(void **state) {
  const moments m = moments_of(
      *state, 1,
      "{'requests_per_second': 4, 'prompt_tokens': 3000, 'prompt_cv': 0.8, 'output_tokens': 500, 'output_cv': 1.5}");
  assert_near(m.gap, 0.25, 0.003);
  assert_near(m.gap_cv, 1, 0.01);
  assert_near(m.prompt, 3000, 25);
  assert_near(m.prompt_cv, 0.8, 0.02);
  assert_near(m.output, 500, 8);
  assert_near(m.output_cv, 1.5, 0.08);
}

static void bursts_and_clocks_keep_the_rate(void **state) {
  const moments burst = moments_of(*state, 1, "{'requests_per_second': 4, 'cv': 3}"),
                clock = moments_of(*state, 1, "{'requests_per_second': 4, 'cv': 0}");
  assert_near(burst.gap, 0.25, 0.01);
  assert_near(burst.gap_cv, 3, 0.1);
  assert_near(clock.gap, 0.25, 1e-9);
  assert_near(clock.gap_cv, 0, 1e-5);
}

static void gamma_lengths_have_their_moments(void **state) {
  const moments m = moments_of(
      *state, 1, "{'prompt_tokens': 1000, 'prompt_cv': 1, 'output_tokens': 1000, 'output_cv': 2, 'lengths': 'gamma'}");
  assert_near(m.prompt, 1000, 10);
  assert_near(m.prompt_cv, 1, 0.02);
  assert_near(m.output, 1000, 20);
  assert_near(m.output_cv, 2, 0.05);
}

/* A group of 16 comes with every 16th request: the gap is 16 times as long and its variation a quarter. */
static void groups_come_with_every_nth_request(void **state) {
  const moments m = moments_of(*state, 16, "{'requests_per_second': 4}");
  assert_near(m.gap, 4, 0.02);
  assert_near(m.gap_cv, 0.25, 0.003);
}

/* Factors 1, 3 at midnight and noon, linear between: a mean rate of 2 per second is 1 at midnight, 2 at six, 3 at noon. In
 * the first six hours come (1 + 2) / 2 * 21600 requests, in the next six (2 + 3) / 2 * 21600. */
static void a_curve_bends_the_rate(void **state) {
  mg_arrivals *arrivals = arrivals_of(*state, 1, "{'requests_per_second': 2, 'curve': [1, 3]}");
  assert_near(mg_arrivals_rate(arrivals, 0), 1, 1e-12);
  assert_near(mg_arrivals_rate(arrivals, 6 * 3600), 2, 1e-12);
  assert_near(mg_arrivals_rate(arrivals, 12 * 3600), 3, 1e-12);
  assert_near(mg_arrivals_rate(arrivals, 42 * 3600), 2, 1e-9);
  double counts[8] = {0};
  for (mg_request request; mg_arrivals_next(arrivals, &request) && request.seconds < 48 * 3600;)
    counts[(int)(request.seconds / 21600)]++;
  static const double rates[] = {1.5, 2.5, 2.5, 1.5};
  for (int i = 0; i < 8; i++) assert_near(counts[i], rates[i % 4] * 21600, 3.5 * sqrt(rates[i % 4] * 21600));
  mg_arrivals_destroy(arrivals);
}

static void a_night_without_requests_is_empty(void **state) {
  mg_arrivals *arrivals = arrivals_of(*state, 1, "{'requests_per_second': 1, 'curve': [0, 0, 1, 0]}");
  mg_request request;
  for (int i = 0; i < 200000 && mg_arrivals_next(arrivals, &request); i++) {
    const double hour = fmod(request.seconds, 86400) / 3600;
    assert_true(hour >= 6 && hour <= 18);
  }
  mg_arrivals_destroy(arrivals);
}

static void recorded_requests_come_as_they_stand(void **state) {
  const char *path =
      mg_serving_recorded("seconds,prompt_tokens,output_tokens,cached_tokens\r\n0.5,10,20,3\r\n0.5,11,21,0\n");
  json_t *json = mg_serving_spec("{'replay': '%s'}", path);
  mg_arrivals *arrivals;
  mg_request request;
  assert_ok(*state, mg_arrivals_create(*state, json, 1, 1, &arrivals));
  unlink(path);
  assert_true(mg_arrivals_next(arrivals, &request));
  assert_near(request.seconds, 0.5, 0);
  assert_int_equal(request.prompt_tokens, 10);
  assert_int_equal(request.output_tokens, 20);
  assert_int_equal(request.cached_tokens, 3);
  assert_true(mg_arrivals_next(arrivals, &request));
  assert_int_equal(request.prompt_tokens, 11);
  assert_false(mg_arrivals_next(arrivals, &request));
  mg_arrivals_destroy(arrivals);
  json_decref(json);
}

static void bad_recordings_are_refused_by_line(void **state) {
  static const char head[] = "seconds,prompt_tokens,output_tokens\n";
  static const struct {
    const char *text, *words;
  } bad[] = {
      {"", ":1: the file holds no request"},
      {"time,prompt\n1,2\n", ":1: the first line must be seconds,prompt_tokens,output_tokens"},
      {head, ":2: the file holds no request"},
      {"seconds,prompt_tokens,output_tokens\n1,2\n", ":2: the line does not have the fields"},
      {"seconds,prompt_tokens,output_tokens\n1,2,3,4\n", ":2: the line does not have the fields"},
      {"seconds,prompt_tokens,output_tokens\n1,2,x\n", ":2: a number was expected"},
      {"seconds,prompt_tokens,output_tokens\n1,2,3\n\n", ":3: a number was expected"},
      {"seconds,prompt_tokens,output_tokens\nnan,2,3\n", ":2: a number was expected"},
      {"seconds,prompt_tokens,output_tokens\n1,0,3\n", ":2: tokens must be whole numbers"},
      {"seconds,prompt_tokens,output_tokens\n1,2,3.5\n", ":2: tokens must be whole numbers"},
      {"seconds,prompt_tokens,output_tokens\n1,2e9,3\n", ":2: tokens must be whole numbers"},
      {"seconds,prompt_tokens,output_tokens\n-1,2,3\n", ":2: seconds must be a number from 0"},
      {"seconds,prompt_tokens,output_tokens\n2,2,3\n1,2,3\n", ":3: times must not go back"},
      {"seconds,prompt_tokens,output_tokens,cached_tokens\n1,2,3,2\n", ":2: cached_tokens must be fewer"},
  };
  for (size_t i = 0; i < MG_COUNT(bad); i++) {
    const char *path = mg_serving_recorded(bad[i].text);
    json_t *json = mg_serving_spec("{'replay': '%s'}", path);
    mg_arrivals *arrivals;
    assert_refused(*state, MG_FILE, bad[i].words, mg_arrivals_create(*state, json, 1, 1, &arrivals));
    assert_refused(*state, MG_FILE, path, mg_arrivals_create(*state, json, 1, 1, &arrivals));
    json_decref(json);
    unlink(path);
  }
}

static void bad_specifications_are_refused(void **state) {
  static const char step[] = "'prefill_step': {'tokens': [1], 'context': [0], 'seconds': [[1]]}, 'decode_step': "
                             "{'tokens': [1], 'context': [0], 'seconds': [[1]]}";
  static const struct {
    const char *text, *words;
  } bad[] = {
      {"'arrivals': {}", "pools are needed, either 'mixed' or both"},
      {"'arrivals': {}, 'prefill': {}", "pools are needed"},
      {"'mixed': {%s}", "'arrivals' is needed"},
      {"'arrivals': {}, 'mixed': {}", "mixed: 'prefill_step' is needed"},
      {"'arrivals': {}, 'mixed': {%s, 'node': 2}", "did you mean 'nodes'?"},
      {"'arrivals': {'requests_per_secnd': 1}, 'mixed': {%s}", "did you mean 'requests_per_second'?"},
      {"'arrivals': {'curve': [0, 0]}, 'mixed': {%s}", "'curve' is 0 all day"},
      {"'arrivals': {'curve': [1, -1]}, 'mixed': {%s}", "entry 2 of 'curve'"},
      {"'arrivals': {'curve': 3}, 'mixed': {%s}", "'curve' must be a list"},
      {"'hour': 3, 'arrivals': {}, 'mixed': {%s}", "did you mean 'hours'?"},
      {"'hours': 0, 'arrivals': {}, 'mixed': {%s}", "hours"},
      {"'sample_seconds': 0.001, 'arrivals': {}, 'mixed': {%s}",
       "sample_seconds = 0.001 makes more than 100000 points"},
      {"'arrivals': {}, 'mixed': 3", "mixed: a table of named options was expected"},
      {"'arrivals': 3, 'mixed': {%s}", "'arrivals' is needed"},
      {"'arrivals': {}, 'mixed': {%s, 'scaling': 3}", "mixed.scaling"},
      {"'group': 300, 'arrivals': {}, 'mixed': {%s}", "use a smaller 'group'"},
      {"'arrivals': {}, 'prefill': {%s}, 'decode': {}", "prefill.decode_step: this pool does no such steps"},
      {"'arrivals': {}, 'mixed': {%s, 'scaling': {'policy': 'predictive'}}",
       "a predictive policy needs 'tokens_per_second'"},
      {"'arrivals': {}, 'mixed': {%s, 'scaling': {'policy': 'scheduled'}}", "needs 'schedule'"},
      {"'arrivals': {}, 'mixed': {%s, 'scaling': {'policy': 'scheduled', 'schedule': [[3, 1], [2, 1]]}}",
       "entry 2 of 'schedule'"},
      {"'arrivals': {}, 'mixed': {%s, 'scaling': {'policy': 'scheduled', 'schedule': [[3, 0]]}}",
       "entry 1 of 'schedule'"},
      {"'arrivals': {}, 'mixed': {%s, 'scaling': {'policy': 'threshold', 'low': 0.9}}",
       "low = 0.9 must be below high = 0.8"},
      {"'arrivals': {}, 'mixed': {%s, 'scaling': {'least': 3, 'most': 2}}", "least = 3 is more than most = 2"},
      {"'arrivals': {}, 'mixed': {%s, 'scaling': {'instances': 3, 'most': 2}}", "instances = 3 is not within"},
      {"'arrivals': {}, 'mixed': {%s, 'scaling': {'policy': 'wild'}}", "policy"},
  };
  for (size_t i = 0; i < MG_COUNT(bad); i++) {
    char text[1024], whole[1100];
    const char *cut = strstr(bad[i].text, "%s");
    snprintf(text, sizeof text, "%.*s%s%s", cut ? (int)(cut - bad[i].text) : 1000, bad[i].text, cut ? step : "",
             cut ? cut + 2 : "");
    snprintf(whole, sizeof whole, "{%s}", text);
    assert_refused(*state, MG_USAGE, bad[i].words, mg_serving_refused(*state, mg_serving_spec("%s", whole)));
  }
}

/* Step costs that a simulation leaves end it with both numbers; recorded requests bring neither curve nor groups. */
static void what_only_shows_later_is_refused_too(void **state) {
  json_t *result, *spec = mg_serving_spec("{'arrivals': {'prompt_tokens': 50}, 'mixed': {'prefill_step': {'tokens': "
                                          "[0, 40], 'context': [0], 'seconds': [[0], [1]]},"
                                          "'decode_step': {'tokens': [1], 'context': [0], 'seconds': [[1]]}}}");
  assert_refused(*state, MG_USAGE, "mixed.prefill_step: a step of 50 tokens",
                 mg_serving_run(*state, spec, NULL, &result));
  json_decref(spec);
  const char *path = mg_serving_recorded("seconds,prompt_tokens,output_tokens\n1,2,3\n");
  json_t *json = mg_serving_spec("{'replay': '%s'}", path),
         *curved = mg_serving_spec("{'replay': '%s', 'curve': [1]}", path);
  mg_arrivals *arrivals;
  assert_refused(*state, MG_USAGE, "one by one; set group = 1", mg_arrivals_create(*state, json, 1, 2, &arrivals));
  assert_refused(*state, MG_USAGE, "leave 'curve' out", mg_arrivals_create(*state, curved, 1, 1, &arrivals));
  json_decref(json);
  json_decref(curved);
  spec = mg_serving_spec(
      "{'arrivals': {'replay': '%s'}, 'mixed': {'prefill_step': {'tokens': [1], 'context': [0], 'seconds': [[1]]}, "
      "'decode_step': {'tokens': [1],"
      "'context': [0], 'seconds': [[1]]}, 'scaling': {'policy': 'predictive', 'tokens_per_second': 1}}}",
      path);
  assert_refused(*state, MG_USAGE, "recorded arrivals foretell nothing", mg_serving_refused(*state, spec));
  unlink(path);
}

/* ---- policies ------------------------------------------------------------------------------------------------ */

static mg_scaling scaling_of(mg_context *context, const char *text) {
  json_t *json = mg_serving_spec("%s", text);
  mg_scaling scaling;
  assert_ok(context, mg_scaling_from_json(context, "scaling", json, &scaling));
  json_decref(json);
  return scaling;
}

static void policies_decide_as_worked_by_hand(void **state) {
  mg_scaling target = scaling_of(*state, "{'policy': 'target', 'target': 0.7, 'most': 20, 'calm_seconds': 0}");
  mg_scaling_state now = {.seconds = 3600, .instances = 10, .utilisation = 0.9, .forecast_tokens_per_second = 3500};
  assert_int_equal(mg_scaling_wanted(&target, &now, 0), 13); /* 9 / 0.7 = 12.9 */
  now.utilisation = 0.7;
  assert_int_equal(mg_scaling_wanted(&target, &now, 0), 10);
  now.starting = 4; /* the six that worked were full to 0.7 */
  assert_int_equal(mg_scaling_wanted(&target, &now, 0), 6);
  now.starting = 0;
  now.utilisation = 0;
  assert_int_equal(mg_scaling_wanted(&target, &now, 0), 1);
  now.instances = 30;
  now.utilisation = 1;
  assert_int_equal(mg_scaling_wanted(&target, &now, 0), 20);
  mg_scaling ahead =
      scaling_of(*state, "{'policy': 'predictive', 'target': 0.5, 'tokens_per_second': 1000, 'calm_seconds': 0}");
  assert_int_equal(mg_scaling_wanted(&ahead, &now, 0), 7);
  mg_scaling table = scaling_of(*state, "{'policy': 'scheduled', 'schedule': [[1, 3], [22, 8]], 'calm_seconds': 0}");
  now = (mg_scaling_state){.seconds = 1800, .instances = 8};
  assert_int_equal(mg_scaling_wanted(&table, &now, 0), 8); /* since 22:00 of the day before */
  now.seconds = 86400 + 3600;
  assert_int_equal(mg_scaling_wanted(&table, &now, 0), 3);
  mg_scaling steps = scaling_of(*state, "{'policy': 'threshold', 'by': 2, 'calm_seconds': 0}");
  now = (mg_scaling_state){.seconds = 1, .instances = 5, .utilisation = 0.81};
  assert_int_equal(mg_scaling_wanted(&steps, &now, 0), 7);
  now.utilisation = 0.6;
  assert_int_equal(mg_scaling_wanted(&steps, &now, 0), 5);
  now.utilisation = 0.49;
  assert_int_equal(mg_scaling_wanted(&steps, &now, 0), 3);
}

/* Fewer are enough from 120 on, so that the first is given back at 420. */
static void nothing_is_given_back_before_it_is_calm(void **state) {
  mg_scaling scaling = scaling_of(*state, "{'policy': 'custom', 'calm_seconds': 300}");
  for (int minute = 1; minute <= 8; minute++) {
    const mg_scaling_state now = {.seconds = 60 * minute, .instances = 5};
    assert_int_equal(mg_scaling_wanted(&scaling, &now, minute < 3 ? 5 : 2), minute < 7 ? 5 : 2);
  }
}

static void percentiles_are_right_within_half_a_percent(void **state) {
  (void)state;
  static mg_durations durations;
  assert_true(isnan(mg_durations_mean(&durations)) && isnan(mg_durations_quantile(&durations, 0.5)));
  for (int i = 1; i <= 1000; i++) mg_durations_add(&durations, 0.01 * i, 3);
  assert_int_equal(durations.count, 3000);
  assert_near(mg_durations_mean(&durations), 5.005, 1e-9);
  assert_near(mg_durations_quantile(&durations, 0.5), 5, 0.005 * 5 + 0.01);
  assert_near(mg_durations_quantile(&durations, 0.99), 9.9, 0.005 * 9.9 + 0.01);
  assert_near(mg_durations_quantile(&durations, 1), 10, 0.005 * 10 + 0.01);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gaps_and_lengths_have_their_moments),
      cmocka_unit_test(bursts_and_clocks_keep_the_rate),
      cmocka_unit_test(gamma_lengths_have_their_moments),
      cmocka_unit_test(groups_come_with_every_nth_request),
      cmocka_unit_test(a_curve_bends_the_rate),
      cmocka_unit_test(a_night_without_requests_is_empty),
      cmocka_unit_test(recorded_requests_come_as_they_stand),
      cmocka_unit_test(bad_recordings_are_refused_by_line),
      cmocka_unit_test(bad_specifications_are_refused),
      cmocka_unit_test(what_only_shows_later_is_refused_too),
      cmocka_unit_test(policies_decide_as_worked_by_hand),
      cmocka_unit_test(nothing_is_given_back_before_it_is_calm),
      cmocka_unit_test(percentiles_are_right_within_half_a_percent),
  };
  return cmocka_run_group_tests(tests, mg_testing_open_context, mg_testing_close_context);
}
