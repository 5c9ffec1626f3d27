/* A training step: micro-batches through a pipeline of stages, each an expert-parallel group, then the optimiser. */
#ifndef MG_CLUSTER_TRAINING_H
#define MG_CLUSTER_TRAINING_H

#include "cluster/pipeline.h"
#include "cluster/step.h"

typedef struct mg_training_request {
  mg_step_request batch; /* one micro-batch of an expert-parallel group; `tokens` of each rank */
  int64_t stages;
  int64_t replicas;      /* data-parallel copies of an expert-parallel group */
  int64_t micro_batches; /* of each rank in a step */
  int64_t order;         /* mg_pipeline_order */
  bool recompute;        /* norms and projections behind the latent run again in the backward pass */
} mg_training_request;

typedef struct mg_training {
  int64_t stages;
  int64_t *first_block; /* [stages + 1]: the blocks of each stage, prediction blocks after the model's */
  mg_pipeline pipeline;
  double optimiser_s;
  double step_s;
  double tokens;                /* of all ranks in the step */
  int64_t ranks;                /* of all stages and replicas */
  double near_bytes, far_bytes; /* dispatch and combine of all ranks, forward and backward */
  double assigned, dropped;     /* assignments of all layers of one micro-batch */
} mg_training;

/* MG_USAGE if there are fewer blocks than stages, or as mg_step_run and mg_pipeline_run. */
mg_status mg_training_run(mg_context *context, const mg_training_request *request, mg_training *out);
void mg_training_close(mg_context *context, mg_training *training);

/* Cuts `blocks` costs in a row into stages so that the largest sum is least; first [stages + 1]. */
mg_status mg_cut_stages(mg_context *context, const double *cost, int64_t blocks, int64_t stages, int64_t *first);

#endif
