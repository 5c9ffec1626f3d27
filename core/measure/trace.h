/* Routing traces: which experts each token of a text went to, and with what weight. A trace is a safetensors file, so that
 * model/checkpoint.h reads it and mg_checkpoint_verify proves that it is whole:
 *
 *   tokens             i32 [T]    the tokens, text after text
 *   starts             i32 [W]    where each text (pass) begins
 *   layers.N.experts   i32 [T,S]  the experts of each token in block N, -1 = no choice
 *   layers.N.weights   f32 [T,S]  their weights in the sum
 *
 * N counts blocks as mg_model_moe_block does. Metadata: "format" = "moegauge-trace", "version" = "1", "experts" of each
 * traced layer as "N:E N:E ...", and what the caller adds. */
#ifndef MG_MEASURE_TRACE_H
#define MG_MEASURE_TRACE_H

#include <jansson.h>

#include "model/model.h"

typedef struct mg_trace mg_trace;

/* The model must outlive the trace. MG_USAGE if it has no MoE layer. */
mg_status mg_trace_create(mg_model *model, mg_trace **out);
void mg_trace_destroy(mg_trace *trace);
/* Adds the routing of the pass whose output this is, over these `count` tokens, while its variables are on the tape. */
mg_status mg_trace_add(mg_trace *trace, mg_tape *tape, const int32_t *ids, int64_t count,
                       const mg_model_output *output);
int64_t mg_trace_tokens(const mg_trace *trace);
/* Replaces `path`; `about` holds further texts of metadata. MG_WRITE on failure, the old file then stays. */
mg_status mg_trace_write(const mg_trace *trace, const char *path, const json_t *about);

#endif
