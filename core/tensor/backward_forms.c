/* Short forms of the calls that backward rules are written with. */
#include "tensor/backward.h"

const mg_tensor *mg__do_unary(mg_backward *b, mg_unary kind, const mg_tensor *x, double alpha, double beta) {
  mg_op_call call = {.op = MG_OP_UNARY, .in = {x}, .attributes.unary = {kind, alpha, beta}};
  return mg__compute(b, &call);
}

const mg_tensor *mg__do_binary(mg_backward *b, mg_binary kind, const mg_tensor *a, const mg_tensor *other) {
  mg_op_call call = {.op = MG_OP_BINARY, .in = {a, other}, .attributes.binary.kind = kind};
  return mg__compute(b, &call);
}

const mg_tensor *mg__do_where(mg_backward *b, const mg_tensor *mask, const mg_tensor *x) {
  mg_op_call call = {.op = MG_OP_WHERE, .in = {mask, x}, .attributes.where.value = 0.0};
  return mg__compute(b, &call);
}

const mg_tensor *mg__do_cast(mg_backward *b, const mg_tensor *x, mg_dtype dtype) {
  if (!x || x->dtype == dtype) return x;
  mg_op_call call = {.op = MG_OP_CAST, .in = {x}, .out = {mg__blank_as(b, x, dtype)}};
  return call.out[0] ? mg__compute(b, &call) : NULL;
}

const mg_tensor *mg__do_reduce(mg_backward *b, mg_axis axis, const mg_tensor *x) {
  mg_op_call call = {.op = MG_OP_REDUCE, .in = {x}, .attributes.reduce = {MG_REDUCE_SUM, axis}};
  return mg__compute(b, &call);
}

const mg_tensor *mg__do_fill(mg_backward *b, const mg_tensor *like, double value) {
  mg_op_call call = {.op = MG_OP_FILL, .out = {mg__blank_like(b, like)}, .attributes.fill.value = value};
  return call.out[0] ? mg__compute(b, &call) : NULL;
}

const mg_tensor *mg__do_sum_to(mg_backward *b, const mg_tensor *x, const mg_tensor *like) {
  if (!x) return NULL;
  if (mg_tensor_columns(like) == 1 && mg_tensor_columns(x) != 1) x = mg__do_reduce(b, MG_OVER_COLUMNS, x);
  if (x && mg_tensor_rows(like) == 1 && mg_tensor_rows(x) != 1) x = mg__do_reduce(b, MG_OVER_ROWS, x);
  return mg__do_cast(b, x, like->dtype);
}

const mg_tensor *mg__do_spread(mg_backward *b, const mg_tensor *x, const mg_tensor *like) {
  const mg_tensor *same = mg__do_cast(b, x, like->dtype);
  if (!same || mg_tensor_count(same) == mg_tensor_count(like)) return same;
  return mg__do_binary(b, MG_BINARY_MUL, mg__do_fill(b, like, 1.0), same);
}
