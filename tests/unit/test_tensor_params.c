/* The store of parameters: names, initial values, gradients, and their variables on the tape. */
#include "support/world.h"
#include "tensor/params.h"

static mg_world world;
static mg_params *params;

static int open_store(void **state) {
  (void)state;
  mg_world_open(&world, "reference", MG_F32);
  return mg_params_create(world.backend, MG_F32, &params) == MG_OK ? 0 : -1;
}

static int close_store(void **state) {
  (void)state;
  mg_params_destroy(params);
  mg_world_close(&world);
  return 0;
}

static mg_param_request request(const char *name, int64_t rows, int64_t columns, mg_init init, double scale) {
  return (mg_param_request){.name = name,
                            .dims = 2,
                            .shape = {rows, columns},
                            .init = init,
                            .scale = scale,
                            .stream = mg_stream_named(3, name, 0, 0)};
}

static mg_param *add(const mg_param_request *r) {
  int64_t index = -1;
  assert_ok(world.context, mg_params_add(params, r, &index));
  return mg_params_at(params, index);
}

static double value(const mg_param *param, int64_t i) {
  return mg_world_element(&world, &param->value, i);
}

static void names_are_unique_and_found(void **state) {
  (void)state;
  mg_param_request r = request("layers.0.gate", 2, 3, MG_INIT_ONE, 0);
  add(&r);
  assert_int_equal(mg_params_find(params, "layers.0.gate"), 0);
  assert_int_equal(mg_params_find(params, "layers.0"), -1);
  assert_refused(world.context, MG_USAGE, "there is a parameter layers.0.gate already",
                 mg_params_add(params, &r, NULL));
  r = request("", 2, 3, MG_INIT_ONE, 0);
  assert_refused(world.context, MG_USAGE, "name must have", mg_params_add(params, &r, NULL));
  r = request("empty", 0, 3, MG_INIT_ONE, 0);
  assert_refused(world.context, MG_USAGE, "each positive", mg_params_add(params, &r, NULL));
  assert_int_equal(mg_params_count(params), 1);
  assert_null(mg_params_at(params, 1));
}

static void addresses_stay_when_the_store_grows(void **state) {
  (void)state;
  mg_param_request r = request("first", 1, 1, MG_INIT_ZERO, 0);
  const mg_param *first = add(&r);
  char name[16];
  for (int i = 0; i < 100; i++) {
    snprintf(name, sizeof name, "p%d", i);
    r = request(name, 1, 1, MG_INIT_ZERO, 0);
    add(&r);
  }
  assert_ptr_equal(mg_params_at(params, 0), first);
}

static void initial_values_come_from_the_stream_by_position(void **state) {
  (void)state;
  mg_param_request r = request("w", 50, 100, MG_INIT_NORMAL, 0.02);
  const mg_param *w = add(&r);
  for (int64_t i = 0; i < 5000; i += 611)
    assert_near(value(w, i), 0.02 * mg_random_normal(r.stream, (uint64_t)i), 1e-8);
  r = request("one", 2, 2, MG_INIT_ONE, 0);
  assert_near(value(add(&r), 3), 1, 0);
  r = request("zero", 2, 2, MG_INIT_ZERO, 0);
  assert_near(value(add(&r), 3), 0, 0);
}

/* Large ones are drawn by several threads and uploaded in several pieces. */
static void every_value_of_a_large_parameter_is_that_of_its_position(void **state) {
  (void)state;
  enum { ROWS = 700, COLUMNS = 801 };
  const mg_param_request r = request("w", ROWS, COLUMNS, MG_INIT_NORMAL, 0.02);
  const mg_param *w = add(&r);
  for (int64_t i = 0; i < ROWS * COLUMNS; i++)
    if ((float)value(w, i) != (float)(0.02 * mg_random_normal(r.stream, (uint64_t)i)))
      fail_msg("element %lld is another", (long long)i);
}

/* A standard normal cut off at 2 has a variance of 0.7737. */
static void truncated_values_lie_within_two_deviations(void **state) {
  (void)state;
  const mg_param_request r = request("w", 100, 64, MG_INIT_TRUNCATED_FAN_IN, 1.0);
  const mg_param *w = add(&r);
  double squares = 0, largest = 0;
  for (int64_t i = 0; i < 6400; i++) {
    squares += value(w, i) * value(w, i);
    largest = fmax(largest, fabs(value(w, i)));
  }
  assert_true(largest <= 2.0 / 8.0);
  assert_near(squares / 6400 * 64, 0.7737, 0.03);
}

static void variable_is_one_per_step_and_collects_its_gradient(void **state) {
  (void)state;
  const mg_param_request r = request("w", 1, 2, MG_INIT_ONE, 0);
  const mg_param *w = add(&r);
  mg_var *x = mg_params_var(params, world.tape, 0);
  assert_ptr_equal(mg_params_var(params, world.tape, 0), x);
  assert_ok(world.context, mg_tape_backward(world.tape, mg_sum(world.tape, mg_scale(world.tape, x, 3.0))));
  assert_near(mg_world_element(&world, &w->gradient, 1), 3, 0);
  mg_tape_reset(world.tape);
  mg_var *again = mg_params_var(params, world.tape, 0);
  assert_ok(world.context, mg_tape_backward(world.tape, mg_sum(world.tape, again)));
  assert_near(mg_world_element(&world, &w->gradient, 1), 4, 0);
  assert_ok(world.context, mg_params_zero_gradients(params));
  assert_near(mg_world_element(&world, &w->gradient, 1), 0, 0);
  mg_tape_reset(world.tape);
  assert_null(mg_params_var(params, world.tape, 7));
  assert_refused(world.context, MG_BUG, "parameter 7 was asked for; there are 1", mg_tape_status(world.tape));
}

/* A tape made anew often lies at the address of the one before. */
static void new_tape_never_meets_a_stale_variable(void **state) {
  (void)state;
  const mg_param_request r = request("w", 1, 2, MG_INIT_ONE, 0);
  add(&r);
  for (int i = 0; i < 4; i++) {
    mg_tape *tape = NULL;
    assert_ok(world.context, mg_tape_create(world.backend, MG_F32, &tape));
    mg_var *x = mg_params_var(params, tape, 0);
    assert_near(mg_world_value(&world, mg_sum(tape, x), 0), 2, 0);
    mg_tape_destroy(tape);
  }
}

static void fixed_parameters_have_no_gradient_and_do_not_count(void **state) {
  (void)state;
  mg_param_request r = request("buffer", 4, 4, MG_INIT_ZERO, 0);
  r.fixed = true;
  const mg_param *buffer = add(&r);
  r = request("w", 3, 5, MG_INIT_ZERO, 0);
  r.decay = true;
  const mg_param *w = add(&r);
  assert_null(buffer->gradient.data);
  assert_false(mg_var_needs_gradient(mg_params_var(params, world.tape, 0)));
  assert_true(mg_var_needs_gradient(mg_params_var(params, world.tape, 1)));
  assert_int_equal(mg_params_elements(params), 15);
  assert_int_equal(mg_params_memory(params).moments, 0);
  assert_ok(world.context, mg_params_make_moments(params));
  assert_null(buffer->first.data);
  assert_near(mg_world_element(&world, &w->second, 14), 0, 0);
  const mg_params_bytes bytes = mg_params_memory(params);
  assert_int_equal(bytes.values, 4 * (16 + 15));
  assert_int_equal(bytes.gradients, 4 * 15);
  assert_int_equal(bytes.moments, 2 * 4 * 15);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_store, close_store)

/* ---- deferred parameters, and which are trained ---------------------------------------------------------------- */

static void a_drawn_parameter_is_as_one_that_was_made(void **state) {
  (void)state;
  const mg_param_request r = request("gate", 3, 5, MG_INIT_NORMAL, 0.5);
  mg_param *made = add(&r);
  mg_params *other;
  int64_t index;
  assert_ok(world.context, mg_params_create(world.backend, MG_F32, &other));
  mg_params_defer(other);
  assert_ok(world.context, mg_params_add(other, &r, &index));
  assert_ok(world.context, mg_params_draw(other, index, MG_F32));
  const mg_param *drawn = mg_params_look(other, index);
  for (int64_t i = 0; i < 15; i++) assert_true(value(drawn, i) == value(made, i));
  assert_null(drawn->gradient.data);
  assert_refused(world.context, MG_BUG, "it has memory", mg_params_draw(other, index, MG_F32));
  mg_params_destroy(other);
}

static void a_bound_parameter_can_be_trained_and_frozen(void **state) {
  (void)state;
  static const double numbers[] = {1, -2, 0.5, 3};
  const int64_t shape[] = {2, 2};
  uint16_t narrow[4];
  for (size_t i = 0; i < 4; i++) narrow[i] = mg_bf16_from_f32((float)numbers[i]);
  mg_tensor file = {.dtype = MG_BF16, .dims = 2, .shape = {2, 2}, .data = narrow};
  mg_param_request r = request("weight", shape[0], shape[1], MG_INIT_ZERO, 0);
  int64_t index;
  mg_params_defer(params);
  assert_ok(world.context, mg_params_add(params, &r, &index));
  assert_ok(world.context, mg_params_bind(params, index, &file, false));
  mg_param *param = mg_params_at(params, index);
  assert_null(param->gradient.data);
  assert_false(mg_var_needs_gradient(mg_params_var(params, world.tape, index)));
  assert_ok(world.context, mg_params_train(params, index));
  assert_ok(world.context, mg_params_make_moments(params));
  assert_int_equal(param->value.dtype, MG_F32);
  assert_ptr_not_equal(param->value.data, narrow);
  for (int64_t i = 0; i < 4; i++) assert_true(value(param, i) == numbers[i]);
  assert_true(mg_var_needs_gradient(mg_params_var(params, world.tape, index)));
  assert_int_equal(mg_params_memory(params).gradients, 4 * sizeof(float));
  mg_params_freeze(params, index);
  assert_int_equal(mg_params_memory(params).gradients + mg_params_memory(params).moments, 0);
  assert_int_equal(mg_params_memory(params).values, 4 * sizeof(float));
  assert_false(mg_var_needs_gradient(mg_params_var(params, world.tape, index)));
}

static void a_buffer_is_owned_but_not_trained(void **state) {
  (void)state;
  float numbers[] = {1, 2};
  mg_tensor file = {.dtype = MG_F32, .dims = 2, .shape = {1, 2}, .data = numbers};
  mg_param_request r = request("bias", 1, 2, MG_INIT_ZERO, 0);
  int64_t index;
  r.fixed = true;
  mg_params_defer(params);
  assert_ok(world.context, mg_params_add(params, &r, &index));
  assert_ok(world.context, mg_params_bind(params, index, &file, false));
  assert_refused(world.context, MG_USAGE, "bias is a buffer", mg_params_train(params, index));
  assert_ok(world.context, mg_params_own(params, index));
  assert_ptr_not_equal(mg_params_look(params, index)->value.data, numbers);
  assert_true(value(mg_params_look(params, index), 1) == 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(names_are_unique_and_found),
      TEST(addresses_stay_when_the_store_grows),
      TEST(initial_values_come_from_the_stream_by_position),
      TEST(every_value_of_a_large_parameter_is_that_of_its_position),
      TEST(truncated_values_lie_within_two_deviations),
      TEST(variable_is_one_per_step_and_collects_its_gradient),
      TEST(new_tape_never_meets_a_stale_variable),
      TEST(fixed_parameters_have_no_gradient_and_do_not_count),
      TEST(a_drawn_parameter_is_as_one_that_was_made),
      TEST(a_bound_parameter_can_be_trained_and_frozen),
      TEST(a_buffer_is_owned_but_not_trained),
  };
  return cmocka_run_group_tests_name("tensor params", tests, NULL, NULL);
}
