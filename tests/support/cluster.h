/* What tests and benchmarks of the cluster simulator share: a model's shape, a specification, and a context with a file. */
#ifndef MG_TESTS_SUPPORT_CLUSTER_H
#define MG_TESTS_SUPPORT_CLUSTER_H

#include "cluster/shape.h"
#include "support/scratch.h"
#include "support/testing.h"

/* DeepSeek-V3 (arXiv 2412.19437), without its prediction block. */
extern const mg_shape mg_shape_deepseek_v3;

/* A context, and a file that is not there yet. */
typedef struct mg_file_world {
  mg_context *context;
  mg_scratch scratch;
} mg_file_world;

/* As cmocka's setups return; the teardown fails on a leak. */
int mg_file_world_open(mg_file_world *world);
int mg_file_world_close(mg_file_world *world);

/* A small model on toy accelerators in nodes of four: 1e12 bytes and 1e15 FLOPs a second, links of 1e11 and 1e10 bytes, at
 * the peak of all; `more` is JSON whose keys replace or join the others. A new reference. */
json_t *mg_cluster_specification(const char *step, int ranks, const char *more);

#endif
