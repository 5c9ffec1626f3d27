/* Times of the parts of one layer: those that are equal on every rank, and those that a routing decides. */
#ifndef MG_CLUSTER_LAYER_COST_H
#define MG_CLUSTER_LAYER_COST_H

#include "cluster/calibration.h"
#include "cluster/shape.h"
#include "cluster/traffic.h"

typedef enum mg_step_kind { MG_STEP_DECODE, MG_STEP_PREFILL, MG_STEP_TRAINING } mg_step_kind;
typedef enum mg_kernels { MG_KERNELS_LOW_LATENCY, MG_KERNELS_NORMAL } mg_kernels;

/* Which product of a matrix: its output, the gradient of its input, or that of its weights. */
typedef enum mg_pass { MG_PASS_FORWARD, MG_PASS_INPUTS, MG_PASS_WEIGHTS } mg_pass;

/* What the times depend on beside the amount of work. */
typedef struct mg_layer_work {
  mg_costs *costs;
  const mg_shape *shape;
  mg_step_kind kind;
  mg_kernels kernels;
  int64_t element_bytes; /* of weights and of what products read: 1 = fp8, 2 = bf16 */
  int64_t parallel;      /* tensor-parallel ranks that share attention and dense parts */
  int64_t nodes;         /* of the expert-parallel group */
  int64_t context;       /* keys of a decode step's query; else tokens of a sequence, attended causally */
  int64_t comm_sms;      /* units that normal kernels copy with */
} mg_layer_work;

/* Projections, scores, norms and positions of `tokens` tokens of a rank, the gate too where `expert_layer`. */
mg_status mg_attention_cost(const mg_layer_work *work, double tokens, bool expert_layer, mg_pass pass, double *seconds);
/* How many times longer computing takes beside messages: normal kernels take units from it. */
double mg_copying_tax(const mg_layer_work *work);
/* A dense or shared gated feed-forward of this hidden width. */
mg_status mg_feed_forward_cost(const mg_layer_work *work, double tokens, int64_t hidden, mg_pass pass, double *seconds);
/* The projection of a prediction block that makes one width of two (DeepSeek-V3, section 2.2). */
mg_status mg_join_cost(const mg_layer_work *work, double tokens, mg_pass pass, double *seconds);
/* Logits of `rows` tokens in bf16. */
mg_status mg_head_cost(const mg_layer_work *work, double rows, mg_pass pass, double *seconds);

/* What the routing of a layer costs each rank; arrays [ranks]. */
typedef struct mg_routed_cost {
  double *dispatch_s, *experts_s, *combine_s;
} mg_routed_cost;
mg_status mg_routed_costs(const mg_layer_work *work, const mg_traffic *traffic, int64_t layer, mg_pass pass,
                          const mg_routed_cost *out);

#endif
