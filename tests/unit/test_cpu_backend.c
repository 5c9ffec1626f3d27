/* The cpu backend beyond the conformance suite: every instruction set agrees with the reference, results do not vary,
 * scratch memory stops growing, and the elementary functions keep their stated accuracy. */
#include <math.h>
#include <string.h>

#include "support/testing.h"

#include "measure/op_suite.h"

typedef struct cpu_world {
  mg_context *context;
  mg_registry *registry;
} cpu_world;

static int open_world(void **state) {
  static cpu_world world;
  world = (cpu_world){0};
  if (mg_context_create(NULL, &world.context) != MG_OK) return 1;
  assert_ok(world.context, mg_registry_create(world.context, &world.registry));
  assert_ok(world.context, mg_testing_register(world.registry));
  *state = &world;
  return 0;
}

static int close_world(void **state) {
  cpu_world *world = *state;
  mg_registry_destroy(world->registry);
  const size_t left = mg_context_bytes(world->context);
  mg_context_destroy(world->context);
  return left != 0;
}

/* NULL where this machine cannot run the instruction set. */
static mg_backend *open_cpu(cpu_world *world, const char *isa, int threads) {
  mg_backend *backend = NULL;
  json_t *options = json_pack("{s:s,s:i}", "isa", isa, "threads", threads);
  const mg_status status = mg_backend_open(world->context, world->registry, "cpu", options, &backend);
  json_decref(options);
  if (status == MG_DEVICE) return NULL;
  assert_ok(world->context, status);
  return backend;
}

static mg_tensor make(mg_backend *backend, mg_dtype dtype, int32_t dims, const int64_t *shape) {
  mg_tensor tensor = {.dims = dims, .dtype = dtype};
  memcpy(tensor.shape, shape, (size_t)dims * sizeof *shape);
  assert_ok(backend->context, backend->plugin->allocate(backend, mg_tensor_bytes(&tensor), &tensor.data));
  return tensor;
}

static void discard(mg_backend *backend, mg_tensor *tensor) {
  backend->plugin->release(backend, tensor->data, mg_tensor_bytes(tensor));
}

static void run(mg_backend *backend, const mg_op_call *call) {
  assert_ok(backend->context, backend->plugin->kernels[call->op](backend, call));
}

static void draw(mg_backend *backend, mg_tensor *tensor, uint64_t seed) {
  mg_op_call call = {.op = MG_OP_RANDOM, .out = {tensor}};
  call.attributes.random.kind = MG_RANDOM_NORMAL;
  call.attributes.random.stream = mg_stream_named(seed, "test", 0, 0);
  call.attributes.random.high = 1.0;
  run(backend, &call);
}

/* ---- instruction sets ----------------------------------------------------------------------------------------- */

static bool print_failure(void *user, const mg_suite_row *row) {
  if (row->verdict == MG_SUITE_FAILED) print_message("%s %s: %s\n", (const char *)user, row->name, row->detail);
  return true;
}

static void assert_agrees(cpu_world *world, const char *isa, const char *filter) {
  mg_backend *reference, *backend = open_cpu(world, isa, 2);
  if (!backend) {
    print_message("isa=%s cannot run here\n", isa);
    return;
  }
  assert_ok(world->context, mg_backend_open(world->context, world->registry, "reference", NULL, &reference));
  mg_suite_summary summary;
  const mg_suite_request request = {backend, reference, filter, (void *)(uintptr_t)isa};
  assert_ok(world->context, mg_op_suite_check(world->context, &request, print_failure, &summary));
  assert_int_equal(summary.failed, 0);
  assert_true(summary.passed > 0);
  mg_backend_close(reference);
  mg_backend_close(backend);
}

static void every_instruction_set_agrees_with_the_reference(void **state) {
  /* What intrinsics or vectorised functions compute; the other primitives are the same plain C in every level. */
  static const char *const sets[] = {"portable", "avx2", "avx512"}, *const filters[] = {"grouped_matmul", "softmax",
                                                                                        "top_k", "unary"};
  for (size_t i = 0; i < MG_COUNT(sets); i++)
    for (size_t f = 0; f < MG_COUNT(filters); f++) assert_agrees(*state, sets[i], filters[f]);
}

static void every_bf16_kernel_agrees_with_the_reference(void **state) {
  static const char *const sets[] = {"avx512_bf16", "amx", "amx_emulated"};
  for (size_t i = 0; i < MG_COUNT(sets); i++) assert_agrees(*state, sets[i], "grouped_matmul");
  assert_agrees(*state, "amx_emulated", "attention");
}

static void what_a_machine_cannot_run_is_refused_with_what_it_can(void **state) {
  cpu_world *world = *state;
  mg_backend *backend = open_cpu(world, "amx", 1);
  if (backend)
    mg_backend_close(backend);
  else
    assert_non_null(strstr(mg_context_message(world->context), "the best it can run is isa="));
}

static void f64_is_not_supported(void **state) {
  mg_backend *backend = open_cpu(*state, "auto", 1);
  const mg_tensor x = {.dims = 1, .shape = {0}, .dtype = MG_F64};
  mg_tensor out = x;
  const mg_op_call call = {.op = MG_OP_SOFTMAX, .in = {&x}, .out = {&out}};
  assert_false(backend->plugin->supports(backend, &call));
  mg_backend_close(backend);
}

/* ---- no variation --------------------------------------------------------------------------------------------- */

enum { TOKENS = 203, WIDTH = 96, COLUMNS = 130, EXPERTS = 7 };

typedef struct step_results {
  mg_tensor product, grouped, weight, sums, attended, decoded;
} step_results;

/* A step with every kind of parallel kernel; the same inputs each time. */
static void run_step(mg_backend *backend, step_results *r, bool first) {
  mg_tensor x = make(backend, MG_F32, 2, (int64_t[]){TOKENS, WIDTH});
  mg_tensor w = make(backend, MG_BF16, 3, (int64_t[]){EXPERTS, COLUMNS, WIDTH});
  mg_tensor offsets = make(backend, MG_I32, 1, (int64_t[]){EXPERTS + 1});
  mg_tensor lse = make(backend, MG_F32, 2, (int64_t[]){4, TOKENS});
  mg_tensor query = make(backend, MG_F32, 2, (int64_t[]){2, WIDTH}), past = make(backend, MG_BF16, 2, x.shape);
  mg_tensor lse_of_query = make(backend, MG_F32, 2, (int64_t[]){4, 2});
  if (first) {
    r->product = make(backend, MG_F32, 2, (int64_t[]){TOKENS, COLUMNS});
    r->grouped = make(backend, MG_BF16, 2, (int64_t[]){TOKENS, COLUMNS});
    r->weight = make(backend, MG_F32, 3, w.shape);
    r->sums = make(backend, MG_F32, 1, (int64_t[]){WIDTH});
    r->attended = make(backend, MG_F32, 2, (int64_t[]){TOKENS, WIDTH});
    r->decoded = make(backend, MG_F32, 2, (int64_t[]){2, WIDTH});
  }
  static const int32_t starts[EXPERTS + 1] = {0, 0, 3, 140, 141, 160, 200, TOKENS};
  memcpy(offsets.data, starts, sizeof starts);
  draw(backend, &x, 1);
  draw(backend, &w, 2);
  draw(backend, &query, 3);
  draw(backend, &past, 4);
  mg_tensor one = {.data = w.data, .dims = 2, .shape = {COLUMNS, WIDTH}, .dtype = MG_BF16};
  mg_op_call product = {.op = MG_OP_MATMUL, .in = {&x, &one}, .out = {&r->product}};
  product.attributes.matmul.transpose_b = true;
  mg_op_call grouped = {.op = MG_OP_GROUPED_MATMUL, .in = {&x, &w, &offsets}, .out = {&r->grouped}};
  grouped.attributes.grouped.transpose_w = true;
  grouped.attributes.grouped.compute = MG_BF16;
  mg_op_call weight = {.op = MG_OP_GROUPED_MATMUL_WEIGHT, .in = {&x, &r->product, &offsets}, .out = {&r->weight}};
  weight.attributes.grouped.transpose_w = true;
  mg_op_call sums = {.op = MG_OP_REDUCE, .in = {&x}, .out = {&r->sums}};
  sums.attributes.reduce.axis = MG_OVER_ROWS;
  mg_op_call attention = {.op = MG_OP_ATTENTION, .in = {&x, &x, &x}, .out = {&r->attended, &lse}};
  attention.attributes.attention.batch = 1;
  attention.attributes.attention.heads = attention.attributes.attention.kv_heads = 4;
  attention.attributes.attention.scale = 0.2;
  mg_op_call decode = {.op = MG_OP_ATTENTION, .in = {&query, &past, &past}, .out = {&r->decoded, &lse_of_query}};
  decode.attributes = attention.attributes;
  decode.attributes.attention.causal = true;
  decode.attributes.attention.compute = MG_BF16;
  const mg_op_call *calls[] = {&product, &grouped, &weight, &sums, &attention, &decode};
  for (size_t i = 0; i < MG_COUNT(calls); i++) run(backend, calls[i]);
  discard(backend, &x), discard(backend, &w), discard(backend, &offsets), discard(backend, &lse);
  discard(backend, &query), discard(backend, &past), discard(backend, &lse_of_query);
}

static void discard_results(mg_backend *backend, step_results *r) {
  discard(backend, &r->product), discard(backend, &r->grouped), discard(backend, &r->weight);
  discard(backend, &r->sums), discard(backend, &r->attended), discard(backend, &r->decoded);
}

static void assert_same_bits(const step_results *a, const step_results *b) {
  assert_memory_equal(a->product.data, b->product.data, mg_tensor_bytes(&a->product));
  assert_memory_equal(a->grouped.data, b->grouped.data, mg_tensor_bytes(&a->grouped));
  assert_memory_equal(a->weight.data, b->weight.data, mg_tensor_bytes(&a->weight));
  assert_memory_equal(a->sums.data, b->sums.data, mg_tensor_bytes(&a->sums));
  assert_memory_equal(a->attended.data, b->attended.data, mg_tensor_bytes(&a->attended));
  assert_memory_equal(a->decoded.data, b->decoded.data, mg_tensor_bytes(&a->decoded));
}

static void runs_and_thread_counts_give_the_same_bits(void **state) {
  mg_backend *several = open_cpu(*state, "auto", 3), *one = open_cpu(*state, "auto", 1);
  step_results a, b, c;
  run_step(several, &a, true);
  run_step(several, &b, true);
  run_step(one, &c, true);
  assert_same_bits(&a, &b);
  assert_same_bits(&a, &c);
  discard_results(several, &a), discard_results(several, &b), discard_results(one, &c);
  mg_backend_close(several);
  mg_backend_close(one);
}

/* a^T b into an output that does not fit the caches: once written anew, once added to zeros, which stays in them. */
static void assert_same_large_product(mg_backend *backend, mg_dtype dtype) {
  enum { DEPTH = 6, ROWS = 4100, WIDE = 4112 };
  const int64_t shape[] = {ROWS, WIDE};
  mg_tensor a = make(backend, dtype, 2, (int64_t[]){DEPTH, ROWS}),
            b = make(backend, dtype, 2, (int64_t[]){DEPTH, WIDE});
  mg_tensor written = make(backend, dtype, 2, shape), added = make(backend, dtype, 2, shape);
  draw(backend, &a, 1);
  draw(backend, &b, 2);
  memset(written.data, 0xff, mg_tensor_bytes(&written));
  memset(added.data, 0, mg_tensor_bytes(&added));
  mg_op_call call = {.op = MG_OP_MATMUL, .in = {&a, &b}, .out = {&written}};
  call.attributes.matmul.transpose_a = true;
  call.attributes.matmul.compute = dtype;
  run(backend, &call);
  call.out[0] = &added;
  call.attributes.matmul.accumulate = true;
  run(backend, &call);
  assert_memory_equal(written.data, added.data, mg_tensor_bytes(&written));
  discard(backend, &a), discard(backend, &b), discard(backend, &written), discard(backend, &added);
}

static void results_larger_than_the_caches_are_the_same(void **state) {
  static const char *const sets[] = {"portable", "auto"};
  for (size_t i = 0; i < MG_COUNT(sets); i++) {
    mg_backend *backend = open_cpu(*state, sets[i], 2);
    assert_same_large_product(backend, MG_F32);
    assert_same_large_product(backend, MG_BF16);
    mg_backend_close(backend);
  }
}

static void a_repeated_step_takes_no_more_memory(void **state) {
  cpu_world *world = *state;
  mg_backend *backend = open_cpu(world, "auto", 2);
  step_results results;
  run_step(backend, &results, true);
  const size_t after_first = mg_context_bytes(world->context);
  run_step(backend, &results, false);
  assert_int_equal(mg_context_bytes(world->context), after_first);
  discard_results(backend, &results);
  mg_backend_close(backend);
}

/* ---- top_k ---------------------------------------------------------------------------------------------------- */

enum { TOP_ROWS = 37, TOP_COLUMNS = 90, TOP_CHOICES = 8 };

/* Element i, which stands in `column`, of a row of one of six kinds: any, few different, the nearest two numbers from 1
 * on, mostly NaN or infinite, negative with one zero of each sign, and large beside small. */
static float top_value(mg_stream stream, int64_t kind, int64_t column, int64_t i) {
  const double any = mg_random_uniform(stream, (uint64_t)i);
  const uint64_t dice = mg_random_below(stream, (uint64_t)(i + 1000000), 12);
  switch (kind % 6) {
  case 0: return (float)any;
  case 1: return (float)((double)dice - 6);
  case 2: return dice ? (float)any : any < 0.5 ? 1.0f : nextafterf(1.0f, 2.0f);
  case 3: return dice > 6 ? NAN : dice > 3 ? -INFINITY : dice > 2 ? INFINITY : (float)any;
  case 4: return column == 1 ? -0.0f : column == 3 ? 0.0f : (float)(any - 2);
  default: return (float)(any * pow(10, (double)dice));
  }
}

/* Whether column a comes before column b. */
static bool comes_before(const float *x, int64_t a, int64_t b) {
  const float left = isnan(x[a]) ? -INFINITY : x[a], right = isnan(x[b]) ? -INFINITY : x[b];
  return left > right || (left == right && a < b);
}

static void check_top_k(const float *x, int64_t columns, int64_t k, const float *values, const int32_t *ids) {
  for (int64_t c = 0; c < columns; c++) {
    int64_t rank = 0;
    for (int64_t other = 0; other < columns; other++) rank += comes_before(x, other, c);
    if (rank >= k) continue;
    assert_int_equal(ids[rank], c);
    assert_true(values[rank] == (isnan(x[c]) ? -INFINITY : x[c]));
  }
}

static void top_k_keeps_the_order_of_close_and_equal_values(void **state) {
  static const char *const sets[] = {"portable", "auto"};
  for (size_t i = 0; i < MG_COUNT(sets); i++) {
    mg_backend *backend = open_cpu(*state, sets[i], 1);
    for (int64_t columns = 1; columns <= TOP_COLUMNS; columns += columns < 20 ? 1 : 7)
      for (int64_t k = 1; k <= TOP_CHOICES && k <= columns; k++) {
        mg_tensor x = make(backend, MG_F32, 2, (int64_t[]){TOP_ROWS, columns});
        mg_tensor values = make(backend, MG_F32, 2, (int64_t[]){TOP_ROWS, k});
        mg_tensor ids = make(backend, MG_I32, 2, (int64_t[]){TOP_ROWS, k});
        const mg_stream stream = mg_stream_named(5, "top", (uint64_t)columns, (uint64_t)k);
        for (int64_t j = 0; j < TOP_ROWS * columns; j++) /* rows by turns of all kinds, or all of one */
          ((float *)x.data)[j] = top_value(stream, columns % 2 ? j / columns : columns / 2 + k, j % columns, j);
        const mg_op_call call = {.op = MG_OP_TOP_K, .in = {&x}, .out = {&values, &ids}};
        run(backend, &call);
        for (int64_t row = 0; row < TOP_ROWS; row++)
          check_top_k((float *)x.data + row * columns, columns, k, (float *)values.data + row * k,
                      (int32_t *)ids.data + row * k);
        discard(backend, &x), discard(backend, &values), discard(backend, &ids);
      }
    mg_backend_close(backend);
  }
}

/* ---- functions ------------------------------------------------------------------------------------------------ */

enum { POINTS = 20001 };

/* The largest relative error of a function over evenly spaced points. */
static double worst_error(mg_backend *backend, mg_unary kind, double from, double to, double (*exact)(double)) {
  mg_tensor x = make(backend, MG_F32, 1, (int64_t[]){POINTS}), out = make(backend, MG_F32, 1, (int64_t[]){POINTS});
  float *points = x.data;
  for (int32_t i = 0; i < POINTS; i++) points[i] = (float)(from + (to - from) * i / (POINTS - 1));
  mg_op_call call = {.op = MG_OP_UNARY, .in = {&x}, .out = {&out}};
  call.attributes.unary.kind = kind;
  run(backend, &call);
  double worst = 0;
  for (int32_t i = 0; i < POINTS; i++) {
    const double want = exact((double)points[i]), error = fabs((double)((float *)out.data)[i] - want);
    if (error > worst * fabs(want)) worst = error / fabs(want);
  }
  discard(backend, &x), discard(backend, &out);
  return worst;
}

static void exponential_and_tanh_keep_their_accuracy(void **state) {
  static const char *const sets[] = {"portable", "avx2", "avx512"};
  for (size_t i = 0; i < MG_COUNT(sets); i++) {
    mg_backend *backend = open_cpu(*state, sets[i], 1);
    if (!backend) continue;
    const double exp_error = worst_error(backend, MG_UNARY_EXP, -87.0, 88.3, exp);
    const double tanh_error = worst_error(backend, MG_UNARY_TANH, -9.0, 9.0, tanh);
    print_message("%s: exp %.2g, tanh %.2g\n", sets[i], exp_error, tanh_error);
    assert_true(exp_error < 3e-7);
    assert_true(tanh_error < 5e-7);
    mg_backend_close(backend);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_instruction_set_agrees_with_the_reference),
      cmocka_unit_test(every_bf16_kernel_agrees_with_the_reference),
      cmocka_unit_test(what_a_machine_cannot_run_is_refused_with_what_it_can),
      cmocka_unit_test(f64_is_not_supported),
      cmocka_unit_test(runs_and_thread_counts_give_the_same_bits),
      cmocka_unit_test(results_larger_than_the_caches_are_the_same),
      cmocka_unit_test(a_repeated_step_takes_no_more_memory),
      cmocka_unit_test(top_k_keeps_the_order_of_close_and_equal_values),
      cmocka_unit_test(exponential_and_tanh_keep_their_accuracy),
  };
  return cmocka_run_group_tests(tests, open_world, close_world);
}
