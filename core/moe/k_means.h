/* Balanced clusters: rows of a matrix divided into groups of equal size, level by level, as the leaves of a tree. */
#ifndef MG_MOE_K_MEANS_H
#define MG_MOE_K_MEANS_H

#include "moegauge/context.h"

/* Writes to order [count] a permutation of the rows, such that the runs of count / branching[0] rows are clusters, the runs
 * of count / branching[0] / branching[1] rows within them clusters of those, and so on; the product of the branching is
 * `count`. Distances are Euclidean. The same rows and seed give the same order. MG_MEMORY. */
mg_status mg_k_means_tree(mg_context *context, const float *rows, int64_t count, int64_t width,
                          const int64_t *branching, int64_t levels, uint64_t seed, int32_t *order);

#endif
