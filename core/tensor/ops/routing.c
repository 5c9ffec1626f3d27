/* Assignments sorted by expert, rows moved to experts, and outputs of experts combined per token. core/moe/README.md
 * explains assignments. */
#include "tensor/tape_internal.h"

/* ---- assign -------------------------------------------------------------------------------------------------- */

static mg_status assign_shape(const mg_op_check *check) {
  const mg_tensor *ids = check->call->in[0], *priority = check->call->in[1];
  MG_TRY(mg__want_dims(check, 0, 2));
  MG_TRY(mg__want_matrix(check, 1, ids->shape[0], ids->shape[1], "ids"));
  MG_TRY(mg__out_given(check, 0));
  const int64_t experts = mg_tensor_count(check->call->out[0]) - 1;
  if (experts < 1) return mg__refuse(check, "there are %lld experts; there must be at least one", (long long)experts);
  if (mg_tensor_count(ids) > INT32_MAX)
    return mg__refuse(check, "there are more choices than an i32 can number; use smaller batches");
  if (check->call->attributes.assign.capacity < 0)
    return mg__refuse(check, "the capacity is negative; 0 means no limit");
  if (check->call->attributes.assign.order == MG_ORDER_PRIORITY && !priority)
    return mg__refuse(check, "priority is missing (NULL); the order asks for it");
  MG_TRY(mg__out_vector(check, 0, experts + 1));
  MG_TRY(mg__out_vector(check, 1, mg_tensor_count(ids)));
  MG_TRY(mg__out_like(check, 2, ids));
  return mg__out_vector(check, 3, experts);
}

const mg_op_info mg__op_assign = {.in = {{"ids", MG_OPERAND_I32}, {"priority", MG_OPERAND_REAL, true}},
                                  .out = {{"offsets", MG_OPERAND_I32},
                                          {"slots", MG_OPERAND_I32},
                                          {"position", MG_OPERAND_I32},
                                          {"demand", MG_OPERAND_I32}},
                                  .shape = assign_shape};

/* How many rows reach experts: read from memory that the host can see, else the most there can be. */
static mg_status count_rows(mg_tape *tape, const mg_assignment *assignment, int64_t capacity, int64_t *rows) {
  const int64_t choices = assignment->tokens * assignment->choices;
  int64_t most = 0;
  *rows = choices;
  if (tape->backend->plugin->host_memory) {
    MG_TRY(tape->backend->plugin->synchronize(tape->backend));
    *rows = ((const int32_t *)assignment->offsets->tensor.data)[assignment->experts];
  } else if (capacity > 0 && !__builtin_mul_overflow(assignment->experts, capacity, &most) && most < choices) {
    *rows = most;
  }
  if (*rows >= 0 && *rows <= choices) return MG_OK;
  return mg_fail(tape->context, MG_BUG, "assign: backend %s gave %lld rows for %lld choices",
                 tape->backend->plugin->name, (long long)*rows, (long long)choices);
}

mg_status mg_assign(mg_tape *tape, mg_var *ids, mg_var *priority, int64_t experts, int64_t capacity,
                    mg_capacity_order order, mg_assignment *out) {
  *out = (mg_assignment){0};
  if (experts < 1 || experts >= INT32_MAX) {
    mg_tape_fail(tape, MG_USAGE, "assign: there are %lld experts; there must be at least one", (long long)experts);
    return tape->status;
  }
  mg_application assign = {.op = MG_OP_ASSIGN, .in = {ids, priority}};
  assign.out[0] = mg__shape_of(MG_I32, 1, (const int64_t[]){experts + 1});
  assign.attributes.assign.capacity = capacity;
  assign.attributes.assign.order = order;
  if (!mg__apply(tape, &assign)) return tape->status;
  *out = (mg_assignment){.offsets = assign.result[0],
                         .slots = assign.result[1],
                         .position = assign.result[2],
                         .demand = assign.result[3],
                         .tokens = ids->tensor.shape[0],
                         .choices = ids->tensor.shape[1],
                         .experts = experts};
  mg__passed(tape, count_rows(tape, out, capacity, &out->rows));
  return tape->status;
}

/* ---- dispatch ------------------------------------------------------------------------------------------------ */

/* There are T*S slots, or more when experts have padded rows. */
static mg_status want_slots(const mg_op_check *check, int32_t index, int64_t rows) {
  const int64_t slots = mg_tensor_count(check->call->in[index]);
  if (slots >= rows) return MG_OK;
  return mg__refuse(check, "there are %lld rows and %lld slots; every row needs one", (long long)rows,
                    (long long)slots);
}

static mg_status dispatch_shape(const mg_op_check *check) {
  MG_TRY(mg__out_given(check, 0));
  if (check->call->attributes.dispatch.choices < 0) return mg__refuse(check, "the choices per token are negative");
  const int64_t rows = mg_tensor_rows(check->call->out[0]);
  MG_TRY(want_slots(check, 1, rows));
  return mg__out_matrix(check, 0, rows, mg_tensor_columns(check->call->in[0]));
}

/* Each token collects the gradients of its rows: a combine without weights. */
static void dispatch_backward(mg_backward *b) {
  mg_op_call call = {.op = MG_OP_COMBINE, .in = {b->dout[0], NULL, b->companions[0]}};
  mg__give(b, 0, mg__compute(b, &call));
}

const mg_op_info mg__op_dispatch = {
    .in = {{"x", MG_OPERAND_REAL}, {"slots", MG_OPERAND_I32}, {"offsets", MG_OPERAND_I32}},
    .out = {{"out", MG_OPERAND_REAL}},
    .shape = dispatch_shape,
    .backward = dispatch_backward};

mg_var *mg_dispatch(mg_tape *tape, mg_var *x, const mg_assignment *assignment) {
  if (!mg__usable(tape, x, "dispatch: x")) return NULL;
  const int64_t shape[] = {assignment->rows, mg_var_columns(x)};
  mg_application dispatch = {.op = MG_OP_DISPATCH,
                             .in = {x, assignment->slots, assignment->offsets},
                             .out = {mg__shape_of(x->tensor.dtype, 2, shape)},
                             .attributes.dispatch.choices = assignment->choices,
                             .companions = {assignment->position}};
  return mg__apply(tape, &dispatch);
}

/* ---- combine ------------------------------------------------------------------------------------------------- */

static mg_status combine_shape(const mg_op_check *check) {
  const mg_tensor *y = check->call->in[0], *position = check->call->in[2];
  MG_TRY(mg__want_dims(check, 2, 2));
  MG_TRY(mg__want_matrix(check, 1, position->shape[0], position->shape[1], "position"));
  return mg__out_matrix(check, 0, position->shape[0], mg_tensor_columns(y));
}

static double combine_flops(const mg_op_call *call) {
  return (call->in[1] ? 2.0 : 1.0) * (double)mg_tensor_count(call->in[0]);
}

static mg_status combine_backward_shape(const mg_op_check *check) {
  const mg_tensor *dout = check->call->in[0], *y = check->call->in[1], *weights = check->call->in[2];
  const int64_t rows = mg_tensor_rows(dout), choices = check->call->attributes.dispatch.choices;
  MG_TRY(mg__want_matrix(check, 1, mg_tensor_rows(y), mg_tensor_columns(dout), "as many columns as dout"));
  MG_TRY(mg__want_matrix(check, 2, rows, choices, "tokens and choices"));
  MG_TRY(want_slots(check, 3, mg_tensor_rows(y)));
  if (check->call->out[1] && !weights) return mg__refuse(check, "dweights was asked for without weights");
  MG_TRY(mg__out_like(check, 0, y));
  return mg__out_matrix(check, 1, rows, choices);
}

/* dy = weight * dout, and dweight = dout . y. */
static double combine_backward_flops(const mg_op_call *call) {
  return (call->in[2] ? 3.0 : 0.0) * (double)mg_tensor_count(call->in[1]);
}

static void combine_backward(mg_backward *b) {
  const mg_tensor *y = b->call->in[0], *weights = b->call->in[1], *position = b->call->in[2];
  mg_op_call call = {.op = MG_OP_COMBINE_BACKWARD,
                     .in = {b->dout[0], y, weights, b->companions[0], b->companions[1]},
                     .out = {NULL, weights ? mg__blank(b) : NULL}};
  call.attributes.dispatch.choices = position->shape[1];
  if (!mg__compute(b, &call)) return;
  mg__give(b, 0, call.out[0]);
  if (weights) mg__give(b, 1, call.out[1]);
}

const mg_op_info mg__op_combine = {
    .in = {{"y", MG_OPERAND_REAL}, {"weights", MG_OPERAND_REAL, true}, {"position", MG_OPERAND_I32}},
    .out = {{"out", MG_OPERAND_REAL}},
    .shape = combine_shape,
    .backward = combine_backward,
    .flops = combine_flops};

const mg_op_info mg__op_combine_backward = {.in = {{"dout", MG_OPERAND_REAL},
                                                   {"y", MG_OPERAND_REAL},
                                                   {"weights", MG_OPERAND_REAL, true},
                                                   {"slots", MG_OPERAND_I32},
                                                   {"offsets", MG_OPERAND_I32}},
                                            .out = {{"dy", MG_OPERAND_REAL}, {"dweights", MG_OPERAND_REAL, true}},
                                            .shape = combine_backward_shape,
                                            .flops = combine_backward_flops};

mg_var *mg_combine(mg_tape *tape, mg_var *y, mg_var *weights, const mg_assignment *assignment) {
  mg_application combine = {.op = MG_OP_COMBINE,
                            .in = {y, weights, assignment->position},
                            .attributes.dispatch.choices = assignment->choices,
                            .companions = {assignment->slots, assignment->offsets}};
  return mg__apply(tape, &combine);
}
