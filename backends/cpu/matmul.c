/* The primitives that are matrix products, as lists of products for the engine. */
#include "kernels.h"

/* Element `first`; NULL of a tensor without elements, which may lie nowhere. */
static void *element(const mg_tensor *tensor, int64_t first) {
  return tensor->data ? (char *)tensor->data + mg_dtype_run_bytes(tensor->dtype, first) : NULL;
}

static cpu_matrix matrix(const mg_tensor *tensor, int64_t first, int64_t row, int64_t column) {
  return (cpu_matrix){element(tensor, first), tensor->dtype, row, column};
}

static cpu_product *product_list(mg_backend *backend, int64_t count) {
  return mg__cpu_grow(backend, &cpu_state_of(backend)->products, (size_t)cpu_max(count, 1) * sizeof(cpu_product));
}

static double size_of(const cpu_product *product) {
  return (double)product->rows * (double)product->depth;
}

/* The largest products first, so that the threads end at nearly the same time (Shell's sort). Where there are few rows the
 * order in memory counts for more. */
static void order_products(cpu_product *products, int64_t count, int64_t rows) {
  enum { MANY_ROWS = 16 };
  if (rows < MANY_ROWS * count) return;
  for (int64_t gap = count / 2; gap > 0; gap /= 2)
    for (int64_t i = gap; i < count; i++) {
      const cpu_product product = products[i];
      int64_t place = i;
      for (; place >= gap && size_of(&products[place - gap]) < size_of(&product); place -= gap)
        products[place] = products[place - gap];
      products[place] = product;
    }
}

mg_status CPU_NAME(matmul)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *a = call->in[0], *b = call->in[1], *out = call->out[0];
  const bool transpose_a = call->attributes.matmul.transpose_a, transpose_b = call->attributes.matmul.transpose_b;
  const int64_t M = out->shape[out->dims - 2], N = out->shape[out->dims - 1];
  const int64_t K = a->shape[transpose_a ? a->dims - 2 : a->dims - 1], batches = out->dims == 3 ? out->shape[0] : 1;
  cpu_product *products = product_list(backend, batches);
  if (!products) return MG_MEMORY;
  for (int64_t i = 0; i < batches; i++)
    products[i] = (cpu_product){
        .a = transpose_a ? matrix(a, i * M * K, 1, M) : matrix(a, i * M * K, K, 1),
        .b = transpose_b ? matrix(b, i * K * N, K, 1) : matrix(b, i * K * N, 1, N),
        .c = element(out, i * M * N),
        .rows = M,
        .columns = N,
        .depth = K,
    };
  return CPU_NAME(multiply)(
      backend, products, batches,
      (cpu_product_settings){out->dtype, call->attributes.matmul.accumulate, call->attributes.matmul.compute});
}

mg_status CPU_NAME(grouped_matmul)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *w = call->in[1], *out = call->out[0];
  const int32_t *offsets = call->in[2]->data;
  const int64_t experts = mg_tensor_count(call->in[2]) - 1;
  const int64_t K = mg_tensor_columns(x), N = mg_tensor_columns(out);
  cpu_product *products = product_list(backend, experts);
  if (!products) return MG_MEMORY;
  int64_t count = 0;
  for (int64_t e = 0; e < experts; e++)
    if (offsets[e + 1] > offsets[e])
      products[count++] = (cpu_product){
          .a = matrix(x, offsets[e] * K, K, 1),
          .b = call->attributes.grouped.transpose_w ? matrix(w, e * K * N, K, 1) : matrix(w, e * K * N, 1, N),
          .c = element(out, offsets[e] * N),
          .rows = offsets[e + 1] - offsets[e],
          .columns = N,
          .depth = K,
      };
  const bool accumulate = call->attributes.grouped.accumulate;
  const int64_t used = experts >= 0 ? offsets[experts] * N : 0, total = mg_tensor_count(out);
  if (!accumulate && total > used) memset(element(out, used), 0, (size_t)(total - used) * mg_dtype_bytes(out->dtype));
  order_products(products, count, used / cpu_max(N, 1));
  return CPU_NAME(multiply)(backend, products, count,
                            (cpu_product_settings){out->dtype, accumulate, call->attributes.grouped.compute});
}

/* dw [K,N] = x^T dout for each expert; [N,K] = dout^T x when the weight is stored so. */
mg_status CPU_NAME(grouped_matmul_weight)(mg_backend *backend, const mg_op_call *call) {
  const mg_tensor *x = call->in[0], *dout = call->in[1], *dw = call->out[0];
  const int32_t *offsets = call->in[2]->data;
  const int64_t experts = mg_tensor_count(call->in[2]) - 1;
  const int64_t K = mg_tensor_columns(x), N = mg_tensor_columns(dout);
  const bool transpose = call->attributes.grouped.transpose_w;
  cpu_product *products = product_list(backend, experts);
  if (!products) return MG_MEMORY;
  for (int64_t e = 0; e < experts; e++) {
    const cpu_matrix columns_of_x = matrix(x, offsets[e] * K, 1, K),
                     columns_of_dout = matrix(dout, offsets[e] * N, 1, N);
    products[e] = (cpu_product){
        .a = transpose ? columns_of_dout : columns_of_x,
        .b = transpose ? columns_of_x : columns_of_dout,
        .c = element(dw, e * K * N),
        .rows = transpose ? N : K,
        .columns = transpose ? K : N,
        .depth = offsets[e + 1] - offsets[e],
    };
  }
  order_products(products, experts, experts > 0 ? offsets[experts] : 0);
  return CPU_NAME(multiply)(
      backend, products, experts,
      (cpu_product_settings){dw->dtype, call->attributes.grouped.accumulate, call->attributes.grouped.compute});
}
