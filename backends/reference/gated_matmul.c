/* gated_matmul: out = act(x gate^T) * (x up^T) for the rows of each expert, and the two products where they are wanted.
 * Rows from offsets[E] on belong to no expert and are zero. Shazeer 2020, "GLU variants improve transformer". */
#include "reference.h"

static double dot(const mg_op_call *call, const mg_tensor *w, int64_t a, int64_t row) {
  const int64_t K = mg_tensor_columns(call->in[0]);
  const mg_dtype compute = call->attributes.gated.compute;
  double sum = 0;
  for (int64_t k = 0; k < K; k++)
    sum += operand(at(call->in[0], a * K + k), compute) * operand(at(w, row * K + k), compute);
  return sum;
}

static void put_all(const mg_op_call *call, int64_t i, double out, double gate, double up) {
  put(call->out[0], i, out);
  if (call->out[1]) put(call->out[1], i, gate);
  if (call->out[2]) put(call->out[2], i, up);
}

mg_status mg__reference_gated_matmul(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *offsets = call->in[3], *out = call->out[0];
  const int64_t N = mg_tensor_columns(out), experts = offsets ? mg_tensor_count(offsets) - 1 : 1;
  const mg_unary act = mg__reference_glu_activation(call->attributes.gated.activation);
  int64_t end = 0;
  for (int64_t e = 0; e < experts; e++) {
    const int64_t first = offsets ? id_at(offsets, e) : 0;
    end = offsets ? id_at(offsets, e + 1) : mg_tensor_rows(out);
    for (int64_t a = first; a < end; a++)
      for (int64_t n = 0; n < N; n++) {
        const double gate = dot(call, call->in[1], a, e * N + n), up = dot(call, call->in[2], a, e * N + n);
        put_all(call, a * N + n, mg__reference_unary_value(act, gate, 0, 0) * up, gate, up);
      }
  }
  for (int64_t i = end * N; i < mg_tensor_count(out); i++) put_all(call, i, 0, 0, 0);
  return MG_OK;
}
