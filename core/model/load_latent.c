/* The up-projection of a latent (DeepSeek-V2, arXiv 2405.04434, section 2.1) from files that keep its two parts apart, the one
 * for keys transposed, as decoding over a latent wants them:
 *
 *   kv_up = for each head h: k_b[h]^T [nope, rank], then v_b[h] [value, rank] */
#include <string.h>

#include "model/load_internal.h"

/* Both tensors on the host, in the parameter's dtype, and what comes of them. */
typedef struct parts {
  mg_checkpoint_tensor key, value;
  void *keys, *values, *all;
  size_t keys_bytes, values_bytes, all_bytes;
} parts;

static mg_status find_parts(mg__loader *loader, const mg_param *param, const mg__load_source *source,
                            const mg__attention_settings *a, parts *out) {
  const char *second = source->rule->second;
  const mg_checkpoint_tensor key = {.dims = 3, .shape = {a->heads, a->kv_rank, a->nope_width}};
  const mg_checkpoint_tensor value = {.dims = 3, .shape = {a->heads, a->value_width, a->kv_rank}};
  char name[MG__TENSOR_NAME_BYTES];
  MG_TRY(mg__load_name(loader, source, -1, name));
  MG_TRY(mg__load_tensor(loader, name, &key, param, &out->key));
  MG_TRY(mg__load_expand(loader->context, second, strlen(second), source->layer, -1, name, sizeof name));
  return mg__load_tensor(loader, name, &value, param, &out->value);
}

static void copy(void *to, int64_t at, const void *from, int64_t place, size_t each) {
  memcpy((char *)to + (size_t)at * each, (const char *)from + (size_t)place * each, each);
}

static void join(const parts *p, const mg__attention_settings *a, size_t each) {
  const int64_t rank = a->kv_rank, nope = a->nope_width, wide = a->value_width;
  for (int64_t h = 0; h < a->heads; h++) {
    const int64_t first = h * (nope + wide);
    for (int64_t r = 0; r < nope; r++)
      for (int64_t c = 0; c < rank; c++) copy(p->all, (first + r) * rank + c, p->keys, (h * rank + c) * nope + r, each);
    memcpy((char *)p->all + (size_t)((first + nope) * rank) * each,
           (const char *)p->values + (size_t)(h * wide * rank) * each, (size_t)(wide * rank) * each);
  }
}

static mg_status read_parts(mg__loader *loader, mg_dtype dtype, parts *p) {
  p->keys = mg_alloc(loader->context, p->keys_bytes);
  p->values = mg_alloc(loader->context, p->values_bytes);
  p->all = mg_alloc(loader->context, p->all_bytes);
  if (!p->keys || !p->values || !p->all) return MG_MEMORY;
  MG_TRY(mg_checkpoint_read(loader->checkpoint, &p->key, 0, p->key.rows, dtype, p->keys));
  return mg_checkpoint_read(loader->checkpoint, &p->value, 0, p->value.rows, dtype, p->values);
}

mg_status mg__load_latent(mg__loader *loader, const mg_param *param, const mg__load_source *source,
                          const mg_tensor *out) {
  mg_backend *backend = mg_model_backend(loader->model);
  const mg__attention_settings *a = &loader->model->spec.decoder.layers[source->layer].attention;
  const size_t each = mg_dtype_bytes(out->dtype);
  parts p = {0};
  MG_TRY(find_parts(loader, param, source, a, &p));
  p.keys_bytes = (size_t)(p.key.rows * p.key.columns) * each;
  p.values_bytes = (size_t)(p.value.rows * p.value.columns) * each;
  p.all_bytes = mg_tensor_bytes(out);
  mg_status status = read_parts(loader, out->dtype, &p);
  if (status == MG_OK) {
    join(&p, a, each);
    status = backend->plugin->upload(backend, out->data, p.all, p.all_bytes);
  }
  mg_free(loader->context, p.keys, p.keys ? p.keys_bytes : 0);
  mg_free(loader->context, p.values, p.values ? p.values_bytes : 0);
  mg_free(loader->context, p.all, p.all ? p.all_bytes : 0);
  return status;
}
