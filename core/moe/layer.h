/* The MoE layer: route, apply the capacity policy, dispatch to the experts, run them grouped, combine, add shared
 * experts, and collect auxiliary losses. core/moe/README.md explains each step and each number recorded here.
 *
 * Specification as JSON (a Lua table, see scripts/moegauge):
 *   {"kind": "moe", "experts": 16, "width": 256, "activation": "silu", "gated": true,
 *    "router": {"name": "topk", "k": 2},
 *    "capacity": {"policy": "drop", "factor": 1.25, "order": "position"},
 *    "losses": [{"kind": "balance", "weight": 0.01, "scope": "batch"}],
 *    "shared": {"experts": 1, "width": 256}} */
#ifndef MG_MOE_LAYER_H
#define MG_MOE_LAYER_H

#include "moe/router.h"

typedef struct mg_moe mg_moe;

typedef struct mg_moe_place {
  int64_t width;      /* D */
  int64_t vocabulary; /* V */
  int32_t layer;
  const char *prefix; /* of parameter names: "layers.2.feed_forward." */
  uint64_t seed;
} mg_moe_place;

/* Checks a specification without allocating weights: unknown keys, k > E, capacity below one token, losses that need a
 * statistic the router does not give. MG_USAGE names the key. */
mg_status mg_moe_check_spec(mg_context *context, mg_registry *registry, const json_t *spec, int64_t width,
                            int64_t vocabulary);
mg_status mg_moe_create(mg_context *context, mg_registry *registry, const json_t *spec, mg_moe_place place,
                        mg_params *params, mg_moe **out);
void mg_moe_destroy(mg_moe *moe);

typedef struct mg_moe_input {
  mg_var *x;               /* [T,D] */
  mg_var *token_ids;       /* i32 [T] or NULL */
  int64_t sequence_tokens; /* per sequence; T is a multiple */
  bool training;
  mg_stream noise;
} mg_moe_input;

/* What one forward pass of one layer leaves behind; variables live until the tape is reset. */
typedef struct mg_moe_record {
  mg_route_output route;
  mg_assignment assignment;
  int64_t capacity;  /* tokens per expert; 0 = no limit */
  mg_var *loss;      /* [1]: weighted sum of the layer's auxiliary losses; NULL if there are none */
  mg_var *losses[8]; /* each unweighted, in the order of the specification */
} mg_moe_record;

/* [T,D] -> [T,D], without the residual. NULL after a failure (tape). */
mg_var *mg_moe_forward(mg_moe *moe, mg_tape *tape, const mg_moe_input *input, mg_moe_record *record);

/* Calls the router's after_step with the demand of a finished pass. */
mg_status mg_moe_after_step(mg_moe *moe, mg_tape *tape, const mg_moe_record *record);

typedef struct mg_moe_facts {
  int64_t experts, choices, expert_width, shared_experts, shared_width;
  int64_t losses_count;
  const char *loss_names[8];
  double gate_flops_per_token; /* analytic, forward */
  double expert_flops_per_assignment;
  double shared_flops_per_token;
} mg_moe_facts;
mg_moe_facts mg_moe_describe(const mg_moe *moe);
mg_router *mg_moe_router(mg_moe *moe);

#endif
