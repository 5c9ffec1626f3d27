/* What a training learns, records and measures; runs repeat bit by bit. */
#include "support/training/training.h"

static void a_dense_model_learns(void **state) {
  (void)state;
  training r;
  training_open(&r, training_dense, training_short);
  assert_ok(r.world.context, training_run(&r));
  assert_near(training_metric(&r, "steps"), 60, 0);
  assert_near(training_metric(&r, "tokens"), 3840, 0);
  assert_true(training_metric(&r, "loss") < 2.0); /* ln 24 = 3.18 at the start */
  assert_true(training_metric(&r, "accuracy") > 0.4);
  assert_near(training_metric(&r, "perplexity"), exp(training_metric(&r, "loss")), 1e-9);
  assert_near(training_metric(&r, "bits_per_byte"), training_metric(&r, "loss") / log(2.0) / 2.0, 1e-12);
  assert_near(training_metric(&r, "entropy_gap"), training_metric(&r, "loss") - 0.25, 1e-12);
  assert_near(training_metric(&r, "evaluated_tokens"), VALID_SEQUENCES * 15, 0);
  assert_near(training_metric(&r, "spikes"), 0, 0);
  assert_null(json_object_get(json_object_get(r.result, "metrics"), "cv"));
  assert_null(json_object_get(json_object_get(r.result, "metrics"), "millijoules_per_token"));
  training_close(&r);
}

static void a_moe_model_learns_and_tells_how_it_routes(void **state) {
  (void)state;
  training r;
  training_open(&r, training_moe, training_short);
  assert_ok(r.world.context, training_run(&r));
  assert_true(training_metric(&r, "loss") < 2.0);
  static const char *const names[] = {"train_loss",
                                      "seconds",
                                      "tokens_per_second",
                                      "flops_per_token",
                                      "flops_per_token_gate",
                                      "flops_per_token_routed",
                                      "backward_flops_per_token",
                                      "useful_flops_per_token",
                                      "padded_flops_per_token",
                                      "dropped_flops_per_token",
                                      "params_total",
                                      "params_active",
                                      "gate_ns_per_token",
                                      "ns_per_token_attention",
                                      "forward_ns_per_token_routed",
                                      "max_over_mean",
                                      "max_violation",
                                      "entropy",
                                      "gini",
                                      "effective_experts",
                                      "dead_experts",
                                      "random_floor_cv",
                                      "random_floor_max_violation",
                                      "random_floor_dropped",
                                      "dropped_assignments",
                                      "dropped_tokens",
                                      "train_dropped_assignments",
                                      "peak_bytes",
                                      "accounted_bytes",
                                      "accounted_bytes_moments",
                                      "optimiser_ns_per_token",
                                      "data_ns_per_token",
                                      "cv"};
  for (size_t i = 0; i < MG_COUNT(names); i++) assert_true(training_metric(&r, names[i]) >= 0.0);
  assert_near(training_metric(&r, "gate_ns_per_token"),
              training_metric(&r, "ns_per_token_gate") + training_metric(&r, "ns_per_token_selection"), 1e-6);
  assert_true(training_metric(&r, "train_dropped_assignments") > 0.0); /* capacity factor 1 cannot keep all */
  assert_true(training_metric(&r, "dropped_flops_per_token") > 0.0);
  const double kept = training_metric(&r, "useful_flops_per_token"),
               dropped = training_metric(&r, "dropped_flops_per_token");
  assert_near(kept + dropped, 2 * 2 * 3 * 16 * 16, 1e-6); /* k = 2 choices of 3 products of 16 x 16 */
  training_close(&r);
}

/* Every row of shares sums to 1, and there are as many rows as the axes say. */
static void check_rows(const json_t *layer, size_t rows, size_t experts) {
  assert_int_equal(json_array_size(layer), rows);
  for (size_t i = 0; i < rows; i++) {
    const json_t *row = json_array_get(layer, i);
    double sum = 0.0;
    assert_int_equal(json_array_size(row), experts);
    for (size_t e = 0; e < experts; e++) sum += json_number_value(json_array_get(row, e));
    assert_near(sum, 1.0, 1e-9);
  }
}

/* The largest and smallest element of the first parameter whose name ends so. */
static void extremes(const training *r, const char *end, float *least, float *most) {
  mg_params *params = mg_model_params(r->model);
  *least = INFINITY;
  *most = -INFINITY;
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    const mg_param *param = mg_params_at(params, i);
    const size_t length = strlen(param->name), tail = strlen(end);
    if (length < tail || strcmp(param->name + length - tail, end) != 0) continue;
    for (int64_t j = 0; j < mg_tensor_count(&param->value); j++) {
      *least = fminf(*least, ((const float *)param->value.data)[j]);
      *most = fmaxf(*most, ((const float *)param->value.data)[j]);
    }
    return;
  }
  fail_msg("no parameter ends with %s", end);
}

static void routers_get_the_token_counts_before_and_the_load_after_a_step(void **state) {
  (void)state;
  static const char *const routers[] = {"{'name': 'hash', 'kind': 'balanced'}",
                                        "{'name': 'deepseek', 'k': 2, 'rate': 0.01}"};
  static const char *const buffers[] = {"table", "bias"};
  for (int i = 0; i < 2; i++) {
    char text[512];
    float least, most;
    training r;
    snprintf(text, sizeof text,
             "{'layers': 1, 'width': 16, 'heads': 2, 'vocabulary': 24, 'feed_forward':"
             " {'kind': 'moe', 'experts': 4, 'width': 16, 'router': %s}}",
             routers[i]);
    training_open(&r, text, training_short);
    assert_ok(r.world.context, training_run(&r));
    extremes(&r, buffers[i], &least, &most);
    assert_true(i == 0 ? least >= 1 && most <= 4 : least < 0 && most > 0);
    assert_near(training_metric(&r, "dead_experts"), 0, 0);
    training_close(&r);
  }
}

/* Expert choice has room for all 4 experts and uses 1.5 on average: each takes 24 of a batch of 64 tokens. */
static void analytic_costs_know_that_most_choices_are_not_made(void **state) {
  (void)state;
  training r;
  training_open(&r,
                "{'layers': 1, 'width': 16, 'heads': 2, 'vocabulary': 24, 'feed_forward': {'kind': 'moe', 'experts': 4,"
                " 'width': 16, 'router': {'name': 'expert_choice', 'factor': 1.5}}}",
                training_short);
  assert_ok(r.world.context, training_run(&r));
  double flops[MG_PART_COUNT];
  mg_model_flops_per_token(r.model, 16, flops);
  assert_near(training_metric(&r, "flops_per_token_routed") / flops[MG_PART_ROUTED], 1, 1e-9);
  assert_near(training_metric(&r, "max_over_mean"), 1, 1e-9);
  training_close(&r);
}

/* One draw for a whole batch of 4 sequences: the 11 of the validation are three batches, which go to different experts. */
static void every_batch_of_an_evaluation_draws_anew(void **state) {
  (void)state;
  training r;
  training_open(
      &r,
      "{'layers': 1, 'width': 16, 'heads': 2, 'vocabulary': 24, 'feed_forward': {'kind': 'moe', 'experts': 16,"
      " 'width': 4, 'router': {'name': 'random', 'k': 1, 'scope': 'batch'}}}",
      training_short);
  assert_ok(r.world.context, training_run(&r));
  assert_near(training_metric(&r, "dead_experts"), 16 - 3, 0);
  training_close(&r);
}

static void tables_hold_the_load_over_training_and_per_domain(void **state) {
  (void)state;
  training r;
  training_open(&r, training_moe, training_short);
  assert_ok(r.world.context, training_run(&r));
  const json_t *load = training_table(&r, "load"), *domains = training_table(&r, "domain_load"),
               *losses = training_table(&r, "losses");
  const size_t times = json_array_size(json_object_get(load, "tokens"));
  assert_int_equal(times, 30); /* 60 steps in windows of 60 / 24 = 2 */
  assert_int_equal(json_integer_value(json_array_get(json_object_get(load, "layers"), 0)), 1);
  check_rows(json_array_get(json_object_get(load, "values"), 0), times, 4);
  check_rows(json_array_get(json_object_get(domains, "values"), 0), DOMAINS, 4);
  assert_string_equal(json_string_value(json_array_get(json_object_get(domains, "domains"), 1)), "odd");
  assert_int_equal(json_array_size(json_array_get(json_object_get(losses, "values"), 0)), times);
  const json_t *series = json_object_get(r.result, "series");
  assert_int_equal(json_array_size(json_object_get(series, "train_loss")), 60);
  assert_int_equal(json_array_size(json_object_get(series, "loss")), 9); /* every 60 / 8 = 7 steps, and at the end */
  assert_int_equal(json_array_size(json_object_get(series, "cv")), times);
  const json_t *last = json_array_get(json_object_get(series, "loss"), 8);
  assert_near(json_number_value(json_array_get(last, 0)), 3840, 0);
  assert_near(json_number_value(json_array_get(last, 1)), training_metric(&r, "loss"), 0);
  training_close(&r);
}

/* Point i of a series. */
static double point_of(const training *r, const char *name, size_t i) {
  const json_t *points = json_object_get(json_object_get(r->result, "series"), name);
  return json_number_value(json_array_get(json_array_get(points, i), 1));
}

/* In a run of 20 steps each window is one step, so that its shares say what its balance is: the mean over both layers of
 * the deviation of 4 shares over their mean, and of the largest over the mean, less 1. */
static void balance_over_training_is_that_of_the_load_table(void **state) {
  (void)state;
  training r;
  training_open(&r,
                "{'layers': 2, 'width': 16, 'heads': 2, 'vocabulary': 24, 'feed_forward': {'kind': 'moe', 'experts': 4,"
                " 'width': 16, 'router': {'name': 'topk', 'k': 2}, 'capacity': 1.0}}",
                "{'tokens': 1280, 'batch': 4, 'sequence': 16, 'rate': 0.02, 'final_tokens': -1}");
  assert_ok(r.world.context, training_run(&r));
  const json_t *layers = json_object_get(training_table(&r, "load"), "values");
  double dropped = 0.0;
  for (size_t i = 0; i < 20; i++) {
    double cv = 0.0, violation = 0.0;
    for (size_t l = 0; l < 2; l++) {
      double squares = 0.0, most = 0.0;
      for (size_t e = 0; e < 4; e++) {
        const double share = json_number_value(json_array_get(json_array_get(json_array_get(layers, l), i), e));
        squares += (4 * share - 1) * (4 * share - 1);
        most = fmax(most, 4 * share);
      }
      cv += sqrt(squares / 4) / 2;
      violation += (most - 1) / 2;
    }
    assert_true(violation > 0.0);
    assert_near(point_of(&r, "cv", i), cv, 1e-9);
    assert_near(point_of(&r, "max_violation", i), violation, 1e-9);
    dropped += point_of(&r, "dropped_assignments", i) / 20;
  }
  assert_true(dropped > 0.0);
  assert_near(dropped, training_metric(&r, "train_dropped_assignments"), 1e-9);
  training_close(&r);
}

static void the_same_seed_gives_the_same_bits(void **state) {
  (void)state;
  training a, b;
  training_open(&a, training_moe, training_short);
  training_open(&b, training_moe, training_short);
  assert_ok(a.world.context, training_run(&a));
  assert_ok(b.world.context, training_run(&b));
  training_assert_same(&a, &b);
  assert_near(training_metric(&a, "loss"), training_metric(&b, "loss"), 0);
  training_close(&a);
  training_close(&b);
}

/* Sanitizers keep shadow memory beside every byte, so what a process holds says nothing there. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MG_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MG_SANITIZED 1
#endif
#endif

/* Some 60 MB, so that what the process holds anyway does not decide. */
static void the_process_holds_no_more_than_the_account_says(void **state) {
  (void)state;
#ifdef MG_SANITIZED
  skip();
#endif
  training r;
  training_open(&r,
                "{'width': 128, 'vocabulary': 24, 'feed_forward': {'kind': 'moe', 'experts': 8, 'width': 128,"
                " 'router': {'name': 'topk', 'k': 2}}}",
                "{'tokens': 4096, 'batch': 32, 'sequence': 64, 'timing_steps': 1}");
  assert_ok(r.world.context, training_run(&r));
  static const char *const rows[] = {"accounted_bytes_parameters", "accounted_bytes_gradients",
                                     "accounted_bytes_moments", "accounted_bytes_activations", "accounted_bytes_other"};
  double sum = 0.0;
  for (size_t i = 0; i < MG_COUNT(rows); i++) sum += training_metric(&r, rows[i]);
  assert_near(sum, training_metric(&r, "accounted_bytes"), 0.5);
  assert_true(sum > 3e7);
  assert_true(training_metric(&r, "peak_over_accounted") > 0.5);
  assert_true(training_metric(&r, "peak_over_accounted") < 1.3);
  training_close(&r);
}

/* Two batches of half the size are one step with the same gradient, but for the order of sums. */
static void accumulated_batches_make_one_step(void **state) {
  (void)state;
  training a, b;
  training_open(&a, training_dense, training_short);
  training_open(&b, training_dense, training_short);
  json_object_set_new(a.spec, "tokens", json_integer(640));
  json_object_set_new(b.spec, "tokens", json_integer(640));
  json_object_set_new(a.spec, "precision", json_string("f32"));
  json_object_set_new(b.spec, "precision", json_string("f32"));
  json_object_set_new(b.spec, "batch", json_integer(2));
  json_object_set_new(b.spec, "accumulate", json_integer(2));
  assert_ok(a.world.context, training_run(&a));
  assert_ok(b.world.context, training_run(&b));
  assert_near(training_metric(&a, "steps"), training_metric(&b, "steps"), 0);
  assert_near(training_metric(&a, "loss"), training_metric(&b, "loss"), 1e-4);
  training_close(&a);
  training_close(&b);
}

/* A meter that shows 3 joules more each time it is read, and a clock by which every call takes 1000 ns. */
static mg_status read_joules(mg_backend *backend, double *out_joules) {
  static double drawn = 100;
  (void)backend;
  *out_joules = drawn += 3;
  return MG_OK;
}
static mg_status start_clock(mg_backend *backend) {
  return backend->plugin->synchronize(backend);
}
static mg_status stop_clock(mg_backend *backend, int64_t *out_ns) {
  *out_ns = 1000;
  return backend->plugin->synchronize(backend);
}

static void a_device_s_own_clock_and_meter_are_used(void **state) {
  (void)state;
  training r;
  training_open(&r, training_dense, training_short);
  mg_backend_plugin plugin = *r.world.backend->plugin;
  const mg_backend_plugin *without = r.world.backend->plugin;
  plugin.energy = read_joules;
  plugin.clock_start = start_clock;
  plugin.clock_stop = stop_clock;
  r.world.backend->plugin = &plugin;
  assert_ok(r.world.context, training_run(&r));
  r.world.backend->plugin = without;
  assert_near(training_metric(&r, "millijoules_per_token"), 3000.0 / 64, 1e-9); /* 64 tokens in a step */
  const double calls = training_metric(&r, "ns_per_token_head") * 64 / 1000;
  assert_near(calls, round(calls), 1e-9);
  assert_true(calls >= 3); /* forward, and the gradients of both operands */
  training_close(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_dense_model_learns),
      cmocka_unit_test(a_device_s_own_clock_and_meter_are_used),
      cmocka_unit_test(a_moe_model_learns_and_tells_how_it_routes),
      cmocka_unit_test(routers_get_the_token_counts_before_and_the_load_after_a_step),
      cmocka_unit_test(analytic_costs_know_that_most_choices_are_not_made),
      cmocka_unit_test(every_batch_of_an_evaluation_draws_anew),
      cmocka_unit_test(tables_hold_the_load_over_training_and_per_domain),
      cmocka_unit_test(balance_over_training_is_that_of_the_load_table),
      cmocka_unit_test(the_same_seed_gives_the_same_bits),
      cmocka_unit_test(the_process_holds_no_more_than_the_account_says),
      cmocka_unit_test(accumulated_batches_make_one_step),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
