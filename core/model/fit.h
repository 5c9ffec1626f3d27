/* Gates of a tree fitted to the rows of a flat gate. A row of a flat gate points to where its expert's tokens lie: experts
 * whose rows are near belong together, and the mean of their rows is the gate of the node above them. */
#ifndef MG_MODEL_FIT_H
#define MG_MODEL_FIT_H

#include "model/model.h"

/* Writes to order [experts] the experts as leaves of a tree of that branching, by balanced k-means over the rows of the
 * parameter `gate` [experts, D] (moe/k_means.h). MG_USAGE if there is no such parameter, or the product of the branching
 * is not its rows. */
mg_status mg_model_order_experts(mg_model *model, const char *gate, const int64_t *branching, int64_t levels,
                                 uint64_t seed, int32_t *order, int64_t experts);

/* Sets each row of the parameter `node` [n, D] of `model` to the mean of the rows of `gate` [experts, D] of `from` that
 * stand below it: experts / n consecutive ones of `order`. With one row each these are the rows themselves. */
mg_status mg_model_set_means(mg_model *model, const char *node, mg_model *from, const char *gate, const int32_t *order,
                             int64_t experts);

#endif
