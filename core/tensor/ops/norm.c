/* Root-mean-square norm (Zhang and Sennrich 2019, arXiv 1910.07467) and layer norm (Ba et al. 2016, arXiv 1607.06450).
 */
#include "tensor/tape_internal.h"

static mg_status check_kind(const mg_op_check *check) {
  const mg_norm_kind kind = check->call->attributes.norm.kind;
  if (kind == MG_NORM_RMS || kind == MG_NORM_LAYER) return MG_OK;
  return mg__refuse(check, "%d is not the number of a norm", (int)kind);
}

static mg_status norm_shape(const mg_op_check *check) {
  const mg_tensor *x = check->call->in[0];
  MG_TRY(check_kind(check));
  MG_TRY(mg__want_count(check, 1, mg_tensor_columns(x), "one for each column of x"));
  MG_TRY(mg__want_count(check, 2, mg_tensor_columns(x), "one for each column of x"));
  MG_TRY(mg__out_like(check, 0, x));
  return mg__out_matrix(check, 1, mg_tensor_rows(x), 2);
}

static mg_status norm_backward_shape(const mg_op_check *check) {
  const mg_tensor *x = check->call->in[0];
  const int64_t rows = mg_tensor_rows(x), columns = mg_tensor_columns(x);
  MG_TRY(check_kind(check));
  MG_TRY(mg__want_count(check, 1, columns, "one for each column of x"));
  MG_TRY(mg__want_matrix(check, 2, rows, 2, "mean and 1/deviation of each row of x"));
  MG_TRY(mg__want_matrix(check, 3, rows, columns, "x"));
  MG_TRY(mg__out_like(check, 0, x));
  MG_TRY(mg__out_vector(check, 1, columns));
  return mg__out_vector(check, 2, columns);
}

/* Squares summed (2) and the row scaled (1); layer norm also sums and subtracts the mean (2). */
static double norm_flops(const mg_op_call *call) {
  const double base = call->attributes.norm.kind == MG_NORM_LAYER ? 5.0 : 3.0;
  const double each = base + (call->in[1] ? 1.0 : 0.0) + (call->in[2] ? 1.0 : 0.0);
  return each * (double)mg_tensor_count(call->in[0]);
}

/* Normalised x again (1), its product with the gradient summed (2), dx from both (3); layer norm also has the mean of x
 * and of the gradient (3); scale: the gradient scaled (1) and dscale (2); shift: dshift (1). */
static double norm_backward_flops(const mg_op_call *call) {
  const double base = call->attributes.norm.kind == MG_NORM_LAYER ? 9.0 : 6.0;
  const double each = base + (call->in[1] ? 1.0 : 0.0) + (call->out[1] ? 2.0 : 0.0) + (call->out[2] ? 1.0 : 0.0);
  return each * (double)mg_tensor_count(call->in[0]);
}

static void norm_backward(mg_backward *b) {
  const mg_tensor *x = b->call->in[0], *scale = b->call->in[1], *shift = b->call->in[2];
  mg_op_call call = {.op = MG_OP_NORM_BACKWARD,
                     .in = {x, scale, b->call->out[1], b->dout[0]},
                     .out = {NULL, scale ? mg__blank(b) : NULL, shift ? mg__blank(b) : NULL},
                     .attributes = b->call->attributes};
  if (!mg__compute(b, &call)) return;
  mg__give(b, 0, call.out[0]);
  if (scale) mg__give(b, 1, call.out[1]);
  if (shift) mg__give(b, 2, call.out[2]);
}

const mg_op_info mg__op_norm = {
    .in = {{"x", MG_OPERAND_REAL}, {"scale", MG_OPERAND_REAL, true}, {"shift", MG_OPERAND_REAL, true}},
    .out = {{"out", MG_OPERAND_REAL}, {"statistics", MG_OPERAND_WIDE}},
    .shape = norm_shape,
    .backward = norm_backward,
    .flops = norm_flops};

const mg_op_info mg__op_norm_backward = {
    .in = {{"x", MG_OPERAND_REAL},
           {"scale", MG_OPERAND_REAL, true},
           {"statistics", MG_OPERAND_WIDE},
           {"dout", MG_OPERAND_REAL}},
    .out = {{"dx", MG_OPERAND_REAL}, {"dscale", MG_OPERAND_REAL, true}, {"dshift", MG_OPERAND_REAL, true}},
    .shape = norm_backward_shape,
    .flops = norm_backward_flops};

mg_var *mg_norm(mg_tape *tape, mg_norm_kind kind, mg_var *x, mg_var *scale, mg_var *shift, double epsilon) {
  mg_application norm = {.op = MG_OP_NORM, .in = {x, scale, shift}, .attributes.norm = {kind, epsilon}};
  return mg__apply(tape, &norm);
}
