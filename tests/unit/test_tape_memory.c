/* Where the tape's memory comes from: alignment, reuse from step to step, and every allocation failing once. */
#include <stdlib.h>
#include <string.h>

#include "support/world.h"
#include "tensor/params.h"
#include "tensor/tape_work.h"

/* ---- an allocator that counts, and fails at one allocation --------------------------------------------------- */

typedef struct allocator {
  int64_t allocations;
  int64_t fail_at; /* counted from 1; 0 = never */
  bool failed;
} allocator;

static void *resize(void *user, void *pointer, size_t old_size, size_t size) {
  allocator *a = user;
  (void)old_size;
  if (size == 0) {
    free(pointer);
    return NULL;
  }
  if (++a->allocations == a->fail_at) {
    a->failed = true;
    return NULL;
  }
  return realloc(pointer, size);
}

typedef struct bench {
  allocator allocator;
  mg_context *context;
  mg_registry *registry;
} bench;

static void bench_open(bench *b) {
  *b = (bench){0};
  const mg_allocator counting = {resize, &b->allocator};
  assert_int_equal(mg_context_create(&counting, &b->context), MG_OK);
  assert_ok(b->context, mg_registry_create(b->context, &b->registry));
  assert_ok(b->context, mg_testing_register(b->registry));
}

static void bench_close(bench *b) {
  mg_registry_destroy(b->registry);
  assert_int_equal(mg_context_bytes(b->context), 0);
  mg_context_destroy(b->context);
}

/* ---- one training step of an MoE layer ----------------------------------------------------------------------- */

typedef struct model {
  mg_backend *backend;
  mg_params *params;
  mg_tape *tape;
} model;

enum { TOKENS = 24, WIDTH = 8, EXPERTS = 4, CHOICES = 2 };

static mg_status add(model *m, const char *name, int32_t dims, int64_t a, int64_t b, int64_t c) {
  const mg_param_request request = {.name = name,
                                    .dims = dims,
                                    .shape = {a, b, c},
                                    .init = MG_INIT_NORMAL,
                                    .scale = 0.5,
                                    .stream = mg_stream_named(1, name, 0, 0)};
  return mg_params_add(m->params, &request, NULL);
}

static mg_status model_open(model *m, bench *b) {
  *m = (model){0};
  MG_TRY(mg_backend_open(b->context, b->registry, "reference", NULL, &m->backend));
  MG_TRY(mg_params_create(m->backend, MG_F32, &m->params));
  MG_TRY(mg_tape_create(m->backend, MG_BF16, &m->tape));
  MG_TRY(add(m, "gate", 2, EXPERTS, WIDTH, 0));
  MG_TRY(add(m, "experts", 3, EXPERTS, WIDTH, WIDTH));
  return mg_params_make_moments(m->params);
}

static void model_close(model *m) {
  mg_tape_destroy(m->tape);
  mg_params_destroy(m->params);
  if (m->backend) mg_backend_close(m->backend);
}

static mg_var *forward(model *m) {
  mg_tape *tape = m->tape;
  const int64_t shape[] = {TOKENS, WIDTH};
  mg_var *x = mg_random(tape, MG_F32, 2, shape, MG_RANDOM_NORMAL, mg_stream_named(1, "x", 0, 0), 0, 1);
  mg_var *weights = NULL;
  mg_var *probs = mg_softmax(tape, mg_linear(tape, x, mg_params_var(m->params, tape, 0)));
  mg_var *ids = mg_top_k(tape, probs, CHOICES, &weights);
  mg_assignment assignment;
  mg_assign(tape, ids, NULL, EXPERTS, 0, MG_ORDER_POSITION, &assignment);
  mg_var *rows = mg_dispatch(tape, x, &assignment);
  mg_var *out = mg_grouped_linear(tape, rows, mg_params_var(m->params, tape, 1), assignment.offsets);
  mg_var *y = mg_add(tape, x, mg_combine(tape, out, weights, &assignment));
  return mg_add(tape, mg_mean(tape, mg_square(tape, y)), mg_scale(tape, mg_mean(tape, mg_square(tape, probs)), 0.1));
}

static mg_status step(model *m) {
  mg_tape_reset(m->tape);
  mg_var *loss = forward(m);
  MG_TRY(mg_tape_backward(m->tape, loss));
  for (int64_t i = 0; i < mg_params_count(m->params); i++) {
    mg_param *p = mg_params_at(m->params, i);
    mg_op_call adamw = {
        .op = MG_OP_ADAMW, .in = {&p->gradient}, .out = {&p->value, &p->first, &p->second}, .part = MG_PART_OPTIMISER};
    adamw.attributes.adamw.step = 1;
    MG_TRY(mg_tape_run(m->tape, &adamw));
  }
  return mg_params_zero_gradients(m->params);
}

/* ---- tests --------------------------------------------------------------------------------------------------- */

static void repeated_step_allocates_nothing(void **state) {
  (void)state;
  bench b;
  model m;
  bench_open(&b);
  assert_ok(b.context, model_open(&m, &b));
  for (int i = 0; i < 2; i++) assert_ok(b.context, step(&m)); /* the first grows, the second begins in one chunk */
  const int64_t allocations = b.allocator.allocations;
  const size_t bytes = mg_tape_bytes(m.tape);
  for (int i = 0; i < 3; i++) assert_ok(b.context, step(&m));
  assert_int_equal(b.allocator.allocations, allocations);
  assert_int_equal(mg_tape_bytes(m.tape), bytes);
  assert_int_equal(mg_tape_peak_bytes(m.tape), bytes);
  model_close(&m);
  bench_close(&b);
}

static void every_allocation_failing_once_ends_in_a_message_and_no_leak(void **state) {
  (void)state;
  bench b;
  bench_open(&b);
  const size_t before = mg_context_bytes(b.context);
  int64_t walked = 0;
  for (bool done = false; !done; walked++) {
    assert_true(walked < 1000);
    model m;
    b.allocator = (allocator){.fail_at = walked + 1};
    mg_status status = model_open(&m, &b);
    if (status == MG_OK) status = step(&m);
    done = !b.allocator.failed;
    assert_int_equal(status, done ? MG_OK : MG_MEMORY);
    if (!done) assert_non_null(strstr(mg_context_message(b.context), "out of host memory"));
    model_close(&m);
    assert_int_equal(mg_context_bytes(b.context), before);
  }
  assert_true(walked > 15); /* backend, store, parameters, tape, chunks */
  bench_close(&b);
}

/* A tape over large variables in several chunks, with the allocation of the merged chunk failing at reset. */
static void failed_merge_at_reset_costs_only_a_new_chunk(void **state) {
  (void)state;
  bench b;
  model m;
  bench_open(&b);
  assert_ok(b.context, model_open(&m, &b));
  const int64_t shape[] = {300000};
  for (int i = 0; i < 4; i++) assert_non_null(mg_fill(m.tape, MG_F32, 1, shape, 1.0));
  b.allocator.failed = false;
  b.allocator.fail_at = b.allocator.allocations + 1;
  mg_tape_reset(m.tape);
  assert_true(b.allocator.failed);
  assert_int_equal(mg_tape_status(m.tape), MG_OK);
  assert_ok(b.context, step(&m));
  model_close(&m);
  bench_close(&b);
}

static void variables_stand_at_multiples_of_64_bytes(void **state) {
  (void)state;
  mg_world world;
  mg_world_open(&world, "reference", MG_F32);
  for (int64_t count = 1; count < 100; count += 13) {
    mg_var *x = mg_fill(world.tape, MG_BF16, 1, &count, 1.0);
    assert_int_equal((uintptr_t)mg_var_tensor(x)->data % 64, 0);
  }
  mg_world_close(&world);
}

static void gradients_are_recycled_during_the_walk_back(void **state) {
  (void)state;
  mg_world world;
  mg_world_open(&world, "reference", MG_F32);
  const int64_t shape[] = {1024};
  mg_tensor value = mg_world_tensor(&world, MG_F32, 1, shape, NULL);
  mg_tensor gradient = mg_world_tensor(&world, MG_F32, 1, shape, NULL);
  mg_var *x = mg_tape_leaf(world.tape, &value, &gradient);
  for (int i = 0; i < 50; i++) x = mg_unary_op(world.tape, MG_UNARY_TANH, x, 0, 0);
  mg_var *loss = mg_sum(world.tape, x);
  const size_t forward_bytes = mg_tape_bytes(world.tape);
  assert_ok(world.context, mg_tape_backward(world.tape, loss));
  assert_true(mg_tape_bytes(world.tape) - forward_bytes < 4 * 4096); /* not 50 gradients */
  mg_world_release(&world, &value);
  mg_world_release(&world, &gradient);
  mg_world_close(&world);
}

/* ---- backends that lack something ---------------------------------------------------------------------------- */

static bool supports_all_but_softmax(const mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  return call->op != MG_OP_SOFTMAX;
}

/* The world's backend with another table, for one test. */
static mg_backend with_table(const mg_world *world, mg_backend_plugin *table) {
  *table = *world->backend->plugin;
  table->name = "partial";
  mg_backend backend = *world->backend;
  backend.plugin = table;
  return backend;
}

static void missing_primitive_is_refused_by_name(void **state) {
  (void)state;
  mg_world world;
  mg_world_open(&world, "reference", MG_F32);
  mg_backend_plugin table;
  mg_backend backend = with_table(&world, &table);
  table.kernels_count = MG_OP_CUMSUM;
  table.supports = supports_all_but_softmax;
  mg_tape *tape = NULL;
  assert_ok(world.context, mg_tape_create(&backend, MG_F32, &tape));
  const int64_t shape[] = {2, 3};
  assert_null(mg_cumsum(tape, mg_fill(tape, MG_F32, 2, shape, 1.0)));
  assert_refused(world.context, MG_UNSUPPORTED, "backend partial cannot run cumsum(x f32 [2, 3])",
                 mg_tape_status(tape));
  mg_tape_reset(tape);
  table.kernels_count = MG_OP_COUNT;
  assert_null(mg_softmax(tape, mg_fill(tape, MG_BF16, 2, shape, 1.0)));
  assert_refused(world.context, MG_UNSUPPORTED, "backend partial cannot run softmax(x bf16 [2, 3])",
                 mg_tape_status(tape));
  mg_tape_destroy(tape);
  mg_world_close(&world);
}

typedef struct gate_result {
  mg_var *part[3]; /* scores, weights, ids */
  mg_counters counters;
} gate_result;

static gate_result run_gate(mg_tape *tape, int variant) {
  gate_result r;
  const int64_t shape[] = {9, 7};
  mg_tape_reset(tape);
  mg_tape_set_part(tape, MG_PART_GATE);
  mg_var *logits = mg_random(tape, MG_F64, 2, shape, MG_RANDOM_NORMAL, (mg_stream){1, 2}, 0, 2);
  r.part[2] =
      mg_gate(tape, logits, 3, (mg_gate_score)(variant % 3), (mg_gate_weight)(variant / 3), &r.part[0], &r.part[1]);
  r.counters = *mg_tape_counters(tape);
  return r;
}

static void a_fused_gate_gives_and_counts_what_its_parts_do(void **state) {
  (void)state;
  mg_world world;
  mg_world_open(&world, "reference", MG_F64);
  mg_backend_plugin table;
  mg_backend backend = with_table(&world, &table);
  table.kernels_count = MG_OP_GATE;
  mg_tape *tape = NULL;
  assert_ok(world.context, mg_tape_create(&backend, MG_F64, &tape));
  for (int variant = 0; variant < 9; variant++) {
    const gate_result fused = run_gate(world.tape, variant), composed = run_gate(tape, variant);
    assert_true(fused.counters.calls[MG_PART_GATE] <
                composed.counters.calls[MG_PART_GATE] + composed.counters.calls[MG_PART_SELECTION]);
    for (int part = 0; part < MG_PART_COUNT; part++)
      assert_near(fused.counters.flops[part], composed.counters.flops[part], 0);
    for (int i = 0; i < 3; i++)
      for (int64_t at = 0; at < mg_var_rows(fused.part[i]) * mg_var_columns(fused.part[i]); at++)
        assert_near(mg_world_value(&world, fused.part[i], at), mg_world_value(&world, composed.part[i], at), 0);
  }
  mg_tape_destroy(tape);
  mg_world_close(&world);
}

static void rows_of_an_assignment_are_bounded_where_the_host_cannot_read(void **state) {
  (void)state;
  mg_world world;
  mg_world_open(&world, "reference", MG_F32);
  mg_backend_plugin table;
  mg_backend backend = with_table(&world, &table);
  table.host_memory = false;
  mg_tape *tape = NULL;
  assert_ok(world.context, mg_tape_create(&backend, MG_F32, &tape));
  const int32_t ids[] = {0, 1, 0, 1, 0, -1};
  mg_var *choice = mg_tape_upload(tape, MG_I32, 2, (const int64_t[]){3, 2}, ids);
  mg_assignment all, capped;
  assert_ok(world.context, mg_assign(tape, choice, NULL, 2, 0, MG_ORDER_POSITION, &all));
  assert_int_equal(all.rows, 6);
  assert_ok(world.context, mg_assign(tape, choice, NULL, 2, 2, MG_ORDER_POSITION, &capped));
  assert_int_equal(capped.rows, 4);
  mg_var *x = mg_fill(tape, MG_F32, 2, (const int64_t[]){3, 1}, 5.0);
  mg_var *rows = mg_dispatch(tape, x, &all);
  assert_near(mg_world_value(&world, rows, 4), 5, 0);
  assert_near(mg_world_value(&world, rows, 5), 0, 0); /* beyond the last assignment */
  mg_tape_destroy(tape);
  mg_world_close(&world);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(repeated_step_allocates_nothing),
      cmocka_unit_test(every_allocation_failing_once_ends_in_a_message_and_no_leak),
      cmocka_unit_test(failed_merge_at_reset_costs_only_a_new_chunk),
      cmocka_unit_test(variables_stand_at_multiples_of_64_bytes),
      cmocka_unit_test(gradients_are_recycled_during_the_walk_back),
      cmocka_unit_test(missing_primitive_is_refused_by_name),
      cmocka_unit_test(a_fused_gate_gives_and_counts_what_its_parts_do),
      cmocka_unit_test(rows_of_an_assignment_are_bounded_where_the_host_cannot_read),
  };
  return cmocka_run_group_tests_name("tape memory", tests, NULL, NULL);
}
