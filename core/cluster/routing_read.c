/* Reads a trace and believes nothing in it: checksum, format, shapes, and every id. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/routing.h"
#include "model/checkpoint.h"

enum { NAME_BYTES = 64, LAYERS_MOST = 4096, EXPERTS_MOST = 65536 };

typedef struct reader {
  mg_context *context;
  const char *path;
  mg_checkpoint *file;
  const char *experts; /* the metadata's "N:E N:E ..." */
} reader;

static mg_status check_format(const reader *r) {
  const char *format, *version;
  MG_TRY(mg_checkpoint_text(r->file, "format", &format));
  MG_TRY(mg_checkpoint_text(r->file, "version", &version));
  if (strcmp(format, "moegauge-trace") == 0 && strcmp(version, "1") == 0) return MG_OK;
  return mg_fail(r->context, MG_FILE, "%s: is '%s' version '%s', not 'moegauge-trace' version '1'", r->path, format,
                 version);
}

/* The next "N:E" of the list; false at its end or where it is malformed. */
static bool next_layer(const char **at, int64_t *block, int64_t *experts) {
  char *end;
  *block = strtoll(*at, &end, 10);
  if (end == *at || *end != ':' || *block < 0 || *block > LAYERS_MOST) return false;
  const char *second = end + 1;
  *experts = strtoll(second, &end, 10);
  if (end == second || (*end != ' ' && *end != '\0') || *experts < 1 || *experts > EXPERTS_MOST) return false;
  *at = *end == ' ' ? end + 1 : end;
  return true;
}

/* Counts the layers, and proves that they rise and have one number of experts. */
static mg_status count_layers(const reader *r, int64_t *layers, int64_t *experts) {
  const char *at = r->experts;
  int64_t last = -1;
  *layers = 0;
  *experts = 0;
  while (*at) {
    int64_t block, here;
    if (*layers >= LAYERS_MOST || !next_layer(&at, &block, &here) || block <= last)
      return mg_fail(r->context, MG_FILE, "%s: metadata 'experts' must be \"N:E N:E ...\" with rising N, not '%.80s'",
                     r->path, r->experts);
    last = block;
    if (*layers > 0 && here != *experts)
      return mg_fail(r->context, MG_FILE,
                     "%s: layers of %lld and %lld experts in one trace; the simulator needs one number", r->path,
                     (long long)*experts, (long long)here);
    *experts = here;
    ++*layers;
  }
  if (*layers > 0) return MG_OK;
  return mg_fail(r->context, MG_FILE, "%s: holds no layer", r->path);
}

static mg_status get(const reader *r, const char *format, int64_t block, int32_t dims, int64_t rows, int64_t columns,
                     mg_checkpoint_tensor *out) {
  char name[NAME_BYTES];
  snprintf(name, sizeof name, format, (long long)block);
  MG_TRY(mg_checkpoint_get(r->file, name, out));
  const bool good = out->dims == dims && (rows < 0 || out->shape[0] == rows) &&
                    (dims == 1 || columns < 0 || out->shape[1] == columns);
  if (good) return MG_OK;
  return mg_fail(r->context, MG_FILE, "%s: tensor '%s' has another shape than the other layers", r->path, name);
}

/* Tensors of one dimension are one row. */
static mg_status read_all(const reader *r, const mg_checkpoint_tensor *tensor, mg_dtype dtype, void *out) {
  return tensor->rows > 0 ? mg_checkpoint_read(r->file, tensor, 0, tensor->rows, dtype, out) : MG_OK;
}

/* `seen` [experts] holds the last token that chose each expert, counted from 1 over all layers. */
static mg_status check_ids(const reader *r, const mg_routing *routing, int64_t layer, int64_t *seen, int64_t *chosen) {
  const int32_t *ids = mg_routing_layer(routing, layer);
  for (int64_t t = 0; t < routing->tokens; t++, ids += routing->choices)
    for (int64_t c = 0; c < routing->choices; c++) {
      const int64_t mark = layer * routing->tokens + t + 1;
      if (ids[c] == -1) continue;
      if (ids[c] < -1 || ids[c] >= routing->experts)
        return mg_fail(r->context, MG_FILE, "%s: block %ld, token %lld chooses %ld, which is no expert of %lld",
                       r->path, (long)routing->blocks[layer], (long long)t, (long)ids[c], (long long)routing->experts);
      if (seen[ids[c]] == mark)
        return mg_fail(r->context, MG_FILE, "%s: block %ld, token %lld chooses expert %ld twice", r->path,
                       (long)routing->blocks[layer], (long long)t, (long)ids[c]);
      seen[ids[c]] = mark;
      ++*chosen;
    }
  return MG_OK;
}

static mg_status check_all_ids(const reader *r, mg_routing *routing) {
  const size_t bytes = (size_t)routing->experts * sizeof(int64_t);
  int64_t *seen = mg_alloc(r->context, bytes), chosen = 0;
  mg_status status = seen ? MG_OK : MG_MEMORY;
  for (int64_t i = 0; i < routing->layers && status == MG_OK; i++) status = check_ids(r, routing, i, seen, &chosen);
  mg_free(r->context, seen, bytes);
  if (status == MG_OK && chosen == 0) status = mg_fail(r->context, MG_FILE, "%s: no token chooses any expert", r->path);
  routing->mean_choices = (double)chosen / (double)(routing->layers * routing->tokens);
  return status;
}

static mg_status read_layers(const reader *r, mg_routing *routing) {
  const char *at = r->experts;
  for (int64_t i = 0; i < routing->layers; i++) {
    int64_t block, experts;
    mg_checkpoint_tensor ids, weights;
    next_layer(&at, &block, &experts);
    routing->blocks[i] = (int32_t)block;
    MG_TRY(get(r, "layers.%lld.experts", block, 2, routing->tokens, routing->choices, &ids));
    MG_TRY(get(r, "layers.%lld.weights", block, 2, routing->tokens, routing->choices, &weights));
    const int64_t offset = i * routing->tokens * routing->choices;
    MG_TRY(read_all(r, &ids, MG_I32, routing->ids + offset));
    MG_TRY(read_all(r, &weights, MG_F32, routing->weights + offset));
  }
  return check_all_ids(r, routing);
}

static mg_status check_starts(const reader *r, const mg_routing *routing) {
  int64_t before = -1;
  if (routing->starts_count > 0 && routing->starts[0] != 0)
    return mg_fail(r->context, MG_FILE, "%s: 'starts' must begin with 0", r->path);
  for (int64_t i = 0; i < routing->starts_count; i++) {
    if (routing->starts[i] <= before || routing->starts[i] >= routing->tokens)
      return mg_fail(r->context, MG_FILE, "%s: 'starts' must rise within the %lld tokens", r->path,
                     (long long)routing->tokens);
    before = routing->starts[i];
  }
  return MG_OK;
}

/* Where the texts are from, if the trace says it. */
static mg_status read_domains(const reader *r, mg_routing *routing) {
  mg_checkpoint_tensor domains;
  if (mg_checkpoint_find(r->file, "domains") < 0) return MG_OK;
  MG_TRY(get(r, "domains", 0, 1, routing->starts_count, -1, &domains));
  routing->domains = mg_alloc(r->context, (size_t)routing->starts_count * sizeof *routing->domains);
  if (!routing->domains) return routing->starts_count > 0 ? MG_MEMORY : MG_OK;
  return read_all(r, &domains, MG_I32, routing->domains);
}

/* What the head says; `tokens` and `starts` are for reading on. */
static mg_status read_head(reader *r, mg_routing_facts *out, mg_checkpoint_tensor *tokens,
                           mg_checkpoint_tensor *starts) {
  int64_t block, experts;
  mg_checkpoint_tensor ids;
  MG_TRY(check_format(r));
  MG_TRY(mg_checkpoint_text(r->file, "experts", &r->experts));
  MG_TRY(count_layers(r, &out->layers, &out->experts));
  const char *at = r->experts;
  next_layer(&at, &block, &experts);
  MG_TRY(get(r, "tokens", 0, 1, -1, -1, tokens));
  MG_TRY(get(r, "starts", 0, 1, -1, -1, starts));
  MG_TRY(get(r, "layers.%lld.experts", block, 2, tokens->shape[0], -1, &ids));
  out->tokens = tokens->shape[0];
  out->texts = starts->shape[0];
  out->choices = ids.shape[1];
  if (out->tokens >= 1 && out->choices >= 1 && out->choices <= out->experts && out->texts <= out->tokens) return MG_OK;
  return mg_fail(r->context, MG_FILE,
                 "%s: %lld tokens in %lld texts, %lld choices of %lld experts; a trace has at least one token, one "
                 "choice and one layer",
                 r->path, (long long)out->tokens, (long long)out->texts, (long long)out->choices,
                 (long long)out->experts);
}

static mg_status read_file(reader *r, mg_routing **out) {
  mg_routing_facts facts;
  mg_checkpoint_tensor tokens, starts;
  MG_TRY(read_head(r, &facts, &tokens, &starts));
  MG_TRY(mg_checkpoint_verify(r->file));
  MG_TRY(mg__routing_create(r->context, facts.tokens, facts.layers, facts.experts, facts.choices, facts.texts, out));
  MG_TRY(read_all(r, &tokens, MG_I32, (*out)->token_ids));
  MG_TRY(read_all(r, &starts, MG_I32, (*out)->starts));
  MG_TRY(check_starts(r, *out));
  MG_TRY(read_domains(r, *out));
  return read_layers(r, *out);
}

mg_status mg_routing_describe(mg_context *context, const char *path, mg_routing_facts *out) {
  reader r = {.context = context, .path = path};
  mg_checkpoint_tensor tokens, starts;
  MG_TRY(mg_checkpoint_open(context, path, NULL, &r.file));
  mg_status status = read_head(&r, out, &tokens, &starts);
  if (status == MG_OK) status = mg_checkpoint_verify(r.file);
  mg_checkpoint_close(r.file);
  return status;
}

mg_status mg_routing_read(mg_context *context, const char *path, mg_routing **out) {
  *out = NULL;
  reader r = {.context = context, .path = path};
  MG_TRY(mg_checkpoint_open(context, path, NULL, &r.file));
  const mg_status status = read_file(&r, out);
  mg_checkpoint_close(r.file);
  if (status == MG_OK) return MG_OK;
  mg_routing_destroy(*out);
  *out = NULL;
  return status;
}
