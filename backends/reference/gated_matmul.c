/* gated_matmul: out = act(x gate^T) * (x up^T) for the rows of each expert, and the two products where they are wanted.
 * Rows from offsets[E] on belong to no expert and are zero. Shazeer 2020, "GLU variants improve transformer". */
#include "reference.h"

/* Matrix e of the gate and of up: views, or of a stored dtype f32 copies. */
static bool both_matrices(mg_backend *backend, const mg_op_call *call, int64_t e, mg_tensor out[2]) {
  const int64_t count = mg_tensor_columns(call->in[0]) * mg_tensor_columns(call->out[0]);
  const mg_dtype dtype = call->in[1]->dtype;
  float *decoded = NULL;
  if (mg_dtype_is_stored(dtype)) {
    decoded = (float *)(void *)mg__reference_scratch(backend, count);
    if (!decoded) return false;
  }
  for (int32_t side = 0; side < 2; side++) {
    void *data = (char *)call->in[1 + side]->data + mg_dtype_run_bytes(dtype, e * count);
    out[side] = (mg_tensor){.dtype = decoded ? MG_F32 : dtype, .dims = 1, .shape = {count}, .data = data};
    if (!decoded) continue;
    out[side].data = decoded + side * count;
    mg_stored_decode(dtype, data, count, out[side].data);
  }
  return true;
}

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

static void gated_row(const mg_op_call *call, const mg_tensor matrices[2], int64_t a) {
  const mg_unary act = mg__reference_glu_activation(call->attributes.gated.activation);
  const int64_t N = mg_tensor_columns(call->out[0]);
  for (int64_t n = 0; n < N; n++) {
    const double gate = dot(call, &matrices[0], a, n), up = dot(call, &matrices[1], a, n);
    put_all(call, a * N + n, mg__reference_unary_value(act, gate, 0, 0) * up, gate, up);
  }
}

mg_status mg__reference_gated_matmul(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *offsets = call->in[3], *out = call->out[0];
  const int64_t experts = offsets ? mg_tensor_count(offsets) - 1 : 1;
  int64_t end = 0;
  for (int64_t e = 0; e < experts; e++) {
    mg_tensor matrices[2];
    const int64_t first = offsets ? id_at(offsets, e) : 0;
    end = offsets ? id_at(offsets, e + 1) : mg_tensor_rows(out);
    if (first == end) continue;
    if (!both_matrices(backend, call, e, matrices)) return MG_MEMORY;
    for (int64_t a = first; a < end; a++) gated_row(call, matrices, a);
  }
  for (int64_t i = end * mg_tensor_columns(out); i < mg_tensor_count(out); i++) put_all(call, i, 0, 0, 0);
  return MG_OK;
}
