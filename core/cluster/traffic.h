/* What a routing asks of each rank in one step: rows to compute, experts in use, and messages to send and receive. */
#ifndef MG_CLUSTER_TRAFFIC_H
#define MG_CLUSTER_TRAFFIC_H

#include "cluster/routing.h"

/* A placement of every traced layer. */
typedef struct mg_placement {
  int64_t layers, experts, slots, ranks, nodes;
  int32_t *expert; /* [layers, slots] */
} mg_placement;

mg_status mg_placement_create(mg_context *context, int64_t layers, int64_t experts, int64_t slots, int64_t ranks,
                              int64_t nodes, mg_placement *out);
void mg_placement_destroy(mg_context *context, mg_placement *placement);

/* Per layer and rank. A message is one hidden state. "Near" crosses links inside a node, "far" a NIC. */
typedef enum mg_traffic_kind {
  MG_TRAFFIC_ROWS,     /* assignments computed here */
  MG_TRAFFIC_ACTIVE,   /* slots with at least one row */
  MG_TRAFFIC_DISTINCT, /* tokens with at least one row here: what de-duplicating kernels copy to this rank */
  MG_TRAFFIC_NEAR_SENT,
  MG_TRAFFIC_NEAR_RECEIVED,
  MG_TRAFFIC_FAR_SENT,
  MG_TRAFFIC_FAR_RECEIVED,
  MG_TRAFFIC_KINDS
} mg_traffic_kind;

typedef struct mg_traffic_request {
  const mg_routing *routing;
  const mg_placement *placement;
  int64_t tokens;       /* of a rank in the step; token i of rank r is (offset + r * tokens + i) mod T */
  int64_t first, count; /* of them in this batch */
  int64_t offset;
  bool deduplicate; /* one message for each other node, and one for each rank in it */
  double capacity;  /* most assignments of an expert, as a multiple of the mean; 0 = no limit. By position */
} mg_traffic_request;

typedef struct mg_traffic {
  mg_context *context;
  int64_t layers, ranks;
  double *value;    /* [layers, kinds, ranks] */
  double *dropped;  /* [layers]: assignments beyond the capacity */
  double *assigned; /* [layers]: assignments asked for */
} mg_traffic;

/* MG_USAGE if the routing's experts are not the placement's. */
mg_status mg_traffic_create(mg_context *context, const mg_traffic_request *request, mg_traffic **out);
void mg_traffic_destroy(mg_traffic *traffic);
/* [ranks] */
double *mg_traffic_of(const mg_traffic *traffic, int64_t layer, mg_traffic_kind kind);
/* The same amounts spread evenly over the ranks: what perfect balance would be. */
mg_status mg_traffic_balanced(const mg_traffic *traffic, mg_traffic **out);

#endif
