/* What the tape promises: sticky failure, gradients that add, reset, accounts of work. */
#include <string.h>

#include "support/world.h"
#include "tensor/tape_work.h"

static mg_world world;

static int open_world(void **state) {
  (void)state;
  mg_world_open(&world, "reference", MG_F32);
  return 0;
}

static int close_world(void **state) {
  (void)state;
  mg_world_close(&world);
  return 0;
}

static mg_var *constant(int64_t rows, int64_t columns, const double *values) {
  return mg_world_constant(&world, MG_F32, 2, (const int64_t[]){rows, columns}, values);
}

/* Runs backward; the test fails with the tape's message if it fails. */
static void backward(mg_var *loss) {
  assert_ok(world.context, mg_tape_backward(world.tape, loss));
}

/* ---- failure ------------------------------------------------------------------------------------------------- */

static void first_failure_sticks_until_reset(void **state) {
  (void)state;
  mg_tape *tape = world.tape;
  mg_var *x = constant(2, 3, NULL), *y = constant(4, 5, NULL);
  assert_null(mg_matmul(tape, x, false, y, false));
  assert_null(mg_softmax(tape, x));
  assert_null(mg_add(tape, NULL, NULL));
  assert_null(mg_tape_fail(tape, MG_BUG, "a later failure"));
  assert_int_equal(mg_tape_status(tape), MG_USAGE);
  assert_non_null(strstr(mg_context_message(world.context), "matmul: a is [2, 3] and b is [4, 5]"));
  assert_int_equal(mg_tape_backward(tape, x), MG_USAGE);
  mg_tape_reset(tape);
  assert_int_equal(mg_tape_status(tape), MG_OK);
  assert_non_null(mg_softmax(tape, constant(2, 3, NULL)));
}

static void null_fails_a_sound_tape_and_names_the_operand(void **state) {
  (void)state;
  mg_tape *tape = world.tape;
  assert_null(mg_add(tape, constant(1, 1, NULL), NULL));
  assert_refused(world.context, MG_USAGE, "binary: b is missing (NULL)", mg_tape_status(tape));
  mg_tape_reset(tape);
  assert_null(mg_cast(tape, NULL, MG_F32));
  assert_refused(world.context, MG_USAGE, "cast: x is missing (NULL)", mg_tape_status(tape));
}

static void variable_of_another_tape_is_refused(void **state) {
  (void)state;
  mg_tape *other = NULL;
  assert_ok(world.context, mg_tape_create(world.backend, MG_F32, &other));
  mg_var *x = mg_fill(other, MG_F32, 1, (const int64_t[]){1}, 0.0);
  assert_null(mg_exp(world.tape, x));
  assert_refused(world.context, MG_USAGE, "another tape", mg_tape_status(world.tape));
  mg_tape_destroy(other);
}

static void tape_refuses_to_compute_in_integers(void **state) {
  (void)state;
  mg_tape *tape = NULL;
  assert_refused(world.context, MG_USAGE, "not in i32", mg_tape_create(world.backend, MG_I32, &tape));
  assert_null(tape);
}

static void bad_shapes_for_new_variables_are_refused(void **state) {
  (void)state;
  mg_tape *tape = world.tape;
  assert_null(mg_tape_upload(tape, MG_F32, 2, (const int64_t[]){2, -3}, ""));
  assert_refused(world.context, MG_USAGE, "upload: the shape", mg_tape_status(tape));
  mg_tape_reset(tape);
  assert_null(mg_reshape2(tape, constant(2, 3, NULL), -1, 4));
  assert_refused(world.context, MG_USAGE, "reshape: [-1, 4] does not hold the elements of [2, 3]",
                 mg_tape_status(tape));
  mg_tape_reset(tape);
  float room[2];
  assert_refused(world.context, MG_USAGE, "has 24 bytes; room for 8 was given",
                 mg_tape_download(tape, constant(2, 3, NULL), room, sizeof room));
}

/* ---- gradients ----------------------------------------------------------------------------------------------- */

/* A leaf [1,2] holding 3 and 4 whose gradient holds 10 and 20 before. */
typedef struct leaf {
  mg_tensor value, gradient;
} leaf;

static leaf leaf_open(mg_dtype dtype) {
  const int64_t shape[] = {1, 2};
  return (leaf){mg_world_tensor(&world, dtype, 2, shape, (const double[]){3, 4}),
                mg_world_tensor(&world, MG_F32, 2, shape, (const double[]){10, 20})};
}

static void leaf_close(leaf *l) {
  mg_world_release(&world, &l->value);
  mg_world_release(&world, &l->gradient);
}

static void assert_gradient(const leaf *l, double first, double second) {
  assert_near(mg_world_element(&world, &l->gradient, 0), first, 1e-6);
  assert_near(mg_world_element(&world, &l->gradient, 1), second, 1e-6);
}

static void gradient_of_a_leaf_is_added_to_what_it_held(void **state) {
  (void)state;
  leaf l = leaf_open(MG_F32);
  for (int step = 0; step < 2; step++) {
    mg_tape_reset(world.tape);
    mg_var *x = mg_tape_leaf(world.tape, &l.value, &l.gradient);
    backward(mg_sum(world.tape, mg_square(world.tape, x)));
    assert_ptr_equal(mg_var_gradient(x), &l.gradient);
  }
  assert_gradient(&l, 10 + 2 * 6, 20 + 2 * 8);
  leaf_close(&l);
}

static void one_tensor_as_two_leaves_collects_both_gradients(void **state) {
  (void)state;
  leaf l = leaf_open(MG_F32);
  mg_var *x = mg_tape_leaf(world.tape, &l.value, &l.gradient), *y = mg_tape_leaf(world.tape, &l.value, &l.gradient);
  backward(mg_sum(world.tape, mg_mul(world.tape, x, y)));
  assert_gradient(&l, 10 + 6, 20 + 8);
  leaf_close(&l);
}

static void leaf_as_the_loss_itself_gets_one(void **state) {
  (void)state;
  leaf l = leaf_open(MG_F32);
  l.value.shape[1] = l.gradient.shape[1] = 1;
  backward(mg_tape_leaf(world.tape, &l.value, &l.gradient));
  assert_near(mg_world_element(&world, &l.gradient, 0), 11, 0);
  l.value.shape[1] = l.gradient.shape[1] = 2;
  leaf_close(&l);
}

static void detach_stops_the_gradient(void **state) {
  (void)state;
  leaf l = leaf_open(MG_F32);
  mg_var *x = mg_tape_leaf(world.tape, &l.value, &l.gradient);
  mg_var *fixed = mg_detach(world.tape, x);
  assert_false(mg_var_needs_gradient(fixed));
  backward(mg_sum(world.tape, mg_mul(world.tape, x, fixed)));
  assert_gradient(&l, 10 + 3, 20 + 4);
  leaf_close(&l);
}

static void leaf_without_gradient_is_a_constant(void **state) {
  (void)state;
  leaf l = leaf_open(MG_F32);
  mg_var *x = mg_tape_leaf(world.tape, &l.value, NULL);
  assert_false(mg_var_needs_gradient(mg_exp(world.tape, x)));
  assert_refused(world.context, MG_USAGE, "does not depend on a leaf",
                 mg_tape_backward(world.tape, mg_sum(world.tape, x)));
  leaf_close(&l);
}

static void gradient_tensor_must_fit_its_leaf(void **state) {
  (void)state;
  leaf l = leaf_open(MG_BF16);
  mg_tensor wrong = l.gradient;
  wrong.shape[0] = 2;
  assert_null(mg_tape_leaf(world.tape, &l.value, &wrong));
  assert_refused(world.context, MG_USAGE, "it must be f32 [1, 2]", mg_tape_status(world.tape));
  mg_tape_reset(world.tape);
  assert_null(mg_tape_leaf(world.tape, &l.value, &l.value));
  assert_refused(world.context, MG_USAGE, "the gradient is bf16", mg_tape_status(world.tape));
  leaf_close(&l);
}

/* 1 + 2^-9 is lost in bf16; it must survive in the f32 gradient of an f32 weight that meets bf16 activations. */
static void f32_weight_has_an_f32_gradient_beside_bf16_activations(void **state) {
  (void)state;
  leaf l = leaf_open(MG_F32);
  const double rows[] = {1, 1, 0.001953125, 1};
  mg_tape_set_compute(world.tape, MG_BF16);
  mg_var *x = mg_cast(world.tape, constant(2, 2, rows), MG_BF16);
  mg_var *weight = mg_tape_leaf(world.tape, &l.value, &l.gradient);
  mg_var *out = mg_linear(world.tape, x, weight);
  assert_int_equal(mg_var_dtype(out), MG_BF16);
  backward(mg_sum(world.tape, out));
  assert_gradient(&l, 10 + 1.001953125, 20 + 2);
  mg_tape_set_compute(world.tape, MG_F32);
  leaf_close(&l);
}

static void gradient_of_a_variable_is_there_if_it_was_kept(void **state) {
  (void)state;
  leaf l = leaf_open(MG_F32);
  mg_var *x = mg_tape_leaf(world.tape, &l.value, &l.gradient);
  mg_var *kept = mg_scale(world.tape, x, 2.0), *not_kept = mg_scale(world.tape, kept, 3.0);
  mg_var_keep_gradient(kept);
  backward(mg_sum(world.tape, mg_square(world.tape, not_kept)));
  assert_null(mg_var_gradient(not_kept));
  assert_non_null(mg_var_gradient(kept));
  assert_near(mg_world_element(&world, mg_var_gradient(kept), 0), 3 * 2 * 18, 1e-4);
  assert_gradient(&l, 10 + 6 * 2 * 18, 20 + 6 * 2 * 24);
  leaf_close(&l);
}

static void backward_runs_once_and_from_one_element(void **state) {
  (void)state;
  leaf l = leaf_open(MG_F32);
  mg_var *x = mg_tape_leaf(world.tape, &l.value, &l.gradient);
  assert_refused(world.context, MG_USAGE, "the loss is [1, 2]", mg_tape_backward(world.tape, x));
  mg_tape_reset(world.tape);
  mg_var *loss = mg_sum(world.tape, mg_tape_leaf(world.tape, &l.value, &l.gradient));
  backward(loss);
  assert_refused(world.context, MG_USAGE, "since the last reset", mg_tape_backward(world.tape, loss));
  leaf_close(&l);
}

static void nothing_is_recorded_without_recording(void **state) {
  (void)state;
  leaf l = leaf_open(MG_F32);
  mg_tape_set_recording(world.tape, false);
  mg_var *loss = mg_sum(world.tape, mg_tape_leaf(world.tape, &l.value, &l.gradient));
  assert_near(mg_world_value(&world, loss, 0), 7, 0);
  assert_false(mg_var_needs_gradient(loss));
  assert_refused(world.context, MG_USAGE, "was not recorded", mg_tape_backward(world.tape, loss));
  mg_tape_set_recording(world.tape, true);
  assert_gradient(&l, 10, 20);
  leaf_close(&l);
}

/* ---- values -------------------------------------------------------------------------------------------------- */

static void cast_rounds_and_carries_the_gradient(void **state) {
  (void)state;
  leaf l = leaf_open(MG_F32);
  mg_var *x = mg_tape_leaf(world.tape, &l.value, &l.gradient);
  mg_var *half = mg_cast(world.tape, mg_affine(world.tape, x, 1.0, 0.001), MG_BF16);
  assert_int_equal(mg_var_dtype(half), MG_BF16);
  assert_near(mg_world_value(&world, half, 0), 3, 0);
  assert_ptr_equal(mg_cast(world.tape, x, MG_F32), x);
  backward(mg_sum(world.tape, half));
  assert_gradient(&l, 11, 21);
  leaf_close(&l);
}

static void ties_of_a_maximum_all_get_the_gradient(void **state) {
  (void)state;
  leaf l = leaf_open(MG_F32);
  mg_var *x = mg_tape_leaf(world.tape, &l.value, &l.gradient);
  mg_var *same = mg_mul(world.tape, x, constant(1, 2, (const double[]){4, 3}));
  backward(mg_reduce_op(world.tape, MG_REDUCE_MAX, MG_OVER_COLUMNS, same));
  assert_gradient(&l, 10 + 4, 20 + 3);
  leaf_close(&l);
}

static void random_variables_follow_their_stream(void **state) {
  (void)state;
  const mg_stream stream = mg_stream_named(7, "test", 1, 2);
  const int64_t shape[] = {2, 3};
  mg_var *x = mg_random(world.tape, MG_F32, 2, shape, MG_RANDOM_NORMAL, stream, 1.0, 0.5);
  mg_var *u = mg_random(world.tape, MG_F32, 2, shape, MG_RANDOM_UNIFORM, stream, -1.0, 3.0);
  for (int64_t i = 0; i < 6; i++) {
    assert_near(mg_world_value(&world, x, i), 1.0 + 0.5 * mg_random_normal(stream, (uint64_t)i), 1e-6);
    assert_near(mg_world_value(&world, u, i), -1.0 + 4.0 * mg_random_uniform(stream, (uint64_t)i), 1e-6);
  }
}

static void tensors_without_rows_flow_through_and_back(void **state) {
  (void)state;
  leaf l = leaf_open(MG_F32);
  mg_tape *tape = world.tape;
  mg_var *weight = mg_tape_leaf(tape, &l.value, &l.gradient);
  mg_var *empty = constant(0, 2, NULL);
  mg_var *out = mg_softmax(tape, mg_linear(tape, empty, weight));
  assert_int_equal(mg_var_rows(out), 0);
  mg_var *loss = mg_add(tape, mg_mean(tape, out), mg_sum(tape, out));
  assert_near(mg_world_value(&world, loss, 0), 0, 0);
  backward(loss);
  assert_gradient(&l, 10, 20);
  leaf_close(&l);
}

static void assignment_drops_beyond_capacity_and_counts_rows(void **state) {
  (void)state;
  const int32_t ids[] = {0, 2, 0, -1, 2, 0};
  mg_var *choice = mg_tape_upload(world.tape, MG_I32, 2, (const int64_t[]){3, 2}, ids);
  mg_assignment a;
  assert_ok(world.context, mg_assign(world.tape, choice, NULL, 3, 0, MG_ORDER_POSITION, &a));
  assert_int_equal(a.rows, 5);
  assert_ok(world.context, mg_assign(world.tape, choice, NULL, 3, 1, MG_ORDER_POSITION, &a));
  assert_int_equal(a.rows, 2);
  assert_near(mg_world_value(&world, a.demand, 0), 3, 0);
  mg_var *rows = mg_dispatch(world.tape, constant(3, 1, (const double[]){5, 6, 7}), &a);
  assert_int_equal(mg_var_rows(rows), 2);
  assert_near(mg_world_value(&world, rows, 0), 5, 0); /* expert 0 keeps the first choice of token 0 */
  assert_refused(world.context, MG_USAGE, "at least one",
                 mg_assign(world.tape, choice, NULL, 0, 1, MG_ORDER_POSITION, &a));
}

/* ---- accounts ------------------------------------------------------------------------------------------------ */

static void work_is_counted_to_the_part_where_it_was_recorded(void **state) {
  (void)state;
  leaf l = leaf_open(MG_F32);
  mg_counters *counters = mg_tape_counters(world.tape);
  memset(counters, 0, sizeof *counters);
  mg_var *x = constant(3, 2, (const double[]){1, 2, 3, 4, 5, 6});
  mg_var *weight = mg_tape_leaf(world.tape, &l.value, &l.gradient);
  assert_int_equal(mg_tape_set_part(world.tape, MG_PART_GATE), MG_PART_OTHER);
  mg_var *out = mg_linear(world.tape, x, weight);
  assert_int_equal(mg_tape_set_part(world.tape, MG_PART_LOSS), MG_PART_GATE);
  mg_var *loss = mg_sum(world.tape, out);
  mg_tape_set_part(world.tape, MG_PART_OTHER);
  backward(loss);
  assert_true(counters->flops[MG_PART_GATE] == 2.0 * 3 * 2);
  assert_true(counters->backward_flops[MG_PART_GATE] == 2.0 * 3 * 2); /* only the weight wants a gradient */
  assert_true(counters->flops[MG_PART_LOSS] == 3.0 + 3.0);
  assert_true(counters->flops[MG_PART_OTHER] == 0.0);
  assert_true(counters->bytes[MG_PART_GATE] == 2.0 * 4 * (6 + 2 + 3));
  assert_int_equal(counters->calls[MG_PART_GATE], 2);
  leaf_close(&l);
}

static void time_is_counted_only_while_timing(void **state) {
  (void)state;
  mg_counters *counters = mg_tape_counters(world.tape);
  memset(counters, 0, sizeof *counters);
  mg_exp(world.tape, constant(64, 64, NULL));
  assert_int_equal(counters->time_ns[MG_PART_OTHER], 0);
  mg_tape_set_timing(world.tape, true);
  mg_exp(world.tape, constant(64, 64, NULL));
  mg_tape_set_timing(world.tape, false);
  assert_true(counters->time_ns[MG_PART_OTHER] > 0);
}

static void direct_calls_are_checked_and_counted(void **state) {
  (void)state;
  leaf l = leaf_open(MG_F32);
  mg_counters *counters = mg_tape_counters(world.tape);
  memset(counters, 0, sizeof *counters);
  mg_op_call call = {.op = MG_OP_ADD_SCALED, .part = MG_PART_OPTIMISER, .in = {&l.value}, .out = {&l.gradient}};
  call.attributes.add_scaled.factor = -2.0;
  assert_ok(world.context, mg_tape_run(world.tape, &call));
  assert_gradient(&l, 4, 12);
  assert_true(counters->flops[MG_PART_OPTIMISER] == 4.0);
  call.out[0] = NULL;
  assert_refused(world.context, MG_USAGE, "add_scaled: output out is missing", mg_tape_run(world.tape, &call));
  leaf_close(&l);
}

static int reset(void **state) {
  (void)state;
  mg_tape_reset(world.tape);
  return 0;
}

#define TEST(function) cmocka_unit_test_setup(function, reset)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(first_failure_sticks_until_reset),
      TEST(null_fails_a_sound_tape_and_names_the_operand),
      TEST(variable_of_another_tape_is_refused),
      TEST(tape_refuses_to_compute_in_integers),
      TEST(bad_shapes_for_new_variables_are_refused),
      TEST(gradient_of_a_leaf_is_added_to_what_it_held),
      TEST(one_tensor_as_two_leaves_collects_both_gradients),
      TEST(leaf_as_the_loss_itself_gets_one),
      TEST(detach_stops_the_gradient),
      TEST(leaf_without_gradient_is_a_constant),
      TEST(gradient_tensor_must_fit_its_leaf),
      TEST(f32_weight_has_an_f32_gradient_beside_bf16_activations),
      TEST(gradient_of_a_variable_is_there_if_it_was_kept),
      TEST(backward_runs_once_and_from_one_element),
      TEST(nothing_is_recorded_without_recording),
      TEST(cast_rounds_and_carries_the_gradient),
      TEST(ties_of_a_maximum_all_get_the_gradient),
      TEST(random_variables_follow_their_stream),
      TEST(tensors_without_rows_flow_through_and_back),
      TEST(assignment_drops_beyond_capacity_and_counts_rows),
      TEST(work_is_counted_to_the_part_where_it_was_recorded),
      TEST(time_is_counted_only_while_timing),
      TEST(direct_calls_are_checked_and_counted),
  };
  return cmocka_run_group_tests_name("tape", tests, open_world, close_world);
}
