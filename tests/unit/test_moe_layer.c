/* The MoE layer: its output against a formula written out on the host, capacity policies, and losses. */
#include "support/moe_world.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { T = 12, D = 6, H = 5, E = 4, NUMBERS_MAX = 4096 };

static const mg_moe_place place = {.width = D, .vocabulary = 0, .layer = 1, .prefix = "ffn.", .seed = 7};

static mg_moe *make(moe_world *world, const char *text) {
  json_t *spec = moe_json(text);
  mg_moe *moe;
  assert_ok(world->context, mg_moe_create(world->context, world->registry, spec, place, world->params, &moe));
  json_decref(spec);
  return moe;
}

/* Larger weights than the initial ones, so that differences show. */
static void spread(moe_world *world, double deviation) {
  double numbers[NUMBERS_MAX];
  for (int64_t i = 0; i < mg_params_count(world->params); i++) {
    const mg_param *param = mg_params_at(world->params, i);
    if (param->fixed) continue;
    const int64_t count = mg_tensor_count(&param->value);
    moe_normal((uint64_t)i + 1, numbers, count);
    for (int64_t j = 0; j < count; j++) numbers[j] *= deviation;
    moe_set_param(world, param->name, numbers, count);
  }
}

static mg_var *forward(moe_world *world, mg_moe *moe, const double *x, int64_t tokens, mg_moe_record *record) {
  const mg_moe_input input = {.x = moe_upload(world, x, tokens, D), .sequence_tokens = tokens ? tokens : 1};
  mg_var *y = mg_moe_forward(moe, world->tape, &input, record);
  assert_ok(world->context, mg_tape_status(world->tape));
  return y;
}

static void param(moe_world *world, const char *name, double *out, int64_t count) {
  mg_var *value = mg_params_var(world->params, world->tape, mg_params_find(world->params, name));
  moe_read(world, value, out, count);
}

static double silu(double x) {
  return x / (1 + exp(-x));
}

/* One expert on one token: gate, up [H,D], down [D,H]. */
static void expert(const double *gate, const double *up, const double *down, const double *x, int64_t hidden, double w,
                   double *y) {
  double h[64];
  for (int64_t i = 0; i < hidden; i++) {
    double g = 0, u = 0;
    for (int64_t d = 0; d < D; d++) {
      g += gate ? gate[i * D + d] * x[d] : 0;
      u += up[i * D + d] * x[d];
    }
    h[i] = gate ? silu(g) * u : silu(u);
  }
  for (int64_t d = 0; d < D; d++)
    for (int64_t i = 0; i < hidden; i++) y[d] += w * down[d * hidden + i] * h[i];
}

static const char *name_in(const char *group, const char *part) {
  static char name[64];
  snprintf(name, sizeof name, "ffn.%s.%s", group, part);
  return name;
}

/* ---- the formula ------------------------------------------------------------------------------------------- */

/* `beside` names a dense feed-forward of width 6 that every token uses as well; NULL = none. */
static void check_formula(bool gated, const char *beside, const char *how) {
  moe_world world;
  moe_world_open(&world, MG_F64);
  char text[512];
  snprintf(text, sizeof text, "{'experts': 4, 'width': 5, 'gated': %s, 'router': {'name': 'topk', 'k': 2}%s}",
           gated ? "true" : "false", how);
  mg_moe *moe = make(&world, text);
  const bool scaled = strstr(how, "scale_inputs") != NULL;
  spread(&world, 0.5);
  double x[T * D], y[T * D], w[T * 2], gate[E * H * D], up[E * H * D], down[E * D * H], sg[6 * D], su[6 * D], sd[6 * D];
  int32_t ids[T * 2];
  moe_normal(99, x, T * D);
  mg_moe_record record;
  moe_read(&world, forward(&world, moe, x, T, &record), y, T * D);
  moe_read_ids(&world, record.route.ids, ids, T * 2);
  moe_read(&world, record.route.weights, w, T * 2);
  if (gated) param(&world, "ffn.experts.gate", gate, E * H * D);
  param(&world, "ffn.experts.up", up, E * H * D);
  param(&world, "ffn.experts.down", down, E * D * H);
  if (beside && gated) param(&world, name_in(beside, "gate"), sg, 6 * D);
  if (beside) param(&world, name_in(beside, "up"), su, 6 * D);
  if (beside) param(&world, name_in(beside, "down"), sd, 6 * D);
  for (int64_t t = 0; t < T; t++) {
    double want[D] = {0};
    for (int64_t s = 0; s < 2; s++) {
      const int64_t e = ids[t * 2 + s];
      const double weight = w[t * 2 + s];
      double input[D];
      for (int64_t d = 0; d < D; d++) input[d] = x[t * D + d] * (scaled ? weight : 1);
      expert(gated ? gate + e * H * D : NULL, up + e * H * D, down + e * D * H, input, H, scaled ? 1 : weight, want);
    }
    if (beside) expert(gated ? sg : NULL, su, sd, x + t * D, 6, 1, want);
    for (int64_t d = 0; d < D; d++) assert_close(y[t * D + d], want[d], 1e-12);
  }
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

static void output_is_the_weighted_sum_of_the_chosen_experts(void **state) {
  (void)state;
  check_formula(true, NULL, "");
}
static void plain_experts_apply_the_activation_once(void **state) {
  (void)state;
  check_formula(false, NULL, "");
}
static void weights_multiply_inputs_where_asked(void **state) {
  (void)state;
  check_formula(true, NULL, ", 'scale_inputs': true");
  check_formula(false, "shared", ", 'scale_inputs': true, 'shared': {'experts': 2, 'width': 3}");
}
static void a_parallel_feed_forward_adds_to_every_token(void **state) {
  (void)state;
  check_formula(true, "parallel", ", 'parallel': {'width': 6}");
  check_formula(false, "parallel", ", 'parallel': {'width': 6}");
}
static void shared_experts_add_to_every_token(void **state) {
  (void)state;
  check_formula(true, "shared", ", 'shared': {'experts': 2, 'width': 3}");
  check_formula(false, "shared", ", 'shared': {'experts': 2, 'width': 3}");
}

/* ---- capacity ---------------------------------------------------------------------------------------------- */

static const char *const policies[] = {"'none'", "'drop', 'factor': 0.75",
                                       "'drop', 'factor': 0.75, 'order': 'priority'", "'pad', 'factor': 0.75",
                                       "'reroute', 'factor': 1.0"};

static mg_moe *make_policy(moe_world *world, const char *policy) {
  char text[512];
  snprintf(text, sizeof text,
           "{'experts': 4, 'width': 5, 'router': {'name': 'topk', 'k': 2}, 'capacity': {'policy': %s}}", policy);
  mg_moe *moe = make(world, text);
  spread(world, 0.5);
  return moe;
}

static void no_expert_gets_more_than_its_capacity_and_choices_add_up(void **state) {
  (void)state;
  for (size_t i = 0; i < MG_COUNT(policies); i++) {
    moe_world world;
    moe_world_open(&world, MG_F32);
    mg_moe *moe = make_policy(&world, policies[i]);
    double x[T * D], demand[E], kept[E];
    moe_normal(3, x, T * D);
    mg_moe_record record;
    mg_moe_counts counts;
    forward(&world, moe, x, T, &record);
    assert_ok(world.context, mg_moe_count(moe, world.tape, &record, demand, kept, &counts));
    assert_int_equal(counts.demand, 2 * T);
    assert_int_equal(counts.kept + counts.dropped, counts.demand);
    double demanded = 0, reached = 0;
    for (int e = 0; e < E; e++) {
      demanded += demand[e];
      reached += kept[e];
      if (record.capacity) assert_true(kept[e] <= (double)record.capacity);
    }
    assert_close(demanded, (double)counts.demand, 0);
    assert_close(reached, (double)counts.kept, 0);
    mg_moe_destroy(moe);
    moe_world_close(&world);
  }
}

/* 12 tokens, 2 choices, 4 experts, factor 0.75: floor(0.75 * 24 / 4) = 4. */
static void capacity_follows_the_formula_and_never_drops_below_one(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  mg_moe *moe = make_policy(&world, "'drop', 'factor': 0.75");
  double x[T * D];
  moe_normal(3, x, T * D);
  mg_moe_record record;
  forward(&world, moe, x, T, &record);
  assert_int_equal(record.capacity, 4);
  forward(&world, moe, x, 1, &record);
  assert_int_equal(record.capacity, 1);
  forward(&world, moe, x, 0, &record);
  assert_int_equal(record.capacity, 1);
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

static void a_factor_below_one_token_is_refused(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  mg_moe *moe = make_policy(&world, "'drop', 'factor': 0.1");
  double x[T * D];
  moe_normal(3, x, T * D);
  const mg_moe_input input = {.x = moe_upload(&world, x, T, D), .sequence_tokens = T};
  mg_moe_record record;
  assert_null(mg_moe_forward(moe, world.tape, &input, &record));
  assert_refused(world.context, MG_USAGE, "use at least 0.166", mg_tape_status(world.tape));
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

/* Outputs of two policies on the same weights and input. */
static void run_policy(const char *policy, const char *router, double *y, mg_moe_counts *counts) {
  moe_world world;
  moe_world_open(&world, MG_F64);
  char text[512];
  snprintf(text, sizeof text, "{'experts': 4, 'width': 5, 'router': %s, 'capacity': {'policy': %s}}", router, policy);
  mg_moe *moe = make(&world, text);
  spread(&world, 0.5);
  double x[T * D];
  moe_normal(3, x, T * D);
  mg_moe_record record;
  moe_read(&world, forward(&world, moe, x, T, &record), y, T * D);
  assert_ok(world.context, mg_moe_count(moe, world.tape, &record, NULL, NULL, counts));
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

static void padding_changes_the_cost_and_not_the_numbers(void **state) {
  (void)state;
  static const char *const pairs[][2] = {
      {"'drop', 'factor': 0.75", "'pad', 'factor': 0.75"},
      {"'drop', 'factor': 0.75, 'order': 'priority'", "'pad', 'factor': 0.75, 'order': 'priority'"},
      {"'none'", "'pad', 'factor': 4"}};
  for (size_t i = 0; i < MG_COUNT(pairs); i++) {
    double packed[T * D], padded[T * D];
    mg_moe_counts packed_counts, padded_counts;
    run_policy(pairs[i][0], "{'name': 'topk', 'k': 2}", packed, &packed_counts);
    run_policy(pairs[i][1], "{'name': 'topk', 'k': 2}", padded, &padded_counts);
    for (int64_t j = 0; j < T * D; j++) assert_close(packed[j], padded[j], 1e-13);
    assert_int_equal(packed_counts.kept, padded_counts.kept);
    assert_int_equal(packed_counts.padded_rows, 0);
    const int64_t capacity = i == 2 ? T : 4;
    assert_int_equal(padded_counts.padded_rows, E * capacity - padded_counts.kept);
    assert_close(padded_counts.padded_flops, (double)padded_counts.padded_rows * 2 * 3 * D * H, 0);
  }
}

static void rerouting_loses_fewer_choices_than_dropping(void **state) {
  (void)state;
  double y[T * D];
  mg_moe_counts dropped, rerouted;
  run_policy("'drop', 'factor': 1", "{'name': 'topk', 'k': 2}", y, &dropped);
  run_policy("'reroute', 'factor': 1", "{'name': 'topk', 'k': 2}", y, &rerouted);
  assert_true(dropped.dropped > 0);
  assert_true(rerouted.rerouted > 0);
  assert_true(rerouted.dropped < dropped.dropped);
  assert_int_equal(rerouted.demand, dropped.demand);
}

/* Top-1 of three equal tokens with logits {3, 2, 1, 0} and room for one each: the second goes to expert 1, the third to
 * expert 2, and each weighs what the router gives that expert. */
static void a_rerouted_choice_takes_the_next_best_expert_with_room(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F64);
  mg_moe *moe = make(&world, "{'experts': 4, 'width': 5, 'router': {'name': 'switch'},"
                             " 'capacity': {'policy': 'reroute', 'factor': 1.34}}");
  double gate[E * D] = {0}, x[3 * D] = {0}, weights[3], probs[3 * E];
  for (int e = 0; e < E; e++) gate[e * D] = 3 - e;
  for (int t = 0; t < 3; t++) x[t * D] = 1;
  moe_set_param(&world, "ffn.router.gate", gate, E * D);
  mg_moe_record record;
  mg_moe_counts counts;
  forward(&world, moe, x, 3, &record);
  int32_t ids[3];
  moe_read_ids(&world, record.ids, ids, 3);
  moe_read(&world, record.weights, weights, 3);
  moe_read(&world, record.route.probs, probs, 3 * E);
  for (int t = 0; t < 3; t++) {
    assert_int_equal(ids[t], t);
    assert_close(weights[t], probs[t * E + t], 1e-7);
  }
  assert_ok(world.context, mg_moe_count(moe, world.tape, &record, NULL, NULL, &counts));
  assert_int_equal(counts.rerouted, 2);
  assert_int_equal(counts.dropped, 0);
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

static void dropped_tokens_are_those_that_lost_every_choice(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  mg_moe *moe = make(&world, "{'experts': 4, 'width': 5, 'router': {'name': 'topk', 'k': 2}, 'capacity': 0.67}");
  /* Three equal tokens want experts 0 and 1; C = floor(0.67 * 6 / 4) = 1, so the first token keeps both choices. */
  double gate[E * D] = {0}, x[3 * D] = {0}, y[3 * D];
  for (int e = 0; e < E; e++) gate[e * D] = 3 - e;
  for (int t = 0; t < 3; t++) x[t * D] = 1;
  moe_set_param(&world, "ffn.router.gate", gate, E * D);
  mg_moe_record record;
  mg_moe_counts counts;
  moe_read(&world, forward(&world, moe, x, 3, &record), y, 3 * D);
  assert_ok(world.context, mg_moe_count(moe, world.tape, &record, NULL, NULL, &counts));
  assert_int_equal(counts.kept, 2);
  assert_int_equal(counts.dropped, 4);
  assert_int_equal(counts.dropped_tokens, 2);
  assert_int_equal(counts.unrouted_tokens, 0);
  assert_true(fabs(y[0]) > 0);
  for (int d = 0; d < 2 * D; d++) assert_close(y[D + d], 0, 0);
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

static void zero_and_one_tokens_pass_under_every_policy(void **state) {
  (void)state;
  for (size_t i = 0; i < MG_COUNT(policies); i++)
    for (int64_t tokens = 0; tokens < 2; tokens++) {
      moe_world world;
      moe_world_open(&world, MG_F32);
      mg_moe *moe = make_policy(&world, policies[i]);
      double x[D], y[D];
      moe_normal(3, x, D);
      mg_moe_record record;
      mg_moe_counts counts;
      mg_var *out = forward(&world, moe, x, tokens, &record);
      assert_int_equal(mg_var_columns(out), D);
      moe_read(&world, out, y, tokens * D);
      assert_ok(world.context, mg_moe_count(moe, world.tape, &record, NULL, NULL, &counts));
      assert_int_equal(counts.kept, 2 * tokens);
      mg_moe_destroy(moe);
      moe_world_close(&world);
    }
}

/* ---- losses ------------------------------------------------------------------------------------------------ */

static const char all_losses[] =
    "{'experts': 4, 'width': 5, 'router': {'name': 'topk', 'k': 2, 'noise': 'learned'}, 'losses': ["
    "{'kind': 'balance', 'weight': 0.5}, {'kind': 'balance', 'scope': 'sequence'}, {'kind': 'z'},"
    " {'kind': 'importance'}, {'kind': 'load'}, {'kind': 'entropy'}]}";

static void losses_match_their_formulas(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F64);
  mg_moe *moe = make(&world, all_losses);
  spread(&world, 0.5);
  double x[T * D], probs[T * E], logits[T * E], load[T * E], w[T * 2], value, total;
  int32_t ids[T * 2];
  moe_normal(5, x, T * D);
  const mg_moe_input input = {.x = moe_upload(&world, x, T, D), .sequence_tokens = T / 3};
  mg_moe_record record;
  mg_moe_forward(moe, world.tape, &input, &record);
  moe_read(&world, record.route.probs, probs, T * E);
  moe_read(&world, record.route.logits, logits, T * E);
  moe_read(&world, record.route.load, load, T * E);
  moe_read(&world, record.route.weights, w, T * 2);
  moe_read_ids(&world, record.route.ids, ids, T * 2);
  double want[6] = {0};
  for (int segments = 1; segments <= 3; segments += 2)
    for (int g = 0; g < segments; g++) {
      const int rows = T / segments;
      for (int e = 0; e < E; e++) {
        double f = 0, p = 0;
        for (int t = g * rows; t < (g + 1) * rows; t++) {
          f += (ids[t * 2] == e) + (ids[t * 2 + 1] == e);
          p += probs[t * E + e];
        }
        want[segments == 3] += E * (f / (2 * rows)) * (p / rows) / segments;
      }
    }
  double importance[E] = {0}, loads[E] = {0}, squares[2] = {0}, sums[2] = {0};
  for (int t = 0; t < T; t++) {
    double lse = 0;
    for (int e = 0; e < E; e++) lse += exp(logits[t * E + e]);
    want[2] += log(lse) * log(lse) / T;
    for (int s = 0; s < 2; s++) importance[ids[t * 2 + s]] += w[t * 2 + s];
    for (int e = 0; e < E; e++) loads[e] += load[t * E + e];
    for (int e = 0; e < E; e++) want[5] -= probs[t * E + e] * log(probs[t * E + e]) / T;
  }
  for (int e = 0; e < E; e++) {
    sums[0] += importance[e];
    sums[1] += loads[e];
    squares[0] += importance[e] * importance[e];
    squares[1] += loads[e] * loads[e];
  }
  want[3] = E * squares[0] / (sums[0] * sums[0]) - 1;
  want[4] = E * squares[1] / (sums[1] * sums[1]) - 1;
  static const double weights[] = {0.5, 0.01, 0.001, 0.1, 0.1, 1e-4};
  double sum = 0;
  for (int i = 0; i < 6; i++) {
    moe_read(&world, record.losses[i], &value, 1);
    assert_close(value, want[i], 1e-12);
    sum += weights[i] * want[i];
  }
  moe_read(&world, record.loss, &total, 1);
  assert_close(total, sum, 1e-12);
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

/* README: E = 2, probs {.75,.25} {.6,.4}, both tokens choose expert 0. */
static void balance_and_entropy_match_the_worked_example(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F64);
  mg_moe *moe =
      make(&world, "{'experts': 2, 'width': 5, 'router': {'name': 'switch'}, 'losses': [{}, {'kind': 'entropy'}]}");
  double gate[2 * D] = {1}, x[2 * D] = {0}, value;
  x[0] = log(3);
  x[D] = log(1.5);
  moe_set_param(&world, "ffn.router.gate", gate, 2 * D);
  mg_moe_record record;
  forward(&world, moe, x, 2, &record);
  moe_read(&world, record.losses[0], &value, 1);
  assert_close(value, 1.35, 1e-7);
  moe_read(&world, record.losses[1], &value, 1);
  assert_close(value, 0.617673, 1e-6);
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

/* With a window of 3 the load of the two batches before counts as much as this one's. */
static void global_balance_counts_the_last_batches(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F64);
  mg_moe *moe = make(&world, "{'experts': 2, 'width': 5, 'router': {'name': 'switch', 'jitter': 0}, 'losses': ["
                             "{'kind': 'balance', 'scope': 'global', 'window': 3}]}");
  double gate[2 * D] = {1}, value;
  moe_set_param(&world, "ffn.router.gate", gate, 2 * D);
  static const double signs[] = {1, -1, 1, 1}; /* all tokens of a batch go to expert 0, or to 1 */
  static const double share0[] = {1, 0.5, 2.0 / 3, 2.0 / 3};
  const double p0 = 0.75;
  for (int step = 0; step < 4; step++) {
    double x[2 * D] = {0};
    x[0] = x[D] = signs[step] * log(3);
    mg_moe_record record;
    forward(&world, moe, x, 2, &record);
    moe_read(&world, record.losses[0], &value, 1);
    const double p = signs[step] > 0 ? p0 : 1 - p0;
    assert_close(value, 2 * (share0[step] * p + (1 - share0[step]) * (1 - p)), 1e-7);
    assert_ok(world.context, mg_moe_after_step(moe, world.tape, &record));
    mg_tape_reset(world.tape);
  }
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(output_is_the_weighted_sum_of_the_chosen_experts),
      cmocka_unit_test(plain_experts_apply_the_activation_once),
      cmocka_unit_test(shared_experts_add_to_every_token),
      cmocka_unit_test(weights_multiply_inputs_where_asked),
      cmocka_unit_test(a_parallel_feed_forward_adds_to_every_token),
      cmocka_unit_test(no_expert_gets_more_than_its_capacity_and_choices_add_up),
      cmocka_unit_test(capacity_follows_the_formula_and_never_drops_below_one),
      cmocka_unit_test(a_factor_below_one_token_is_refused),
      cmocka_unit_test(padding_changes_the_cost_and_not_the_numbers),
      cmocka_unit_test(rerouting_loses_fewer_choices_than_dropping),
      cmocka_unit_test(a_rerouted_choice_takes_the_next_best_expert_with_room),
      cmocka_unit_test(dropped_tokens_are_those_that_lost_every_choice),
      cmocka_unit_test(zero_and_one_tokens_pass_under_every_policy),
      cmocka_unit_test(losses_match_their_formulas),
      cmocka_unit_test(balance_and_entropy_match_the_worked_example),
      cmocka_unit_test(global_balance_counts_the_last_batches),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
