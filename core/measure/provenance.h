/* Where a number came from: the build, the machine and the system, without names of machines or users. */
#ifndef MG_MEASURE_PROVENANCE_H
#define MG_MEASURE_PROVENANCE_H

#include <jansson.h>

#include "moegauge/context.h"

/* {"version", "commit", "dirty", "compiler", "flags", "build_type", "sanitizers", "system", "kernel", "processor":
 * {"model", "isa", "cores", "threads", "usable"}, "memory_bytes", "governor", "omp_num_threads", "libraries": {name:
 * version}}. A fact that the system does not tell is left out. New reference. */
mg_status mg_provenance(mg_context *context, json_t **out);

/* "4f2a91c", "4f2a91c with changes", or "unknown commit"; never NULL. */
const char *mg_provenance_commit(void);

#endif
