/* AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101): one step on one parameter, in place. */
#include "tensor/tape_internal.h"

static mg_status adamw_shape(const mg_op_check *check) {
  if (check->call->attributes.adamw.step < 1)
    return mg__refuse(check, "step %lld was given; steps count from 1", (long long)check->call->attributes.adamw.step);
  for (int32_t i = 0; i < 3; i++) {
    MG_TRY(mg__out_given(check, i));
    MG_TRY(mg__out_like(check, i, check->call->in[0]));
  }
  return MG_OK;
}

const mg_op_info mg__op_adamw = {
    .in = {{"gradient", MG_OPERAND_F32}},
    .out = {{"parameter", MG_OPERAND_F32}, {"first", MG_OPERAND_F32}, {"second", MG_OPERAND_F32}},
    .shape = adamw_shape,
    .flops_each = 16};
