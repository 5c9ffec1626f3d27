/* matmul: out[b,m,n] = sum over k of op(a)[b,m,k] op(b)[b,k,n], where op transposes the matrix as stored if asked.
 * Operands are rounded to `compute` before they are multiplied; `accumulate` adds to what out holds, rounding once. */
#include "reference.h"

static int64_t batches_of(const mg_tensor *x) {
  return x->dims == 3 ? x->shape[0] : 1;
}

mg_status mg__reference_matmul(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *a = call->in[0], *b = call->in[1], *out = call->out[0];
  const bool transpose_a = call->attributes.matmul.transpose_a, transpose_b = call->attributes.matmul.transpose_b;
  const mg_dtype compute = call->attributes.matmul.compute;
  const int64_t M = out->shape[out->dims - 2], N = out->shape[out->dims - 1];
  const int64_t K = a->shape[transpose_a ? a->dims - 2 : a->dims - 1];
  for (int64_t batch = 0; batch < batches_of(out); batch++) {
    const int64_t first_a = batch * M * K, first = batch * M * N;
    mg_tensor of_b;
    if (!mg__reference_matrix(backend, b, batch, K * N, &of_b)) return MG_MEMORY;
    for (int64_t m = 0; m < M; m++)
      for (int64_t n = 0; n < N; n++) {
        double sum = 0;
        for (int64_t k = 0; k < K; k++)
          sum += operand(at(a, first_a + (transpose_a ? k * M + m : m * K + k)), compute) *
                 operand(at(&of_b, transpose_b ? n * K + k : k * N + n), compute);
        const int64_t i = first + m * N + n;
        put(out, i, call->attributes.matmul.accumulate ? at(out, i) + sum : sum);
      }
  }
  return MG_OK;
}
