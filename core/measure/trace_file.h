/* Writes the file that measure/trace.h describes, from arrays on the host. */
#ifndef MG_MEASURE_TRACE_FILE_H
#define MG_MEASURE_TRACE_FILE_H

#include <jansson.h>

#include "moegauge/backend.h"

typedef struct mg_trace_layer {
  int64_t block, experts, choices;
  const int32_t *ids;   /* [tokens, choices] */
  const float *weights; /* [tokens, choices] */
} mg_trace_layer;

typedef struct mg_trace_content {
  const int32_t *tokens, *starts;
  const int32_t *domains;     /* [starts_count]; NULL = not known */
  const json_t *domain_names; /* list of texts, borrowed; NULL = not known */
  int64_t tokens_count, starts_count;
  const mg_trace_layer *layers;
  int64_t layers_count;
} mg_trace_content;

/* Replaces `path`; `about` holds further texts of metadata or is NULL. MG_WRITE on failure, the old file then stays. */
mg_status mg_trace_write_content(mg_context *context, mg_backend *backend, const mg_trace_content *content,
                                 const char *path, const json_t *about);

#endif
