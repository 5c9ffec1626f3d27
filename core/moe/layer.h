/* The MoE layer: route, apply the capacity policy, dispatch to the experts, run them grouped, combine, add shared
 * experts, and collect auxiliary losses. core/moe/README.md explains each step and each number recorded here.
 *
 * Specification as JSON (a Lua table, see scripts/moegauge); README.md lists every key and default:
 *   {"kind": "moe", "experts": 16, "width": 256, "activation": "silu", "gated": true,
 *    "router": {"name": "topk", "k": 2},
 *    "capacity": {"policy": "drop", "factor": 1.25, "order": "position"},
 *    "losses": [{"kind": "balance", "weight": 0.01, "scope": "batch"}],
 *    "shared": {"experts": 1, "width": 256, "gate": "none"},
 *    "parallel": {"width": 256, "norm": false},
 *    "null": {"zero": 1, "copy": 1, "constant": 2, "tau": 0.75}} */
#ifndef MG_MOE_LAYER_H
#define MG_MOE_LAYER_H

#include "moe/router.h"

enum { MG_MOE_LOSSES_MAX = 8, MG_MOE_GROUPINGS_MAX = 16 };

typedef struct mg_moe mg_moe;

typedef struct mg_moe_place {
  int64_t width;      /* D */
  int64_t vocabulary; /* V */
  int32_t layer;
  const char *prefix; /* of parameter names: "layers.2.feed_forward." */
  uint64_t seed;
  double deviation;        /* of the weights drawn at the start; 0 = 0.02 */
  double output_deviation; /* of those that write into the residual stream; 0 = the same */
} mg_moe_place;

/* Checks a specification without allocating weights: unknown keys, k > E, losses and policies that need a statistic the
 * router does not give. MG_USAGE names the key. */
mg_status mg_moe_check_spec(mg_context *context, mg_registry *registry, const json_t *spec, int64_t width,
                            int64_t vocabulary);
/* The specification with every default written out, as a new object that reads back as the same layer. */
mg_status mg_moe_resolve_spec(mg_context *context, mg_registry *registry, const json_t *spec, int64_t width,
                              int64_t vocabulary, json_t **out);

mg_status mg_moe_create(mg_context *context, mg_registry *registry, const json_t *spec, mg_moe_place place,
                        mg_params *params, mg_moe **out);
/* MG_USAGE with the first thing of a described layer that cannot run. */
mg_status mg_moe_runs(const mg_moe *moe);
void mg_moe_destroy(mg_moe *moe);

typedef struct mg_moe_input {
  mg_var *x;               /* [T,D] */
  mg_var *token_ids;       /* i32 [T] or NULL */
  int64_t sequence_tokens; /* per sequence; T is a multiple */
  bool training;
  mg_stream noise;
  mg_var *previous; /* logits of the MoE layer before, for the router; may be NULL */
} mg_moe_input;

/* What one forward pass of one layer leaves behind; variables live until the tape is reset. */
typedef struct mg_moe_record {
  mg_var *x;                         /* [T,D]: what the layer was given */
  mg_route_output route;             /* as the router gave it */
  int64_t slots, sequences;          /* slots of each expert in a sequence, 0 = experts compute tokens; sequences */
  mg_var *demand;                    /* f32 [1,E]: choices of the router per expert, before any policy, or slots */
  mg_var *ids;                       /* i32 [T,S]: the choices after re-routing, else the router's; [slots,1] */
  mg_var *weights;                   /* [T,S]: the combine weights in use; [slots,1]: 1 */
  mg_assignment assignment;          /* what the experts compute */
  int64_t capacity;                  /* tokens per expert; 0 = no limit */
  mg_var *loss;                      /* [1]: weighted sum of the auxiliary losses and the router's; NULL = none */
  mg_var *losses[MG_MOE_LOSSES_MAX]; /* each unweighted, in the order of the specification */
} mg_moe_record;

/* The router's choices i32 [T,S] before any limit, its own too. */
mg_var *mg_moe_wanted(const mg_moe_record *record);

/* [T,D] -> [T,D], without the residual. NULL after a failure (tape). */
mg_var *mg_moe_forward(mg_moe *moe, mg_tape *tape, const mg_moe_input *input, mg_moe_record *record);

/* After the optimiser step: hands the batch's demand to the router's after_step and to the window of global balance
 * losses. Call it once per training batch, before the tape is reset. */
mg_status mg_moe_after_step(mg_moe *moe, mg_tape *tape, const mg_moe_record *record);

/* What happened to the choices of one pass. demand = kept + dropped; rerouted choices are among the kept. Where experts
 * compute slots, a choice is a slot: all are kept. */
typedef struct mg_moe_counts {
  int64_t demand;          /* choices the router made */
  int64_t kept;            /* choices that reached an expert */
  int64_t dropped;         /* choices that did not */
  int64_t null;            /* choices of null experts; they are among the kept */
  int64_t rerouted;        /* choices that reached another expert than the router's */
  int64_t dropped_tokens;  /* tokens that chose and lost every choice */
  int64_t unrouted_tokens; /* tokens for which the router chose nothing */
  int64_t padded_rows;     /* zero rows that the experts computed */
  double useful_flops;     /* of the routed experts, forward: kept choices */
  double padded_flops;     /* spent on zero rows */
  double dropped_flops;    /* that the dropped choices would have cost */
} mg_moe_counts;

/* Reads a pass back to the host (waits for the device). `demand` and `kept` receive E numbers each; either may be NULL.
 */
mg_status mg_moe_count(mg_moe *moe, mg_tape *tape, const mg_moe_record *record, double *demand, double *kept,
                       mg_moe_counts *out);

typedef struct mg_moe_facts {
  int64_t experts, choices, expert_width, shared_experts, shared_width;
  double mean_choices;     /* per token; choices is the most */
  int64_t slots;           /* of each expert in a sequence, which mix its tokens; 0 = experts compute tokens */
  int64_t null_experts;    /* the last of `experts`, which compute nothing */
  double computed_choices; /* of mean_choices, those of experts that compute, under balanced load */
  int64_t losses_count;
  const char *loss_names[MG_MOE_LOSSES_MAX]; /* "balance", "z", "importance", "load", "entropy" */
  int64_t groupings_count;
  int64_t groupings[MG_MOE_GROUPINGS_MAX]; /* numbers of equal runs of experts to split load into (tree levels) */
  double gate_flops_per_token;             /* analytic, forward */
  double expert_flops_per_assignment;      /* products alone, as shared_flops_per_token */
  double expert_elementwise_flops;         /* of one assignment: activation and biases */
  double shared_flops_per_token;
  double shared_elementwise_flops; /* with the sum of routed and shared experts */
  double parallel_flops_per_token; /* of the dense feed-forward beside the experts, without its norm */
  int64_t parallel_width;
  bool parallel_norm;
  bool scale_inputs;
  bool per_token; /* outside training, what a token gets depends on that token alone */
  double null_flops_per_token;
  int64_t router_parameters, expert_parameters, shared_parameters; /* expert_parameters: of one routed expert */
  int64_t null_parameters;
} mg_moe_facts;
mg_moe_facts mg_moe_describe(const mg_moe *moe);
/* Analytic FLOPs of choosing experts for `sequences` of `sequence_tokens`, forward and outside training. */
double mg_moe_selection_flops(const mg_moe *moe, int64_t sequences, int64_t sequence_tokens);
mg_router *mg_moe_router(mg_moe *moe);

#endif
