/* Schedules and pipelines agree with hand calculation, time and work are conserved, and a simulation is the same every
 * time. */
#include <stdio.h>

#include "cluster/pipeline.h"
#include "cluster/simulation.h"
#include "cluster/step_cost.h"
#include "cluster/training.h"
#include "support/cluster.h"

static mg_file_world world;
static mg_context *context;
static const char *const path = world.scratch.path;

static int open_world(void **state) {
  (void)state;
  const int failed = mg_file_world_open(&world);
  context = world.context;
  return failed;
}

static int close_world(void **state) {
  (void)state;
  return mg_file_world_close(&world);
}

/* ---- overlap -------------------------------------------------------------------------------------------------- */

/* `layers` rounds of computing 3 and communicating 2 in one batch. */
static void add_rounds(mg_schedule *schedule, int32_t batch, int layers) {
  int32_t last = -1;
  for (int layer = 0; layer < layers; layer++) {
    const mg_operation compute = {
        .phase = MG_PHASE_ATTENTION, .resource = MG_RESOURCE_COMPUTE, .batch = batch, .after = {last, -1}};
    assert_ok(context, mg_schedule_add(schedule, &compute, 3, NULL, &last));
    const mg_operation network = {
        .phase = MG_PHASE_DISPATCH, .resource = MG_RESOURCE_NETWORK, .batch = batch, .after = {last, -1}};
    assert_ok(context, mg_schedule_add(schedule, &network, 2, NULL, &last));
  }
}

static void one_batch_takes_the_sum_and_two_hide_the_network(void **state) {
  (void)state;
  mg_schedule one, two;
  mg_schedule_open(context, 1, &one);
  mg_schedule_open(context, 1, &two);
  add_rounds(&one, 0, 4);
  add_rounds(&two, 0, 4);
  add_rounds(&two, 1, 4);
  mg_schedule_run(&one, 1);
  mg_schedule_run(&two, 1);
  assert_near(one.makespan_s, 4 * (3 + 2), 1e-12);
  assert_near(two.makespan_s, 8 * 3 + 2, 1e-12);
  mg_schedule_close(&one);
  mg_schedule_close(&two);
}

static void the_tax_slows_computing_alone(void **state) {
  (void)state;
  mg_schedule schedule;
  mg_schedule_open(context, 1, &schedule);
  add_rounds(&schedule, 0, 2);
  mg_schedule_run(&schedule, 1.5);
  assert_near(schedule.makespan_s, 2 * (4.5 + 2), 1e-12);
  assert_near(mg_schedule_phase_s(&schedule, MG_PHASE_ATTENTION), 9, 1e-12);
  mg_schedule_close(&schedule);
}

static void all_wait_for_the_slowest_rank(void **state) {
  (void)state;
  static const double rank_s[] = {1, 4, 2};
  const mg_operation operation = {.phase = MG_PHASE_EXPERTS, .resource = MG_RESOURCE_COMPUTE, .after = {-1, -1}};
  mg_schedule schedule;
  mg_schedule_open(context, 3, &schedule);
  assert_ok(context, mg_schedule_add(&schedule, &operation, 0, rank_s, NULL));
  mg_schedule_run(&schedule, 1);
  assert_near(schedule.makespan_s, 4, 0);
  for (int64_t r = 0; r < 3; r++) assert_near(mg_schedule_busy_s(&schedule, MG_RESOURCE_COMPUTE, r), rank_s[r], 0);
  mg_schedule_close(&schedule);
}

/* No two operations of a resource run at once, and none before what it waits for. */
static void operations_do_not_overlap_on_a_resource(void **state) {
  (void)state;
  mg_schedule schedule;
  mg_schedule_open(context, 1, &schedule);
  add_rounds(&schedule, 0, 7);
  add_rounds(&schedule, 1, 5);
  mg_schedule_run(&schedule, 1);
  for (size_t i = 0; i < schedule.count; i++) {
    const mg_operation *a = &schedule.operations[i];
    if (a->after[0] >= 0) {
      const mg_operation *before = &schedule.operations[a->after[0]];
      assert_true(a->start_s >= before->start_s + before->seconds);
    }
    for (size_t j = 0; j < i; j++) {
      const mg_operation *b = &schedule.operations[j];
      assert_true(a->resource != b->resource || a->start_s >= b->start_s + b->seconds ||
                  b->start_s >= a->start_s + a->seconds);
    }
  }
  mg_schedule_close(&schedule);
}

/* ---- pipelines ------------------------------------------------------------------------------------------------ */

enum { STAGES = 4 };

/* Forward 1, backward 2 of which weights 1, both beside each other 2.5. */
static mg_stage_costs even_stages(double send_s) {
  static double forward[STAGES] = {1, 1, 1, 1}, full[STAGES] = {2, 2, 2, 2}, inputs[STAGES] = {1, 1, 1, 1};
  static double weights[STAGES] = {1, 1, 1, 1}, paired[STAGES] = {2.5, 2.5, 2.5, 2.5};
  return (mg_stage_costs){STAGES, forward, full, inputs, weights, paired, send_s};
}

static double makespan(mg_pipeline_order order, int64_t batches, mg_pipeline *out) {
  const mg_stage_costs costs = even_stages(0);
  assert_ok(context, mg_pipeline_run(context, order, &costs, batches, out));
  const double seconds = out->makespan_s;
  double busy = out->idle_s;
  for (int kind = 0; kind < MG_TASK_KINDS; kind++) busy += out->kind_s[kind];
  assert_near(busy, seconds, 1e-9);
  return seconds;
}

/* Every micro-batch passes every stage once each way, and each gradient of weights is computed once. */
static void dualpipe_does_all_work_once(void **state) {
  (void)state;
  mg_pipeline pipeline;
  for (int64_t batches = 8; batches <= 20; batches += 4) {
    int64_t forwards = 0, backwards = 0, inputs = 0, weights = 0;
    makespan(MG_PIPELINE_DUALPIPE, batches, &pipeline);
    for (size_t i = 0; i < pipeline.count; i++) {
      const mg_task *t = &pipeline.tasks[i];
      forwards += t->kind == MG_TASK_FORWARD || t->kind == MG_TASK_PAIR;
      backwards += t->kind == MG_TASK_BACKWARD || t->kind == MG_TASK_INPUTS || t->kind == MG_TASK_PAIR;
      inputs += t->kind == MG_TASK_INPUTS;
      weights += t->kind == MG_TASK_WEIGHTS;
    }
    assert_int_equal(forwards, batches * STAGES);
    assert_int_equal(backwards, batches * STAGES);
    assert_int_equal(inputs, weights);
    mg_pipeline_close(&pipeline);
  }
}

static void dualpipe_refuses_what_does_not_fit(void **state) {
  (void)state;
  mg_pipeline pipeline;
  mg_stage_costs costs = even_stages(0);
  assert_refused(context, MG_USAGE, "4 stages and 6 micro-batches",
                 mg_pipeline_run(context, MG_PIPELINE_DUALPIPE, &costs, 6, &pipeline));
  costs.stages = 3;
  assert_refused(context, MG_USAGE, "even number of stages",
                 mg_pipeline_run(context, MG_PIPELINE_DUALPIPE, &costs, 12, &pipeline));
}

static void sending_delays_each_stage(void **state) {
  (void)state;
  mg_pipeline pipeline;
  const mg_stage_costs costs = even_stages(0.5);
  assert_ok(context, mg_pipeline_run(context, MG_PIPELINE_GPIPE, &costs, 1, &pipeline));
  assert_near(pipeline.makespan_s, STAGES * 3 + 2 * (STAGES - 1) * 0.5, 1e-9);
  mg_pipeline_close(&pipeline);
}

static void stages_are_cut_evenly(void **state) {
  (void)state;
  static const double cost[] = {1, 1, 1, 1, 1, 1, 4};
  int64_t first[4];
  assert_ok(context, mg_cut_stages(context, cost, 7, 3, first));
  assert_int_equal(first[0], 0);
  assert_int_equal(first[2], 6);
  assert_int_equal(first[3], 7);
  assert_in_range(first[1], 2, 4);
}

/* ---- simulations ---------------------------------------------------------------------------------------------- */

static double metric(const json_t *result, const char *name) {
  const json_t *value = json_object_get(json_object_get(result, "metrics"), name);
  if (!json_is_number(value)) fail_msg("no metric %s", name);
  return json_number_value(value);
}

static json_t *simulate(const char *step, int ranks, const char *more) {
  json_t *spec = mg_cluster_specification(step, ranks, more), *result = NULL;
  assert_ok(context, mg_simulation_run(context, spec, &result));
  json_decref(spec);
  return result;
}

static void simulations_repeat_to_the_bit(void **state) {
  (void)state;
  json_t *a = simulate("decode", 8, "{\"placement\": \"eplb\"}"),
         *b = simulate("decode", 8, "{\"placement\": \"eplb\"}");
  assert_true(json_equal(a, b));
  json_decref(a);
  json_decref(b);
}

/* On one rank nothing is sent, and the time is that of the parts. */
static void one_rank_sends_nothing(void **state) {
  (void)state;
  json_t *r = simulate("decode", 1, "{}");
  assert_near(metric(r, "near_bytes_per_rank") + metric(r, "far_bytes_per_rank"), 0, 0);
  assert_near(metric(r, "imbalance_ms"), 0, 1e-12);
  assert_near(metric(r, "step_ms"), metric(r, "attention_ms") + metric(r, "experts_ms") + metric(r, "head_ms"), 1e-9);
  assert_near(metric(r, "rank_max_over_mean"), 1, 1e-12);
  json_decref(r);
}

/* Four layers, 64 rows in a product of 512 x 1000 in bf16: bytes and FLOPs by hand. */
static void the_head_by_hand(void **state) {
  (void)state;
  json_t *r = simulate("decode", 1, "{}");
  const double bytes = 1000 * 512 * 2 + 64 * 512 * 2 + 64 * 1000 * 2, flops = 2.0 * 64 * 512 * 1000;
  assert_near(metric(r, "head_ms"), (bytes / 1e12 + flops / 1e15) * 1e3, 1e-9);
  json_decref(r);
}

/* With one node every message is near; with nodes of one rank every message is far, and the sums are the same. */
static void messages_cross_the_links_there_are(void **state) {
  (void)state;
  json_t *near = simulate("decode", 4, "{}");
  json_t *spec = mg_cluster_specification("decode", 4, "{}"), *far;
  json_object_set_new(json_object_get(spec, "accelerator"), "node_ranks", json_integer(1));
  assert_ok(context, mg_simulation_run(context, spec, &far));
  assert_near(metric(near, "far_bytes_per_rank"), 0, 0);
  assert_near(metric(far, "near_bytes_per_rank"), 0, 0);
  assert_near(metric(near, "near_bytes_per_rank"), metric(far, "far_bytes_per_rank"), 1e-6);
  json_decref(near);
  json_decref(far);
  json_decref(spec);
}

static void busy_and_idle_make_the_step(void **state) {
  (void)state;
  json_t *r = simulate("prefill", 8, "{\"kernels\": \"normal\", \"overlap\": \"two_batch\", \"context\": 32}");
  assert_near(metric(r, "busy_compute_ms") + metric(r, "idle_compute_ms"), metric(r, "step_ms"), 1e-9);
  assert_near(metric(r, "busy_network_ms") + metric(r, "idle_network_ms"), metric(r, "step_ms"), 1e-9);
  assert_true(metric(r, "idle_compute_ms") >= 0 && metric(r, "idle_network_ms") >= 0);
  assert_true(metric(r, "imbalance_ms") > 0);
  json_decref(r);
}

/* A network that copies by itself takes no units from computing: two batches hide what they can, and nothing is slower. */
static void a_network_that_copies_by_itself_costs_no_computing(void **state) {
  (void)state;
  json_t *alone = simulate("prefill", 8, "{\"kernels\": \"normal\", \"context\": 32, \"comm_sms\": 0}");
  json_t *taxed = simulate("prefill", 8, "{\"kernels\": \"normal\", \"context\": 32, \"overlap\": \"two_batch\"}");
  json_t *beside =
      simulate("prefill", 8, "{\"kernels\": \"normal\", \"context\": 32, \"overlap\": \"two_batch\", \"comm_sms\": 0}");
  assert_true(metric(beside, "step_ms") < metric(alone, "step_ms"));
  assert_near(metric(taxed, "busy_compute_ms"), metric(beside, "busy_compute_ms") * 132 / (132 - 20), 1e-9);
  json_decref(alone);
  json_decref(taxed);
  json_decref(beside);
}

static void a_capacity_drops_what_the_step_does_not_wait_for(void **state) {
  (void)state;
  json_t *all = simulate("decode", 8, "{}"), *capped = simulate("decode", 8, "{\"capacity\": 1}");
  assert_near(metric(all, "dropped_assignments"), 0, 0);
  assert_true(metric(capped, "dropped_assignments") > 0.1);
  assert_true(metric(capped, "rank_max_over_mean") < metric(all, "rank_max_over_mean"));
  json_decref(all);
  json_decref(capped);
}

/* A training step of as many tokens drops what a forward step drops. */
static void training_says_what_it_drops(void **state) {
  (void)state;
  json_t *step = simulate("decode", 8, "{\"capacity\": 1}"), *training = simulate("training", 8, "{\"capacity\": 1}");
  assert_near(metric(training, "dropped_assignments"), metric(step, "dropped_assignments"), 1e-12);
  json_decref(step);
  json_decref(training);
}

static void replanning_moves_within_its_budget(void **state) {
  (void)state;
  const char *shifted = "{\"trace\": {\"kind\": \"shift\", \"tokens\": 1024}, \"plan_tokens\": 512, \"offset\": 512, "
                        "\"placement\": \"eplb\", \"replan_moves\": 4}";
  json_t *kept = simulate("decode", 8,
                          "{\"trace\": {\"kind\": \"shift\", \"tokens\": 1024}, \"plan_tokens\": 512, "
                          "\"offset\": 512, \"placement\": \"eplb\"}");
  json_t *moved = simulate("decode", 8, shifted);
  assert_in_range((uintmax_t)metric(moved, "moved_experts"), 1, 16);
  assert_true(metric(moved, "move_ms") > 0);
  assert_true(metric(moved, "rank_max_over_mean") < metric(kept, "rank_max_over_mean"));
  json_decref(kept);
  json_decref(moved);
}

static void training_conserves_time(void **state) {
  (void)state;
  for (int order = 0; order < 3; order++) {
    static const char *const orders[] = {"gpipe", "1f1b", "dualpipe"};
    char more[256];
    snprintf(more, sizeof more,
             "{\"kernels\": \"normal\", \"schedule\": \"%s\", \"stages\": 2, \"replicas\": 2, \"micro_batches\": 8, "
             "\"context\": 64}",
             orders[order]);
    json_t *r = simulate("training", 4, more);
    double parts = metric(r, "bubble_ms") + metric(r, "optimiser_ms");
    for (int kind = 0; kind < MG_TASK_KINDS; kind++) {
      char name[64];
      snprintf(name, sizeof name, "%s_ms", mg_task_names[kind]);
      parts += json_number_value(json_object_get(json_object_get(r, "metrics"), name));
    }
    assert_near(parts, metric(r, "step_ms"), 1e-9);
    assert_near(metric(r, "ranks"), 16, 0);
    assert_near(metric(r, "cluster_tokens_per_second") * metric(r, "step_ms") / 1e3, 64 * 4 * 2 * 8, 1e-6);
    json_decref(r);
  }
}

/* Bytes and FLOPs of a product of 64 rows in bf16. */
static double product_ms(double outputs, double inputs) {
  const double bytes = 2 * (outputs * inputs + 64 * inputs + 64 * outputs), flops = 2.0 * 64 * outputs * inputs;
  return (bytes / 1e12 + flops / 1e15) * 1e3;
}

static json_t *train_alone(int layers, int prediction_layers, bool recompute) {
  json_t *spec = mg_cluster_specification("training", 1, "{\"context\": 64, \"compare\": false}"), *result;
  json_object_set_new(json_object_get(spec, "model"), "layers", json_integer(layers));
  json_object_set_new(json_object_get(spec, "model"), "prediction_layers", json_integer(prediction_layers));
  json_object_set_new(spec, "recompute", json_boolean(recompute));
  assert_ok(context, mg_simulation_run(context, spec, &result));
  json_decref(spec);
  return result;
}

/* Beside a plain block, a prediction block has a projection from two widths to one, and a head. */
static void a_prediction_block_by_hand(void **state) {
  (void)state;
  json_t *plain = train_alone(5, 0, false), *predicting = train_alone(4, 1, false);
  assert_near(metric(predicting, "forward_ms") - metric(plain, "forward_ms"),
              product_ms(512, 2 * 512) + product_ms(1000, 512), 1e-9);
  assert_true(metric(predicting, "memory_other_bytes") - metric(plain, "memory_other_bytes") == 2 * 512 * 512 * 2);
  json_decref(plain);
  json_decref(predicting);
}

/* Two norms of 64 tokens in each of 4 layers, read and written once more in bf16. */
static void recomputing_norms_by_hand(void **state) {
  (void)state;
  json_t *kept = train_alone(4, 0, false), *again = train_alone(4, 0, true);
  assert_near(metric(again, "backward_ms") - metric(kept, "backward_ms"), 4 * 64 * 2 * (2 + 2) * 512 / 1e12 * 1e3,
              1e-9);
  assert_near(metric(again, "forward_ms"), metric(kept, "forward_ms"), 0);
  json_decref(kept);
  json_decref(again);
}

static void time_lines_are_json(void **state) {
  (void)state;
  char more[128];
  snprintf(more, sizeof more, "{\"timeline\": \"%s\"}", path);
  json_t *r = simulate("decode", 4, more);
  json_t *file = json_load_file(path, 0, NULL), *event;
  assert_non_null(file);
  double end = 0;
  size_t index;
  json_array_foreach(json_object_get(file, "traceEvents"), index, event) {
    if (strcmp(json_string_value(json_object_get(event, "ph")), "X") != 0) continue;
    end = fmax(end, json_number_value(json_object_get(event, "ts")) + json_number_value(json_object_get(event, "dur")));
  }
  assert_near(end / 1e3, metric(r, "step_ms"), 1e-5);
  json_decref(file);
  json_decref(r);
}

/* The grid that the serving simulation asks for its steps is the simulator's own: tokens of the instance, the mean
 * context of a prompt's tokens half its length. */
static void steps_fill_the_grid_of_serving(void **state) {
  (void)state;
  json_t *spec = mg_cluster_specification("prefill", 4, "{\"context\": 64}"), *costs, *grid;
  mg_step_cost *table;
  double seconds;
  grid = json_pack("{s:[i,i], s:[i,i]}", "tokens", 256, 1024, "context", 16, 32);
  assert_ok(context, mg_simulation_step_costs(context, spec, grid, &costs));
  assert_ok(context, mg_step_cost_from_json(context, "test", costs, &table));
  assert_ok(context, mg_step_cost_seconds(table, 256, 32, &seconds));
  json_t *same = simulate("prefill", 4, "{\"context\": 64}");
  assert_near(seconds * 1e3, metric(same, "step_ms"), 1e-9);
  mg_step_cost_destroy(table);
  json_decref(same);
  json_decref(costs);
  json_decref(grid);
  json_object_set_new(spec, "step", json_string("training"));
  assert_refused(context, MG_USAGE, "step = \"prefill\"", mg_simulation_step_costs(context, spec, NULL, &costs));
  json_decref(spec);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(one_batch_takes_the_sum_and_two_hide_the_network),
                                     cmocka_unit_test(the_tax_slows_computing_alone),
                                     cmocka_unit_test(all_wait_for_the_slowest_rank),
                                     cmocka_unit_test(operations_do_not_overlap_on_a_resource),
                                     cmocka_unit_test(dualpipe_does_all_work_once),
                                     cmocka_unit_test(dualpipe_refuses_what_does_not_fit),
                                     cmocka_unit_test(sending_delays_each_stage),
                                     cmocka_unit_test(stages_are_cut_evenly),
                                     cmocka_unit_test(simulations_repeat_to_the_bit),
                                     cmocka_unit_test(one_rank_sends_nothing),
                                     cmocka_unit_test(the_head_by_hand),
                                     cmocka_unit_test(messages_cross_the_links_there_are),
                                     cmocka_unit_test(busy_and_idle_make_the_step),
                                     cmocka_unit_test(a_network_that_copies_by_itself_costs_no_computing),
                                     cmocka_unit_test(a_capacity_drops_what_the_step_does_not_wait_for),
                                     cmocka_unit_test(training_says_what_it_drops),
                                     cmocka_unit_test(replanning_moves_within_its_budget),
                                     cmocka_unit_test(training_conserves_time),
                                     cmocka_unit_test(a_prediction_block_by_hand),
                                     cmocka_unit_test(recomputing_norms_by_hand),
                                     cmocka_unit_test(time_lines_are_json),
                                     cmocka_unit_test(steps_fill_the_grid_of_serving)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
