/* What a rank must hold. */
#ifndef MG_CLUSTER_MEMORY_H
#define MG_CLUSTER_MEMORY_H

#include "cluster/training.h"

typedef struct mg_memory {
  double expert_bytes; /* routed experts' weights */
  double other_bytes;  /* all other weights */
  double state_bytes;  /* training: f32 gradients, and the shard of master weights and moments */
  double activation_bytes;
  double cache_bytes; /* keys and values */
  double total_bytes;
} mg_memory;

/* Of a prefill or decode step. */
void mg_step_memory(const mg_step_request *request, mg_memory *out);
/* Of the stage that holds most, with `in_flight` micro-batches. */
void mg_training_memory(const mg_training_request *request, const mg_training *training, mg_memory *out);
/* MG_USAGE with every part if it does not fit into the accelerator. */
mg_status mg_memory_check(mg_context *context, const mg_accelerator *accelerator, const mg_memory *memory);

#endif
