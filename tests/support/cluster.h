/* What tests and benchmarks of the cluster simulator share: a model's shape, and a context with a file. */
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

#endif
