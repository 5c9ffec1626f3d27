/* grouped_matmul: out[a,n] = sum over k of x[a,k] w[e,k,n] for the rows a of expert e, which are offsets[e] up to
 * offsets[e+1]; w is stored [E,K,N], or [E,N,K] with transpose_w. Rows from offsets[E] on belong to no expert: they are
 * zero, or stay as they are with `accumulate`.
 *
 * grouped_matmul_weight, its backward to the weights: dw[e,k,n] = sum over the rows a of e of x[a,k] dout[a,n], stored
 * like w. An expert without rows gets zeros, or keeps what is there with `accumulate`. */
#include "reference.h"

/* Row a of x times the matrix of its expert. */
static void product_row(const mg_op_call *call, int64_t a, const mg_tensor *w) {
  const mg_tensor *x = call->in[0], *out = call->out[0];
  const mg_dtype compute = call->attributes.grouped.compute;
  const int64_t K = mg_tensor_columns(x), N = mg_tensor_columns(out);
  for (int64_t n = 0; n < N; n++) {
    double sum = 0;
    for (int64_t k = 0; k < K; k++)
      sum += operand(at(x, a * K + k), compute) *
             operand(at(w, call->attributes.grouped.transpose_w ? n * K + k : k * N + n), compute);
    const int64_t i = a * N + n;
    put(out, i, call->attributes.grouped.accumulate ? at(out, i) + sum : sum);
  }
}

mg_status mg__reference_grouped_matmul(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *w = call->in[1], *offsets = call->in[2], *out = call->out[0];
  const int64_t experts = mg_tensor_count(offsets) - 1;
  for (int64_t e = 0; e < experts; e++) {
    mg_tensor matrix;
    if (id_at(offsets, e) == id_at(offsets, e + 1)) continue;
    if (!mg__reference_matrix(backend, w, e, w->shape[1] * w->shape[2], &matrix)) return MG_MEMORY;
    for (int64_t a = id_at(offsets, e); a < id_at(offsets, e + 1); a++) product_row(call, a, &matrix);
  }
  if (!call->attributes.grouped.accumulate)
    for (int64_t i = last_offset(offsets) * mg_tensor_columns(out); i < mg_tensor_count(out); i++) put(out, i, 0);
  return MG_OK;
}

static double outer_sum(const mg_op_call *call, int64_t e, int64_t k, int64_t n) {
  const mg_tensor *x = call->in[0], *dout = call->in[1], *offsets = call->in[2];
  const mg_dtype compute = call->attributes.grouped.compute;
  const int64_t K = mg_tensor_columns(x), N = mg_tensor_columns(dout);
  double sum = 0;
  for (int64_t a = id_at(offsets, e); a < id_at(offsets, e + 1); a++)
    sum += operand(at(x, a * K + k), compute) * operand(at(dout, a * N + n), compute);
  return sum;
}

mg_status mg__reference_grouped_matmul_weight(mg_backend *backend, const mg_op_call *call) {
  (void)backend;
  const mg_tensor *dw = call->out[0];
  const int64_t experts = mg_tensor_count(call->in[2]) - 1;
  const int64_t K = mg_tensor_columns(call->in[0]), N = mg_tensor_columns(call->in[1]);
  for (int64_t e = 0; e < experts; e++)
    for (int64_t k = 0; k < K; k++)
      for (int64_t n = 0; n < N; n++) {
        const int64_t i = e * K * N + (call->attributes.grouped.transpose_w ? n * K + k : k * N + n);
        const double sum = outer_sum(call, e, k, n);
        put(dw, i, call->attributes.grouped.accumulate ? at(dw, i) + sum : sum);
      }
  return MG_OK;
}
