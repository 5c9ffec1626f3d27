/* Gated linear units: act(gate) * up (Shazeer 2020, "GLU variants improve Transformer", arXiv 2002.05202). */
#include "tensor/tape_internal.h"

/* FLOPs of the activation and of its derivative, as for the unary op of that name. */
static const struct {
  double forward, backward;
} cost[] = {[MG_GLU_SILU] = {4, 8},
            [MG_GLU_GELU] = {5, 11},
            [MG_GLU_GELU_TANH] = {9, 18},
            [MG_GLU_RELU] = {1, 1},
            [MG_GLU_SIGMOID] = {3, 6}};

static double glu_flops(const mg_op_call *call) {
  return (cost[call->attributes.glu.kind].forward + 1) * (double)mg_tensor_count(call->in[0]);
}

/* dup = dout * act(gate); dgate = dout * up * act'(gate), whose last product is in the derivative's count. */
static double glu_backward_flops(const mg_op_call *call) {
  const mg_glu_kind kind = call->attributes.glu.kind;
  return (cost[kind].forward + cost[kind].backward + 2) * (double)mg_tensor_count(call->in[0]);
}

static mg_status glu_shape(const mg_op_check *check) {
  if ((unsigned)check->call->attributes.glu.kind >= MG_COUNT(cost))
    return mg__refuse(check, "%d is not the number of an activation", (int)check->call->attributes.glu.kind);
  return mg__shape_all_alike(check);
}

static void glu_backward(mg_backward *b) {
  mg_op_call call = {
      .op = MG_OP_GLU_BACKWARD, .in = {b->call->in[0], b->call->in[1], b->dout[0]}, .attributes = b->call->attributes};
  if (!mg__compute(b, &call)) return;
  mg__give(b, 0, call.out[0]);
  mg__give(b, 1, call.out[1]);
}

const mg_op_info mg__op_glu = {.in = {{"gate", MG_OPERAND_REAL}, {"up", MG_OPERAND_REAL}},
                               .out = {{"out", MG_OPERAND_REAL}},
                               .shape = glu_shape,
                               .backward = glu_backward,
                               .flops = glu_flops};

const mg_op_info mg__op_glu_backward = {
    .in = {{"gate", MG_OPERAND_REAL}, {"up", MG_OPERAND_REAL}, {"dout", MG_OPERAND_REAL}},
    .out = {{"dgate", MG_OPERAND_REAL}, {"dup", MG_OPERAND_REAL}},
    .shape = glu_shape,
    .flops = glu_backward_flops};

mg_var *mg_glu(mg_tape *tape, mg_glu_kind kind, mg_var *gate, mg_var *up) {
  mg_application glu = {.op = MG_OP_GLU, .in = {gate, up}, .attributes.glu.kind = kind};
  return mg__apply(tape, &glu);
}
