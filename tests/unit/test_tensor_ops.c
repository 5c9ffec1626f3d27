/* The rows of the primitives: names, what shape rules refuse and say, and what calls cost. */
#include <math.h>
#include <string.h>

#include "support/world.h"
#include "tensor/op_info.h"

static mg_context *context;

static int open_context(void **state) {
  (void)state;
  return mg_context_create(NULL, &context) == MG_OK ? 0 : -1;
}

static int close_context(void **state) {
  (void)state;
  mg_context_destroy(context);
  return 0;
}

/* A tensor that has a shape and no memory: enough for rules and costs. */
static mg_tensor shaped(mg_dtype dtype, int32_t dims, int64_t a, int64_t b, int64_t c) {
  return (mg_tensor){.dtype = dtype, .dims = dims, .shape = {a, b, c}};
}

static mg_tensor matrix(mg_dtype dtype, int64_t rows, int64_t columns) {
  return shaped(dtype, 2, rows, columns, 0);
}

static mg_tensor vector(mg_dtype dtype, int64_t count) {
  return shaped(dtype, 1, count, 0, 0);
}

/* ---- tensors ------------------------------------------------------------------------------------------------- */

static void dtype_names_lead_back_to_dtypes(void **state) {
  (void)state;
  for (int i = 0; i < MG_DTYPE_COUNT; i++) {
    mg_dtype dtype;
    assert_true(mg_dtype_from_name(mg_dtype_name((mg_dtype)i), &dtype));
    assert_int_equal(dtype, i);
  }
  mg_dtype dtype = MG_F64;
  assert_false(mg_dtype_from_name("f16", &dtype));
  assert_false(mg_dtype_from_name(NULL, &dtype));
  assert_int_equal(dtype, MG_F64);
}

static void tensor_is_rows_of_its_last_dimension(void **state) {
  (void)state;
  const mg_tensor x = shaped(MG_BF16, 3, 2, 3, 5);
  assert_int_equal(mg_tensor_rows(&x), 6);
  assert_int_equal(mg_tensor_columns(&x), 5);
  assert_int_equal(mg_tensor_bytes(&x), 60);
  const mg_tensor empty = matrix(MG_F32, 0, 7), line = vector(MG_F32, 4);
  assert_int_equal(mg_tensor_count(&empty), 0);
  assert_int_equal(mg_tensor_rows(&line), 1);
  char text[MG_SHAPE_TEXT_BYTES];
  assert_string_equal(mg_shape_text(&x, text), "[2, 3, 5]");
}

static void bf16_rounds_to_nearest_even_and_keeps_nan(void **state) {
  (void)state;
  assert_int_equal(mg_bf16_from_f32(1.0f), 0x3f80);
  assert_int_equal(mg_bf16_from_f32(1.00390625f), 0x3f80);   /* halfway above 1: to the even */
  assert_int_equal(mg_bf16_from_f32(1.01171875f), 0x3f82);   /* halfway to the even above */
  assert_int_equal(mg_bf16_from_f32(1.00390637f), 0x3f81);   /* just above halfway */
  assert_int_equal(mg_bf16_from_f32(3.4028235e38f), 0x7f80); /* the largest f32 rounds to infinity */
  assert_true(isnan(mg_bf16_to_f32(mg_bf16_from_f32(NAN))));
  for (uint32_t bits = 0; bits < 0x7f80; bits += 61)
    assert_int_equal(mg_bf16_from_f32(mg_bf16_to_f32((uint16_t)bits)), bits);
}

/* ---- rows ---------------------------------------------------------------------------------------------------- */

static void every_row_has_the_operands_that_its_list_states(void **state) {
  (void)state;
  static const struct {
    int inputs, outputs;
  } stated[] = {
#define STATED(NAME, name, inputs, outputs, what) {inputs, outputs},
      MG_OP_LIST(STATED)
#undef STATED
  };
  for (int op = 0; op < MG_OP_COUNT; op++) {
    const mg_op_info *info = mg__op_info((mg_op)op);
    int inputs = 0, outputs = 0;
    for (int i = 0; i < MG_OP_INPUTS_MAX; i++) inputs += info->in[i].name != NULL;
    for (int i = 0; i < MG_OP_OUTPUTS_MAX; i++) outputs += info->out[i].name != NULL;
    if (inputs != stated[op].inputs || outputs != stated[op].outputs)
      fail_msg("%s: %d inputs and %d outputs", mg_op_name((mg_op)op), inputs, outputs);
  }
  assert_string_equal(mg_op_name(MG_OP_COUNT), "unknown");
  assert_null(mg__op_info((mg_op)-1));
}

/* ---- refusals ------------------------------------------------------------------------------------------------ */

static void missing_operand_is_named(void **state) {
  (void)state;
  mg_tensor x = matrix(MG_F32, 2, 3), out = {0};
  const mg_op_call no_input = {.op = MG_OP_BINARY, .in = {&x}, .out = {&out}};
  assert_refused(context, MG_USAGE, "binary: b is missing", mg__op_check(context, &no_input));
  const mg_op_call no_output = {.op = MG_OP_SOFTMAX, .in = {&x}};
  assert_refused(context, MG_USAGE, "softmax: output out is missing", mg__op_check(context, &no_output));
  const mg_op_call too_many = {.op = MG_OP_SOFTMAX, .in = {&x, &x}, .out = {&out}};
  assert_refused(context, MG_USAGE, "fewer inputs", mg__op_check(context, &too_many));
}

static void wrong_dtype_is_named(void **state) {
  (void)state;
  mg_tensor x = matrix(MG_F32, 2, 3), half = matrix(MG_BF16, 2, 3), wide = matrix(MG_F64, 3, 2), out = {0};
  mg_tensor ids = matrix(MG_I32, 2, 1);
  const mg_op_call mixed = {.op = MG_OP_BINARY, .in = {&x, &half}, .out = {&out}};
  assert_refused(context, MG_USAGE, "b is bf16 beside f32", mg__op_check(context, &mixed));
  const mg_op_call real_ids = {.op = MG_OP_GATHER_ROWS, .in = {&x, &half}, .out = {&out}};
  assert_refused(context, MG_USAGE, "gather_rows: ids is bf16; it must be i32", mg__op_check(context, &real_ids));
  const mg_op_call whole = {.op = MG_OP_SOFTMAX, .in = {&ids}, .out = {&out}};
  assert_refused(context, MG_USAGE, "softmax: x is i32", mg__op_check(context, &whole));
  const mg_op_call f64_beside_f32 = {.op = MG_OP_MATMUL, .in = {&x, &wide}, .out = {&out}};
  assert_refused(context, MG_USAGE, "f64 goes only with f64", mg__op_check(context, &f64_beside_f32));
}

static void matmul_refuses_what_does_not_fit(void **state) {
  (void)state;
  mg_tensor a = matrix(MG_F32, 2, 3), b = matrix(MG_F32, 4, 5), out = {0};
  mg_op_call call = {.op = MG_OP_MATMUL, .in = {&a, &b}, .out = {&out}};
  assert_refused(context, MG_USAGE, "a is [2, 3] and b is [4, 5]; the columns of a must be the rows of b",
                 mg__op_check(context, &call));
  call.attributes.matmul.transpose_b = true;
  assert_refused(context, MG_USAGE, "b is [4, 5] transposed", mg__op_check(context, &call));
  mg_tensor batched = shaped(MG_F32, 3, 7, 3, 5);
  call = (mg_op_call){.op = MG_OP_MATMUL, .in = {&a, &batched}, .out = {&out}};
  assert_refused(context, MG_USAGE, "both must have two dimensions", mg__op_check(context, &call));
  call.attributes.matmul.compute = MG_I32;
  assert_refused(context, MG_USAGE, "a product in i32 was asked for", mg__op_check(context, &call));
  mg_tensor given = matrix(MG_BF16, 2, 5), right = matrix(MG_F32, 3, 5);
  call = (mg_op_call){.op = MG_OP_MATMUL, .in = {&a, &right}, .out = {&given}};
  assert_refused(context, MG_USAGE, "out is bf16 beside a f32", mg__op_check(context, &call));
  given = matrix(MG_F32, 2, 6);
  assert_refused(context, MG_USAGE, "output out is [2, 6]; it must be [2, 5]", mg__op_check(context, &call));
}

static void products_give_the_dtype_of_the_first_operand_or_f32(void **state) {
  (void)state;
  mg_tensor a = matrix(MG_BF16, 2, 3), b = matrix(MG_F32, 3, 5), out = {0};
  mg_op_call call = {.op = MG_OP_MATMUL, .in = {&a, &b}, .out = {&out}};
  assert_ok(context, mg__op_check(context, &call));
  assert_int_equal(out.dtype, MG_BF16);
  out = matrix(MG_F32, 2, 5);
  assert_ok(context, mg__op_check(context, &call));
  mg_tensor dout = matrix(MG_BF16, 2, 4), offsets = vector(MG_I32, 8), dw = shaped(MG_F32, 3, 7, 3, 4);
  call = (mg_op_call){.op = MG_OP_GROUPED_MATMUL_WEIGHT, .in = {&a, &dout, &offsets}, .out = {&dw}};
  assert_ok(context, mg__op_check(context, &call));
}

static void indexing_refuses_what_does_not_fit(void **state) {
  (void)state;
  mg_tensor x = matrix(MG_F32, 2, 3), ids = matrix(MG_I32, 4, 2), out = {0};
  mg_op_call call = {.op = MG_OP_GATHER_COLUMNS, .in = {&x, &ids}, .out = {&out}};
  assert_refused(context, MG_USAGE, "ids is [4, 2]; it must be [2, 2] (as many rows as x)",
                 mg__op_check(context, &call));
  mg_tensor values = matrix(MG_F32, 2, 4), chosen = {0};
  call = (mg_op_call){.op = MG_OP_TOP_K, .in = {&x}, .out = {&values, &chosen}};
  assert_refused(context, MG_USAGE, "the 4 largest of 3 columns", mg__op_check(context, &call));
  mg_tensor columns = matrix(MG_F32, 2, 2);
  call = (mg_op_call){.op = MG_OP_SLICE, .in = {&x}, .out = {&columns}, .attributes.slice.first = 2};
  assert_refused(context, MG_USAGE, "columns 2 to 4 were asked of [2, 3]", mg__op_check(context, &call));
  call = (mg_op_call){.op = MG_OP_HISTOGRAM, .in = {&ids}, .out = {&columns}, .attributes.histogram.segments = 3};
  assert_refused(context, MG_USAGE, "4 rows in 3 segments", mg__op_check(context, &call));
}

static void binary_broadcasts_only_rows_columns_and_elements(void **state) {
  (void)state;
  mg_tensor a = matrix(MG_F32, 2, 3), out = {0};
  mg_tensor row = vector(MG_F32, 3), column = matrix(MG_F32, 2, 1), one = vector(MG_F32, 1), bad = vector(MG_F32, 2);
  const mg_tensor *good[] = {&a, &row, &column, &one};
  for (size_t i = 0; i < MG_COUNT(good); i++) {
    out = (mg_tensor){0};
    const mg_op_call call = {.op = MG_OP_BINARY, .in = {&a, good[i]}, .out = {&out}};
    assert_ok(context, mg__op_check(context, &call));
    assert_true(mg_tensor_same_shape(&out, &a));
  }
  const mg_op_call call = {.op = MG_OP_BINARY, .in = {&a, &bad}, .out = {&out}};
  assert_refused(context, MG_USAGE, "b is [2] beside a [2, 3]", mg__op_check(context, &call));
}

static void routing_and_transformer_settings_are_checked(void **state) {
  (void)state;
  mg_tensor ids = matrix(MG_I32, 4, 2), offsets = vector(MG_I32, 4), slots = {0}, position = {0}, demand = {0};
  mg_op_call call = {.op = MG_OP_ASSIGN, .in = {&ids}, .out = {&offsets, &slots, &position, &demand}};
  call.attributes.assign.order = MG_ORDER_PRIORITY;
  assert_refused(context, MG_USAGE, "priority is missing", mg__op_check(context, &call));
  call.attributes.assign.order = MG_ORDER_POSITION;
  call.attributes.assign.capacity = -1;
  assert_refused(context, MG_USAGE, "capacity is negative", mg__op_check(context, &call));
  mg_tensor q = matrix(MG_F32, 6, 8), k = matrix(MG_F32, 6, 4), out = {0}, lse = {0};
  call = (mg_op_call){.op = MG_OP_ATTENTION, .in = {&q, &k, &k}, .out = {&out, &lse}};
  call.attributes.attention.batch = 4;
  call.attributes.attention.heads = 4;
  call.attributes.attention.kv_heads = 2;
  assert_refused(context, MG_USAGE, "4 sequences were asked for", mg__op_check(context, &call));
  call.attributes.attention.batch = 2;
  call.attributes.attention.kv_heads = 3;
  assert_refused(context, MG_USAGE, "4 heads over 3 key-value heads", mg__op_check(context, &call));
  mg_tensor positions = vector(MG_I32, 5), frequencies = vector(MG_F32, 1);
  call = (mg_op_call){.op = MG_OP_ROPE, .in = {&q, &positions, &frequencies}, .out = {&out}};
  call.attributes.rope.head = 4;
  call.attributes.rope.rotary = 3;
  assert_refused(context, MG_USAGE, "must be even", mg__op_check(context, &call));
  call.attributes.rope.rotary = 2;
  assert_refused(context, MG_USAGE, "positions is [5]; it must have 6 elements", mg__op_check(context, &call));
}

static void impossible_shapes_are_refused(void **state) {
  (void)state;
  mg_tensor x = matrix(MG_F32, INT64_MAX / 2, INT64_MAX / 2), out = {0};
  mg_op_call call = {.op = MG_OP_SOFTMAX, .in = {&x}, .out = {&out}};
  assert_refused(context, MG_USAGE, "too large", mg__op_check(context, &call));
  x = matrix(MG_F32, -1, 3);
  assert_refused(context, MG_USAGE, "dimension of -1", mg__op_check(context, &call));
  x.dims = 5;
  assert_refused(context, MG_USAGE, "5 dimensions", mg__op_check(context, &call));
  call.op = MG_OP_COUNT;
  assert_refused(context, MG_BUG, "not the number of a primitive", mg__op_check(context, &call));
}

static void tensors_without_rows_pass_every_rule(void **state) {
  (void)state;
  mg_tensor x = matrix(MG_F32, 0, 4), ids = matrix(MG_I32, 0, 2), out = {0}, more = {0};
  const mg_op_call softmax = {.op = MG_OP_SOFTMAX, .in = {&x}, .out = {&out}};
  assert_ok(context, mg__op_check(context, &softmax));
  assert_int_equal(mg_tensor_count(&out), 0);
  out = matrix(MG_F32, 0, 2);
  const mg_op_call top_k = {.op = MG_OP_TOP_K, .in = {&x}, .out = {&out, &more}};
  assert_ok(context, mg__op_check(context, &top_k));
  mg_tensor offsets = vector(MG_I32, 4), slots = {0}, position = {0}, demand = {0};
  const mg_op_call assign = {.op = MG_OP_ASSIGN, .in = {&ids}, .out = {&offsets, &slots, &position, &demand}};
  assert_ok(context, mg__op_check(context, &assign));
  assert_int_equal(mg_tensor_count(&demand), 3);
}

/* ---- costs --------------------------------------------------------------------------------------------------- */

static void products_cost_two_per_multiply_add(void **state) {
  (void)state;
  mg_tensor a = shaped(MG_F32, 3, 2, 3, 5), b = shaped(MG_F32, 3, 2, 7, 5), out = shaped(MG_F32, 3, 2, 3, 7);
  mg_op_call call = {.op = MG_OP_MATMUL, .in = {&a, &b}, .out = {&out}, .attributes.matmul.transpose_b = true};
  assert_true(mg_op_flops(&call) == 2.0 * 2 * 3 * 5 * 7);
  assert_true(mg_op_bytes(&call) == 4.0 * (30 + 70 + 42));
  mg_tensor x = matrix(MG_F32, 6, 5), w = shaped(MG_F32, 3, 4, 8, 5), offsets = vector(MG_I32, 5);
  mg_tensor y = matrix(MG_F32, 6, 8);
  call = (mg_op_call){.op = MG_OP_GROUPED_MATMUL, .in = {&x, &w, &offsets}, .out = {&y}};
  assert_true(mg_op_flops(&call) == 2.0 * 6 * 5 * 8);
}

/* Pairs counted by hand for Sq = 3 queries at the end of Sk = 5 keys: causal 3+4+5, window of 2 two each. */
static void attention_costs_only_visible_pairs(void **state) {
  (void)state;
  mg_tensor q = matrix(MG_F32, 2 * 3, 4 * 8), k = matrix(MG_F32, 2 * 5, 2 * 8), v = matrix(MG_F32, 2 * 5, 2 * 6);
  mg_op_call call = {.op = MG_OP_ATTENTION, .in = {&q, &k, &v}};
  call.attributes.attention.batch = 2;
  call.attributes.attention.heads = 4;
  call.attributes.attention.kv_heads = 2;
  const double per_pair = 4 * 2.0 * (8 + 6);
  assert_true(mg_op_flops(&call) == 2 * 15 * per_pair);
  call.attributes.attention.causal = true;
  assert_true(mg_op_flops(&call) == 2 * 12 * per_pair);
  call.attributes.attention.window = 2;
  assert_true(mg_op_flops(&call) == 2 * 6 * per_pair);
  call.op = MG_OP_ATTENTION_BACKWARD;
  assert_true(mg_op_flops(&call) == 2 * 6 * 4 * (6.0 * 8 + 4.0 * 6));
}

static void queries_before_all_keys_cost_nothing(void **state) {
  (void)state;
  mg_tensor q = matrix(MG_F32, 5, 8), k = matrix(MG_F32, 2, 8);
  mg_op_call call = {.op = MG_OP_ATTENTION, .in = {&q, &k, &k}};
  call.attributes.attention.batch = call.attributes.attention.heads = call.attributes.attention.kv_heads = 1;
  call.attributes.attention.causal = true;
  assert_true(mg_op_flops(&call) == 3 * 2.0 * 16); /* queries at -3, -2, -1, 0, 1 see 0, 0, 0, 1 and 2 keys */
}

static void elementwise_costs_follow_the_readme(void **state) {
  (void)state;
  mg_tensor x = matrix(MG_F32, 3, 4), y = matrix(MG_F32, 3, 4);
  mg_op_call call = {.op = MG_OP_UNARY, .in = {&x}, .out = {&y}, .attributes.unary.kind = MG_UNARY_SILU};
  assert_true(mg_op_flops(&call) == 4.0 * 12);
  call = (mg_op_call){.op = MG_OP_GLU, .in = {&x, &x}, .out = {&y}, .attributes.glu.kind = MG_GLU_SILU};
  assert_true(mg_op_flops(&call) == 5.0 * 12);
  call = (mg_op_call){.op = MG_OP_SOFTMAX, .in = {&x}, .out = {&y}};
  assert_true(mg_op_flops(&call) == 5.0 * 12);
  call = (mg_op_call){.op = MG_OP_NORM, .in = {&x, &x}, .attributes.norm.kind = MG_NORM_RMS};
  assert_true(mg_op_flops(&call) == 4.0 * 12);
  call = (mg_op_call){.op = MG_OP_FILL, .out = {&y}};
  assert_true(mg_op_flops(&call) == 0.0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(dtype_names_lead_back_to_dtypes),
      cmocka_unit_test(tensor_is_rows_of_its_last_dimension),
      cmocka_unit_test(bf16_rounds_to_nearest_even_and_keeps_nan),
      cmocka_unit_test(every_row_has_the_operands_that_its_list_states),
      cmocka_unit_test(missing_operand_is_named),
      cmocka_unit_test(wrong_dtype_is_named),
      cmocka_unit_test(matmul_refuses_what_does_not_fit),
      cmocka_unit_test(products_give_the_dtype_of_the_first_operand_or_f32),
      cmocka_unit_test(indexing_refuses_what_does_not_fit),
      cmocka_unit_test(binary_broadcasts_only_rows_columns_and_elements),
      cmocka_unit_test(routing_and_transformer_settings_are_checked),
      cmocka_unit_test(impossible_shapes_are_refused),
      cmocka_unit_test(tensors_without_rows_pass_every_rule),
      cmocka_unit_test(products_cost_two_per_multiply_add),
      cmocka_unit_test(attention_costs_only_visible_pairs),
      cmocka_unit_test(queries_before_all_keys_cost_nothing),
      cmocka_unit_test(elementwise_costs_follow_the_readme),
  };
  return cmocka_run_group_tests_name("tensor ops", tests, open_context, close_context);
}
