/* Products in which each row meets the weight of its own expert, and dot products with chosen rows of a weight. */
#include "tensor/tape_internal.h"

/* ---- grouped matmul ------------------------------------------------------------------------------------------ */

static mg_status check_offsets(const mg_op_check *check, int32_t input, int64_t experts) {
  return mg__want_count(check, input, experts + 1, "one more than w has experts");
}

/* Settings that the product and its weight gradient share. */
static mg_status check_dtypes(const mg_op_check *check) {
  MG_TRY(mg__want_compute(check, check->call->attributes.grouped.compute));
  const mg_dtype out = check->call->out[0]->dtype, first = check->call->in[0]->dtype;
  if (out == first || out == MG_F32) return MG_OK;
  return mg__refuse(check, "out is %s beside x %s; it must have x's dtype or f32", mg_dtype_name(out),
                    mg_dtype_name(first));
}

static mg_status grouped_matmul_shape(const mg_op_check *check) {
  const mg_tensor *x = check->call->in[0], *w = check->call->in[1];
  const bool transposed = check->call->attributes.grouped.transpose_w;
  MG_TRY(mg__want_dims(check, 1, 3));
  MG_TRY(check_offsets(check, 2, w->shape[0]));
  MG_TRY(check_dtypes(check));
  const int64_t inner = w->shape[transposed ? 2 : 1], columns = w->shape[transposed ? 1 : 2];
  if (mg_tensor_columns(x) == inner) return mg__out_matrix(check, 0, mg_tensor_rows(x), columns);
  char have[MG_SHAPE_TEXT_BYTES], weight[MG_SHAPE_TEXT_BYTES];
  return mg__refuse(check, "x is %s and w is %s; the columns of x must be %lld", mg_shape_text(x, have),
                    mg_shape_text(w, weight), (long long)inner);
}

static double grouped_matmul_flops(const mg_op_call *call) {
  return 2.0 * (double)mg_tensor_count(call->in[0]) * (double)mg_tensor_columns(call->out[0]);
}

static mg_status grouped_matmul_weight_shape(const mg_op_check *check) {
  const mg_tensor *x = check->call->in[0], *dout = check->call->in[1], *offsets = check->call->in[2];
  const int64_t k = mg_tensor_columns(x), n = mg_tensor_columns(dout), experts = mg_tensor_count(offsets) - 1;
  MG_TRY(mg__want_matrix(check, 1, mg_tensor_rows(x), n, "as many rows as x"));
  MG_TRY(check_dtypes(check));
  if (experts < 1) return mg__refuse(check, "offsets has no expert; it must have at least two elements");
  const bool transposed = check->call->attributes.grouped.transpose_w;
  return mg__out(check, 0, 3, (const int64_t[]){experts, transposed ? n : k, transposed ? k : n});
}

static double grouped_matmul_weight_flops(const mg_op_call *call) {
  return 2.0 * (double)mg_tensor_count(call->in[0]) * (double)mg_tensor_columns(call->in[1]);
}

static void grouped_matmul_backward(mg_backward *b) {
  const mg_tensor *x = b->call->in[0], *w = b->call->in[1], *offsets = b->call->in[2], *dout = b->dout[0];
  mg_op_call dx = {.op = MG_OP_GROUPED_MATMUL, .in = {dout, w, offsets}, .attributes = b->call->attributes};
  dx.attributes.grouped.transpose_w = !b->call->attributes.grouped.transpose_w;
  mg__give_product(b, 0, &dx, &dx.attributes.grouped.accumulate);
  mg_op_call dw = {.op = MG_OP_GROUPED_MATMUL_WEIGHT, .in = {x, dout, offsets}, .attributes = b->call->attributes};
  mg__give_product(b, 1, &dw, &dw.attributes.grouped.accumulate);
}

const mg_op_info mg__op_grouped_matmul = {
    .in = {{"x", MG_OPERAND_MIXED}, {"w", MG_OPERAND_MIXED, .stored = true}, {"offsets", MG_OPERAND_I32}},
    .out = {{"out", MG_OPERAND_MIXED}},
    .shape = grouped_matmul_shape,
    .backward = grouped_matmul_backward,
    .flops = grouped_matmul_flops};

const mg_op_info mg__op_grouped_matmul_weight = {
    .in = {{"x", MG_OPERAND_MIXED}, {"dout", MG_OPERAND_MIXED}, {"offsets", MG_OPERAND_I32}},
    .out = {{"dw", MG_OPERAND_MIXED}},
    .shape = grouped_matmul_weight_shape,
    .flops = grouped_matmul_weight_flops};

mg_var *mg_grouped_linear(mg_tape *tape, mg_var *x, mg_var *weight, mg_var *offsets) {
  mg_application grouped = {.op = MG_OP_GROUPED_MATMUL, .in = {x, weight, offsets}};
  grouped.attributes.grouped.transpose_w = true;
  grouped.attributes.grouped.compute = mg_var_dtype(x) == MG_F64 ? MG_F64 : tape->compute;
  return mg__apply(tape, &grouped);
}

/* ---- gather_dot ---------------------------------------------------------------------------------------------- */

static double gather_dot_flops(const mg_op_call *call) {
  return 2.0 * (double)mg_tensor_count(call->in[2]) * (double)mg_tensor_columns(call->in[1]);
}

static mg_status gather_dot_shape(const mg_op_check *check) {
  const mg_tensor *x = check->call->in[0], *w = check->call->in[1], *ids = check->call->in[2];
  MG_TRY(mg__want_matrix(check, 1, mg_tensor_rows(w), mg_tensor_columns(x), "as many columns as x"));
  MG_TRY(mg__want_matrix(check, 2, mg_tensor_rows(x), mg_tensor_columns(ids), "as many rows as x"));
  return mg__out_matrix(check, 0, mg_tensor_rows(x), mg_tensor_columns(ids));
}

static mg_status gather_dot_backward_x_shape(const mg_op_check *check) {
  const mg_tensor *dout = check->call->in[0], *w = check->call->in[1];
  MG_TRY(mg__want_matrix(check, 2, mg_tensor_rows(dout), mg_tensor_columns(dout), "dout"));
  return mg__out_matrix(check, 0, mg_tensor_rows(dout), mg_tensor_columns(w));
}

static mg_status gather_dot_backward_w_shape(const mg_op_check *check) {
  const mg_tensor *dout = check->call->in[0], *x = check->call->in[1];
  MG_TRY(mg__want_matrix(check, 1, mg_tensor_rows(dout), mg_tensor_columns(x), "as many rows as dout"));
  MG_TRY(mg__want_matrix(check, 2, mg_tensor_rows(dout), mg_tensor_columns(dout), "dout"));
  MG_TRY(mg__out_given(check, 0));
  return mg__out_matrix(check, 0, mg_tensor_rows(check->call->out[0]), mg_tensor_columns(x));
}

static void gather_dot_backward(mg_backward *b) {
  const mg_tensor *x = b->call->in[0], *w = b->call->in[1], *ids = b->call->in[2];
  if (mg__wants(b, 0)) {
    mg_op_call dx = {.op = MG_OP_GATHER_DOT_BACKWARD_X, .in = {b->dout[0], w, ids}};
    mg__give(b, 0, mg__compute(b, &dx));
  }
  if (mg__wants(b, 1)) {
    mg_op_call dw = {.op = MG_OP_GATHER_DOT_BACKWARD_W, .in = {b->dout[0], x, ids}, .out = {mg__blank_like(b, w)}};
    mg__give(b, 1, mg__compute(b, &dw));
  }
}

const mg_op_info mg__op_gather_dot = {.in = {{"x", MG_OPERAND_REAL}, {"w", MG_OPERAND_REAL}, {"ids", MG_OPERAND_I32}},
                                      .out = {{"out", MG_OPERAND_REAL}},
                                      .shape = gather_dot_shape,
                                      .backward = gather_dot_backward,
                                      .flops = gather_dot_flops};

const mg_op_info mg__op_gather_dot_backward_x = {
    .in = {{"dout", MG_OPERAND_REAL}, {"w", MG_OPERAND_REAL}, {"ids", MG_OPERAND_I32}},
    .out = {{"dx", MG_OPERAND_REAL}},
    .shape = gather_dot_backward_x_shape,
    .flops = gather_dot_flops};

const mg_op_info mg__op_gather_dot_backward_w = {
    .in = {{"dout", MG_OPERAND_REAL}, {"x", MG_OPERAND_REAL}, {"ids", MG_OPERAND_I32}},
    .out = {{"dw", MG_OPERAND_REAL}},
    .shape = gather_dot_backward_w_shape,
    .flops = gather_dot_flops};

mg_var *mg_gather_dot(mg_tape *tape, mg_var *x, mg_var *weight, mg_var *ids) {
  mg_application gather_dot = {.op = MG_OP_GATHER_DOT, .in = {x, weight, ids}};
  return mg__apply(tape, &gather_dot);
}
