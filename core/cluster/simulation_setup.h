/* A specification made ready to run; shared by the files of the simulation. */
#ifndef MG_CLUSTER_SIMULATION_SETUP_H
#define MG_CLUSTER_SIMULATION_SETUP_H

#include "cluster/memory.h"
#include "cluster/placement.h"
#include "cluster/simulation.h"

typedef struct mg__options {
  int64_t step, ranks, slots, groups, tokens, context;
  int64_t kernels, comm_sms, overlap, element_bytes, tensor_parallel;
  int64_t stages, replicas, micro_batches, schedule;
  int64_t offset, plan_tokens, replan_moves, seed, timeline_ranks;
  double capacity;
  bool extrapolate, recompute, compare, roofline;
  char placement[MG_OPTION_STRING_MAX], timeline[MG_OPTION_STRING_MAX];
} mg__options;

typedef struct mg__setup {
  mg_context *context;
  mg__options options;
  mg_shape shape;
  mg_accelerator accelerator;
  mg_calibration calibration;
  int64_t nodes;
  const json_t *trace, *assignment; /* borrowed from the specification */
  const char *trace_path;           /* of a recorded trace, borrowed too; NULL = generated */
  bool by_domain;
  mg_routing *routing;
  mg_placement placement;
  int64_t moved;  /* experts that re-planning moved, all layers */
  double moved_s; /* until the busiest rank has received them */
} mg__setup;

/* Reads everything; of a recorded trace only its head, and its checksum. Close it also after a failure. */
mg_status mg__setup_read(mg_context *context, const json_t *spec, mg__setup *out);
/* Reads or generates the trace. */
mg_status mg__setup_routing(mg__setup *setup);
/* Places the experts of every traced layer. */
mg_status mg__setup_placement(mg__setup *setup);
void mg__setup_close(mg__setup *setup);

/* What a policy is asked for a traced layer; `load` [experts] is filled from the tokens that are planned on. */
mg_place_request mg__setup_request(const mg__setup *setup, int64_t layer, double *load);
/* The step, or the micro-batch of a training step. */
mg_step_request mg__setup_step(const mg__setup *setup, mg_costs *costs);
mg_training_request mg__setup_training(const mg__setup *setup, mg_costs *costs);

/* The result's metrics of a routing and a placement alone. */
mg_status mg__put_balance(const mg__setup *setup, json_t *metrics);

#endif
