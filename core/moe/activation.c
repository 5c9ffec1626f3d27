/* Activations of feed-forwards. */
#include "moe/activation.h"

const char *const mg_activation_names[] = {"silu",    "gelu",         "gelu_tanh",    "relu",
                                           "sigmoid", "clamped_silu", "relu_squared", NULL};

/* Those before CLAMPED_SILU are primitives of both kinds. */
static const mg_glu_kind gated_kinds[] = {MG_GLU_SILU, MG_GLU_GELU, MG_GLU_GELU_TANH, MG_GLU_RELU, MG_GLU_SIGMOID};
static const mg_unary plain_kinds[] = {MG_UNARY_SILU, MG_UNARY_GELU, MG_UNARY_GELU_TANH, MG_UNARY_RELU,
                                       MG_UNARY_SIGMOID};

bool mg_activation_runs(int64_t activation) {
  return activation < MG_ACTIVATION_CLAMPED_SILU;
}

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
  /* min 1, clamp 2, alpha g 1, sigmoid 3, u + 1 1, products 2; relu 1, square 1 */
  static const double clamped_silu = 10, relu_squared = 2;
  if (activation == MG_ACTIVATION_CLAMPED_SILU) return clamped_silu;
  if (activation == MG_ACTIVATION_RELU_SQUARED) return relu_squared + (gated ? 1 : 0);
  return primitive_flops(activation, gated);
}

mg_var *mg_activate(mg_tape *tape, int64_t activation, mg_var *gate, mg_var *up) {
  if (activation >= MG_ACTIVATION_CLAMPED_SILU)
    return mg_tape_fail(tape, MG_USAGE, "activation '%s' is described and counted, but cannot run",
                        mg_activation_names[activation]);
  return gate ? mg_glu(tape, gated_kinds[activation], gate, up)
              : mg_unary_op(tape, plain_kinds[activation], up, 0.0, 0.0);
}
