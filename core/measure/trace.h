/* Routing traces: which experts each token of a text went to, and with what weight. A trace is a safetensors file, so that
 * model/checkpoint.h reads it and mg_checkpoint_verify proves that it is whole:
 *
 *   tokens             i32 [T]    the tokens, text after text
 *   starts             i32 [W]    where each text (pass) begins
 *   domains            i32 [W]    which domain each text is from, where that is known
 *   layers.N.experts   i32 [T,S]  the experts of each token in block N, -1 = no choice
 *   layers.N.weights   f32 [T,S]  their weights in the sum
 *
 * N counts blocks as mg_model_moe_block does. Metadata: "format" = "moegauge-trace", "version" = "1", "experts" of each
 * traced layer as "N:E N:E ...", "domains" (their names as a JSON list, where there are any), and what the caller adds. */
#ifndef MG_MEASURE_TRACE_H
#define MG_MEASURE_TRACE_H

#include <jansson.h>

#include "model/model.h"
#include "train/data.h"

typedef struct mg_trace mg_trace;

/* The model must outlive the trace. MG_USAGE if it has no MoE layer, or one that mixes all tokens (Soft MoE), which
 * chooses nothing. */
mg_status mg_trace_create(mg_model *model, mg_trace **out);
void mg_trace_destroy(mg_trace *trace);
/* Adds the routing of the pass whose output this is, over these `count` tokens, while its variables are on the tape. */
mg_status mg_trace_add(mg_trace *trace, mg_tape *tape, const int32_t *ids, int64_t count,
                       const mg_model_output *output);
/* Adds the routing of at least `tokens` tokens of the validation split, or of all there are: sequences of `sequence`
 * tokens in the split's fixed mixed order, each a pass of its own and a text of the trace with its domain. MG_USAGE if
 * the split holds no such sequence. To an empty trace. */
mg_status mg_trace_corpus(mg_trace *trace, mg_tape *tape, mg_dataset *data, int64_t sequence, int64_t tokens);
int64_t mg_trace_tokens(const mg_trace *trace);
/* Replaces `path`; `about` holds further texts of metadata. MG_WRITE on failure, the old file then stays. */
mg_status mg_trace_write(const mg_trace *trace, const char *path, const json_t *about);

#endif
