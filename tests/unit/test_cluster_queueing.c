/* The serving simulation in its limiting cases against queueing theory, and requests in groups against requests one by
 * one. Seeds are fixed, so each comparison has one outcome; tolerances are about three standard errors of it. */
#include "support/serving.h"

/* Requests of one output token, whose prompt takes 1 s on average, one at a time on each of `servers` instances. */
static json_t *queue_of(mg_context *context, double rate, double cv, int servers) {
  return mg_serving_result(
      context,
      mg_serving_spec("{'hours': 60, 'seed': 3, 'drain': true, 'arrivals': {'requests_per_second': %g, "
                      "'prompt_tokens': 100000, 'prompt_cv': %g,"
                      "'lengths': 'gamma', 'output_tokens': 1}, 'mixed': {'sequences': 1, 'step_tokens': 100000000,"
                      "'prefill_step': {'tokens': [0, 1e8], 'context': [0], 'seconds': [[0], [1000]]},"
                      "'decode_step': {'tokens': [1], 'context': [0], 'seconds': [[1]]},"
                      "'scaling': {'instances': %d}}}",
                      rate, cv, servers));
}

/* Little's law, L = lambda W, is an identity of sums here. */
static void assert_waits(json_t *r, double expected, double tolerance) {
  const double latency = mg_serving_metric(r, "latency_seconds_mean");
  assert_near(latency, expected, tolerance * expected);
  assert_near(mg_serving_metric(r, "requests_present"), mg_serving_metric(r, "requests_per_second") * latency,
              1e-6 * latency);
  json_decref(r);
}

/* M/M/1: W = 1 / (mu - lambda). */
static void one_server_with_exponential_service(void **state) {
  assert_waits(queue_of(*state, 0.5, 1, 1), 1 / (1 - 0.5), 0.02);
  assert_waits(queue_of(*state, 0.7, 1, 1), 1 / (1 - 0.7), 0.03);
}

/* M/D/1: W = 1 + rho / (2 (1 - rho)). */
static void one_server_with_constant_service(void **state) {
  assert_waits(queue_of(*state, 0.5, 0, 1), 1 + 0.5 / (2 * 0.5), 0.02);
  assert_waits(queue_of(*state, 0.7, 0, 1), 1 + 0.7 / (2 * 0.3), 0.03);
}

/* Pollaczek and Khinchine: W = 1 + rho (1 + cv^2) / (2 (1 - rho)). */
static void one_server_with_scattered_service(void **state) {
  assert_waits(queue_of(*state, 0.5, 2, 1), 1 + 0.5 * (1 + 4) / (2 * 0.5), 0.05);
}

/* M/M/c by Erlang's C formula. */
static void several_servers_share_one_queue(void **state) {
  const double load = 2.1;
  const int servers = 3;
  double sum = 0, term = 1;
  for (int k = 0; k < servers; k++, term *= load / k) sum += term;
  const double last = term * servers / (servers - load), waits = last / (sum + last);
  assert_waits(queue_of(*state, load, 1, servers), 1 + waits / (servers - load), 0.03);
}

/* The share of time that a server works is the load. */
static void utilisation_is_the_load(void **state) {
  json_t *r = queue_of(*state, 0.6, 1, 1);
  assert_near(mg_serving_seconds(r, "mixed", "busy") / mg_serving_seconds(r, "mixed", "paid"), 0.6, 0.01);
  json_decref(r);
}

/* Decoding with room for all is M/G/infinity with steps: sequences present = rate * (steps * seconds), and each waits half
 * a step on average to join. */
static void decoding_without_limits_never_waits(void **state) {
  json_t *r = mg_serving_result(
      *state,
      mg_serving_spec(
          "{'hours': 2, 'drain': true, 'arrivals': {'requests_per_second': 20, 'prompt_tokens': 10, 'output_tokens': "
          "101, 'output_cv': 1},"
          "'prefill': {'prefill_step': {'tokens': [1], 'context': [0], 'seconds': [[0]]}},"
          "'decode': {'sequences': 1000000, 'decode_step': {'tokens': [1], 'context': [0], 'seconds': [[0.1]]}}}"));
  const double tokens = mg_serving_metric(r, "output_tokens") / mg_serving_metric(r, "finished");
  assert_near(tokens, 101, 2);
  assert_near(mg_serving_metric(r, "latency_seconds_mean"), 0.1 * (tokens - 1) + 0.05, 0.01);
  json_decref(r);
}

/* ---- groups -------------------------------------------------------------------------------------------------- */

/* Steps of prefill last 0.2 s and more, so that some thirty prompts share one, and a group of 4 is small against that. */
static json_t *in_groups(mg_context *context, int group, const char *policy) {
  return mg_serving_result(
      context,
      mg_serving_spec(
          "{'hours': 0.15, 'group': %d, 'arrivals': {'requests_per_second': 400, 'curve': [1, 2, 1],"
          "'prompt_tokens': 1000, 'prompt_cv': 0.5, 'output_tokens': 150, 'output_cv': 0.5},"
          "'prefill': {'step_tokens': 65536, 'prefill_step': {'tokens': [0, 65536], 'context': [0], 'seconds': [[0.2], "
          "[1.2]]},"
          " 'scaling': {'policy': '%s', 'instances': 8, 'interval_seconds': 20, 'calm_seconds': 40}},"
          "'decode': {'sequences': 2048, 'kv_tokens': 3000000, 'decode_step': {'tokens': [0, 2048], 'context': [0, "
          "1e5], 'seconds': [[0.01, 0.01], [0.04, 0.3]]},"
          " 'scaling': {'policy': '%s', 'instances': 4, 'target': 0.3, 'interval_seconds': 20, 'calm_seconds': 40}}}",
          group, policy, policy));
}

/* A quarter of the requests to simulate, and every mean within a few percent, whether the pools change or not. */
static void groups_agree_with_single_requests(void **state) {
  static const struct {
    const char *name;
    double tolerance;
  } compared[] = {{"requests", 0.02},          {"output_tokens", 0.02},       {"node_hours_prefill", 0.03},
                  {"node_hours_decode", 0.03}, {"utilisation_prefill", 0.03}, {"utilisation_decode", 0.03},
                  {"ttft_seconds_mean", 0.05}, {"ttft_seconds_p99", 0.08},    {"tpot_seconds_mean", 0.03},
                  {"tpot_seconds_p99", 0.1},   {"latency_seconds_mean", 0.03}};
  static const char *const policies[] = {"fixed", "target"};
  for (size_t p = 0; p < MG_COUNT(policies); p++) {
    json_t *fine = in_groups(*state, 1, policies[p]), *coarse = in_groups(*state, 4, policies[p]);
    for (size_t i = 0; i < MG_COUNT(compared); i++) {
      const double one = mg_serving_metric(fine, compared[i].name), four = mg_serving_metric(coarse, compared[i].name);
      if (!(fabs(four - one) <= compared[i].tolerance * one))
        fail_msg("%s: %s is %.6g in groups and %.6g one by one", policies[p], compared[i].name, four, one);
    }
    json_decref(fine);
    json_decref(coarse);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_server_with_exponential_service),
      cmocka_unit_test(one_server_with_constant_service),
      cmocka_unit_test(one_server_with_scattered_service),
      cmocka_unit_test(several_servers_share_one_queue),
      cmocka_unit_test(utilisation_is_the_load),
      cmocka_unit_test(decoding_without_limits_never_waits),
      cmocka_unit_test(groups_agree_with_single_requests),
  };
  return cmocka_run_group_tests(tests, mg_testing_open_context, mg_testing_close_context);
}
