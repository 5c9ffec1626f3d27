/* The tensors and metadata of a trace, through a backend's memory, from which files are written. */
#include "measure/trace_file.h"

#include <stdio.h>
#include <stdlib.h>

#include "model/safetensors.h"

enum { NAME_BYTES = 64 };

typedef struct listing {
  mg_backend *backend;
  mg_safetensors_item *items;
  mg_tensor *tensors; /* in the backend's memory */
  char (*names)[NAME_BYTES];
  int64_t count, room;
} listing;

static mg_status put(listing *l, const void *from, int64_t rows, mg_dtype dtype, int64_t columns, const char *format,
                     long long block) {
  mg_tensor *tensor = &l->tensors[l->count];
  *tensor = (mg_tensor){.dtype = dtype, .dims = columns ? 2 : 1, .shape = {rows, columns}};
  snprintf(l->names[l->count], NAME_BYTES, format, block);
  l->items[l->count] = (mg_safetensors_item){.name = l->names[l->count], .tensor = tensor};
  const size_t bytes = mg_tensor_bytes(tensor);
  if (bytes) MG_TRY(l->backend->plugin->allocate(l->backend, bytes, &tensor->data));
  l->count++;
  return bytes ? l->backend->plugin->upload(l->backend, tensor->data, from, bytes) : MG_OK;
}

static mg_status put_all(const mg_trace_content *content, listing *l) {
  MG_TRY(put(l, content->tokens, content->tokens_count, MG_I32, 0, "tokens", 0));
  MG_TRY(put(l, content->starts, content->starts_count, MG_I32, 0, "starts", 0));
  if (content->domains) MG_TRY(put(l, content->domains, content->starts_count, MG_I32, 0, "domains", 0));
  for (int64_t i = 0; i < content->layers_count; i++) {
    const mg_trace_layer *layer = &content->layers[i];
    const long long block = (long long)layer->block;
    MG_TRY(put(l, layer->ids, content->tokens_count, MG_I32, layer->choices, "layers.%lld.experts", block));
    MG_TRY(put(l, layer->weights, content->tokens_count, MG_F32, layer->choices, "layers.%lld.weights", block));
  }
  return MG_OK;
}

/* The names of domains as one text. */
static mg_status add_domains(mg_context *context, const json_t *names, json_t *metadata) {
  char *text = names ? json_dumps(names, JSON_COMPACT) : NULL;
  if (text) json_object_set_new(metadata, "domains", json_string(text));
  const bool good = !names || (text && json_object_get(metadata, "domains"));
  free(text);
  return good ? MG_OK : mg_fail(context, MG_MEMORY, "trace: no memory for the names of domains");
}

/* "format", "version" and "experts" over what the caller says. */
static json_t *metadata_of(mg_context *context, const mg_trace_content *content, const json_t *about) {
  json_t *metadata = about ? json_deep_copy(about) : json_object();
  const size_t room = (size_t)content->layers_count * NAME_BYTES;
  char *text = mg_alloc(context, room);
  size_t used = 0;
  for (int64_t i = 0; i < content->layers_count && text; i++)
    used += (size_t)snprintf(text + used, room - used, "%s%lld:%lld", i ? " " : "", (long long)content->layers[i].block,
                             (long long)content->layers[i].experts);
  json_object_set_new(metadata, "format", json_string("moegauge-trace"));
  json_object_set_new(metadata, "version", json_string("1"));
  const bool good = text && json_object_set_new(metadata, "experts", json_string(text)) == 0;
  mg_free(context, text, text ? room : 0);
  if (good) return metadata;
  json_decref(metadata);
  return NULL;
}

mg_status mg_trace_write_content(mg_context *context, mg_backend *backend, const mg_trace_content *content,
                                 const char *path, const json_t *about) {
  const int64_t room = 3 + 2 * content->layers_count;
  listing l = {.backend = backend, .room = room};
  l.items = mg_alloc(context, (size_t)room * sizeof *l.items);
  l.tensors = mg_alloc(context, (size_t)room * sizeof *l.tensors);
  l.names = mg_alloc(context, (size_t)room * sizeof *l.names);
  json_t *metadata = metadata_of(context, content, about);
  mg_status status = l.items && l.tensors && l.names && metadata ? MG_OK : MG_MEMORY;
  if (status == MG_OK && content->domains) status = add_domains(context, content->domain_names, metadata);
  if (status == MG_OK) status = put_all(content, &l);
  if (status == MG_OK) status = mg_safetensors_write(context, l.backend, path, l.items, l.count, metadata);
  json_decref(metadata);
  for (int64_t i = 0; i < room && l.tensors; i++)
    if (l.tensors[i].data) l.backend->plugin->release(l.backend, l.tensors[i].data, mg_tensor_bytes(&l.tensors[i]));
  mg_free(context, l.items, l.items ? (size_t)room * sizeof *l.items : 0);
  mg_free(context, l.tensors, l.tensors ? (size_t)room * sizeof *l.tensors : 0);
  mg_free(context, l.names, l.names ? (size_t)room * sizeof *l.names : 0);
  return status;
}
