/* glu: out = act(gate) * up, and its backward dgate = act'(gate) up dout, dup = act(gate) dout.
 * Shazeer 2020, "GLU variants improve transformer". */
#include "reference.h"

static mg_unary activation(mg_glu_kind kind) {
  switch (kind) {
  case MG_GLU_SILU: return MG_UNARY_SILU;
  case MG_GLU_GELU: return MG_UNARY_GELU;
  case MG_GLU_GELU_TANH: return MG_UNARY_GELU_TANH;
  case MG_GLU_RELU: return MG_UNARY_RELU;
  case MG_GLU_SIGMOID: return MG_UNARY_SIGMOID;
  }
  return MG_UNARY_COUNT;
}

mg_status mg__reference_glu(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *gate = call->in[0], *up = call->in[1], *out = call->out[0];
  const mg_unary act = activation(call->attributes.glu.kind);
  for (int64_t i = 0; i < mg_tensor_count(out); i++)
    put(out, i, mg__reference_unary_value(act, at(gate, i), 0, 0) * at(up, i));
  return MG_OK;
}

mg_status mg__reference_glu_backward(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *gate = call->in[0], *up = call->in[1], *dout = call->in[2];
  const mg_tensor *dgate = call->out[0], *dup = call->out[1];
  const mg_unary act = activation(call->attributes.glu.kind);
  for (int64_t i = 0; i < mg_tensor_count(gate); i++) {
    const double g = at(gate, i), u = at(up, i), d = at(dout, i);
    put(dgate, i, mg__reference_unary_slope(act, g, 0, 0) * u * d);
    put(dup, i, mg__reference_unary_value(act, g, 0, 0) * d);
  }
  return MG_OK;
}
