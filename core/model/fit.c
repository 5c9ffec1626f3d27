/* Reads gates to the host in f32, clusters their rows, and writes means of them. */
#include "model/fit.h"

#include <string.h>

#include "moe/k_means.h"

static mg_status find_matrix(mg_model *model, const char *name, mg_param **out) {
  mg_context *context = mg_model_backend(model)->context;
  mg_params *params = mg_model_params(model);
  *out = mg_params_at(params, mg_params_find(params, name));
  const bool good = *out && (*out)->value.dims == 2 && (*out)->value.data &&
                    ((*out)->value.dtype == MG_F32 || (*out)->value.dtype == MG_BF16);
  return good ? MG_OK : mg_fail(context, MG_USAGE, "fit: there is no gate '%s' in f32 or bf16", name);
}

/* The elements in f32; freed by the caller. */
static mg_status read_matrix(mg_backend *backend, const mg_tensor *value, float **out) {
  const size_t count = (size_t)mg_tensor_count(value);
  float *values = mg_alloc(backend->context, count * sizeof *values);
  *out = values;
  if (!values) return MG_MEMORY;
  if (value->dtype == MG_F32) return backend->plugin->download(backend, values, value->data, count * sizeof *values);
  uint16_t *narrow = (uint16_t *)(void *)values; /* the front half; widened from the back */
  MG_TRY(backend->plugin->download(backend, narrow, value->data, count * sizeof *narrow));
  for (size_t i = count; i-- > 0;) {
    uint16_t bits;
    memcpy(&bits, (const char *)values + i * sizeof bits, sizeof bits);
    values[i] = mg_bf16_to_f32(bits);
  }
  return MG_OK;
}

static void free_matrix(mg_backend *backend, const mg_tensor *value, float *values) {
  mg_free(backend->context, values, values ? (size_t)mg_tensor_count(value) * sizeof *values : 0);
}

mg_status mg_model_order_experts(mg_model *model, const char *gate, const int64_t *branching, int64_t levels,
                                 uint64_t seed, int32_t *order, int64_t experts) {
  mg_backend *backend = mg_model_backend(model);
  mg_param *param;
  float *rows;
  MG_TRY(find_matrix(model, gate, &param));
  int64_t leaves = 1;
  for (int64_t l = 0; l < levels; l++) {
    const bool fits = branching[l] > 0 && !__builtin_mul_overflow(leaves, branching[l], &leaves);
    if (!fits || leaves > experts) leaves = -1;
    if (leaves < 0) break;
  }
  if (leaves != experts || param->value.shape[0] != experts)
    return mg_fail(backend->context, MG_USAGE, "fit: %lld experts are no tree of that branching", (long long)experts);
  mg_status status = read_matrix(backend, &param->value, &rows);
  if (status == MG_OK)
    status = mg_k_means_tree(backend->context, rows, experts, param->value.shape[1], branching, levels, seed, order);
  free_matrix(backend, &param->value, rows);
  return status;
}

/* Row `row` of `mean`, in f32: the mean of `each` rows. */
static void add_means(const float *rows, int64_t width, const int32_t *order, int64_t each, float *mean) {
  for (int64_t c = 0; c < width; c++) {
    double sum = 0.0;
    for (int64_t i = 0; i < each; i++) sum += (double)rows[order[i] * width + c];
    mean[c] = (float)(sum / (double)each);
  }
}

mg_status mg_model_set_means(mg_model *model, const char *node, mg_model *from, const char *gate, const int32_t *order,
                             int64_t experts) {
  mg_backend *backend = mg_model_backend(model);
  mg_param *to, *source;
  float *rows = NULL, *means = NULL;
  MG_TRY(find_matrix(model, node, &to));
  MG_TRY(find_matrix(from, gate, &source));
  const int64_t nodes = to->value.shape[0], width = to->value.shape[1];
  if (source->value.shape[0] != experts || source->value.shape[1] != width || experts % nodes != 0)
    return mg_fail(backend->context, MG_USAGE, "fit: '%s' has %lld rows of %lld, which are no means of rows of '%s'",
                   node, (long long)nodes, (long long)width, gate);
  MG_TRY(mg_params_own(mg_model_params(model), mg_params_find(mg_model_params(model), node)));
  const size_t bytes = mg_tensor_bytes(&to->value);
  means = mg_alloc(backend->context, bytes);
  mg_status status = means && to->value.dtype == MG_F32 ? read_matrix(backend, &source->value, &rows) : MG_MEMORY;
  const int64_t each = experts / nodes;
  for (int64_t n = 0; n < nodes && status == MG_OK; n++)
    add_means(rows, width, order + n * each, each, means + n * width);
  if (status == MG_OK) status = backend->plugin->upload(backend, to->value.data, means, bytes);
  free_matrix(backend, &source->value, rows);
  mg_free(backend->context, means, means ? bytes : 0);
  return status;
}
