/* Recorded requests: a CSV file with the header seconds,prompt_tokens,output_tokens or the same and cached_tokens, one
 * request a line, in order of time. */
#ifndef MG_CLUSTER_RECORDED_H
#define MG_CLUSTER_RECORDED_H

#include "cluster/arrivals.h"

typedef struct mg__recorded mg__recorded;

/* Reads and checks the whole file. MG_FILE names the line and what is wrong with it. */
mg_status mg__recorded_open(mg_context *context, const char *path, mg__recorded **out);
void mg__recorded_close(mg__recorded *recorded);
bool mg__recorded_next(mg__recorded *recorded, mg_request *out);

#endif
