/* Activations of feed-forwards. */
#include "moe/activation.h"

#include <math.h>

const char *const mg_activation_names[] = {"silu",    "gelu",         "gelu_tanh",    "relu",
                                           "sigmoid", "clamped_silu", "relu_squared", NULL};

/* Those before CLAMPED_SILU are primitives of both kinds. */
static const mg_glu_kind gated_kinds[] = {MG_GLU_SILU, MG_GLU_GELU, MG_GLU_GELU_TANH, MG_GLU_RELU, MG_GLU_SIGMOID};
static const mg_unary plain_kinds[] = {MG_UNARY_SILU, MG_UNARY_GELU, MG_UNARY_GELU_TANH, MG_UNARY_RELU,
                                       MG_UNARY_SIGMOID};

static double primitive_flops(int64_t activation, bool gated) {
  const mg_tensor one = {.shape = {1, 1}, .dims = 2, .dtype = MG_F32};
  mg_op_call call = {.op = gated ? MG_OP_GLU : MG_OP_UNARY, .in = {&one, gated ? &one : NULL}};
  if (gated)
    call.attributes.glu.kind = gated_kinds[activation];
  else
    call.attributes.unary.kind = plain_kinds[activation];
  return mg_op_flops(&call);
}

double mg_activation_flops(int64_t activation, bool gated) {
  /* As composed below: two clamps, two affine maps of 2 each, sigmoid 3, two products; relu and square 1 each. */
  static const double clamped_silu = 13, relu_squared = 2;
  if (activation == MG_ACTIVATION_CLAMPED_SILU) return clamped_silu;
  if (activation == MG_ACTIVATION_RELU_SQUARED) return relu_squared + (gated ? 1 : 0);
  return primitive_flops(activation, gated);
}

static mg_var *clamped_silu(mg_tape *tape, const mg_activation_settings *settings, mg_var *gate, mg_var *up) {
  const double limit = settings->limit;
  mg_var *g = mg_unary_op(tape, MG_UNARY_CLAMP, gate, -(double)INFINITY, limit);
  mg_var *u = mg_affine(tape, mg_unary_op(tape, MG_UNARY_CLAMP, up, -limit, limit), 1.0, 1.0);
  return mg_mul(tape, u, mg_mul(tape, g, mg_sigmoid(tape, mg_scale(tape, g, settings->alpha))));
}

static mg_var *relu_squared(mg_tape *tape, mg_var *gate, mg_var *up) {
  mg_var *y = mg_square(tape, mg_relu(tape, gate ? gate : up));
  return gate ? mg_mul(tape, y, up) : y;
}

mg_var *mg_activate(mg_tape *tape, const mg_activation_settings *settings, mg_var *gate, mg_var *up) {
  const int64_t activation = settings->activation;
  if (activation == MG_ACTIVATION_CLAMPED_SILU) return clamped_silu(tape, settings, gate, up);
  if (activation == MG_ACTIVATION_RELU_SQUARED) return relu_squared(tape, gate, up);
  return gate ? mg_glu(tape, gated_kinds[activation], gate, up)
              : mg_unary_op(tape, plain_kinds[activation], up, 0.0, 0.0);
}
