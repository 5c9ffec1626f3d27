/* Gives one parameter its numbers: a view into the file where it is one run of it, else memory of its own, filled matrix
 * by matrix. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "model/load_internal.h"

/* Where the parameter's numbers go. */
typedef struct target {
  mg__place place;
  mg_tensor value;
} target;

/* ---- shapes -------------------------------------------------------------------------------------------------- */

static const char *shape_text(const mg_checkpoint_tensor *tensor, char text[MG_SHAPE_TEXT_BYTES]) {
  mg_tensor shown = {.dims = tensor->dims < MG_DIMS_MAX ? tensor->dims : MG_DIMS_MAX};
  memcpy(shown.shape, tensor->shape, sizeof shown.shape);
  return mg_shape_text(&shown, text);
}

/* Dimensions of size 1 before the others, the last one aside: GGUF files leave them out. */
static int32_t leading_ones(const mg_checkpoint_tensor *tensor) {
  int32_t ones = 0;
  while (ones + 1 < tensor->dims && tensor->shape[ones] == 1) ones++;
  return ones;
}

static bool same_shape(const mg_checkpoint_tensor *a, const mg_checkpoint_tensor *b) {
  const int32_t i = leading_ones(a), j = leading_ones(b), dims = a->dims - i;
  if (a->dims < 1 || dims != b->dims - j) return false;
  return memcmp(a->shape + i, b->shape + j, (size_t)dims * sizeof *a->shape) == 0;
}

mg_status mg__load_tensor(mg__loader *loader, const char *name, const mg_checkpoint_tensor *stored,
                          const mg_param *param, mg_checkpoint_tensor *out) {
  char came[MG_SHAPE_TEXT_BYTES], due[MG_SHAPE_TEXT_BYTES];
  MG_TRY(mg_checkpoint_get(loader->checkpoint, name, out));
  if (!same_shape(out, stored))
    return mg_fail(loader->context, MG_FILE, "%s: tensor %s is %s, but %s was expected for parameter %s",
                   mg_checkpoint_path(loader->checkpoint), name, shape_text(out, came), shape_text(stored, due),
                   param->name);
  loader->used[out->index] = true;
  if (out->scales >= 0) loader->used[out->scales] = true;
  return MG_OK;
}

static mg_status find_tensor(mg__loader *loader, const mg__place *p, int64_t expert, mg_checkpoint_tensor *out) {
  char name[MG__TENSOR_NAME_BYTES];
  const mg_checkpoint_tensor stored = mg__place_stored(p);
  MG_TRY(mg__load_name(loader, p->source, expert, name));
  return mg__load_tensor(loader, name, &stored, p->param, out);
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

/* What is only read as the weight of a product, or as the embedding: those are decoded where they are used. */
static bool is_weight(const mg_param *param) {
  static const char *const others[] = {"positions.", "projection."};
  if (strcmp(param->name, "embedding.weight") == 0) return true;
  for (size_t i = 0; i < MG_COUNT(others); i++)
    if (has_part(param->name, others[i])) return false;
  return is_rounded(param);
}

/* Whether the file's own form is kept: the backend reads it, it takes less than `wide`, and its elements need not leave
 * their blocks. */
static bool stays_stored(const mg__loader *loader, const mg__place *p, const mg_checkpoint_tensor *tensor,
                         mg_dtype wide, mg_dtype *out) {
  if (!mg_model_backend(loader->model)->plugin->stored_dtypes || !is_weight(p->param)) return false;
  if (p->source->rule->latent_heads || !mg_checkpoint_stored_dtype(tensor, out)) return false;
  const int64_t block = mg_dtype_block(*out);
  if (block > 1 && (!mg__place_keeps_columns(p) || p->columns % block != 0)) return false;
  return mg_dtype_run_bytes(*out, MG_STORED_BLOCK_MAX) < mg_dtype_run_bytes(wide, MG_STORED_BLOCK_MAX);
}

static mg_dtype dtype_of(const mg__loader *loader, const mg__place *p, const mg_checkpoint_tensor *tensor) {
  mg_dtype stored;
  if (p->param->value.dims == 1 || p->param->fixed) return MG_F32;
  if (tensor->storage == MG_STORAGE_BF16 && tensor->scaling == MG_SCALING_NONE) return MG_BF16;
  const mg_dtype wide = is_rounded(p->param) ? loader->precision : MG_F32;
  return stays_stored(loader, p, tensor, wide, &stored) ? stored : wide;
}

/* ---- in place ------------------------------------------------------------------------------------------------ */

static bool is_one_run(const mg__place *p) {
  return mg__place_keeps_rows(p) && !p->by_expert && (!p->source->rule->split_rows || p->matrices == 1);
}

/* *done is false where the parameter needs memory of its own. */
static mg_status use_in_place(mg__loader *loader, int64_t index, target *t, const mg_checkpoint_tensor *tensor,
                              bool *done) {
  const mg_backend *backend = mg_model_backend(loader->model);
  const void *start;
  *done = false;
  if (!backend->plugin->host_memory || tensor->scaling != MG_SCALING_NONE || !is_one_run(&t->place)) return MG_OK;
  if (tensor->storage != mg_storage_of_dtype(t->value.dtype)) return MG_OK;
  MG_TRY(mg_checkpoint_view(loader->checkpoint, tensor, &start));
  const size_t each = mg_dtype_is_stored(t->value.dtype) ? 1 : mg_dtype_bytes(t->value.dtype);
  if ((uintptr_t)start % each != 0) return MG_OK;
  const char *bytes = start;
  bytes += mg_dtype_run_bytes(t->value.dtype, mg__place_element(&t->place, tensor, 0, 0));
  memcpy(&t->value.data, &bytes, sizeof bytes); /* read only from here on; tensors have no const memory */
  *done = true;
  return mg_params_bind(loader->params, index, &t->value, false);
}

/* ---- copies -------------------------------------------------------------------------------------------------- */

/* The parameter's matrix `e` as a tensor. */
static mg_tensor matrix_of(const target *t, int64_t e) {
  const int64_t rows = t->place.rows, columns = t->place.columns;
  mg_tensor matrix = {.dtype = t->value.dtype, .dims = 2, .shape = {rows, columns}};
  matrix.data = (char *)t->value.data + mg_dtype_run_bytes(matrix.dtype, e * rows * columns);
  return matrix;
}

static void pick_rows(const target *t, const mg_checkpoint_tensor *tensor, const char *from, char *to) {
  const mg__place *p = &t->place;
  const size_t bytes = mg_dtype_run_bytes(t->value.dtype, p->columns);
  for (int64_t r = 0; r < p->rows; r++, to += bytes)
    memcpy(to, from + mg_dtype_run_bytes(t->value.dtype, mg__place_element(p, tensor, r, 0)), bytes);
}

static void pick(const target *t, const mg_checkpoint_tensor *tensor, const char *from, char *to) {
  const mg__place *p = &t->place;
  const size_t each = mg_dtype_bytes(t->value.dtype);
  if (mg__place_keeps_columns(p)) {
    pick_rows(t, tensor, from, to);
    return;
  }
  for (int64_t r = 0; r < p->rows; r++)
    for (int64_t c = 0; c < p->columns; c++, to += each)
      memcpy(to, from + (size_t)mg__place_element(p, tensor, r, c) * each, each);
}

/* Reads `rows` rows from `first` on to the host and picks the parameter's elements from them. */
static mg_status pick_matrix(mg__loader *loader, const target *t, const mg_checkpoint_tensor *tensor, int64_t first,
                             int64_t rows, const mg_tensor *out) {
  mg_backend *backend = mg_model_backend(loader->model);
  const size_t read = mg_dtype_run_bytes(out->dtype, rows * tensor->columns);
  const size_t write = mg_tensor_bytes(out);
  void *from = mg_alloc(loader->context, read), *to = mg_alloc(loader->context, write);
  mg_status status = from && to ? MG_OK : MG_MEMORY;
  if (status == MG_OK) status = mg_checkpoint_read(loader->checkpoint, tensor, first, rows, out->dtype, from);
  if (status == MG_OK) {
    pick(t, tensor, from, to);
    status = backend->plugin->upload(backend, out->data, to, write);
  }
  mg_free(loader->context, from, from ? read : 0);
  mg_free(loader->context, to, to ? write : 0);
  return status;
}

static mg_status fill_matrix(mg__loader *loader, const target *t, const mg_checkpoint_tensor *tensor, int64_t e) {
  const mg__place *p = &t->place;
  const int64_t here = p->by_expert ? 0 : e, inside = p->by_expert ? 1 : p->matrices, rows = tensor->rows / inside;
  const mg_tensor matrix = matrix_of(t, e);
  if (mg__place_keeps_rows(p) && !mg__place_is_vector(p))
    return mg_checkpoint_load_rows(loader->checkpoint, mg_model_backend(loader->model), tensor,
                                   here * rows + p->source->before, &matrix);
  return pick_matrix(loader, t, tensor, here * rows, rows, &matrix);
}

static mg_status fill_all(mg__loader *loader, const target *t, mg_checkpoint_tensor *tensor) {
  if (t->place.source->rule->latent_heads) return mg__load_latent(loader, t->place.param, t->place.source, &t->value);
  for (int64_t e = 0; e < t->place.matrices; e++) {
    if (t->place.by_expert && e > 0) MG_TRY(find_tensor(loader, &t->place, e, tensor));
    MG_TRY(fill_matrix(loader, t, tensor, e));
  }
  return MG_OK;
}

/* The tensor, or the first of several, in which the parameter is stored. */
static mg_status find_first(mg__loader *loader, const mg__place *p, mg_checkpoint_tensor *out) {
  char name[MG__TENSOR_NAME_BYTES];
  if (!p->source->rule->latent_heads) return find_tensor(loader, p, p->by_expert ? 0 : -1, out);
  MG_TRY(mg__load_name(loader, p->source, -1, name));
  return mg_checkpoint_get(loader->checkpoint, name, out);
}

mg_status mg__load_fill(mg__loader *loader, int64_t index, const mg__load_source *source) {
  const mg_param *param = mg_params_look(loader->params, index);
  mg_backend *backend = mg_model_backend(loader->model);
  target t = {.place = mg__place_of(loader->model, param, source), .value = param->value};
  mg_checkpoint_tensor tensor;
  bool done = false;
  MG_TRY(find_first(loader, &t.place, &tensor));
  t.value.dtype = dtype_of(loader, &t.place, &tensor);
  if (!source->rule->latent_heads) MG_TRY(use_in_place(loader, index, &t, &tensor, &done));
  if (done) return MG_OK;
  MG_TRY(backend->plugin->allocate(backend, mg_tensor_bytes(&t.value), &t.value.data));
  const mg_status status = fill_all(loader, &t, &tensor);
  if (status == MG_OK) return mg_params_bind(loader->params, index, &t.value, true);
  backend->plugin->release(backend, t.value.data, mg_tensor_bytes(&t.value));
  return status;
}
