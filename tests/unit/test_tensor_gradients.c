/* Every differentiable primitive's backward rule against finite differences, in f64 on the reference backend. */
#include "support/gradient.h"

static mg_world world;

static int open_world(void **state) {
  (void)state;
  mg_world_open(&world, "reference", MG_F64);
  return 0;
}

static int close_world(void **state) {
  (void)state;
  mg_world_close(&world);
  return 0;
}

static void check_all(const mg_gradient_case *cases, size_t count) {
  for (size_t i = 0; i < count; i++) mg_check_gradients(&world, &cases[i]);
}

static mg_var *ids_of(mg_world *w, int64_t rows, int64_t columns, const int32_t *ids) {
  return mg_tape_upload(w->tape, MG_I32, 2, (const int64_t[]){rows, columns}, ids);
}

/* ---- elementwise --------------------------------------------------------------------------------------------- */

typedef struct unary_case {
  mg_unary kind;
  double alpha, beta;
} unary_case;

static mg_var *unary(mg_world *w, mg_var *const *leaves, const void *user) {
  const unary_case *c = user;
  return mg_unary_op(w->tape, c->kind, leaves[0], c->alpha, c->beta);
}

static void gradient_of_every_unary_function(void **state) {
  (void)state;
  static const char *const names[] = {
#define NAME(NAME, name, what) #name,
      MG_UNARY_LIST(NAME)
#undef NAME
  };
  for (int kind = 0; kind < MG_UNARY_COUNT; kind++) {
    const unary_case user = {(mg_unary)kind, kind == MG_UNARY_CLAMP ? -0.4 : 1.5, kind == MG_UNARY_CLAMP ? 0.3 : -0.7};
    const bool positive = kind == MG_UNARY_LOG || kind == MG_UNARY_SQRT || kind == MG_UNARY_RECIPROCAL;
    const mg_gradient_leaf leaf = {2, {3, 5}, positive ? 0.2 : -2.0, 2.0};
    const mg_gradient_case c = {names[kind], {leaf}, unary, &user};
    mg_check_gradients(&world, &c);
  }
}

static mg_var *binary(mg_world *w, mg_var *const *leaves, const void *user) {
  return mg_binary_op(w->tape, *(const mg_binary *)user, leaves[0], leaves[1]);
}

static void gradient_of_every_binary_function_under_every_broadcast(void **state) {
  (void)state;
  static const char *const names[MG_BINARY_COUNT] = {"add", "sub", "mul", "div", "max", "min", "greater"};
  static const mg_gradient_leaf a = {2, {3, 4}, 0.2, 1.5};
  static const mg_gradient_leaf others[] = {
      {2, {3, 4}, 0.2, 1.5}, {1, {4}, 0.2, 1.5}, {2, {3, 1}, 0.2, 1.5}, {1, {1}, 0.2, 1.5}, {2, {1, 4}, 0.2, 1.5}};
  for (int kind = 0; kind < MG_BINARY_COUNT; kind++) {
    const mg_binary user = (mg_binary)kind;
    for (size_t i = 0; i < MG_COUNT(others); i++) {
      const mg_gradient_case c = {names[kind], {a, others[i]}, binary, &user};
      mg_check_gradients(&world, &c);
    }
  }
}

static void gradient_of_broadcast_over_a_column_and_a_row(void **state) {
  (void)state;
  const mg_binary mul = MG_BINARY_MUL;
  const mg_gradient_case cases[] = {{"column", {{2, {4, 1}, -1, 1}, {1, {1}, -1, 1}}, binary, &mul},
                                    {"row", {{2, {1, 4}, -1, 1}, {2, {1, 1}, -1, 1}}, binary, &mul},
                                    {"three dimensions", {{3, {2, 3, 4}, -1, 1}, {3, {2, 3, 1}, -1, 1}}, binary, &mul}};
  check_all(cases, MG_COUNT(cases));
}

static mg_var *where(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  const double mask[] = {1, 0, 0, 2, 0, -1};
  return mg_where(w->tape, mg_world_constant(w, MG_F64, 2, (const int64_t[]){2, 3}, mask), leaves[0], 7.0);
}

static mg_var *glu(mg_world *w, mg_var *const *leaves, const void *user) {
  return mg_glu(w->tape, *(const mg_glu_kind *)user, leaves[0], leaves[1]);
}

static void gradient_of_where_and_gated_units(void **state) {
  (void)state;
  const mg_gradient_case c = {"where", {{2, {2, 3}, -1, 1}}, where, NULL};
  mg_check_gradients(&world, &c);
  for (int kind = MG_GLU_SILU; kind <= MG_GLU_SIGMOID; kind++) {
    const mg_glu_kind user = (mg_glu_kind)kind;
    const mg_gradient_case unit = {"glu", {{2, {3, 4}, -2, 2}, {2, {3, 4}, -1, 1}}, glu, &user};
    mg_check_gradients(&world, &unit);
  }
}

/* ---- shape and reductions ------------------------------------------------------------------------------------ */

static mg_var *slice(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  return mg_slice(w->tape, leaves[0], 1, 3);
}

static mg_var *concat(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  return mg_concat(w->tape, leaves[0], leaves[1]);
}

static mg_var *transpose(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  return mg_transpose(w->tape, leaves[0]);
}

static mg_var *reshape(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  return mg_softmax(w->tape, mg_reshape2(w->tape, leaves[0], -1, 2));
}

static void gradient_of_shape_changes(void **state) {
  (void)state;
  const mg_gradient_case cases[] = {{"slice", {{2, {3, 5}, -1, 1}}, slice, NULL},
                                    {"slice of three dimensions", {{3, {2, 2, 5}, -1, 1}}, slice, NULL},
                                    {"concat", {{2, {3, 4}, -1, 1}, {2, {3, 2}, -1, 1}}, concat, NULL},
                                    {"transpose", {{2, {3, 5}, -1, 1}}, transpose, NULL},
                                    {"batched transpose", {{3, {2, 3, 4}, -1, 1}}, transpose, NULL},
                                    {"reshape", {{2, {3, 4}, -1, 1}}, reshape, NULL}};
  check_all(cases, MG_COUNT(cases));
}

typedef struct reduce_case {
  mg_reduce kind;
  mg_axis axis;
} reduce_case;

static mg_var *reduce(mg_world *w, mg_var *const *leaves, const void *user) {
  const reduce_case *c = user;
  return mg_reduce_op(w->tape, c->kind, c->axis, leaves[0]);
}

static void gradient_of_every_reduction(void **state) {
  (void)state;
  static const int64_t shapes[][2] = {{3, 5}, {1, 4}, {4, 1}, {1, 1}};
  for (int kind = MG_REDUCE_SUM; kind <= MG_REDUCE_SUM_SQUARES; kind++) {
    for (int axis = MG_OVER_COLUMNS; axis <= MG_OVER_ROWS; axis++) {
      const reduce_case user = {(mg_reduce)kind, (mg_axis)axis};
      for (size_t i = 0; i < MG_COUNT(shapes); i++) {
        const mg_gradient_case c = {"reduce", {{2, {shapes[i][0], shapes[i][1]}, -1, 1}}, reduce, &user};
        mg_check_gradients(&world, &c);
      }
    }
  }
}

static mg_var *mean(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  return mg_mean(w->tape, mg_square(w->tape, leaves[0]));
}

static mg_var *cumsum(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  return mg_cumsum(w->tape, leaves[0]);
}

static mg_var *softmax(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  return mg_softmax(w->tape, leaves[0]);
}

static mg_var *log_sum_exp(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  return mg_log_sum_exp(w->tape, leaves[0]);
}

static void gradient_of_mean_running_sum_and_softmax(void **state) {
  (void)state;
  const mg_gradient_case cases[] = {{"mean", {{2, {3, 4}, -1, 1}}, mean, NULL},
                                    {"cumsum", {{2, {3, 5}, -1, 1}}, cumsum, NULL},
                                    {"softmax", {{2, {3, 5}, -3, 3}}, softmax, NULL},
                                    {"log_sum_exp", {{2, {3, 5}, -3, 3}}, log_sum_exp, NULL}};
  check_all(cases, MG_COUNT(cases));
}

/* ---- products ------------------------------------------------------------------------------------------------ */

static mg_var *matmul(mg_world *w, mg_var *const *leaves, const void *user) {
  const bool *transposed = user;
  return mg_matmul(w->tape, leaves[0], transposed[0], leaves[1], transposed[1]);
}

static void gradient_of_matmul_under_every_transposition(void **state) {
  (void)state;
  for (int i = 0; i < 4; i++) {
    const bool user[2] = {i & 1, i & 2};
    const mg_gradient_leaf a = {2, {user[0] ? 4 : 3, user[0] ? 3 : 4}, -1, 1},
                           b = {2, {user[1] ? 2 : 4, user[1] ? 4 : 2}, -1, 1};
    const mg_gradient_case flat = {"matmul", {a, b}, matmul, user};
    mg_check_gradients(&world, &flat);
    const mg_gradient_leaf ab = {3, {2, a.shape[0], a.shape[1]}, -1, 1}, bb = {3, {2, b.shape[0], b.shape[1]}, -1, 1};
    const mg_gradient_case batched = {"batched matmul", {ab, bb}, matmul, user};
    mg_check_gradients(&world, &batched);
  }
}

static mg_var *gram(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  return mg_matmul(w->tape, leaves[0], false, leaves[0], true);
}

static mg_var *grouped(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  const int32_t offsets[] = {0, 2, 2, 5}; /* the second of three experts has no row */
  mg_var *o = mg_tape_upload(w->tape, MG_I32, 1, (const int64_t[]){4}, offsets);
  return mg_grouped_linear(w->tape, leaves[0], leaves[1], o);
}

static mg_var *gather_dot(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  const int32_t ids[] = {0, 2, 2, 2, -1, 4};
  return mg_gather_dot(w->tape, leaves[0], leaves[1], ids_of(w, 3, 2, ids));
}

static void gradient_of_other_products(void **state) {
  (void)state;
  const mg_gradient_case cases[] = {{"one variable as both operands", {{2, {3, 4}, -1, 1}}, gram, NULL},
                                    {"grouped_linear", {{2, {5, 3}, -1, 1}, {3, {3, 2, 3}, -1, 1}}, grouped, NULL},
                                    {"gather_dot", {{2, {3, 4}, -1, 1}, {2, {5, 4}, -1, 1}}, gather_dot, NULL}};
  check_all(cases, MG_COUNT(cases));
}

/* ---- indexing ------------------------------------------------------------------------------------------------ */

static mg_var *gather_rows(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  const int32_t ids[] = {3, 0, -1, 3};
  return mg_gather_rows(w->tape, leaves[0], ids_of(w, 4, 1, ids));
}

static mg_var *gather_columns(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  const int32_t ids[] = {3, 3, -1, 0, 1, 2};
  return mg_gather_columns(w->tape, leaves[0], ids_of(w, 2, 3, ids));
}

static mg_var *scatter_columns(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  const int32_t ids[] = {3, 3, -1, 0, 1, 2};
  return mg_scatter_columns(w->tape, leaves[0], ids_of(w, 2, 3, ids), 4);
}

static mg_var *top_k(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  mg_var *values = NULL;
  mg_top_k(w->tape, leaves[0], 2, &values);
  return values;
}

/* The scores and the weights side by side: both carry gradients. */
static mg_var *gate(mg_world *w, mg_var *const *leaves, const void *user) {
  const int variant = *(const int *)user;
  mg_var *scores, *weights;
  mg_gate(w->tape, leaves[0], 3, (mg_gate_score)(variant % 3), (mg_gate_weight)(variant / 3), &scores, &weights);
  return mg_concat(w->tape, scores, weights);
}

static mg_var *weights_of_gate(mg_world *w, mg_var *const *leaves, const void *user) {
  const int variant = *(const int *)user;
  mg_var *scores, *weights;
  mg_gate(w->tape, leaves[0], 3, (mg_gate_score)(variant % 3), (mg_gate_weight)(variant / 3), &scores, &weights);
  return weights;
}

static void gradient_of_every_gate(void **state) {
  (void)state;
  for (int variant = 0; variant < 9; variant++) {
    const mg_gradient_case cases[] = {{"gate", {{2, {4, 7}, -2, 2}}, gate, &variant},
                                      {"weights of gate", {{2, {4, 7}, -2, 2}}, weights_of_gate, &variant}};
    check_all(cases, MG_COUNT(cases));
  }
}

static void gradient_of_indexing(void **state) {
  (void)state;
  const mg_gradient_case cases[] = {{"gather_rows", {{2, {4, 3}, -1, 1}}, gather_rows, NULL},
                                    {"gather_columns", {{2, {2, 4}, -1, 1}}, gather_columns, NULL},
                                    {"scatter_columns", {{2, {2, 3}, -1, 1}}, scatter_columns, NULL},
                                    {"top_k", {{2, {3, 5}, -1, 1}}, top_k, NULL}};
  check_all(cases, MG_COUNT(cases));
}

/* ---- routing ------------------------------------------------------------------------------------------------- */

/* x [4,3] to 3 experts, two choices each; some absent, and with a capacity of 2 some dropped. */
static mg_var *moe(mg_world *w, mg_var *const *leaves, const void *user) {
  const int32_t ids[] = {0, 2, 0, -1, 2, 0, 2, 0};
  mg_assignment assignment;
  mg_assign(w->tape, ids_of(w, 4, 2, ids), NULL, 3, *(const int64_t *)user, MG_ORDER_POSITION, &assignment);
  mg_var *rows = mg_dispatch(w->tape, leaves[0], &assignment);
  mg_var *out = mg_grouped_linear(w->tape, rows, leaves[1], assignment.offsets);
  return mg_combine(w->tape, out, leaves[2], &assignment);
}

static void gradient_through_dispatch_experts_and_combine(void **state) {
  (void)state;
  const int64_t unlimited = 0, two = 2;
  const mg_gradient_leaf x = {2, {4, 3}, -1, 1}, experts = {3, {3, 2, 3}, -1, 1}, weights = {2, {4, 2}, -1, 1};
  const mg_gradient_case cases[] = {{"dropless", {x, experts, weights}, moe, &unlimited},
                                    {"with drops", {x, experts, weights}, moe, &two},
                                    {"without weights", {x, experts}, moe, &two}};
  check_all(cases, MG_COUNT(cases));
}

/* ---- transformer --------------------------------------------------------------------------------------------- */

static mg_var *norm(mg_world *w, mg_var *const *leaves, const void *user) {
  return mg_norm(w->tape, *(const mg_norm_kind *)user, leaves[0], leaves[1], leaves[2], 1e-5);
}

static void gradient_of_norms(void **state) {
  (void)state;
  for (int i = MG_NORM_RMS; i <= MG_NORM_LAYER; i++) {
    const mg_norm_kind kind = (mg_norm_kind)i;
    const mg_gradient_case cases[] = {
        {"plain norm", {{2, {3, 5}, -1, 1}}, norm, &kind},
        {"scaled norm", {{2, {3, 5}, -1, 1}, {1, {5}, -1, 1}}, norm, &kind},
        {"scaled and shifted norm", {{2, {3, 5}, -1, 1}, {1, {5}, -1, 1}, {1, {5}, -1, 1}}, norm, &kind}};
    check_all(cases, MG_COUNT(cases));
  }
}

static mg_var *rope(mg_world *w, mg_var *const *leaves, const void *user) {
  const int32_t positions[] = {0, 1, 7};
  const float frequencies[] = {1.0f, 0.1f};
  mg_var *p = mg_tape_upload(w->tape, MG_I32, 1, (const int64_t[]){3}, positions);
  mg_var *f = mg_tape_upload(w->tape, MG_F32, 1, (const int64_t[]){2}, frequencies);
  return mg_rope(w->tape, leaves[0], p, f, *(const mg_rope_settings *)user);
}

static void gradient_of_rope(void **state) {
  (void)state;
  const mg_rope_settings halves = {.head = 6, .rotary = 4, .scale = 1.0};
  const mg_rope_settings pairs = {.head = 6, .rotary = 4, .interleaved = true, .scale = 0.7};
  const mg_gradient_case cases[] = {{"halves", {{2, {3, 12}, -1, 1}}, rope, &halves},
                                    {"pairs", {{2, {3, 12}, -1, 1}}, rope, &pairs}};
  check_all(cases, MG_COUNT(cases));
}

static mg_var *attention(mg_world *w, mg_var *const *leaves, const void *user) {
  return mg_attention(w->tape, leaves[0], leaves[1], leaves[2], leaves[3], leaves[4],
                      *(const mg_attention_settings *)user);
}

static void gradient_of_attention(void **state) {
  (void)state;
  const mg_attention_settings full = {.batch = 2, .heads = 2, .kv_heads = 1, .scale = 0.5};
  const mg_attention_settings causal = {.batch = 2, .heads = 2, .kv_heads = 1, .causal = true, .scale = 0.5};
  const mg_attention_settings window = {
      .batch = 2, .heads = 2, .kv_heads = 1, .causal = true, .window = 2, .scale = 0.5};
  const mg_attention_settings room = {.batch = 2, .heads = 2, .kv_heads = 1, .causal = true, .scale = 0.5, .keys = 3};
  const mg_gradient_leaf q = {2, {6, 4}, -2, 2}, k = {2, {6, 2}, -2, 2}, v = {2, {6, 3}, -1, 1},
                         sinks = {1, {2}, -1, 1}, bias = {2, {2, 5}, -1, 1};
  const mg_gradient_leaf more_k = {2, {10, 2}, -2, 2}, more_v = {2, {10, 3}, -1, 1};
  const mg_gradient_case cases[] = {{"full", {q, k, v}, attention, &full},
                                    {"causal", {q, k, v}, attention, &causal},
                                    {"causal with sinks", {q, k, v, sinks}, attention, &causal},
                                    {"window", {q, k, v, sinks}, attention, &window},
                                    {"bias", {q, k, v, sinks, bias}, attention, &full},
                                    {"room behind the keys", {q, more_k, more_v, sinks, bias}, attention, &room},
                                    {"more keys than queries", {q, more_k, more_v}, attention, &causal}};
  check_all(cases, MG_COUNT(cases));
}

static mg_var *cross_entropy(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  const int32_t targets[] = {2, -1, 0};
  return mg_cross_entropy(w->tape, leaves[0], mg_tape_upload(w->tape, MG_I32, 1, (const int64_t[]){3}, targets));
}

static void gradient_of_cross_entropy(void **state) {
  (void)state;
  const mg_gradient_case c = {"cross_entropy", {{2, {3, 4}, -2, 2}}, cross_entropy, NULL};
  mg_check_gradients(&world, &c);
}

/* ---- variables used more than once --------------------------------------------------------------------------- */

/* Every way in which gradients meet: shared with two inputs, a fresh one onto a shared one, a product onto a sum. */
static mg_var *reuse(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  mg_tape *tape = w->tape;
  mg_var *x = mg_scale(tape, leaves[0], 2.0);
  mg_var *doubled = mg_add(tape, x, x);
  mg_var *both = mg_add(tape, mg_mul(tape, doubled, x), mg_exp(tape, x));
  mg_var *product = mg_matmul(tape, both, false, x, true);
  mg_var *again = mg_matmul(tape, doubled, false, both, true);
  mg_var *flat = mg_reshape2(tape, mg_sub(tape, product, again), 1, 9);
  return mg_add(tape, flat, mg_reshape2(tape, mg_add(tape, product, again), 1, 9));
}

/* The sum hands one gradient to both its operands; a product then adds to that of x, which must not change that of u. */
static mg_var *product_onto_shared(mg_world *w, mg_var *const *leaves, const void *user) {
  (void)user;
  mg_tape *tape = w->tape;
  mg_var *u = mg_exp(tape, leaves[0]);
  mg_var *x = mg_scale(tape, leaves[0], 2.0);
  mg_var *product = mg_matmul(tape, x, false, x, true);
  return mg_matmul(tape, product, false, mg_add(tape, x, u), false);
}

static void gradients_of_a_variable_used_many_times_add_up(void **state) {
  (void)state;
  const mg_gradient_case cases[] = {{"reuse", {{2, {3, 2}, -1, 1}}, reuse, NULL},
                                    {"product onto shared", {{2, {3, 2}, -1, 1}}, product_onto_shared, NULL}};
  check_all(cases, MG_COUNT(cases));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gradient_of_every_unary_function),
      cmocka_unit_test(gradient_of_every_binary_function_under_every_broadcast),
      cmocka_unit_test(gradient_of_broadcast_over_a_column_and_a_row),
      cmocka_unit_test(gradient_of_where_and_gated_units),
      cmocka_unit_test(gradient_of_shape_changes),
      cmocka_unit_test(gradient_of_every_reduction),
      cmocka_unit_test(gradient_of_mean_running_sum_and_softmax),
      cmocka_unit_test(gradient_of_matmul_under_every_transposition),
      cmocka_unit_test(gradient_of_other_products),
      cmocka_unit_test(gradient_of_every_gate),
      cmocka_unit_test(gradient_of_indexing),
      cmocka_unit_test(gradient_through_dispatch_experts_and_combine),
      cmocka_unit_test(gradient_of_norms),
      cmocka_unit_test(gradient_of_rope),
      cmocka_unit_test(gradient_of_attention),
      cmocka_unit_test(gradient_of_cross_entropy),
      cmocka_unit_test(gradients_of_a_variable_used_many_times_add_up),
  };
  return cmocka_run_group_tests_name("tensor gradients", tests, open_world, close_world);
}
