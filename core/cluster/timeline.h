/* Who did what when, as Chrome trace JSON (the trace event format of chrome://tracing and Perfetto). */
#ifndef MG_CLUSTER_TIMELINE_H
#define MG_CLUSTER_TIMELINE_H

#include "cluster/training.h"

/* Replaces `path` by a file of complete events in microseconds: one process for each of the first `ranks` ranks, one
 * thread for each resource. Rank times that are shorter than the slowest rank's end earlier: the gap is idle. */
mg_status mg_timeline_write_step(mg_context *context, const mg_schedule *schedule, int64_t ranks, const char *path);
/* The same of a pipeline: one process for each rank, its tasks in one thread. */
mg_status mg_timeline_write_pipeline(mg_context *context, const mg_pipeline *pipeline, const char *path);

#endif
