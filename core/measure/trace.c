/* Collects ids and weights of every MoE layer on the host, and writes them as named tensors. */
#include "measure/trace.h"

#include <stdio.h>
#include <string.h>

#include "model/safetensors.h"

/* A growing array of 4-byte numbers. */
typedef struct numbers {
  char *data;
  int64_t count, room;
} numbers;

typedef struct traced_layer {
  numbers experts, weights;
  int64_t choices;
} traced_layer;

struct mg_trace {
  mg_context *context;
  mg_model *model;
  int64_t layers_count;
  traced_layer *layers;
  numbers tokens, starts;
};

enum { NUMBER_BYTES = 4, NAME_BYTES = 64 };

/* Room for `count` more; where they go, or NULL when memory runs out. */
static void *grow(mg_context *context, numbers *n, int64_t count) {
  if (n->count + count > n->room) {
    const int64_t room = 2 * n->room > n->count + count ? 2 * n->room : n->count + count;
    char *larger = mg_resize(context, n->data, (size_t)n->room * NUMBER_BYTES, (size_t)room * NUMBER_BYTES);
    if (!larger) return NULL;
    n->data = larger;
    n->room = room;
  }
  void *place = n->data + n->count * NUMBER_BYTES;
  n->count += count;
  return place;
}

static void drop(mg_context *context, numbers *n) {
  mg_free(context, n->data, (size_t)n->room * NUMBER_BYTES);
}

mg_status mg_trace_create(mg_model *model, mg_trace **out) {
  mg_context *context = mg_model_backend(model)->context;
  *out = NULL;
  if (mg_model_moe_layers(model) == 0)
    return mg_fail(context, MG_USAGE, "trace: the model has no mixture of experts; there is no routing to trace");
  mg_trace *trace = mg_alloc(context, sizeof *trace);
  if (!trace) return MG_MEMORY;
  *trace = (mg_trace){.context = context, .model = model, .layers_count = mg_model_moe_layers(model)};
  trace->layers = mg_alloc(context, (size_t)trace->layers_count * sizeof *trace->layers);
  if (!trace->layers) {
    mg_trace_destroy(trace);
    return MG_MEMORY;
  }
  *out = trace;
  return MG_OK;
}

void mg_trace_destroy(mg_trace *trace) {
  if (!trace) return;
  for (int64_t i = 0; i < trace->layers_count && trace->layers; i++) {
    drop(trace->context, &trace->layers[i].experts);
    drop(trace->context, &trace->layers[i].weights);
  }
  mg_free(trace->context, trace->layers, trace->layers ? (size_t)trace->layers_count * sizeof *trace->layers : 0);
  drop(trace->context, &trace->tokens);
  drop(trace->context, &trace->starts);
  mg_free(trace->context, trace, sizeof *trace);
}

int64_t mg_trace_tokens(const mg_trace *trace) {
  return trace->tokens.count;
}

static mg_status add_layer(const mg_trace *trace, mg_tape *tape, traced_layer *layer, const mg_moe_record *record) {
  const int64_t count = mg_tensor_count(mg_var_tensor(record->ids));
  layer->choices = mg_var_columns(record->ids);
  void *experts = grow(trace->context, &layer->experts, count), *weights = grow(trace->context, &layer->weights, count);
  if (!experts || !weights) return MG_MEMORY;
  const size_t bytes = (size_t)count * NUMBER_BYTES;
  MG_TRY(mg_tape_download(tape, record->ids, experts, bytes));
  return mg_tape_download(tape, mg_cast(tape, record->weights, MG_F32), weights, bytes);
}

mg_status mg_trace_add(mg_trace *trace, mg_tape *tape, const int32_t *ids, int64_t count,
                       const mg_model_output *output) {
  const int32_t start = (int32_t)trace->tokens.count;
  if (count > INT32_MAX - trace->tokens.count)
    return mg_fail(trace->context, MG_USAGE, "trace: it holds at most %d tokens", INT32_MAX);
  int32_t *starts = grow(trace->context, &trace->starts, 1), *tokens = grow(trace->context, &trace->tokens, count);
  if (!starts || !tokens) return MG_MEMORY;
  *starts = start;
  memcpy(tokens, ids, (size_t)count * sizeof *ids);
  for (int64_t i = 0; i < trace->layers_count; i++)
    MG_TRY(add_layer(trace, tape, &trace->layers[i], &output->records[i]));
  return MG_OK;
}

/* ---- the file ------------------------------------------------------------------------------------------------ */

typedef struct listing {
  mg_backend *backend;
  mg_safetensors_item *items;
  mg_tensor *tensors; /* in the backend's memory, from which files are written */
  char (*names)[NAME_BYTES];
  int64_t count, room;
} listing;

static mg_status put(listing *l, const numbers *from, mg_dtype dtype, int64_t columns, const char *format,
                     long long block) {
  mg_tensor *tensor = &l->tensors[l->count];
  const int64_t rows = columns ? from->count / columns : from->count;
  *tensor = (mg_tensor){.dtype = dtype, .dims = columns ? 2 : 1, .shape = {rows, columns}};
  snprintf(l->names[l->count], NAME_BYTES, format, block);
  l->items[l->count] = (mg_safetensors_item){.name = l->names[l->count], .tensor = tensor};
  const size_t bytes = mg_tensor_bytes(tensor);
  if (bytes) MG_TRY(l->backend->plugin->allocate(l->backend, bytes, &tensor->data));
  l->count++;
  return bytes ? l->backend->plugin->upload(l->backend, tensor->data, from->data, bytes) : MG_OK;
}

static mg_status put_all(const mg_trace *trace, listing *l) {
  MG_TRY(put(l, &trace->tokens, MG_I32, 0, "tokens", 0));
  MG_TRY(put(l, &trace->starts, MG_I32, 0, "starts", 0));
  for (int64_t i = 0; i < trace->layers_count; i++) {
    const traced_layer *layer = &trace->layers[i];
    const long long block = (long long)mg_model_moe_block(trace->model, i);
    MG_TRY(put(l, &layer->experts, MG_I32, layer->choices, "layers.%lld.experts", block));
    MG_TRY(put(l, &layer->weights, MG_F32, layer->choices, "layers.%lld.weights", block));
  }
  return MG_OK;
}

/* "format", "version" and "experts" over what the caller says. */
static json_t *metadata_of(const mg_trace *trace, const json_t *about) {
  json_t *metadata = about ? json_deep_copy(about) : json_object();
  const size_t room = (size_t)trace->layers_count * NAME_BYTES;
  char *text = mg_alloc(trace->context, room);
  size_t used = 0;
  for (int64_t i = 0; i < trace->layers_count && text; i++)
    used += (size_t)snprintf(text + used, room - used, "%s%lld:%lld", i ? " " : "",
                             (long long)mg_model_moe_block(trace->model, i),
                             (long long)mg_moe_describe(mg_model_moe(trace->model, i)).experts);
  json_object_set_new(metadata, "format", json_string("moegauge-trace"));
  json_object_set_new(metadata, "version", json_string("1"));
  const bool good = text && json_object_set_new(metadata, "experts", json_string(text)) == 0;
  mg_free(trace->context, text, text ? room : 0);
  if (good) return metadata;
  json_decref(metadata);
  return NULL;
}

mg_status mg_trace_write(const mg_trace *trace, const char *path, const json_t *about) {
  const int64_t room = 2 + 2 * trace->layers_count;
  listing l = {.backend = mg_model_backend(trace->model), .room = room};
  l.items = mg_alloc(trace->context, (size_t)room * sizeof *l.items);
  l.tensors = mg_alloc(trace->context, (size_t)room * sizeof *l.tensors);
  l.names = mg_alloc(trace->context, (size_t)room * sizeof *l.names);
  json_t *metadata = metadata_of(trace, about);
  mg_status status = l.items && l.tensors && l.names && metadata ? MG_OK : MG_MEMORY;
  if (status == MG_OK) status = put_all(trace, &l);
  if (status == MG_OK) status = mg_safetensors_write(trace->context, l.backend, path, l.items, l.count, metadata);
  json_decref(metadata);
  for (int64_t i = 0; i < room && l.tensors; i++)
    if (l.tensors[i].data) l.backend->plugin->release(l.backend, l.tensors[i].data, mg_tensor_bytes(&l.tensors[i]));
  mg_free(trace->context, l.items, l.items ? (size_t)room * sizeof *l.items : 0);
  mg_free(trace->context, l.tensors, l.tensors ? (size_t)room * sizeof *l.tensors : 0);
  mg_free(trace->context, l.names, l.names ? (size_t)room * sizeof *l.names : 0);
  return status;
}
