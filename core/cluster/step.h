/* A forward pass of the whole model on all ranks: a prefill or decode step. */
#ifndef MG_CLUSTER_STEP_H
#define MG_CLUSTER_STEP_H

#include "cluster/layer_cost.h"
#include "cluster/overlap.h"

typedef struct mg_step_request {
  mg_layer_work work;
  const mg_routing *routing;
  const mg_placement *placement; /* of the routing's layers; expert layer j of the model uses traced layer j mod L */
  int64_t tokens;                /* of each rank */
  int64_t offset;                /* token of the trace with which the step begins */
  bool two_batch;                /* two half batches, one communicating while the other computes */
  double capacity;               /* 0 = no limit */
  bool balanced;                 /* the same work spread evenly over the ranks */
} mg_step_request;

typedef struct mg_step {
  mg_schedule schedule;
  double near_bytes, far_bytes;           /* of all ranks and layers, dispatch and combine */
  double most_near_bytes, most_far_bytes; /* sent by one rank, summed over layers: the busiest */
  double assigned, dropped;               /* assignments of all layers */
  double rows_max_over_mean;              /* mean over traced layers of the busiest rank's rows over the mean */
} mg_step;

/* MG_USAGE if placement and trace do not fit, or a cost is missing or outside its range. */
mg_status mg_step_run(mg_context *context, const mg_step_request *request, mg_step *out);
void mg_step_close(mg_step *step);

/* What one batch of a forward or backward pass is made of, for steps and for the stages of a pipeline. */
typedef struct mg_batch_work {
  const mg_layer_work *work;
  const mg_traffic *traffic;
  double tokens;
  int32_t batch;
  int64_t first_layer, last_layer; /* blocks [first, last) of the model, prediction blocks after them */
  double head_rows;                /* tokens whose logits are computed after the last block; 0 = none */
  double heads;                    /* how many heads run on them */
} mg_batch_work;

/* Adds the operations of the batch, forward. */
mg_status mg_batch_forward(mg_context *context, const mg_batch_work *batch, mg_schedule *schedule);
/* The same backward, from the head to the first block: gradients of inputs, and of weights as deferred operations.
 * `recompute` runs norms and the projections behind the latent again. */
mg_status mg_batch_backward(mg_context *context, const mg_batch_work *batch, bool weights, bool recompute,
                            mg_schedule *schedule);

#endif
