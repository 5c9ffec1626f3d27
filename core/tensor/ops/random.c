/* Random tensors by position: element i is draw i of a stream (moegauge/rng.h). */
#include "tensor/tape_internal.h"

static mg_status random_shape(const mg_op_check *check) {
  if ((unsigned)check->call->attributes.random.kind > MG_RANDOM_NORMAL)
    return mg__refuse(check, "%d is not the number of a distribution", (int)check->call->attributes.random.kind);
  return mg__out_given(check, 0);
}

const mg_op_info mg__op_random = {.out = {{"out", MG_OPERAND_REAL}}, .shape = random_shape};

mg_var *mg_random(mg_tape *tape, mg_dtype dtype, int32_t dims, const int64_t *shape, mg_random_kind kind,
                  mg_stream stream, double low, double high) {
  mg_application random = {.op = MG_OP_RANDOM,
                           .out = {mg__shape_of(dtype, dims, shape)},
                           .attributes.random = {.kind = kind, .stream = stream, .low = low, .high = high}};
  return mg__apply(tape, &random);
}
