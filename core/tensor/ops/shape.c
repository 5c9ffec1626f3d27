/* Columns cut out of a matrix or put side by side, and transposition. */
#include "tensor/tape_internal.h"

/* ---- slice --------------------------------------------------------------------------------------------------- */

/* `part` holds columns [first, first + its columns) of `whole`. */
static mg_status check_slice(const mg_op_check *check, const mg_tensor *whole, const mg_tensor *part) {
  const int64_t first = check->call->attributes.slice.first, count = mg_tensor_columns(part);
  if (first >= 0 && count >= 0 && first <= mg_tensor_columns(whole) - count) return MG_OK;
  char shape[MG_SHAPE_TEXT_BYTES];
  return mg__refuse(check, "columns %lld to %lld were asked of %s; they must lie inside", (long long)first,
                    (long long)first + count, mg_shape_text(whole, shape));
}

static mg_status slice_shape(const mg_op_check *check) {
  const mg_tensor *x = check->call->in[0], *out = check->call->out[0];
  MG_TRY(mg__out_given(check, 0));
  MG_TRY(check_slice(check, x, out));
  return mg__out_matrix(check, 0, mg_tensor_rows(x), mg_tensor_columns(out));
}

static mg_status slice_backward_shape(const mg_op_check *check) {
  const mg_tensor *dout = check->call->in[0], *dx = check->call->out[0];
  MG_TRY(mg__out_given(check, 0));
  MG_TRY(check_slice(check, dx, dout));
  return mg__out_matrix(check, 0, mg_tensor_rows(dout), mg_tensor_columns(dx));
}

static void slice_backward(mg_backward *b) {
  mg_op_call call = {.op = MG_OP_SLICE_BACKWARD,
                     .in = {b->dout[0]},
                     .out = {mg__blank_like(b, b->call->in[0])},
                     .attributes = b->call->attributes};
  mg__give(b, 0, mg__compute(b, &call));
}

const mg_op_info mg__op_slice = {.in = {{"x", MG_OPERAND_REAL}},
                                 .out = {{"out", MG_OPERAND_REAL}},
                                 .shape = slice_shape,
                                 .backward = slice_backward};

const mg_op_info mg__op_slice_backward = {
    .in = {{"dout", MG_OPERAND_REAL}}, .out = {{"dx", MG_OPERAND_REAL}}, .shape = slice_backward_shape};

mg_var *mg_slice(mg_tape *tape, mg_var *x, int64_t first, int64_t count) {
  if (!mg__usable(tape, x, "slice: x")) return NULL;
  mg_application slice = {.op = MG_OP_SLICE, .in = {x}, .out = {x->tensor}, .attributes.slice.first = first};
  slice.out[0].data = NULL;
  slice.out[0].shape[x->tensor.dims - 1] = count;
  return mg__apply(tape, &slice);
}

/* ---- concat -------------------------------------------------------------------------------------------------- */

static mg_status concat_shape(const mg_op_check *check) {
  const mg_tensor *a = check->call->in[0], *b = check->call->in[1];
  MG_TRY(mg__want_matrix(check, 1, mg_tensor_rows(a), mg_tensor_columns(b), "as many rows as a"));
  return mg__out_matrix(check, 0, mg_tensor_rows(a), mg_tensor_columns(a) + mg_tensor_columns(b));
}

static void concat_backward(mg_backward *b) {
  for (int32_t i = 0; i < 2; i++) {
    if (!mg__wants(b, i)) continue;
    mg_op_call call = {.op = MG_OP_SLICE, .in = {b->dout[0]}, .out = {mg__blank_like(b, b->call->in[i])}};
    call.attributes.slice.first = i ? mg_tensor_columns(b->call->in[0]) : 0;
    mg__give(b, i, mg__compute(b, &call));
  }
}

const mg_op_info mg__op_concat = {.in = {{"a", MG_OPERAND_REAL}, {"b", MG_OPERAND_REAL}},
                                  .out = {{"out", MG_OPERAND_REAL}},
                                  .shape = concat_shape,
                                  .backward = concat_backward};

mg_var *mg_concat(mg_tape *tape, mg_var *a, mg_var *b) {
  mg_application concat = {.op = MG_OP_CONCAT, .in = {a, b}};
  return mg__apply(tape, &concat);
}

/* ---- transpose ----------------------------------------------------------------------------------------------- */

static mg_status transpose_shape(const mg_op_check *check) {
  const mg_tensor *x = check->call->in[0];
  if (x->dims < 2) return mg__refuse(check, "x has one dimension; it must have at least two (mg_reshape2 adds one)");
  mg_tensor out = *x;
  out.shape[x->dims - 1] = x->shape[x->dims - 2];
  out.shape[x->dims - 2] = x->shape[x->dims - 1];
  return mg__out_like(check, 0, &out);
}

static void transpose_backward(mg_backward *b) {
  mg_op_call call = {.op = MG_OP_TRANSPOSE, .in = {b->dout[0]}};
  mg__give(b, 0, mg__compute(b, &call));
}

const mg_op_info mg__op_transpose = {.in = {{"x", MG_OPERAND_REAL}},
                                     .out = {{"out", MG_OPERAND_REAL}},
                                     .shape = transpose_shape,
                                     .backward = transpose_backward};

mg_var *mg_transpose(mg_tape *tape, mg_var *x) {
  mg_application transpose = {.op = MG_OP_TRANSPOSE, .in = {x}};
  return mg__apply(tape, &transpose);
}
