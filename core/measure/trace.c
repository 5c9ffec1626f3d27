/* Collects ids and weights of every MoE layer on the host. */
#include "measure/trace.h"

#include <math.h>
#include <string.h>

#include "measure/trace_file.h"

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
  numbers tokens, starts, domains; /* domains: of a corpus only */
  json_t *domain_names;
};

enum { NUMBER_BYTES = 4 };

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
  for (int64_t i = 0; i < mg_model_moe_layers(model); i++)
    if (mg_moe_describe(mg_model_moe(model, i)).slots)
      return mg_fail(context, MG_USAGE, "trace: router %s mixes all tokens and chooses nothing that could be traced",
                     mg_moe_router(mg_model_moe(model, i))->plugin->name);
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
  drop(trace->context, &trace->domains);
  json_decref(trace->domain_names);
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
  MG_TRY(mg_tape_download(tape, mg_cast(tape, record->weights, MG_F32), weights, bytes));
  for (int64_t i = 0; i < count; i++)
    if (!isfinite(((const float *)weights)[i]))
      return mg_fail(trace->context, MG_FILE,
                     "trace: an expert's weight is no number: weights of the model hold NaN or infinities (`moegauge "
                     "model check` names them), or what is computed from them grows beyond all numbers");
  return MG_OK;
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

/* ---- a corpus -------------------------------------------------------------------------------------------------- */

static mg_status add_sequence(mg_trace *trace, mg_tape *tape, const mg_batch *batch) {
  const mg_model_batch pass = {
      .inputs = batch->inputs, .sequences = 1, .sequence_tokens = batch->sequence_tokens, .last_only = true};
  mg_model_output output;
  mg_tape_reset(tape);
  MG_TRY(mg_model_forward(trace->model, tape, &pass, &output));
  MG_TRY(mg_trace_add(trace, tape, batch->inputs, batch->sequence_tokens, &output));
  int32_t *domain = grow(trace->context, &trace->domains, 1);
  if (!domain) return MG_MEMORY;
  *domain = batch->domains[0];
  return MG_OK;
}

static mg_status add_sequences(mg_trace *trace, mg_tape *tape, mg_dataset *data, mg_batch *batch, int64_t tokens) {
  for (int64_t index = 0; trace->tokens.count < tokens; index++) {
    int64_t filled;
    MG_TRY(mg_dataset_batch(data, MG_SPLIT_VALID, 0, index, batch, &filled));
    if (filled == 0) break;
    MG_TRY(add_sequence(trace, tape, batch));
  }
  if (trace->tokens.count > 0) return MG_OK;
  return mg_fail(trace->context, MG_USAGE, "trace: the validation split holds no sequence of %lld tokens",
                 (long long)batch->sequence_tokens);
}

mg_status mg_trace_corpus(mg_trace *trace, mg_tape *tape, mg_dataset *data, int64_t sequence, int64_t tokens) {
  const size_t bytes = (size_t)(2 * sequence + 1) * sizeof(int32_t);
  int32_t *ids = mg_alloc(trace->context, bytes);
  if (!ids) return MG_MEMORY;
  mg_batch batch = {.inputs = ids,
                    .targets = ids + sequence,
                    .domains = ids + 2 * sequence,
                    .sequences = 1,
                    .sequence_tokens = sequence};
  trace->domain_names = json_array();
  for (int64_t i = 0; i < mg_dataset_domains(data); i++)
    json_array_append_new(trace->domain_names, json_string(mg_dataset_domain_name(data, i)));
  const mg_status status = add_sequences(trace, tape, data, &batch, tokens);
  mg_free(trace->context, ids, bytes);
  return status;
}

/* ---- the file ------------------------------------------------------------------------------------------------ */

mg_status mg_trace_write(const mg_trace *trace, const char *path, const json_t *about) {
  const size_t bytes = (size_t)trace->layers_count * sizeof(mg_trace_layer);
  mg_trace_layer *layers = mg_alloc(trace->context, bytes);
  if (!layers) return MG_MEMORY;
  for (int64_t i = 0; i < trace->layers_count; i++) {
    const traced_layer *from = &trace->layers[i];
    layers[i] = (mg_trace_layer){.block = mg_model_moe_block(trace->model, i),
                                 .experts = mg_moe_describe(mg_model_moe(trace->model, i)).experts,
                                 .choices = from->choices,
                                 .ids = (const int32_t *)(const void *)from->experts.data,
                                 .weights = (const float *)(const void *)from->weights.data};
  }
  const mg_trace_content content = {.tokens = (const int32_t *)(const void *)trace->tokens.data,
                                    .tokens_count = trace->tokens.count,
                                    .starts = (const int32_t *)(const void *)trace->starts.data,
                                    .starts_count = trace->starts.count,
                                    .domains = (const int32_t *)(const void *)trace->domains.data,
                                    .domain_names = trace->domain_names,
                                    .layers = layers,
                                    .layers_count = trace->layers_count};
  const mg_status status =
      mg_trace_write_content(trace->context, mg_model_backend(trace->model), &content, path, about);
  mg_free(trace->context, layers, bytes);
  return status;
}
