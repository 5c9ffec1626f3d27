/* What a backward rule may use. A rule is a formula over unrecorded primitives: each function below returns a tensor,
 * or NULL once the tape has failed; every function passes a NULL on, so that a rule needs no checks of its own.
 *
 * Tensors made here are temporary: those not given to an input are recycled when the rule returns. */
#ifndef MG_TENSOR_BACKWARD_H
#define MG_TENSOR_BACKWARD_H

#include "moegauge/tape.h"

enum { MG_COMPANIONS_MAX = 2 };

typedef struct mg_backward {
  mg_tape *tape;
  const mg_op_call *call;                         /* as it ran forward */
  const mg_tensor *dout[MG_OP_OUTPUTS_MAX];       /* gradient of each output; NULL where none arrived */
  const mg_tensor *companions[MG_COMPANIONS_MAX]; /* see mg_application */
  struct mg_node *node;
  struct mg_held *held; /* the temporaries of this rule */
} mg_backward;

/* Whether anything needs the gradient of this input. */
bool mg__wants(const mg_backward *b, int32_t input);

/* Adds a gradient to an input's. It may be a temporary or one of b->dout; its elements are seen under the input's
 * shape, and are converted to the dtype of its gradient. */
void mg__give(mg_backward *b, int32_t input, const mg_tensor *gradient);

/* A tensor without memory, for call->out: of the rule's shape, of `tensor`'s shape, or of `tensor`'s shape in a dtype.
 */
mg_tensor *mg__blank(mg_backward *b);
mg_tensor *mg__blank_like(mg_backward *b, const mg_tensor *tensor);
mg_tensor *mg__blank_as(mg_backward *b, const mg_tensor *tensor, mg_dtype dtype);

/* Runs a call; outputs that are NULL and not optional are made. Returns out[0]. */
const mg_tensor *mg__compute(mg_backward *b, mg_op_call *call);

/* Runs a product whose output is the gradient of `input`, adding in place (through the call's own `accumulate`) where a
 * gradient is already there. */
void mg__give_product(mg_backward *b, int32_t input, mg_op_call *call, bool *accumulate);

/* Short forms of common calls. */
const mg_tensor *mg__do_unary(mg_backward *b, mg_unary kind, const mg_tensor *x, double alpha, double beta);
const mg_tensor *mg__do_binary(mg_backward *b, mg_binary kind, const mg_tensor *a, const mg_tensor *other);
const mg_tensor *mg__do_where(mg_backward *b, const mg_tensor *mask, const mg_tensor *x);
const mg_tensor *mg__do_cast(mg_backward *b, const mg_tensor *x, mg_dtype dtype);
const mg_tensor *mg__do_reduce(mg_backward *b, mg_axis axis, const mg_tensor *x);
/* `like`'s shape and dtype filled with one value. */
const mg_tensor *mg__do_fill(mg_backward *b, const mg_tensor *like, double value);
/* Sums x over the dimensions along which `like` was broadcast to it; the result has the dtype of `like`. */
const mg_tensor *mg__do_sum_to(mg_backward *b, const mg_tensor *x, const mg_tensor *like);
/* A column [R,1], row [C] or single element repeated to the shape and dtype of `like`. */
const mg_tensor *mg__do_spread(mg_backward *b, const mg_tensor *x, const mg_tensor *like);

#endif
