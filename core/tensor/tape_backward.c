/* Walking the tape back: each node's rule gives gradients to its inputs; they add up in the order of the walk.
 *
 * The first gradient to arrive at a variable is kept as it is, even when it is the very gradient of the node's output;
 * buffers are counted by their holders, and only one with a single holder is added to in place. A gradient is released
 * once its node has been undone, unless the variable keeps it. */
#include "tensor/tape_internal.h"

/* ---- temporaries --------------------------------------------------------------------------------------------- */

mg_tensor *mg__blank(mg_backward *b) {
  if (b->tape->status != MG_OK) return NULL;
  mg_held *held = mg_arena_alloc(b->tape->memory.host, sizeof *held);
  if (!held) {
    mg__passed(b->tape, MG_MEMORY);
    return NULL;
  }
  held->next = b->held;
  b->held = held;
  return &held->tensor;
}

mg_tensor *mg__blank_as(mg_backward *b, const mg_tensor *tensor, mg_dtype dtype) {
  mg_tensor *blank = tensor ? mg__blank(b) : NULL;
  if (blank) *blank = mg__shape_of(dtype, tensor->dims, tensor->shape);
  return blank;
}

mg_tensor *mg__blank_like(mg_backward *b, const mg_tensor *tensor) {
  return tensor ? mg__blank_as(b, tensor, tensor->dtype) : NULL;
}

static mg_held *find_held(const mg_backward *b, const mg_tensor *tensor) {
  for (mg_held *held = b->held; held; held = held->next) {
    if (&held->tensor == tensor) return held;
  }
  return NULL;
}

/* Memory for the outputs that have none. */
static mg_status give_memory(mg_backward *b, const mg_op_call *call) {
  for (int32_t i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    mg_held *held = call->out[i] ? find_held(b, call->out[i]) : NULL;
    if (!held || held->buffer) continue;
    MG_TRY(mg__buffer_take(&b->tape->memory, mg_tensor_bytes(&held->tensor), &held->buffer));
    held->tensor.data = mg_tensor_count(&held->tensor) ? held->buffer->data : NULL;
  }
  return MG_OK;
}

const mg_tensor *mg__compute(mg_backward *b, mg_op_call *call) {
  const mg_op_info *info = mg__op_info(call->op);
  if (b->tape->status != MG_OK) return NULL;
  for (int32_t i = 0; i < MG_OP_INPUTS_MAX; i++) {
    if (info->in[i].name && !info->in[i].optional && !call->in[i]) return NULL;
  }
  for (int32_t i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    if (!info->out[i].name || info->out[i].optional || call->out[i]) continue;
    if (!(call->out[i] = mg__blank(b))) return NULL;
  }
  call->part = b->call->part;
  mg_status status = mg__op_check(b->tape->context, call);
  if (status == MG_OK) status = give_memory(b, call);
  if (status == MG_OK) status = mg__tape_execute(b->tape, call, true);
  return mg__passed(b->tape, status) ? call->out[0] : NULL;
}

static void release_held(mg_backward *b) {
  for (mg_held *held = b->held; held; held = held->next) mg__buffer_release(&b->tape->memory, held->buffer);
  b->held = NULL;
}

/* ---- adding up ----------------------------------------------------------------------------------------------- */

bool mg__wants(const mg_backward *b, int32_t input) {
  return mg_var_needs_gradient(b->node->in[input]);
}

static mg_dtype gradient_dtype(const mg_var *x) {
  return x->leaf_gradient ? x->leaf_gradient->dtype : x->tensor.dtype;
}

/* sum += gradient, converting where add_scaled does not. */
static void add_into(mg_backward *b, mg_tensor *sum, const mg_tensor *gradient) {
  const bool widens = gradient->dtype == MG_BF16 && sum->dtype == MG_F32;
  const mg_tensor *x = gradient->dtype == sum->dtype || widens ? gradient : mg__do_cast(b, gradient, sum->dtype);
  mg_op_call call = {.op = MG_OP_ADD_SCALED, .in = {x}, .out = {sum}, .attributes.add_scaled.factor = 1.0};
  mg__compute(b, &call);
}

/* The tensor seen under the shape of x. */
static mg_tensor seen_as(const mg_tensor *tensor, const mg_var *x) {
  mg_tensor view = mg__shape_of(tensor->dtype, x->tensor.dims, x->tensor.shape);
  view.data = tensor->data;
  return view;
}

/* Makes x hold this gradient instead of what it held. */
static void hold(mg_backward *b, mg_var *x, const mg_held *held) {
  held->buffer->holders++;
  mg__buffer_release(&b->tape->memory, x->buffer);
  x->buffer = held->buffer;
  x->gradient = seen_as(&held->tensor, x);
  x->has_gradient = true;
}

/* x's gradient and this one are both needed elsewhere or of one holder; whichever may be changed takes the sum. */
static void add_to_held(mg_backward *b, mg_var *x, mg_held *held) {
  const mg_tensor view = seen_as(&held->tensor, x);
  if (x->buffer->holders == 1) {
    add_into(b, &x->gradient, &view);
  } else if (held->buffer->holders == 1) {
    mg_tensor sum = view;
    add_into(b, &sum, &x->gradient);
    hold(b, x, held);
  } else {
    const mg_tensor *sum = mg__do_binary(b, MG_BINARY_ADD, &x->gradient, &view);
    if (sum) hold(b, x, find_held(b, sum));
  }
}

void mg__give(mg_backward *b, int32_t input, const mg_tensor *gradient) {
  mg_var *x = b->node->in[input];
  if (!gradient || b->tape->status != MG_OK || !mg__wants(b, input)) return;
  if (mg_tensor_count(gradient) != mg_tensor_count(&x->tensor)) {
    mg_tape_fail(b->tape, MG_BUG, "the backward rule of %s gave input %d a gradient of another size",
                 mg_op_name(b->call->op), input);
    return;
  }
  if (x->leaf_gradient) {
    const mg_tensor view = seen_as(gradient, x);
    add_into(b, x->leaf_gradient, &view);
    x->has_gradient = true;
    return;
  }
  if (gradient->dtype != gradient_dtype(x)) gradient = mg__do_cast(b, gradient, gradient_dtype(x));
  mg_held *held = gradient ? find_held(b, gradient) : NULL;
  if (!held) return;
  if (x->has_gradient)
    add_to_held(b, x, held);
  else
    hold(b, x, held);
}

/* The gradient of x if products may add into it in place. */
static mg_tensor *sum_in_place(mg_var *x) {
  if (x->leaf_gradient) return x->leaf_gradient;
  return x->has_gradient && x->buffer->holders == 1 ? &x->gradient : NULL;
}

void mg__give_product(mg_backward *b, int32_t input, mg_op_call *call, bool *accumulate) {
  mg_var *x = b->node->in[input];
  if (!mg__wants(b, input) || b->tape->status != MG_OK || !call->in[0]) return;
  const bool fits = gradient_dtype(x) == call->in[0]->dtype || gradient_dtype(x) == MG_F32;
  mg_tensor *sum = fits ? sum_in_place(x) : NULL;
  if (sum) {
    call->out[0] = sum;
    *accumulate = true;
    if (mg__compute(b, call)) x->has_gradient = true;
    return;
  }
  call->out[0] = mg__blank_as(b, &x->tensor, fits ? gradient_dtype(x) : call->in[0]->dtype);
  *accumulate = false;
  if (call->out[0]) mg__give(b, input, mg__compute(b, call));
}

/* ---- the walk ------------------------------------------------------------------------------------------------ */

/* Lets the rule hold the gradients of the node's outputs as if it had made them. */
static void take_output_gradients(mg_backward *b, mg_node *node) {
  for (int32_t i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    mg_var *out = node->out[i];
    if (!out || !out->has_gradient) continue;
    mg_held *held = (mg_held *)mg__blank(b);
    if (!held) return;
    held->tensor = out->gradient;
    held->buffer = out->buffer;
    if (out->keeps_gradient) {
      out->buffer->holders++;
    } else {
      out->buffer = NULL;
      out->has_gradient = false;
    }
    b->dout[i] = &held->tensor;
  }
}

static bool reached(const mg_node *node) {
  for (int32_t i = 0; i < MG_OP_OUTPUTS_MAX; i++) {
    if (node->out[i] && node->out[i]->has_gradient) return true;
  }
  return false;
}

static void undo(mg_tape *tape, mg_node *node) {
  mg_backward b = {.tape = tape, .call = &node->call, .node = node};
  for (int32_t i = 0; i < MG_COMPANIONS_MAX; i++) b.companions[i] = node->companions[i];
  take_output_gradients(&b, node);
  if (tape->status == MG_OK) {
    if (node->call.op == MG_OP_COUNT)
      mg__give(&b, 0, b.dout[0]);
    else
      mg__op_info(node->call.op)->backward(&b);
  }
  release_held(&b);
}

/* The gradient of the loss by itself: 1. */
static void seed(mg_tape *tape, mg_var *loss) {
  mg_node start = {.call = {.part = MG_PART_LOSS}, .in = {loss}};
  mg_backward b = {.tape = tape, .call = &start.call, .node = &start};
  mg__give(&b, 0, mg__do_fill(&b, &loss->tensor, 1.0));
  release_held(&b);
}

mg_status mg_tape_backward(mg_tape *tape, mg_var *loss) {
  if (!mg__usable(tape, loss, "backward: the loss")) return tape->status;
  if (mg_tensor_count(&loss->tensor) != 1) {
    char shape[MG_SHAPE_TEXT_BYTES];
    mg_tape_fail(tape, MG_USAGE, "backward: the loss is %s; it must have one element (mg_mean or mg_sum)",
                 mg_shape_text(&loss->tensor, shape));
  } else if (!loss->needs_gradient) {
    mg_tape_fail(tape, MG_USAGE, "backward: the loss does not depend on a leaf with a gradient, or was not recorded");
  } else if (tape->walked_back) {
    mg_tape_fail(tape, MG_USAGE, "backward: it has run since the last reset; call mg_tape_reset before the next step");
  }
  if (tape->status != MG_OK) return tape->status;
  tape->walked_back = true;
  seed(tape, loss);
  for (mg_node *node = tape->last; node && tape->status == MG_OK; node = node->previous) {
    if (reached(node)) undo(tape, node);
  }
  return tape->status;
}
