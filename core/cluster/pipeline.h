/* Micro-batches through the stages of a pipeline: when each rank does what, and how long it waits.
 *
 * A rank does its operations in the order of the schedule, each as soon as what it needs has come from the neighbouring
 * stage. gpipe: Huang et al. 2019; 1f1b: Narayanan et al. 2021; dualpipe: DeepSeek-V3, arXiv 2412.19437. */
#ifndef MG_CLUSTER_PIPELINE_H
#define MG_CLUSTER_PIPELINE_H

#include "moegauge/context.h"

typedef enum mg_pipeline_order { MG_PIPELINE_GPIPE, MG_PIPELINE_1F1B, MG_PIPELINE_DUALPIPE } mg_pipeline_order;

/* Seconds of one micro-batch in each stage [stages]. */
typedef struct mg_stage_costs {
  int64_t stages;
  double *forward_s;
  double *backward_s; /* gradients of inputs and of weights */
  double *inputs_s, *weights_s;
  double *paired_s; /* dualpipe: forward of stage i beside backward of stage P - 1 - i */
  double send_s;    /* from a stage to the next */
} mg_stage_costs;

typedef enum mg_task_kind {
  MG_TASK_FORWARD,
  MG_TASK_BACKWARD,
  MG_TASK_INPUTS,
  MG_TASK_WEIGHTS,
  MG_TASK_PAIR,
  MG_TASK_KINDS
} mg_task_kind;
extern const char *const mg_task_names[]; /* "forward", ...; NULL-terminated */

typedef struct mg_task {
  mg_task_kind kind;
  int32_t rank;
  int32_t forward_stage, forward_batch;   /* -1 = none */
  int32_t backward_stage, backward_batch; /* of backward, inputs, weights and pairs */
  double start_s, seconds;                /* written by mg_pipeline_run */
} mg_task;

typedef struct mg_pipeline {
  mg_context *context;
  int64_t ranks, batches;
  mg_task *tasks; /* rank after rank, each in its order */
  size_t count, room;
  size_t *first; /* [ranks + 1] */
  double makespan_s;
  double kind_s[MG_TASK_KINDS]; /* of a rank, on average */
  double idle_s;                /* the same */
  int64_t most_in_flight;       /* micro-batches that a rank holds activations of, at most */
} mg_pipeline;

/* MG_USAGE if the schedule does not fit: dualpipe needs an even number of stages and of micro-batches, and at least two
 * micro-batches for each stage. */
mg_status mg_pipeline_run(mg_context *context, mg_pipeline_order order, const mg_stage_costs *costs, int64_t batches,
                          mg_pipeline *out);
void mg_pipeline_close(mg_pipeline *pipeline);

#endif
