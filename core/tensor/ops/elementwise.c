/* Functions of single elements, and of pairs of elements with broadcasting of the second operand. */
#include "tensor/tape_internal.h"

/* ---- fill ---------------------------------------------------------------------------------------------------- */

static mg_status fill_shape(const mg_op_check *check) {
  return mg__out_given(check, 0);
}

const mg_op_info mg__op_fill = {.out = {{"out", MG_OPERAND_ANY}}, .shape = fill_shape};

mg_var *mg_fill(mg_tape *tape, mg_dtype dtype, int32_t dims, const int64_t *shape, double value) {
  mg_application fill = {.op = MG_OP_FILL, .out = {mg__shape_of(dtype, dims, shape)}, .attributes.fill.value = value};
  return mg__apply(tape, &fill);
}

/* ---- cast ---------------------------------------------------------------------------------------------------- */

static void cast_backward(mg_backward *b) {
  const mg_tensor *x = b->call->in[0];
  if (x->dtype != MG_I32) mg__give(b, 0, mg__do_cast(b, b->dout[0], x->dtype));
}

const mg_op_info mg__op_cast = {.in = {{"x", MG_OPERAND_ANY, .stored = true}},
                                .out = {{"out", MG_OPERAND_ANY}},
                                .shape = mg__shape_all_alike,
                                .backward = cast_backward};

mg_var *mg_cast(mg_tape *tape, mg_var *x, mg_dtype dtype) {
  if (!mg__usable(tape, x, "cast: x")) return NULL;
  if (x->tensor.dtype == dtype) return x;
  mg_application cast = {.op = MG_OP_CAST, .in = {x}, .out = {{.dtype = dtype}}};
  return mg__apply(tape, &cast);
}

/* ---- unary --------------------------------------------------------------------------------------------------- */

/* FLOPs of one element: every arithmetic operation, comparison or elementary function counts one. */
static const struct {
  double forward, backward;
} unary_cost[MG_UNARY_COUNT] = {
    [MG_UNARY_AFFINE] = {2, 1},     [MG_UNARY_EXP] = {1, 2},      [MG_UNARY_LOG] = {1, 1},
    [MG_UNARY_SQRT] = {1, 3},       [MG_UNARY_SQUARE] = {1, 2},   [MG_UNARY_RECIPROCAL] = {1, 3},
    [MG_UNARY_ABS] = {1, 2},        [MG_UNARY_SIGMOID] = {3, 6},  [MG_UNARY_TANH] = {1, 4},
    [MG_UNARY_RELU] = {1, 1},       [MG_UNARY_SILU] = {4, 8},     [MG_UNARY_GELU] = {5, 11},
    [MG_UNARY_GELU_TANH] = {9, 18}, [MG_UNARY_SOFTPLUS] = {3, 4}, [MG_UNARY_NORMAL_CDF] = {4, 5},
    [MG_UNARY_CLAMP] = {2, 2},      [MG_UNARY_STEP] = {1, 0},     [MG_UNARY_SIGN] = {2, 0}};

static double unary_flops(const mg_op_call *call) {
  return unary_cost[call->attributes.unary.kind].forward * (double)mg_tensor_count(call->in[0]);
}

static double unary_backward_flops(const mg_op_call *call) {
  return unary_cost[call->attributes.unary.kind].backward * (double)mg_tensor_count(call->in[0]);
}

static mg_status unary_shape(const mg_op_check *check) {
  if ((unsigned)check->call->attributes.unary.kind >= MG_UNARY_COUNT)
    return mg__refuse(check, "%d is not the number of a function", (int)check->call->attributes.unary.kind);
  return mg__shape_all_alike(check);
}

static void unary_backward(mg_backward *b) {
  const mg_unary kind = b->call->attributes.unary.kind;
  if (kind == MG_UNARY_STEP || kind == MG_UNARY_SIGN) return;
  mg_op_call call = {.op = MG_OP_UNARY_BACKWARD, .in = {b->call->in[0], b->dout[0]}, .attributes = b->call->attributes};
  mg__give(b, 0, mg__compute(b, &call));
}

const mg_op_info mg__op_unary = {.in = {{"x", MG_OPERAND_REAL}},
                                 .out = {{"out", MG_OPERAND_REAL}},
                                 .shape = unary_shape,
                                 .backward = unary_backward,
                                 .flops = unary_flops};

const mg_op_info mg__op_unary_backward = {.in = {{"x", MG_OPERAND_REAL}, {"dout", MG_OPERAND_REAL}},
                                          .out = {{"dx", MG_OPERAND_REAL}},
                                          .shape = unary_shape,
                                          .flops = unary_backward_flops};

mg_var *mg_unary_op(mg_tape *tape, mg_unary kind, mg_var *x, double alpha, double beta) {
  mg_application unary = {.op = MG_OP_UNARY, .in = {x}, .attributes.unary = {kind, alpha, beta}};
  return mg__apply(tape, &unary);
}

mg_var *mg_affine(mg_tape *tape, mg_var *x, double scale, double shift) {
  return mg_unary_op(tape, MG_UNARY_AFFINE, x, scale, shift);
}

mg_var *mg_scale(mg_tape *tape, mg_var *x, double factor) {
  return mg_affine(tape, x, factor, 0.0);
}

mg_var *mg_exp(mg_tape *tape, mg_var *x) {
  return mg_unary_op(tape, MG_UNARY_EXP, x, 0.0, 0.0);
}

mg_var *mg_log(mg_tape *tape, mg_var *x) {
  return mg_unary_op(tape, MG_UNARY_LOG, x, 0.0, 0.0);
}

mg_var *mg_square(mg_tape *tape, mg_var *x) {
  return mg_unary_op(tape, MG_UNARY_SQUARE, x, 0.0, 0.0);
}

mg_var *mg_sigmoid(mg_tape *tape, mg_var *x) {
  return mg_unary_op(tape, MG_UNARY_SIGMOID, x, 0.0, 0.0);
}

mg_var *mg_relu(mg_tape *tape, mg_var *x) {
  return mg_unary_op(tape, MG_UNARY_RELU, x, 0.0, 0.0);
}

mg_var *mg_softplus(mg_tape *tape, mg_var *x) {
  return mg_unary_op(tape, MG_UNARY_SOFTPLUS, x, 0.0, 0.0);
}

mg_var *mg_normal_cdf(mg_tape *tape, mg_var *x) {
  return mg_unary_op(tape, MG_UNARY_NORMAL_CDF, x, 0.0, 0.0);
}

/* ---- binary -------------------------------------------------------------------------------------------------- */

static mg_status binary_shape(const mg_op_check *check) {
  const mg_tensor *a = check->call->in[0], *b = check->call->in[1];
  const int64_t rows = mg_tensor_rows(b), columns = mg_tensor_columns(b);
  const bool rows_fit = rows == mg_tensor_rows(a) || rows == 1;
  const bool columns_fit = columns == mg_tensor_columns(a) || columns == 1;
  if ((unsigned)check->call->attributes.binary.kind >= MG_BINARY_COUNT)
    return mg__refuse(check, "%d is not the number of a function", (int)check->call->attributes.binary.kind);
  if (rows_fit && columns_fit) return mg__out_like(check, 0, a);
  char have[MG_SHAPE_TEXT_BYTES], beside[MG_SHAPE_TEXT_BYTES];
  return mg__refuse(check, "b is %s beside a %s; it must have a's shape, or be one row, one column or one element",
                    mg_shape_text(b, have), mg_shape_text(a, beside));
}

static void mul_backward(mg_backward *b) {
  const mg_tensor *x = b->call->in[0], *y = b->call->in[1], *dout = b->dout[0];
  if (mg__wants(b, 0)) mg__give(b, 0, mg__do_binary(b, MG_BINARY_MUL, dout, y));
  if (mg__wants(b, 1)) mg__give(b, 1, mg__do_sum_to(b, mg__do_binary(b, MG_BINARY_MUL, dout, x), y));
}

/* out = x / y: dx = dout / y, dy = -sum(dout * out) / y. */
static void div_backward(mg_backward *b) {
  const mg_tensor *y = b->call->in[1], *out = b->call->out[0], *dout = b->dout[0];
  if (mg__wants(b, 0)) mg__give(b, 0, mg__do_binary(b, MG_BINARY_DIV, dout, y));
  if (!mg__wants(b, 1)) return;
  const mg_tensor *sum = mg__do_sum_to(b, mg__do_binary(b, MG_BINARY_MUL, dout, out), y);
  mg__give(b, 1, mg__do_unary(b, MG_UNARY_AFFINE, mg__do_binary(b, MG_BINARY_DIV, sum, y), -1.0, 0.0));
}

/* y was taken where max(x, y) > x, or x > min(x, y). */
static void choice_backward(mg_backward *b, bool max) {
  const mg_tensor *x = b->call->in[0], *y = b->call->in[1], *out = b->call->out[0], *dout = b->dout[0];
  const mg_tensor *took_y = mg__do_binary(b, MG_BINARY_GREATER, max ? out : x, max ? x : out);
  const mg_tensor *took_x = mg__do_unary(b, MG_UNARY_AFFINE, took_y, -1.0, 1.0);
  if (mg__wants(b, 0)) mg__give(b, 0, mg__do_where(b, took_x, dout));
  if (mg__wants(b, 1)) mg__give(b, 1, mg__do_sum_to(b, mg__do_where(b, took_y, dout), y));
}

static void binary_backward(mg_backward *b) {
  const mg_tensor *y = b->call->in[1], *dout = b->dout[0];
  switch (b->call->attributes.binary.kind) {
  case MG_BINARY_ADD:
    mg__give(b, 0, dout);
    if (mg__wants(b, 1)) mg__give(b, 1, mg__do_sum_to(b, dout, y));
    break;
  case MG_BINARY_SUB:
    mg__give(b, 0, dout);
    if (mg__wants(b, 1)) mg__give(b, 1, mg__do_unary(b, MG_UNARY_AFFINE, mg__do_sum_to(b, dout, y), -1.0, 0.0));
    break;
  case MG_BINARY_MUL: mul_backward(b); break;
  case MG_BINARY_DIV: div_backward(b); break;
  case MG_BINARY_MAX: choice_backward(b, true); break;
  case MG_BINARY_MIN: choice_backward(b, false); break;
  case MG_BINARY_GREATER:
  case MG_BINARY_COUNT: break;
  }
}

const mg_op_info mg__op_binary = {.in = {{"a", MG_OPERAND_REAL}, {"b", MG_OPERAND_REAL}},
                                  .out = {{"out", MG_OPERAND_REAL}},
                                  .shape = binary_shape,
                                  .backward = binary_backward,
                                  .flops_each = 1};

mg_var *mg_binary_op(mg_tape *tape, mg_binary kind, mg_var *a, mg_var *b) {
  mg_application binary = {.op = MG_OP_BINARY, .in = {a, b}, .attributes.binary.kind = kind};
  return mg__apply(tape, &binary);
}

mg_var *mg_add(mg_tape *tape, mg_var *a, mg_var *b) {
  return mg_binary_op(tape, MG_BINARY_ADD, a, b);
}

mg_var *mg_sub(mg_tape *tape, mg_var *a, mg_var *b) {
  return mg_binary_op(tape, MG_BINARY_SUB, a, b);
}

mg_var *mg_mul(mg_tape *tape, mg_var *a, mg_var *b) {
  return mg_binary_op(tape, MG_BINARY_MUL, a, b);
}

mg_var *mg_div(mg_tape *tape, mg_var *a, mg_var *b) {
  return mg_binary_op(tape, MG_BINARY_DIV, a, b);
}

/* ---- where --------------------------------------------------------------------------------------------------- */

static void where_backward(mg_backward *b) {
  if (mg__wants(b, 1)) mg__give(b, 1, mg__do_where(b, b->call->in[0], b->dout[0]));
}

const mg_op_info mg__op_where = {.in = {{"mask", MG_OPERAND_REAL}, {"x", MG_OPERAND_REAL}},
                                 .out = {{"out", MG_OPERAND_REAL}},
                                 .shape = mg__shape_all_alike,
                                 .backward = where_backward,
                                 .flops_each = 1};

mg_var *mg_where(mg_tape *tape, mg_var *mask, mg_var *x, double value) {
  mg_application where = {.op = MG_OP_WHERE, .in = {mask, x}, .attributes.where.value = value};
  return mg__apply(tape, &where);
}

mg_var *mg_ids_where(mg_tape *tape, mg_var *mask, mg_var *ids) {
  return mg_cast(tape, mg_where(tape, mask, mg_cast(tape, ids, mg_var_dtype(mask)), -1), MG_I32);
}

/* ---- add_scaled: how gradients add up ------------------------------------------------------------------------ */

static mg_status add_scaled_shape(const mg_op_check *check) {
  const mg_tensor *x = check->call->in[0];
  MG_TRY(mg__out_given(check, 0));
  const mg_dtype sum = check->call->out[0]->dtype;
  if (x->dtype != sum && !(x->dtype == MG_BF16 && sum == MG_F32))
    return mg__refuse(check, "x is %s beside out %s; x must have out's dtype, or be bf16 beside f32",
                      mg_dtype_name(x->dtype), mg_dtype_name(sum));
  return mg__out_like(check, 0, x);
}

const mg_op_info mg__op_add_scaled = {
    .in = {{"x", MG_OPERAND_MIXED}}, .out = {{"out", MG_OPERAND_MIXED}}, .shape = add_scaled_shape, .flops_each = 2};
