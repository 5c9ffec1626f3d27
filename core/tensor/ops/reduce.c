/* Sums, means and maxima over rows or columns, and running sums. */
#include "tensor/tape_internal.h"

/* ---- reduce -------------------------------------------------------------------------------------------------- */

static mg_status reduce_shape(const mg_op_check *check) {
  const mg_tensor *x = check->call->in[0];
  const mg_axis axis = check->call->attributes.reduce.axis;
  if ((unsigned)check->call->attributes.reduce.kind > MG_REDUCE_SUM_SQUARES)
    return mg__refuse(check, "%d is not the number of a reduction", (int)check->call->attributes.reduce.kind);
  if (axis == MG_OVER_COLUMNS) return mg__out_matrix(check, 0, mg_tensor_rows(x), 1);
  if (axis == MG_OVER_ROWS) return mg__out_vector(check, 0, mg_tensor_columns(x));
  return mg__refuse(check, "%d is not an axis", (int)axis);
}

static double reduce_flops(const mg_op_call *call) {
  const double each = call->attributes.reduce.kind == MG_REDUCE_SUM_SQUARES ? 2.0 : 1.0;
  return each * (double)mg_tensor_count(call->in[0]);
}

/* Every element that equals the maximum of its row or column gets the gradient. */
static void max_backward(mg_backward *b) {
  const mg_tensor *x = b->call->in[0];
  const mg_tensor *distance = mg__do_binary(b, MG_BINARY_SUB, x, mg__do_cast(b, b->call->out[0], x->dtype));
  const mg_tensor *below = mg__do_unary(b, MG_UNARY_STEP, mg__do_unary(b, MG_UNARY_AFFINE, distance, -1.0, 0.0), 0, 0);
  const mg_tensor *largest = mg__do_unary(b, MG_UNARY_AFFINE, below, -1.0, 1.0);
  mg__give(b, 0, mg__do_where(b, largest, mg__do_spread(b, b->dout[0], x)));
}

static void reduce_backward(mg_backward *b) {
  const mg_tensor *x = b->call->in[0], *dout = b->dout[0];
  const bool columns = b->call->attributes.reduce.axis == MG_OVER_COLUMNS;
  const int64_t count = columns ? mg_tensor_columns(x) : mg_tensor_rows(x);
  switch (b->call->attributes.reduce.kind) {
  case MG_REDUCE_SUM: mg__give(b, 0, mg__do_spread(b, dout, x)); break;
  case MG_REDUCE_MEAN:
    dout = mg__do_unary(b, MG_UNARY_AFFINE, dout, count ? 1.0 / (double)count : 0.0, 0.0);
    mg__give(b, 0, mg__do_spread(b, dout, x));
    break;
  case MG_REDUCE_MAX: max_backward(b); break;
  case MG_REDUCE_SUM_SQUARES:
    dout = mg__do_cast(b, mg__do_unary(b, MG_UNARY_AFFINE, dout, 2.0, 0.0), x->dtype);
    mg__give(b, 0, mg__do_binary(b, MG_BINARY_MUL, x, dout));
    break;
  }
}

const mg_op_info mg__op_reduce = {.in = {{"x", MG_OPERAND_REAL}},
                                  .out = {{"out", MG_OPERAND_WIDE}},
                                  .shape = reduce_shape,
                                  .backward = reduce_backward,
                                  .flops = reduce_flops};

mg_var *mg_reduce_op(mg_tape *tape, mg_reduce kind, mg_axis axis, mg_var *x) {
  mg_application reduce = {.op = MG_OP_REDUCE, .in = {x}, .attributes.reduce = {kind, axis}};
  return mg__apply(tape, &reduce);
}

mg_var *mg_sum_columns(mg_tape *tape, mg_var *x) {
  return mg_reduce_op(tape, MG_REDUCE_SUM, MG_OVER_COLUMNS, x);
}

mg_var *mg_sum_rows(mg_tape *tape, mg_var *x) {
  return mg_reduce_op(tape, MG_REDUCE_SUM, MG_OVER_ROWS, x);
}

mg_var *mg_mean_rows(mg_tape *tape, mg_var *x) {
  return mg_reduce_op(tape, MG_REDUCE_MEAN, MG_OVER_ROWS, x);
}

mg_var *mg_sum(mg_tape *tape, mg_var *x) {
  return mg_sum_rows(tape, mg_sum_columns(tape, x));
}

mg_var *mg_mean(mg_tape *tape, mg_var *x) {
  return mg_mean_rows(tape, mg_reduce_op(tape, MG_REDUCE_MEAN, MG_OVER_COLUMNS, x));
}

mg_var *mg_shares(mg_tape *tape, mg_var *x) {
  return mg_div(tape, x, mg_affine(tape, mg_sum_columns(tape, x), 1, 1e-20));
}

mg_var *mg_unit_rows(mg_tape *tape, mg_var *x) {
  mg_var *squares = mg_reduce_op(tape, MG_REDUCE_SUM_SQUARES, MG_OVER_COLUMNS, x);
  return mg_div(tape, x, mg_unary_op(tape, MG_UNARY_SQRT, mg_affine(tape, squares, 1, 1e-12), 0, 0));
}

mg_var *mg_sqrt_softplus(mg_tape *tape, mg_var *x) {
  return mg_unary_op(tape, MG_UNARY_SQRT, mg_affine(tape, mg_softplus(tape, x), 1, 1e-20), 0, 0);
}

/* ---- cumsum -------------------------------------------------------------------------------------------------- */

/* The gradient is the running sum from the end: total - cumsum(dout) + dout. */
static void cumsum_backward(mg_backward *b) {
  const mg_tensor *dout = b->dout[0];
  mg_op_call call = {.op = MG_OP_CUMSUM, .in = {dout}};
  const mg_tensor *before = mg__do_binary(b, MG_BINARY_SUB, dout, mg__compute(b, &call));
  const mg_tensor *total = mg__do_cast(b, mg__do_reduce(b, MG_OVER_COLUMNS, dout), dout->dtype);
  mg__give(b, 0, mg__do_binary(b, MG_BINARY_ADD, before, total));
}

const mg_op_info mg__op_cumsum = {.in = {{"x", MG_OPERAND_REAL}},
                                  .out = {{"out", MG_OPERAND_REAL}},
                                  .shape = mg__shape_all_alike,
                                  .backward = cumsum_backward,
                                  .flops_each = 1};

mg_var *mg_cumsum(mg_tape *tape, mg_var *x) {
  mg_application cumsum = {.op = MG_OP_CUMSUM, .in = {x}};
  return mg__apply(tape, &cumsum);
}
