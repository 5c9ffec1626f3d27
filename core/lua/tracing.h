/* The routing of a corpus through a model, as a file. */
#ifndef MG_LUA_TRACING_H
#define MG_LUA_TRACING_H

#include "measure/trace.h"

/* The keys of a trace: "path", "tokens", "sequence". */
const mg_option *mg__trace_options(void);
/* Writes the trace of the validation split that `wanted` describes, on a tape without recording; folders are made. The
 * file's metadata names the corpus by its checksum. */
mg_status mg__trace_corpus(mg_model *model, mg_tape *tape, mg_dataset *data, const json_t *wanted);

#endif
