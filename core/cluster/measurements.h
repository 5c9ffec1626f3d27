/* Published measurements as data of the forms: which columns make a table of which kind, and what they mean. */
#ifndef MG_CLUSTER_MEASUREMENTS_H
#define MG_CLUSTER_MEASUREMENTS_H

#include "cluster/fit.h"
#include "cluster/interpolation.h"

typedef struct mg_measurements {
  mg_fit_data data[MG_FORM_COUNT];
  mg_collective_table collectives;
} mg_measurements;

/* Reads a CSV file of one of these tables, told by their columns:
 *   m, n, k, groups, element_bytes, tflops               products of matrices: gemm
 *   moe_ep_size, latency (ms)                            expert feed-forward under uniform load
 *   dispatch_avg_t_us, combine_avg_t_us                  DeepEP's low-latency kernels
 *   dispatch_transmit_us, combine_transmit_us            DeepEP's normal kernels
 *   num_gpus, message_size (elements), latency (ms)      NCCL's collectives
 * `where` keeps the rows whose columns have these texts ({"dispatch_sms": "20"}); NULL keeps all. MG_FILE names line and
 * column, or the columns that were looked for. */
mg_status mg_measurements_read(mg_context *context, const char *path, const mg_accelerator *accelerator,
                               const json_t *where, mg_measurements *out);
void mg_measurements_free(mg_context *context, mg_measurements *measurements);

/* Expected number of `groups` equal groups that k distinct of `experts` random experts fall into. */
double mg_expected_groups(double experts, double groups, double k);

#endif
