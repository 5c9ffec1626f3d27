/* Gives one parameter its numbers: a view into the file where it is one run of it, else memory of its own, filled matrix
 * by matrix. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "model/load_internal.h"

/* The parameter as E matrices of R rows and C columns; a vector is one row. */
typedef struct place {
  const mg_param *param;
  const mg__load_source *source;
  int64_t matrices, rows, columns;
  bool by_expert; /* each matrix is a tensor of its own */
  mg_dtype dtype;
  mg_tensor value;
} place;

/* Stored without a dimension of rows: a vector, or the vector of one expert. */
static bool is_vector(const place *p) {
  return p->param->value.dims == 1 || (p->by_expert && p->param->value.dims == 2);
}

/* ---- shapes -------------------------------------------------------------------------------------------------- */

/* What a tensor of the rule must look like, in `dims` sizes. */
static mg_checkpoint_tensor wanted_of(const place *p) {
  const mg__load_rule *rule = p->source->rule;
  const int64_t shares = rule->to_count;
  int64_t rows = rule->split_rows ? p->source->all : rule->deinterleave_rows ? shares * p->rows : p->rows;
  int64_t columns = rule->deinterleave_columns ? shares * p->columns : p->columns;
  mg_checkpoint_tensor wanted = {.dims = 2};
  if (is_vector(p)) {
    wanted.dims = 1;
    wanted.shape[0] = rule->split_rows ? p->source->all : columns;
    return wanted;
  }
  if (rule->unpack) {
    wanted.shape[0] = p->matrices * rows;
    wanted.shape[1] = columns; /* as `transpose` of unpacked matrices still has these rows in the file */
    if (rule->transpose) {
      wanted.shape[0] = p->matrices * columns;
      wanted.shape[1] = rows;
    }
    return wanted;
  }
  if (rule->transpose) {
    const int64_t swap = rows;
    rows = columns;
    columns = swap;
  }
  if (p->param->value.dims == 3 && !p->by_expert) wanted.shape[wanted.dims++ - 2] = p->matrices;
  wanted.shape[wanted.dims - 2] = rows;
  wanted.shape[wanted.dims - 1] = columns;
  return wanted;
}

static const char *shape_text(const mg_checkpoint_tensor *tensor, char text[MG_SHAPE_TEXT_BYTES]) {
  mg_tensor shown = {.dims = tensor->dims < MG_DIMS_MAX ? tensor->dims : MG_DIMS_MAX};
  memcpy(shown.shape, tensor->shape, sizeof shown.shape);
  return mg_shape_text(&shown, text);
}

/* The tensor, marked as used, of the shape that the parameter needs. */
static mg_status find_tensor(mg__loader *loader, const place *p, int64_t expert, mg_checkpoint_tensor *out) {
  char name[MG__TENSOR_NAME_BYTES], came[MG_SHAPE_TEXT_BYTES], due[MG_SHAPE_TEXT_BYTES];
  MG_TRY(mg__load_name(loader, p->source, expert, name));
  MG_TRY(mg_checkpoint_get(loader->checkpoint, name, out));
  const mg_checkpoint_tensor wanted = wanted_of(p);
  bool fits = out->dims == wanted.dims;
  for (int32_t i = 0; fits && i < wanted.dims; i++) fits = out->shape[i] == wanted.shape[i];
  if (!fits)
    return mg_fail(loader->context, MG_FILE, "%s: tensor %s is %s, but %s was expected for parameter %s",
                   mg_checkpoint_path(loader->checkpoint), name, shape_text(out, came), shape_text(&wanted, due),
                   p->param->name);
  loader->used[out->index] = true;
  if (out->scales >= 0) loader->used[out->scales] = true;
  return MG_OK;
}

/* ---- dtypes -------------------------------------------------------------------------------------------------- */

static bool has_part(const char *name, const char *part) {
  return strstr(name, part) != NULL;
}

/* What products round anyway, in contrast to what the residual stream or a router sees as it is. */
static bool is_rounded(const mg_param *param) {
  return param->value.dims > 1 && !has_part(param->name, ".router.") && !has_part(param->name, "bias") &&
         strcmp(param->name, "embedding.weight") != 0;
}

static mg_dtype dtype_for(const mg__loader *loader, const mg_param *param, const mg_checkpoint_tensor *tensor) {
  if (param->value.dims == 1 || param->fixed) return MG_F32;
  if (tensor->storage == MG_STORAGE_BF16 && tensor->scaling == MG_SCALING_NONE) return MG_BF16;
  return is_rounded(param) ? loader->precision : MG_F32;
}

/* ---- in place ------------------------------------------------------------------------------------------------ */

static bool is_one_run(const place *p) {
  const mg__load_rule *rule = p->source->rule;
  const bool whole = !rule->split_rows && !rule->deinterleave_rows && !rule->deinterleave_columns;
  return !rule->transpose && !p->by_expert && (whole || (rule->split_rows && p->matrices == 1));
}

/* *done is false where the parameter needs memory of its own. */
static mg_status use_in_place(mg__loader *loader, int64_t index, place *p, const mg_checkpoint_tensor *tensor,
                              bool *done) {
  const mg_backend *backend = mg_model_backend(loader->model);
  const void *start;
  *done = false;
  if (!backend->plugin->host_memory || tensor->scaling != MG_SCALING_NONE || !is_one_run(p)) return MG_OK;
  if (tensor->storage != mg_storage_of_dtype(p->dtype)) return MG_OK;
  MG_TRY(mg_checkpoint_view(loader->checkpoint, tensor, &start));
  const size_t each = mg_dtype_bytes(p->dtype);
  if ((uintptr_t)start % each != 0) return MG_OK;
  const char *bytes = start;
  bytes += (size_t)(p->source->before * p->columns) * each;
  memcpy(&p->value.data, &bytes, sizeof bytes); /* read only from here on; tensors have no const memory */
  *done = true;
  return mg_params_bind(loader->params, index, &p->value, false);
}

/* ---- copies -------------------------------------------------------------------------------------------------- */

/* The parameter's matrix `e` as a tensor. */
static mg_tensor matrix_of(const place *p, int64_t e) {
  mg_tensor matrix = {.dtype = p->dtype, .dims = 2, .shape = {p->rows, p->columns}};
  matrix.data = (char *)p->value.data + (size_t)(e * p->rows * p->columns) * mg_dtype_bytes(p->dtype);
  return matrix;
}

/* Element (r, c) of the parameter's matrix stands at this place of the file's, which has `stride` columns. */
static int64_t element_at(const place *p, int64_t r, int64_t c, int64_t stride) {
  const mg__load_rule *rule = p->source->rule;
  const int64_t shares = rule->to_count, target = p->source->target;
  if (rule->split_rows) *(is_vector(p) ? &c : &r) += p->source->before;
  if (rule->deinterleave_rows) r = r * shares + target;
  if (rule->deinterleave_columns) c = c * shares + target;
  return rule->transpose ? c * stride + r : r * stride + c;
}

static void pick(const place *p, const void *from, int64_t stride, void *to) {
  for (int64_t r = 0; r < p->rows; r++)
    for (int64_t c = 0; c < p->columns; c++) {
      const int64_t at = element_at(p, r, c, stride), target = r * p->columns + c;
      if (p->dtype == MG_BF16)
        ((uint16_t *)to)[target] = ((const uint16_t *)from)[at];
      else
        ((float *)to)[target] = ((const float *)from)[at];
    }
}

/* Reads `rows` rows from `first` on to the host and picks the parameter's elements from them. */
static mg_status pick_matrix(mg__loader *loader, const place *p, const mg_checkpoint_tensor *tensor, int64_t first,
                             int64_t rows, const mg_tensor *out) {
  mg_backend *backend = mg_model_backend(loader->model);
  const size_t each = mg_dtype_bytes(p->dtype), read = (size_t)(rows * tensor->columns) * each;
  const size_t write = mg_tensor_bytes(out);
  void *from = mg_alloc(loader->context, read), *to = mg_alloc(loader->context, write);
  mg_status status = from && to ? MG_OK : MG_MEMORY;
  if (status == MG_OK) status = mg_checkpoint_read(loader->checkpoint, tensor, first, rows, p->dtype, from);
  if (status == MG_OK) {
    pick(p, from, tensor->columns, to);
    status = backend->plugin->upload(backend, out->data, to, write);
  }
  mg_free(loader->context, from, from ? read : 0);
  mg_free(loader->context, to, to ? write : 0);
  return status;
}

static mg_status fill_matrix(mg__loader *loader, const place *p, const mg_checkpoint_tensor *tensor, int64_t e) {
  const mg__load_rule *rule = p->source->rule;
  const int64_t here = p->by_expert ? 0 : e, inside = p->by_expert ? 1 : p->matrices, rows = tensor->rows / inside;
  const mg_tensor matrix = matrix_of(p, e);
  const bool plain = !rule->transpose && !rule->deinterleave_rows && !rule->deinterleave_columns;
  if (plain && !is_vector(p))
    return mg_checkpoint_load_rows(loader->checkpoint, mg_model_backend(loader->model), tensor,
                                   here * rows + p->source->before, &matrix);
  return pick_matrix(loader, p, tensor, here * rows, rows, &matrix);
}

static mg_status fill_all(mg__loader *loader, const place *p, mg_checkpoint_tensor *tensor) {
  for (int64_t e = 0; e < p->matrices; e++) {
    if (p->by_expert && e > 0) MG_TRY(find_tensor(loader, p, e, tensor));
    MG_TRY(fill_matrix(loader, p, tensor, e));
  }
  return MG_OK;
}

static place place_of(const mg_param *param, const mg__load_source *source) {
  const mg_tensor *value = &param->value;
  place p = {.param = param, .source = source, .matrices = 1, .rows = 1, .columns = mg_tensor_columns(value)};
  if (value->dims == 3) p.matrices = value->shape[0];
  if (value->dims > 1) p.rows = value->shape[value->dims - 2];
  p.by_expert = mg__load_by_expert(source->rule);
  if (p.by_expert && value->dims == 2) { /* a vector of each expert */
    p.matrices = p.rows;
    p.rows = 1;
  }
  return p;
}

mg_status mg__load_fill(mg__loader *loader, int64_t index, const mg__load_source *source) {
  const mg_param *param = mg_params_look(loader->params, index);
  mg_backend *backend = mg_model_backend(loader->model);
  place p = place_of(param, source);
  mg_checkpoint_tensor tensor;
  bool done;
  MG_TRY(find_tensor(loader, &p, p.by_expert ? 0 : -1, &tensor));
  p.dtype = dtype_for(loader, param, &tensor);
  p.value = param->value;
  p.value.dtype = p.dtype;
  MG_TRY(use_in_place(loader, index, &p, &tensor, &done));
  if (done) return MG_OK;
  MG_TRY(backend->plugin->allocate(backend, mg_tensor_bytes(&p.value), &p.value.data));
  const mg_status status = fill_all(loader, &p, &tensor);
  if (status == MG_OK) return mg_params_bind(loader->params, index, &p.value, true);
  backend->plugin->release(backend, p.value.data, mg_tensor_bytes(&p.value));
  return status;
}
