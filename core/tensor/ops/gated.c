/* The first half of a gated feed-forward in one call: act(x gate^T) * (x up^T) (Shazeer 2020, "GLU variants improve
 * Transformer", arXiv 2002.05202). Where a backend lacks it, two products and glu. */
#include <string.h>

#include "tensor/tape_internal.h"

enum { SIDES = 2 }; /* gate and up are inputs 1 and 2, their products outputs 1 and 2 */

static const mg_tensor *offsets_of(const mg_op_call *call) {
  return call->in[3];
}

static mg_status check_weight(const mg_op_check *check, int32_t input) {
  const mg_tensor *x = check->call->in[0], *w = check->call->in[input], *gate = check->call->in[1];
  char first[MG_SHAPE_TEXT_BYTES], second[MG_SHAPE_TEXT_BYTES];
  MG_TRY(mg__want_dims(check, input, offsets_of(check->call) ? 3 : 2));
  if (w->dtype != gate->dtype || memcmp(w->shape, gate->shape, (size_t)w->dims * sizeof *w->shape) != 0)
    return mg__refuse(check, "gate is %s %s and up is %s %s; they must be alike", mg_dtype_name(gate->dtype),
                      mg_shape_text(gate, first), mg_dtype_name(w->dtype), mg_shape_text(w, second));
  if (mg_tensor_columns(w) == mg_tensor_columns(x)) return MG_OK;
  return mg__refuse(check, "x is %s and %s is %s; they must have as many columns", mg_shape_text(x, first),
                    check->info->in[input].name, mg_shape_text(w, second));
}

static mg_status gated_matmul_shape(const mg_op_check *check) {
  const mg_op_call *call = check->call;
  const mg_tensor *x = call->in[0], *gate = call->in[1];
  MG_TRY(mg__want_compute(check, call->attributes.gated.compute));
  if ((unsigned)call->attributes.gated.activation > MG_GLU_SIGMOID)
    return mg__refuse(check, "%d is not the number of an activation", (int)call->attributes.gated.activation);
  for (int32_t i = 0; i < SIDES; i++) MG_TRY(check_weight(check, 1 + i));
  MG_TRY(mg__want_count(check, 3, gate->shape[0] + 1, "one more than the weights have experts"));
  for (int32_t i = 0; i <= SIDES; i++) {
    const mg_tensor *out = call->out[i];
    if (out && out->dtype != x->dtype)
      return mg__refuse(check, "output %s is %s; it must be %s like x", check->info->out[i].name,
                        mg_dtype_name(out->dtype), mg_dtype_name(x->dtype));
    MG_TRY(mg__out_matrix(check, i, mg_tensor_rows(x), gate->shape[gate->dims - 2]));
  }
  return MG_OK;
}

/* What the composed form costs. */
static double gated_matmul_flops(const mg_op_call *call) {
  const mg_op_call glu = {
      .op = MG_OP_GLU, .in = {call->out[0], call->out[0]}, .attributes.glu.kind = call->attributes.gated.activation};
  const double product = 2.0 * (double)mg_tensor_count(call->in[0]) * (double)mg_tensor_columns(call->out[0]);
  return SIDES * product + mg_op_flops(&glu);
}

/* The gradients of x and of one weight from the gradient of their product. */
static void give_side(mg_backward *b, int32_t input, const mg_tensor *gradient) {
  const mg_tensor *x = b->call->in[0], *w = b->call->in[input], *offsets = offsets_of(b->call);
  const mg_dtype compute = b->call->attributes.gated.compute;
  if (offsets) {
    mg_op_call dx = {.op = MG_OP_GROUPED_MATMUL, .in = {gradient, w, offsets}, .attributes.grouped.compute = compute};
    mg__give_product(b, 0, &dx, &dx.attributes.grouped.accumulate);
    mg_op_call dw = {.op = MG_OP_GROUPED_MATMUL_WEIGHT, .in = {x, gradient, offsets}};
    dw.attributes.grouped.transpose_w = true;
    dw.attributes.grouped.compute = compute;
    mg__give_product(b, input, &dw, &dw.attributes.grouped.accumulate);
    return;
  }
  mg_op_call dx = {.op = MG_OP_MATMUL, .in = {gradient, w}, .attributes.matmul.compute = compute};
  mg__give_product(b, 0, &dx, &dx.attributes.matmul.accumulate);
  mg_op_call dw = {.op = MG_OP_MATMUL, .in = {gradient, x}};
  dw.attributes.matmul.transpose_a = true;
  dw.attributes.matmul.compute = compute;
  mg__give_product(b, input, &dw, &dw.attributes.matmul.accumulate);
}

static void gated_matmul_backward(mg_backward *b) {
  mg_op_call glu = {.op = MG_OP_GLU_BACKWARD,
                    .in = {b->call->out[1], b->call->out[2], b->dout[0]},
                    .attributes.glu.kind = b->call->attributes.gated.activation};
  if (!b->dout[0] || !mg__compute(b, &glu)) return;
  for (int32_t i = SIDES - 1; i >= 0; i--) give_side(b, 1 + i, glu.out[i]);
}

const mg_op_info mg__op_gated_matmul = {.in = {{"x", MG_OPERAND_MIXED},
                                               {"gate", MG_OPERAND_MIXED, .stored = true},
                                               {"up", MG_OPERAND_MIXED, .stored = true},
                                               {"offsets", MG_OPERAND_I32, .optional = true}},
                                        .out = {{"out", MG_OPERAND_MIXED},
                                                {"gated", MG_OPERAND_MIXED, .optional = true},
                                                {"raised", MG_OPERAND_MIXED, .optional = true}},
                                        .shape = gated_matmul_shape,
                                        .backward = gated_matmul_backward,
                                        .flops = gated_matmul_flops};

static mg_var *product(mg_tape *tape, mg_var *x, mg_var *weight, mg_var *offsets) {
  return offsets ? mg_grouped_linear(tape, x, weight, offsets) : mg_linear(tape, x, weight);
}

static mg_var *composed(mg_tape *tape, mg_glu_kind kind, mg_var *x, mg_var *gate, mg_var *up, mg_var *offsets) {
  mg_var *g = product(tape, x, gate, offsets);
  return mg_glu(tape, kind, g, product(tape, x, up, offsets));
}

static bool may_fuse(const mg_var *x, const mg_var *gate, const mg_var *up) {
  const mg_tensor *weight = gate ? mg_var_tensor(gate) : NULL;
  if (!x || !weight || weight->dims < 2) return false;
  return up && mg_var_dtype(up) == weight->dtype;
}

mg_var *mg_gated_linear(mg_tape *tape, mg_glu_kind kind, mg_var *x, mg_var *gate, mg_var *up, mg_var *offsets) {
  mg_application gated = {.op = MG_OP_GATED_MATMUL, .in = {x, gate, up, offsets}};
  if (!may_fuse(x, gate, up)) return composed(tape, kind, x, gate, up, offsets);
  gated.attributes.gated.activation = kind;
  gated.attributes.gated.compute = mg_var_dtype(x) == MG_F64 ? MG_F64 : tape->compute;
  if (!mg__has_fused(tape, &gated)) return composed(tape, kind, x, gate, up, offsets);
  const mg_tensor *weight = mg_var_tensor(gate);
  const int64_t shape[] = {mg_var_rows(x), weight->shape[weight->dims - 2]};
  const bool kept = mg__leads_to_gradient(tape, &gated);
  for (int32_t i = 1; i <= SIDES && kept; i++) gated.out[i] = mg__shape_of(mg_var_dtype(x), 2, shape);
  return mg__apply(tape, &gated);
}
