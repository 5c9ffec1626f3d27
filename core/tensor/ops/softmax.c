/* Softmax of each row, and the logarithm of its denominator. */
#include "tensor/tape_internal.h"

static void softmax_backward(mg_backward *b) {
  mg_op_call call = {.op = MG_OP_SOFTMAX_BACKWARD, .in = {b->call->out[0], b->dout[0]}};
  mg__give(b, 0, mg__compute(b, &call));
}

const mg_op_info mg__op_softmax = {.in = {{"x", MG_OPERAND_REAL}},
                                   .out = {{"out", MG_OPERAND_REAL}},
                                   .shape = mg__shape_all_alike,
                                   .backward = softmax_backward,
                                   .flops_each = 5};

const mg_op_info mg__op_softmax_backward = {.in = {{"out", MG_OPERAND_REAL}, {"dout", MG_OPERAND_REAL}},
                                            .out = {{"dx", MG_OPERAND_REAL}},
                                            .shape = mg__shape_all_alike,
                                            .flops_each = 4};

mg_var *mg_softmax(mg_tape *tape, mg_var *x) {
  mg_application softmax = {.op = MG_OP_SOFTMAX, .in = {x}};
  return mg__apply(tape, &softmax);
}

static mg_status log_sum_exp_shape(const mg_op_check *check) {
  return mg__out_matrix(check, 0, mg_tensor_rows(check->call->in[0]), 1);
}

static void log_sum_exp_backward(mg_backward *b) {
  mg_op_call call = {.op = MG_OP_SOFTMAX, .in = {b->call->in[0]}};
  mg__give(b, 0, mg__do_binary(b, MG_BINARY_MUL, mg__compute(b, &call), b->dout[0]));
}

const mg_op_info mg__op_log_sum_exp = {.in = {{"x", MG_OPERAND_REAL}},
                                       .out = {{"out", MG_OPERAND_REAL}},
                                       .shape = log_sum_exp_shape,
                                       .backward = log_sum_exp_backward,
                                       .flops_each = 4};

mg_var *mg_log_sum_exp(mg_tape *tape, mg_var *x) {
  mg_application log_sum_exp = {.op = MG_OP_LOG_SUM_EXP, .in = {x}};
  return mg__apply(tape, &log_sum_exp);
}
