/* Cross-entropy of each row of logits with its target: log sum exp(logits) - logits[target], in nats. */
#include "tensor/tape_internal.h"

static mg_status cross_entropy_shape(const mg_op_check *check) {
  const int64_t rows = mg_tensor_rows(check->call->in[0]);
  MG_TRY(mg__want_count(check, 1, rows, "one for each row of logits"));
  MG_TRY(mg__out_matrix(check, 0, rows, 1));
  return mg__out_matrix(check, 1, rows, 1);
}

static mg_status cross_entropy_backward_shape(const mg_op_check *check) {
  const mg_tensor *logits = check->call->in[0];
  const int64_t rows = mg_tensor_rows(logits);
  MG_TRY(mg__want_count(check, 1, rows, "one for each row of logits"));
  MG_TRY(mg__want_count(check, 2, rows, "one for each row of logits"));
  MG_TRY(mg__want_count(check, 3, rows, "one for each row of logits"));
  return mg__out_like(check, 0, logits);
}

static void cross_entropy_backward(mg_backward *b) {
  mg_op_call call = {.op = MG_OP_CROSS_ENTROPY_BACKWARD,
                     .in = {b->call->in[0], b->call->in[1], b->call->out[1], b->dout[0]}};
  mg__give(b, 0, mg__compute(b, &call));
}

const mg_op_info mg__op_cross_entropy = {.in = {{"logits", MG_OPERAND_REAL}, {"targets", MG_OPERAND_I32}},
                                         .out = {{"loss", MG_OPERAND_WIDE}, {"lse", MG_OPERAND_WIDE}},
                                         .shape = cross_entropy_shape,
                                         .backward = cross_entropy_backward,
                                         .flops_each = 4};

const mg_op_info mg__op_cross_entropy_backward = {.in = {{"logits", MG_OPERAND_REAL},
                                                         {"targets", MG_OPERAND_I32},
                                                         {"lse", MG_OPERAND_WIDE},
                                                         {"dloss", MG_OPERAND_WIDE}},
                                                  .out = {{"dlogits", MG_OPERAND_REAL}},
                                                  .shape = cross_entropy_backward_shape,
                                                  .flops_each = 3};

mg_var *mg_cross_entropy(mg_tape *tape, mg_var *logits, mg_var *targets) {
  mg_application cross_entropy = {.op = MG_OP_CROSS_ENTROPY, .in = {logits, targets}};
  return mg__apply(tape, &cross_entropy);
}
