/* The serving simulation against schedules worked by hand, and what must be conserved whatever happens. */
#include "support/serving.h"

#include <unistd.h>

/* A prefill of 0.01 s per token, a decode step of half a second. */
#define STEPS                                                                                                          \
  "'prefill_step': {'tokens': [0, 1000], 'context': [0], 'seconds': [[0], [10]]},"                                     \
  "'decode_step': {'tokens': [1], 'context': [0], 'seconds': [[0.5]]}"
/* One second each, whatever is in the step. */
#define SECONDS                                                                                                        \
  "'prefill_step': {'tokens': [1], 'context': [0], 'seconds': [[1]]},"                                                 \
  "'decode_step': {'tokens': [1], 'context': [0], 'seconds': [[1]]}"

/* The result of recorded requests in pools. */
static json_t *replay(mg_context *context, const char *requests, const char *pools) {
  char text[512];
  snprintf(text, sizeof text, "seconds,prompt_tokens,output_tokens,cached_tokens\n%s", requests);
  const char *path = mg_serving_recorded(text);
  json_t *result = mg_serving_result(
      context, mg_serving_spec("{'hours': 1, 'drain': true, 'arrivals': {'replay': '%s'}, %s}", path, pools));
  unlink(path);
  return result;
}

static void assert_metric(const json_t *result, const char *name, double expected) {
  const double value = mg_serving_metric(result, name);
  if (!(fabs(value - expected) <= 1e-9 * fmax(1, fabs(expected))))
    fail_msg("%s is %.12g, not %.12g", name, value, expected);
}

/* Prefill of 100 tokens until 11, four more tokens until 13. */
static void one_request_alone(void **state) {
  json_t *r = replay(*state, "10,100,5,0\n", "'mixed': {" STEPS "}");
  assert_metric(r, "ttft_seconds_mean", 1);
  assert_metric(r, "tpot_seconds_mean", 0.5);
  assert_metric(r, "latency_seconds_mean", 3);
  assert_metric(r, "prefill_tokens", 100);
  assert_metric(r, "output_tokens", 5);
  assert_near(mg_serving_seconds(r, "mixed", "busy"), 3, 1e-9);
  json_decref(r);
}

static void cached_tokens_are_not_computed(void **state) {
  json_t *r = replay(*state, "10,100,5,60\n", "'mixed': {" STEPS "}");
  assert_metric(r, "ttft_seconds_mean", 0.4);
  assert_metric(r, "prefill_tokens", 40);
  assert_metric(r, "cached_tokens", 60);
  json_decref(r);
}

/* Chunks of 40, 40, 20 give the first token at 1; decode until 1.5; then 39 tokens of the second request beside decoding
 * (0.89 s), its last 11 (0.61 s, first token at 3), and one more step until 3.5. */
static void chunked_prefill_shares_steps_with_decoding(void **state) {
  json_t *r = replay(*state, "0,100,5,0\n1.2,50,2,0\n", "'mixed': {'step_tokens': 40, " STEPS "}");
  assert_metric(r, "ttft_seconds_mean", (1 + 1.8) / 2);
  assert_metric(r, "latency_seconds_mean", (3.5 + 2.3) / 2);
  json_decref(r);
}

/* The second prompt stops decoding from 1.5 to 2; both go on together until 2.5, the first alone until 3.5. */
static void whole_prompts_stop_decoding(void **state) {
  json_t *r = replay(*state, "0,100,5,0\n1.2,50,2,0\n", "'mixed': {'step_tokens': 40, 'chunked': false, " STEPS "}");
  assert_metric(r, "ttft_seconds_mean", (1 + 0.8) / 2);
  assert_metric(r, "latency_seconds_mean", (3.5 + 1.3) / 2);
  json_decref(r);
}

static const char apart[] =
    "'prefill': {'prefill_step': {'tokens': [0, 1000], 'context': [0], 'seconds': [[0], [10]]}},"
    "'decode': {'transfer_seconds': 0.2, 'transfer_seconds_per_token': 0.001, "
    "'decode_step': {'tokens': [1], 'context': [0], 'seconds': [[0.5]]}}";

/* First token at 1, its 100 tokens of KV move until 1.3, four steps until 3.3. */
static void separate_pools_hand_over_the_cache(void **state) {
  json_t *r = replay(*state, "0,100,5,0\n", apart);
  assert_metric(r, "ttft_seconds_mean", 1);
  assert_metric(r, "latency_seconds_mean", 3.3);
  assert_metric(r, "tpot_seconds_mean", 2.3 / 4);
  assert_near(mg_serving_seconds(r, "prefill", "busy"), 1, 1e-9);
  assert_near(mg_serving_seconds(r, "decode", "busy"), 2, 1e-9);
  json_decref(r);
}

/* A prompt of 50 of which 10 are cached: 40 tokens that see 10 + 20 on average, in steps of 0.001 s per token and unit of
 * context. Then three sequence lengths, 50, 51, 52, each a step of as many hundredths of a second. */
static void steps_cost_by_their_mean_context(void **state) {
  json_t *r =
      replay(*state, "0,50,4,10\n",
             "'mixed': {'prefill_step': {'tokens': [0, 100], 'context': [0, 100], 'seconds': [[0, 0], [0, 10]]},"
             "'decode_step': {'tokens': [1], 'context': [0, 100], 'seconds': [[0, 1]]}}");
  assert_metric(r, "ttft_seconds_mean", 40 * 30 * 0.001);
  assert_metric(r, "latency_seconds_mean", 1.2 + 0.5 + 0.51 + 0.52);
  json_decref(r);
}

/* Two requests of 5 + 6 tokens in memory for 12. The second is admitted at 1 (5 + 5 + 1), gets its first token at 3, and
 * is put out at once, for two sequences of 6 and 5 tokens cannot both grow. The first ends at 7; then 6 tokens are computed
 * again, and four steps follow until 12. */
static void the_youngest_is_preempted_when_memory_is_full(void **state) {
  json_t *r = replay(*state, "0,5,6,0\n0,5,6,0\n", "'mixed': {'kv_tokens': 12, " SECONDS "}");
  assert_metric(r, "preempted", 1);
  assert_metric(r, "ttft_seconds_mean", (1 + 3) / 2.0);
  assert_metric(r, "latency_seconds_mean", (7 + 12) / 2.0);
  assert_metric(r, "prefill_tokens", 5 + 5 + 6);
  assert_metric(r, "output_tokens", 12);
  json_decref(r);
}

/* 10 tokens of 12 are set aside, so the second waits until the first ends at 6. */
static void reserved_memory_makes_the_second_wait(void **state) {
  json_t *r = replay(*state, "0,5,6,0\n0,5,6,0\n", "'mixed': {'kv_tokens': 12, 'reserve': true, " SECONDS "}");
  assert_metric(r, "preempted", 0);
  assert_metric(r, "ttft_seconds_mean", (1 + 7) / 2.0);
  assert_metric(r, "latency_seconds_mean", (6 + 12) / 2.0);
  assert_metric(r, "kv_peak_mixed", 10 / 12.0);
  json_decref(r);
}

static void what_can_never_fit_is_rejected(void **state) {
  json_t *r = replay(*state, "0,10,4,0\n0,10,3,0\n", "'mixed': {'kv_tokens': 12, " SECONDS "}");
  assert_metric(r, "rejected", 1);
  assert_metric(r, "finished", 1);
  assert_metric(r, "requests", 2);
  json_decref(r);
}

/* A node that is slow from its first second on, and for ever, doubles every step. */
static void a_slow_node_slows_its_instance(void **state) {
  json_t *r = replay(*state, "10,100,5,0\n",
                     "'mixed': {'node_slow_hours': 1e-3, 'slow_seconds': 1e9, 'slowdown': 2, 'nodes': 4, " STEPS "}");
  assert_metric(r, "ttft_seconds_mean", 2);
  assert_metric(r, "latency_seconds_mean", 6);
  json_decref(r);
}

static void goodput_counts_what_meets_the_objective(void **state) {
  const char *path = mg_serving_recorded("seconds,prompt_tokens,output_tokens\n0,100,5\n100,300,5\n200,50,1\n");
  json_t *r = mg_serving_result(*state, mg_serving_spec("{'hours': 1, 'ttft_seconds': 2, 'tpot_seconds': 0.6,"
                                                        "'arrivals': {'replay': '%s'}, 'mixed': {" STEPS "}}",
                                                        path));
  unlink(path);
  assert_metric(r, "goodput_share", 2 / 3.0);
  assert_metric(r, "goodput", 2 / 3600.0);
  json_decref(r);
}

static void money_and_energy_are_node_hours_and_watts(void **state) {
  const char *path = mg_serving_recorded("seconds,prompt_tokens,output_tokens\n0,100,5\n");
  json_t *r = mg_serving_result(
      *state,
      mg_serving_spec("{'hours': 1, 'dollars_per_node_hour': 16, 'idle_watts_per_node': 1000, "
                      "'busy_watts_per_node': 5000, 'arrivals': {'replay': '%s'}, 'mixed': {'nodes': 2, " STEPS "}}",
                      path));
  assert_metric(r, "node_hours", 2);
  assert_metric(r, "dollars", 32);
  assert_metric(r, "joules", 2 * (3 * 5000 + 3597 * 1000.0));
  json_decref(r);
  r = mg_serving_result(*state,
                        mg_serving_spec("{'hours': 1, 'arrivals': {'replay': '%s'}, 'mixed': {" STEPS "}}", path));
  unlink(path);
  assert_null(json_object_get(json_object_get(r, "metrics"), "joules")); /* not measured */
  assert_null(json_object_get(json_object_get(r, "metrics"), "dollars"));
  json_decref(r);
}

/* ---- conservation -------------------------------------------------------------------------------------------- */

/* Separate pools that are short of memory, fail, slow down and change their size all the time. */
static json_t *turmoil(mg_context *context, int seed, int group) {
  return mg_serving_result(
      context,
      mg_serving_spec(
          "{'hours': 0.5, 'seed': %d, 'group': %d, 'drain': true,"
          "'arrivals': {'requests_per_second': 6, 'cv': 2, 'prompt_tokens': 400, 'prompt_cv': 1, 'output_tokens': 100, "
          "'output_cv': 1,"
          " 'prompt_most': 4000, 'output_most': 1000, 'cached_share': 0.3},"
          "'prefill': {'nodes': 2, 'step_tokens': 1024, 'kv_tokens': 8000, 'start_up_seconds': 20, "
          "'node_failure_hours': 0.3, 'repair_seconds': 30,"
          " 'prefill_step': {'tokens': [0, 4096], 'context': [0], 'seconds': [[0.01], [2]]},"
          " 'scaling': {'policy': 'threshold', 'instances': 2, 'most': 4, 'interval_seconds': 7, 'calm_seconds': 0}},"
          "'decode': {'nodes': 3, 'sequences': 64, 'kv_tokens': 9000, 'start_up_seconds': 10, 'node_failure_hours': "
          "0.5, 'repair_seconds': 20,"
          " 'node_slow_hours': 0.2, 'slow_seconds': 30, 'slowdown': 3, 'transfer_seconds': 0.1,"
          " 'decode_step': {'tokens': [0, 64], 'context': [0, 6000], 'seconds': [[0.01, 0.02], [0.02, 0.04]]},"
          " 'scaling': {'policy': 'target', 'target': 0.8, 'instances': 2, 'least': 2, 'most': 6, 'interval_seconds': "
          "5, 'calm_seconds': 10}}}",
          seed, group));
}

static void nothing_is_lost_in_turmoil(void **state) {
  for (int seed = 1; seed <= 3; seed++) {
    json_t *r = turmoil(*state, seed, seed == 3 ? 4 : 1);
    assert_true(mg_serving_metric(r, "failures") > 0);
    assert_true(mg_serving_metric(r, "preempted") > 0);
    assert_true(mg_serving_metric(r, "lost_to_failures") > 0);
    assert_metric(r, "unfinished", 0);
    assert_metric(r, "requests", mg_serving_metric(r, "finished") + mg_serving_metric(r, "rejected"));
    assert_true(mg_serving_metric(r, "kv_peak_prefill") <= 1);
    assert_true(mg_serving_metric(r, "kv_peak_decode") <= 1);
    assert_true(mg_serving_metric(r, "kv_peak_decode") > 0.9);
    /* what was lost is computed again, so no fewer than asked for */
    assert_true(mg_serving_metric(r, "prefill_tokens") >=
                mg_serving_metric(r, "input_tokens") - mg_serving_metric(r, "cached_tokens"));
    json_decref(r);
  }
}

static void time_is_busy_or_idle_or_starting_or_down(void **state) {
  static const char *const pools[] = {"prefill", "decode"}, *const states[] = {"busy", "idle", "starting", "down"};
  json_t *r = turmoil(*state, 1, 1);
  for (size_t p = 0; p < MG_COUNT(pools); p++) {
    double sum = 0;
    for (size_t s = 0; s < MG_COUNT(states); s++) {
      assert_true(mg_serving_seconds(r, pools[p], states[s]) > 0);
      sum += mg_serving_seconds(r, pools[p], states[s]);
    }
    assert_near(sum, mg_serving_seconds(r, pools[p], "paid"), 1e-6);
  }
  assert_metric(r, "node_hours",
                (2 * mg_serving_seconds(r, "prefill", "paid") + 3 * mg_serving_seconds(r, "decode", "paid")) / 3600);
  json_decref(r);
}

/* Output tokens of an undisturbed run are those asked for, and so are the prompt tokens computed. */
static void tokens_are_conserved(void **state) {
  json_t *r = mg_serving_result(
      *state, mg_serving_spec("{'hours': 0.2, 'drain': true, 'group': 3, 'arrivals': {'requests_per_second': 5, "
                              "'prompt_tokens': 300, 'prompt_cv': 1,"
                              "'output_tokens': 37, 'cached_share': 0.25}, 'mixed': {'step_tokens': 900,"
                              "'prefill_step': {'tokens': [0, 10000], 'context': [0], 'seconds': [[0], [1]]},"
                              "'decode_step': {'tokens': [1], 'context': [0], 'seconds': [[0.02]]}}}"));
  assert_metric(r, "prefill_tokens", mg_serving_metric(r, "input_tokens") - mg_serving_metric(r, "cached_tokens"));
  assert_metric(r, "output_tokens", 37 * mg_serving_metric(r, "finished"));
  assert_metric(r, "lost_to_failures", 0);
  json_decref(r);
}

static void a_failed_node_is_down_for_its_repair(void **state) {
  json_t *r = mg_serving_result(
      *state,
      mg_serving_spec(
          "{'hours': 200, 'arrivals': {'requests_per_second': 0.01, 'output_tokens': 1},"
          "'mixed': {'nodes': 4, 'node_failure_hours': 40, 'repair_seconds': 600, 'start_up_seconds': 60, " SECONDS
          "}}"));
  const double failures = mg_serving_metric(r, "failures"), down = mg_serving_seconds(r, "mixed", "down");
  assert_near(failures, 200 / (10 + 660 / 3600.0), 3 * sqrt(20)); /* one every 10 hours of work */
  assert_true(down <= 600 * failures + 1e-6 && down > 600 * (failures - 1));
  assert_near(mg_serving_seconds(r, "mixed", "starting") / 60, down / 600, 1);
  json_decref(r);
}

static void equal_seeds_give_equal_results(void **state) {
  json_t *first = turmoil(*state, 7, 1), *again = turmoil(*state, 7, 1), *other = turmoil(*state, 8, 1);
  assert_true(json_equal(first, again));
  assert_false(json_equal(first, other));
  json_decref(first);
  json_decref(again);
  json_decref(other);
}

/* ---- scaling ------------------------------------------------------------------------------------------------- */

/* A second instance is wanted at 1:00 and works from 1:05 on; it is given back at 1:30. Two hours of the first, half an
 * hour of the second, five minutes of it starting. */
static void an_instance_is_paid_while_it_starts(void **state) {
  json_t *r =
      mg_serving_result(*state, mg_serving_spec("{'hours': 2, 'arrivals': {'requests_per_second': 1e-6}, 'mixed': "
                                                "{'nodes': 3, 'start_up_seconds': 300, " SECONDS ","
                                                "'scaling': {'policy': 'scheduled', 'schedule': [[0, 1], [1, 2], [1.5, "
                                                "1]], 'interval_seconds': 600, 'calm_seconds': 0}}}"));
  assert_metric(r, "node_hours", 3 * 2.5);
  assert_metric(r, "nodes_peak", 6);
  assert_near(mg_serving_seconds(r, "mixed", "starting"), 300, 1e-9);
  json_decref(r);
}

/* Work of one second comes every 0.8: the queue grows until the second instance, wanted at 100 by a utilisation of 1, has
 * started at 150. The 62 requests that came by 50 would have ... the one instance ends 1 request a second from 0.8 on. */
static void work_waits_for_an_instance_that_starts(void **state) {
  json_t *r = mg_serving_result(
      *state, mg_serving_spec("{'hours': 0.05, 'sample_seconds': 30, 'arrivals': {'requests_per_second': 1.25, 'cv': "
                              "0, 'prompt_tokens': 10, 'output_tokens': 1},"
                              "'mixed': {'sequences': 1, 'start_up_seconds': 50, " SECONDS ","
                              "'scaling': {'policy': 'threshold', 'high': 0.9, 'low': 0.1, 'interval_seconds': 100, "
                              "'calm_seconds': 1e6, 'most': 2}}}"));
  const json_t *queued = json_object_get(json_object_get(r, "series"), "queued_mixed");
  const json_t *nodes = json_object_get(json_object_get(r, "series"), "nodes");
  /* at 90: 112 came, the 90th is in its step, as it was begun at 89.8 */
  assert_near(json_number_value(json_array_get(json_array_get(queued, 2), 1)), 112 - 90, 0);
  /* at 150: 187 came, 150 begun; then two a second */
  assert_near(json_number_value(json_array_get(json_array_get(queued, 4), 1)), 187 - 150, 1);
  assert_near(json_number_value(json_array_get(json_array_get(queued, 5), 1)), 225 - 150 - 60, 1.5);
  assert_near(json_number_value(json_array_get(json_array_get(nodes, 2), 1)), 1, 1e-9);
  assert_near(json_number_value(json_array_get(json_array_get(nodes, 3), 1)), 1 + 20 / 30.0, 1e-9);
  json_decref(r);
}

/* Demand of 50 requests of 100 tokens a second over instances that do 1000 tokens each, to be filled to a half: 10. */
static void a_predictive_policy_follows_the_curve(void **state) {
  json_t *r = mg_serving_result(
      *state, mg_serving_spec("{'hours': 24, 'group': 50, 'arrivals': {'requests_per_second': 50, 'curve': [1, 1], "
                              "'prompt_tokens': 99, 'output_tokens': 1},"
                              "'mixed': {'start_up_seconds': 0, 'sequences': 1000, 'prefill_step': {'tokens': [0, "
                              "100000], 'context': [0], 'seconds': [[0], [100]]},"
                              "'decode_step': {'tokens': [1], 'context': [0], 'seconds': [[1]]},"
                              "'scaling': {'policy': 'predictive', 'target': 0.5, 'tokens_per_second': 1000, "
                              "'instances': 10, 'interval_seconds': 600}}}"));
  assert_metric(r, "nodes", 10);
  json_decref(r);
}

typedef struct asked {
  int calls;
  mg_scaling_state last;
} asked;

static mg_status answer(void *user, const char *pool, const mg_scaling_state *state, double *wanted) {
  asked *a = user;
  assert_string_equal(pool, "mixed");
  a->calls++;
  a->last = *state;
  *wanted = 3;
  return MG_OK;
}

static bool stop_at_once(void *user, double seconds, double all_seconds) {
  (void)user;
  return seconds > all_seconds;
}

static void a_custom_policy_is_asked_at_decisions_only(void **state) {
  asked a = {0};
  const mg_serving_hooks hooks = {.decide = answer, .user = &a};
  json_t *result, *spec = mg_serving_spec("{'hours': 1, 'arrivals': {'requests_per_second': 1, 'cv': 0, "
                                          "'prompt_tokens': 7, 'output_tokens': 3}, 'mixed': {" SECONDS ","
                                          "'scaling': {'policy': 'custom', 'interval_seconds': 600}}}");
  assert_refused(*state, MG_USAGE, "mixed.scaling: a custom policy needs a function",
                 mg_serving_run(*state, spec, NULL, &result));
  assert_ok(*state, mg_serving_run(*state, spec, &hooks, &result));
  assert_int_equal(a.calls, 6);
  assert_int_equal(a.last.instances, 3);
  assert_near(a.last.requests_per_second, 1, 1e-9);
  assert_near(a.last.tokens_per_second, 10, 1e-9);
  assert_metric(result, "nodes_peak", 3);
  json_decref(result);
  json_decref(spec);
}

static void a_simulation_can_be_stopped(void **state) {
  const mg_serving_hooks hooks = {.progress = stop_at_once};
  json_t *result, *spec = mg_serving_spec("{'hours': 1, 'arrivals': {}, 'mixed': {" SECONDS "}}");
  assert_int_equal(mg_serving_run(*state, spec, &hooks, &result), MG_INTERRUPTED);
  json_decref(spec);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_request_alone),
      cmocka_unit_test(cached_tokens_are_not_computed),
      cmocka_unit_test(chunked_prefill_shares_steps_with_decoding),
      cmocka_unit_test(whole_prompts_stop_decoding),
      cmocka_unit_test(separate_pools_hand_over_the_cache),
      cmocka_unit_test(steps_cost_by_their_mean_context),
      cmocka_unit_test(the_youngest_is_preempted_when_memory_is_full),
      cmocka_unit_test(reserved_memory_makes_the_second_wait),
      cmocka_unit_test(what_can_never_fit_is_rejected),
      cmocka_unit_test(a_slow_node_slows_its_instance),
      cmocka_unit_test(goodput_counts_what_meets_the_objective),
      cmocka_unit_test(money_and_energy_are_node_hours_and_watts),
      cmocka_unit_test(nothing_is_lost_in_turmoil),
      cmocka_unit_test(time_is_busy_or_idle_or_starting_or_down),
      cmocka_unit_test(tokens_are_conserved),
      cmocka_unit_test(a_failed_node_is_down_for_its_repair),
      cmocka_unit_test(equal_seeds_give_equal_results),
      cmocka_unit_test(an_instance_is_paid_while_it_starts),
      cmocka_unit_test(work_waits_for_an_instance_that_starts),
      cmocka_unit_test(a_predictive_policy_follows_the_curve),
      cmocka_unit_test(a_custom_policy_is_asked_at_decisions_only),
      cmocka_unit_test(a_simulation_can_be_stopped),
  };
  return cmocka_run_group_tests(tests, mg_testing_open_context, mg_testing_close_context);
}
