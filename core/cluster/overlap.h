/* Operations of one or two batches on two resources of every rank, computing and the network. All ranks are in step: an
 * operation ends everywhere when it has ended on the slowest rank. */
#ifndef MG_CLUSTER_OVERLAP_H
#define MG_CLUSTER_OVERLAP_H

#include "moegauge/context.h"

/* X(NAME, name) */
// clang-format off
#define MG_PHASE_LIST(X)                                                                           \
  X(ATTENTION, attention) X(DISPATCH, dispatch) X(EXPERTS, experts) X(COMBINE, combine)            \
  X(SHARED, shared) X(DENSE, dense) X(HEAD, head) X(WEIGHTS, weight_gradients)
// clang-format on
typedef enum mg_phase {
#define MG_PHASE_ENUM(NAME, name) MG_PHASE_##NAME,
  MG_PHASE_LIST(MG_PHASE_ENUM)
#undef MG_PHASE_ENUM
      MG_PHASE_COUNT
} mg_phase;
extern const char *const mg_phase_names[]; /* NULL-terminated */

typedef enum mg_resource { MG_RESOURCE_COMPUTE, MG_RESOURCE_NETWORK, MG_RESOURCE_COUNT } mg_resource;

typedef struct mg_operation {
  mg_phase phase;
  mg_resource resource;
  int32_t batch, layer;
  bool deferred;    /* nothing waits for it: it fills gaps (gradients of weights) */
  double seconds;   /* on the slowest rank */
  int64_t rank_s;   /* where its times of each rank begin in the schedule's rank_seconds; -1 = equal on all */
  int32_t after[2]; /* operations that must have ended; -1 = none */
  double start_s;   /* written by mg_schedule_run */
} mg_operation;

enum { MG_SCHEDULE_BATCHES_MAX = 2 };

/* Operations of a batch must be added in their order. */
typedef struct mg_schedule {
  mg_context *context;
  int64_t ranks;
  mg_operation *operations;
  size_t count, room;
  double *rank_seconds; /* [some operations, ranks] */
  size_t rank_count, rank_room;
  double makespan_s;
} mg_schedule;

void mg_schedule_open(mg_context *context, int64_t ranks, mg_schedule *schedule);
void mg_schedule_close(mg_schedule *schedule);
/* Adds an operation; seconds, start_s and rank_s are set here. `rank_s` [ranks] or NULL with `seconds` for all. *index
 * may be NULL. */
mg_status mg_schedule_add(mg_schedule *schedule, const mg_operation *operation, double seconds, const double *rank_s,
                          int32_t *index);
/* Whichever operation can start first starts first, the earlier batch before the later among equals, deferred ones
 * last. `tax` multiplies the time of computing where there is a network operation anywhere in the schedule. */
void mg_schedule_run(mg_schedule *schedule, double tax);

/* Sums of one phase on the slowest ranks. */
double mg_schedule_phase_s(const mg_schedule *schedule, mg_phase phase);
/* Time that a rank itself spends on a resource; the rest of the makespan it is idle. */
double mg_schedule_busy_s(const mg_schedule *schedule, mg_resource resource, int64_t rank);
/* Time of an operation on a rank. */
double mg_schedule_rank_s(const mg_schedule *schedule, const mg_operation *operation, int64_t rank);

#endif
