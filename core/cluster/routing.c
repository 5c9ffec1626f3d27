/* Owns the arrays of a routing, counts loads, and writes it as a trace file. */
#include "cluster/routing.h"

#include <stdlib.h>
#include <string.h>

#include "measure/trace_file.h"

/* Ids and weights of all layers together: 8 GiB. */
static const int64_t most_choices = (int64_t)1 << 30;

static size_t choices_of(const mg_routing *r) {
  return (size_t)(r->layers * r->tokens * r->choices);
}

void mg_routing_destroy(mg_routing *r) {
  if (!r) return;
  mg_free(r->context, r->blocks, (size_t)r->layers * sizeof *r->blocks);
  mg_free(r->context, r->ids, choices_of(r) * sizeof *r->ids);
  mg_free(r->context, r->weights, choices_of(r) * sizeof *r->weights);
  mg_free(r->context, r->token_ids, (size_t)r->tokens * sizeof *r->token_ids);
  mg_free(r->context, r->starts, (size_t)r->starts_count * sizeof *r->starts);
  mg_free(r->context, r->domains, r->domains ? (size_t)r->starts_count * sizeof *r->domains : 0);
  mg_free(r->context, r, sizeof *r);
}

mg_status mg__routing_create(mg_context *context, int64_t tokens, int64_t layers, int64_t experts, int64_t choices,
                             int64_t starts, mg_routing **out) {
  *out = NULL;
  if (tokens < 1 || layers < 1 || choices < 1 || tokens > most_choices / layers / choices)
    return mg_fail(context, MG_USAGE,
                   "trace: %lld tokens, %lld layers and %lld choices; each must be at least 1, their product at most "
                   "%lld",
                   (long long)tokens, (long long)layers, (long long)choices, (long long)most_choices);
  mg_routing *r = mg_alloc(context, sizeof *r);
  if (!r) return MG_MEMORY;
  *r = (mg_routing){.context = context,
                    .tokens = tokens,
                    .layers = layers,
                    .experts = experts,
                    .choices = choices,
                    .mean_choices = (double)choices,
                    .starts_count = starts};
  r->blocks = mg_alloc(context, (size_t)layers * sizeof *r->blocks);
  r->ids = mg_alloc(context, choices_of(r) * sizeof *r->ids);
  r->weights = mg_alloc(context, choices_of(r) * sizeof *r->weights);
  r->token_ids = mg_alloc(context, (size_t)tokens * sizeof *r->token_ids);
  r->starts = mg_alloc(context, (size_t)starts * sizeof *r->starts);
  if (r->blocks && r->ids && r->weights && r->token_ids && (r->starts || starts == 0)) {
    *out = r;
    return MG_OK;
  }
  mg_routing_destroy(r);
  return MG_MEMORY;
}

const int32_t *mg_routing_layer(const mg_routing *r, int64_t layer) {
  return r->ids + layer * r->tokens * r->choices;
}

void mg_routing_load(const mg_routing *r, int64_t layer, int64_t first, int64_t count, double *load) {
  const int32_t *ids = mg_routing_layer(r, layer);
  for (int64_t i = 0; i < count; i++) {
    const int32_t *token = ids + (first + i) % r->tokens * r->choices;
    for (int64_t c = 0; c < r->choices; c++)
      if (token[c] >= 0) load[token[c]]++;
  }
}

/* ---- order ----------------------------------------------------------------------------------------------------- */

typedef struct text {
  int32_t domain;
  int64_t first, count; /* tokens */
} text;

static int by_domain(const void *left, const void *right) {
  const text *a = left, *b = right;
  if (a->domain != b->domain) return a->domain < b->domain ? -1 : 1;
  return (a->first > b->first) - (a->first < b->first);
}

static void sort_texts(mg_routing *r, text *texts) {
  for (int64_t i = 0; i < r->starts_count; i++) {
    const int64_t end = i + 1 < r->starts_count ? r->starts[i + 1] : r->tokens;
    texts[i] = (text){r->domains[i], r->starts[i], end - r->starts[i]};
  }
  qsort(texts, (size_t)r->starts_count, sizeof *texts, by_domain);
  int64_t at = 0;
  for (int64_t i = 0; i < r->starts_count; i++) {
    r->starts[i] = (int32_t)at;
    r->domains[i] = texts[i].domain;
    at += texts[i].count;
  }
}

/* Rows of `width` bytes, one for each token, into the order of the texts. */
static void move_rows(const mg_routing *r, const text *texts, size_t width, void *rows, char *scratch) {
  char *to = scratch;
  for (int64_t i = 0; i < r->starts_count; i++) {
    const size_t bytes = (size_t)texts[i].count * width;
    memcpy(to, (const char *)rows + (size_t)texts[i].first * width, bytes);
    to += bytes;
  }
  memcpy(rows, scratch, (size_t)r->tokens * width);
}

mg_status mg_routing_sort_domains(mg_routing *r) {
  if (!r->domains)
    return mg_fail(r->context, MG_FILE,
                   "trace: it does not say which domain each text is from; record it from a corpus");
  const size_t texts_bytes = (size_t)r->starts_count * sizeof(text), width = (size_t)r->choices * sizeof *r->ids;
  const size_t scratch_bytes = (size_t)r->tokens * width;
  text *texts = mg_alloc(r->context, texts_bytes);
  char *scratch = mg_alloc(r->context, scratch_bytes);
  if (texts && scratch) {
    sort_texts(r, texts);
    move_rows(r, texts, sizeof *r->token_ids, r->token_ids, scratch);
    for (int64_t i = 0; i < r->layers; i++) {
      move_rows(r, texts, width, r->ids + i * r->tokens * r->choices, scratch);
      move_rows(r, texts, width, r->weights + i * r->tokens * r->choices, scratch);
    }
  }
  const bool good = texts && scratch;
  mg_free(r->context, texts, texts_bytes);
  mg_free(r->context, scratch, scratch_bytes);
  return good ? MG_OK : MG_MEMORY;
}

/* ---- the file -------------------------------------------------------------------------------------------------- */

mg_status mg_routing_write(const mg_routing *r, mg_backend *backend, const char *path, const json_t *about) {
  mg_trace_layer *layers = mg_alloc(r->context, (size_t)r->layers * sizeof *layers);
  if (!layers) return MG_MEMORY;
  for (int64_t i = 0; i < r->layers; i++)
    layers[i] = (mg_trace_layer){.block = r->blocks[i],
                                 .experts = r->experts,
                                 .choices = r->choices,
                                 .ids = mg_routing_layer(r, i),
                                 .weights = r->weights + i * r->tokens * r->choices};
  const mg_trace_content content = {.tokens = r->token_ids,
                                    .tokens_count = r->tokens,
                                    .starts = r->starts,
                                    .starts_count = r->starts_count,
                                    .layers = layers,
                                    .layers_count = r->layers};
  const mg_status status = mg_trace_write_content(r->context, backend, &content, path, about);
  mg_free(r->context, layers, (size_t)r->layers * sizeof *layers);
  return status;
}
