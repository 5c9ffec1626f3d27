/* Knocked-out choices and experts are lost like choices beyond a capacity; a balance loss over a shuffled batch sees the
 * batch's diversity in samples as small as a sequence. */
#include "support/moe_world.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { T = 24, D = 5, E = 6, K = 3 };

#define LAYER(more) "{'experts': 6, 'width': 3, 'router': {'name': 'topk', 'k': 3, 'renormalise': false}" more "}"

typedef struct outcome {
  double y[T * D], weights[T * K], demand[E], kept[E];
  int32_t chosen[T * K], ids[T * K];
  mg_moe_counts counts;
} outcome;

static void run(const char *text, outcome *out) {
  moe_world world;
  mg_moe *moe;
  double x[T * D];
  moe_world_open(&world, MG_F64);
  json_t *spec = moe_json(text);
  const mg_moe_place place = {.width = D, .prefix = "ffn.", .seed = 2};
  assert_ok(world.context, mg_moe_create(world.context, world.registry, spec, place, world.params, &moe));
  json_decref(spec);
  moe_normal(99, x, T * D);
  const mg_moe_input input = {.x = moe_upload(&world, x, T, D), .sequence_tokens = T};
  mg_moe_record record;
  moe_read(&world, mg_moe_forward(moe, world.tape, &input, &record), out->y, T * D);
  moe_read(&world, record.weights, out->weights, T * K);
  moe_read_ids(&world, record.route.ids, out->chosen, T * K);
  moe_read_ids(&world, record.ids, out->ids, T * K);
  assert_ok(world.context, mg_moe_count(moe, world.tape, &record, out->demand, out->kept, &out->counts));
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

static void first_choices_are_lost_and_the_others_stay(void **state) {
  (void)state;
  static outcome whole, lost;
  run(LAYER(), &whole);
  run(LAYER(", 'knock_out': {'choices': 2}"), &lost);
  for (int i = 0; i < T * K; i++) {
    assert_int_equal(lost.chosen[i], whole.chosen[i]);
    assert_int_equal(lost.ids[i], i % K < 2 ? -1 : whole.ids[i]);
    assert_close(lost.weights[i], whole.weights[i], 0);
  }
  assert_int_equal(lost.counts.demand, T * K);
  assert_int_equal(lost.counts.kept, T);
  assert_int_equal(lost.counts.dropped, 2 * T);
  assert_int_equal(lost.counts.dropped_tokens, 0);
}

static void knocked_out_experts_get_nothing(void **state) {
  (void)state;
  static outcome whole, lost;
  run(LAYER(), &whole);
  run(LAYER(", 'knock_out': {'experts': [4, 0, 4]}"), &lost);
  for (int e = 0; e < E; e++) {
    assert_close(lost.demand[e], whole.demand[e], 0);
    assert_close(lost.kept[e], e == 4 || e == 0 ? 0 : whole.demand[e], 0);
  }
}

/* The outputs of either half of the experts add up to the whole. */
static void what_is_lost_is_what_the_choices_gave(void **state) {
  (void)state;
  static outcome whole, rest, experts, others;
  run(LAYER(), &whole);
  run(LAYER(", 'knock_out': {'experts': [0, 1, 2]}"), &experts);
  run(LAYER(", 'knock_out': {'experts': [3, 4, 5]}"), &others);
  run(LAYER(", 'knock_out': {'experts': [0, 1, 2, 3, 4, 5]}"), &rest);
  for (int i = 0; i < T * D; i++) {
    assert_close(experts.y[i] + others.y[i], whole.y[i], 1e-12);
    assert_close(rest.y[i], 0, 0);
  }
  assert_int_equal(rest.counts.dropped_tokens, T);
}

static void it_comes_before_every_policy(void **state) {
  (void)state;
  static const char *const policies[] = {"drop", "pad", "reroute"};
  static outcome out;
  char text[256];
  for (size_t i = 0; i < MG_COUNT(policies); i++) {
    snprintf(text, sizeof text,
             LAYER(", 'knock_out': {'choices': 1, 'experts': [5]}, 'capacity': {'policy': '%s', 'factor': 3}"),
             policies[i]);
    run(text, &out);
    assert_close(out.kept[5], 0, 0);
    assert_int_equal(out.counts.demand, out.counts.kept + out.counts.dropped);
    assert_true(out.counts.kept <= 2 * T && out.counts.kept > T);
  }
}

static void refuse(const char *text, const char *part) {
  moe_world world;
  moe_world_open(&world, MG_F32);
  json_t *spec = moe_json(text);
  assert_int_equal(mg_moe_check_spec(world.context, world.registry, spec, D, 0), MG_USAGE);
  if (!strstr(mg_context_message(world.context), part)) fail_msg("%s", mg_context_message(world.context));
  json_decref(spec);
  moe_world_close(&world);
}

static void specifications_are_checked(void **state) {
  (void)state;
  refuse(LAYER(", 'knock_out': {'choice': 1}"), "did you mean 'choices'?");
  refuse(LAYER(", 'knock_out': {'choices': 3}"), "3 of the 3 choices of router topk leave none");
  refuse(LAYER(", 'knock_out': {'experts': [6]}"), "numbers from 0 to 5");
  refuse(LAYER(", 'knock_out': {'experts': 1}"), "a list of at most");
  refuse("{'experts': 6, 'width': 3, 'router': {'name': 'soft'}, 'knock_out': {'choices': 1}}", "chooses nothing");
}

static void the_resolved_specification_keeps_it(void **state) {
  (void)state;
  moe_world world;
  moe_world_open(&world, MG_F32);
  json_t *spec = moe_json(LAYER(", 'knock_out': {'choices': 1, 'experts': [5]}")), *resolved, *again;
  assert_ok(world.context, mg_moe_resolve_spec(world.context, world.registry, spec, D, 0, &resolved));
  assert_ok(world.context, mg_moe_resolve_spec(world.context, world.registry, resolved, D, 0, &again));
  assert_true(json_equal(resolved, again));
  assert_int_equal(json_array_size(json_object_get(json_object_get(resolved, "knock_out"), "experts")), 1);
  json_decref(spec);
  json_decref(resolved);
  json_decref(again);
  moe_world_close(&world);
}

/* ---- the shuffled balance loss ------------------------------------------------------------------------------ */

enum { LONG = 256 };

/* Two sequences; all tokens of one go to expert 0, of the other to expert 1, each with probability 3/4. */
static void losses_of_two_domains(double *sequence, double *shuffled, double *batch) {
  moe_world world;
  mg_moe *moe;
  moe_world_open(&world, MG_F64);
  json_t *spec = moe_json("{'experts': 2, 'width': 3, 'router': {'name': 'switch', 'jitter': 0}, 'losses': ["
                          "{'scope': 'sequence'}, {'scope': 'shuffle'}, {'scope': 'batch'}]}");
  const mg_moe_place place = {.width = 1, .prefix = "ffn.", .seed = 2};
  assert_ok(world.context, mg_moe_create(world.context, world.registry, spec, place, world.params, &moe));
  json_decref(spec);
  const double gate[] = {1, 0};
  double x[2 * LONG];
  for (int t = 0; t < 2 * LONG; t++) x[t] = t < LONG ? log(3) : -log(3);
  moe_set_param(&world, "ffn.router.gate", gate, 2);
  const mg_moe_input input = {.x = moe_upload(&world, x, 2 * LONG, 1), .sequence_tokens = LONG, .noise = {3, 4}};
  mg_moe_record record;
  mg_moe_forward(moe, world.tape, &input, &record);
  moe_read(&world, record.losses[0], sequence, 1);
  moe_read(&world, record.losses[1], shuffled, 1);
  moe_read(&world, record.losses[2], batch, 1);
  mg_moe_destroy(moe);
  moe_world_close(&world);
}

/* A segment with a share a of tokens for expert 0 has P_0 = a 3/4 + (1 - a) 1/4, so 2 (a P_0 + (1 - a) P_1) =
 * 1 + (2a - 1)^2 / 2; a is 1 or 0 in a sequence, 1/2 in the batch, and 1/2 give or take 0.03 in a shuffled half. */
static void a_shuffled_sample_is_as_mixed_as_the_batch(void **state) {
  (void)state;
  double sequence, shuffled, batch;
  losses_of_two_domains(&sequence, &shuffled, &batch);
  assert_close(sequence, 1.5, 1e-7);
  assert_close(batch, 1, 1e-7);
  assert_true(shuffled > 1 && shuffled < 1.02);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(first_choices_are_lost_and_the_others_stay),
      cmocka_unit_test(knocked_out_experts_get_nothing),
      cmocka_unit_test(what_is_lost_is_what_the_choices_gave),
      cmocka_unit_test(it_comes_before_every_policy),
      cmocka_unit_test(specifications_are_checked),
      cmocka_unit_test(the_resolved_specification_keeps_it),
      cmocka_unit_test(a_shuffled_sample_is_as_mixed_as_the_batch),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
