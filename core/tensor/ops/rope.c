/* Rotary position embedding (Su et al. 2021, arXiv 2104.09864): pairs of columns turn by position * frequency. */
#include "tensor/tape_internal.h"

static mg_status rope_shape(const mg_op_check *check) {
  const mg_tensor *x = check->call->in[0];
  const int64_t head = check->call->attributes.rope.head, rotary = check->call->attributes.rope.rotary;
  if (head < 1 || mg_tensor_columns(x) % head != 0)
    return mg__refuse(check, "a head of %lld was asked for; it must divide the %lld columns of x", (long long)head,
                      (long long)mg_tensor_columns(x));
  if (rotary < 0 || rotary > head || rotary % 2 != 0)
    return mg__refuse(check, "%lld rotary columns were asked for; they must be even and at most the head's %lld",
                      (long long)rotary, (long long)head);
  MG_TRY(mg__want_count(check, 1, mg_tensor_rows(x), "one for each row of x"));
  MG_TRY(mg__want_count(check, 2, rotary / 2, "one for each pair of rotary columns"));
  return mg__out_like(check, 0, x);
}

/* Four products and two sums for each pair of rotary columns. */
static double rope_flops(const mg_op_call *call) {
  const int64_t head = call->attributes.rope.head, rotary = call->attributes.rope.rotary;
  const int64_t rotated = mg_tensor_count(call->in[0]) / head * rotary;
  return 3.0 * (double)rotated;
}

static void rope_backward(mg_backward *b) {
  mg_op_call call = {
      .op = MG_OP_ROPE, .in = {b->dout[0], b->call->in[1], b->call->in[2]}, .attributes = b->call->attributes};
  call.attributes.rope.inverse = !b->call->attributes.rope.inverse;
  mg__give(b, 0, mg__compute(b, &call));
}

const mg_op_info mg__op_rope = {
    .in = {{"x", MG_OPERAND_REAL}, {"positions", MG_OPERAND_I32}, {"frequencies", MG_OPERAND_F32}},
    .out = {{"out", MG_OPERAND_REAL}},
    .shape = rope_shape,
    .backward = rope_backward,
    .flops = rope_flops};

mg_var *mg_rope(mg_tape *tape, mg_var *x, mg_var *positions, mg_var *frequencies, mg_rope_settings settings) {
  mg_application rope = {.op = MG_OP_ROPE, .in = {x, positions, frequencies}};
  rope.attributes.rope.head = settings.head;
  rope.attributes.rope.rotary = settings.rotary;
  rope.attributes.rope.interleaved = settings.interleaved;
  rope.attributes.rope.scale = settings.scale;
  return mg__apply(tape, &rope);
}
