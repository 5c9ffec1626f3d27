/* What the files of core/moe share: the parsed specification, the layer, and its steps. */
#ifndef MG_MOE_INTERNAL_H
#define MG_MOE_INTERNAL_H

#include "moe/activation.h"
#include "moe/layer.h"

typedef enum mg__policy { MG__POLICY_NONE, MG__POLICY_DROP, MG__POLICY_REROUTE, MG__POLICY_PAD } mg__policy;
typedef enum mg__order { MG__ORDER_POSITION, MG__ORDER_PRIORITY, MG__ORDER_BATCH_PRIORITY } mg__order;
typedef enum mg__loss_kind {
  MG__LOSS_BALANCE,
  MG__LOSS_Z,
  MG__LOSS_IMPORTANCE,
  MG__LOSS_LOAD,
  MG__LOSS_ENTROPY
} mg__loss_kind;
typedef enum mg__scope { MG__SCOPE_SEQUENCE, MG__SCOPE_SHUFFLE, MG__SCOPE_BATCH, MG__SCOPE_GLOBAL } mg__scope;

typedef enum mg__importance { MG__OF_WEIGHTS, MG__OF_PROBS } mg__importance;

typedef struct mg__capacity {
  int64_t policy; /* mg__policy */
  double factor;
  int64_t tokens; /* the capacity itself; 0 = by factor */
  int64_t order;  /* mg__order */
} mg__capacity;

typedef struct mg__loss {
  int64_t kind; /* mg__loss_kind */
  double weight;
  int64_t scope;   /* mg__scope; balance only */
  int64_t window;  /* batches over which a global balance loss counts load */
  int64_t choices; /* of each token that a balance loss counts; 0 = all */
  int64_t groups;  /* equal runs of experts that a balance loss balances; 0 = experts */
  int64_t of;      /* mg__importance: whose importance */
} mg__loss;

typedef enum mg__shared_gate { MG__SHARED_PLAIN, MG__SHARED_SIGMOID } mg__shared_gate;
typedef struct mg__shared {
  int64_t experts, width;
  int64_t gate; /* mg__shared_gate */
} mg__shared;

/* A dense feed-forward beside the experts; width 0 = none. */
typedef struct mg__parallel {
  int64_t width;
  bool norm; /* it has a norm of its own */
} mg__parallel;

/* Experts that compute nothing, behind the others. */
typedef struct mg__null {
  int64_t zero, copy, constant;
  double tau; /* price of a null expert in the balance loss, relative to one that computes */
} mg__null;

/* Choices that are lost on purpose. */
enum { MG__KNOCK_OUT_MAX = 256 };
typedef struct mg__knock_out {
  int64_t choices; /* the first so many of every token */
  int64_t experts_count;
  int64_t experts[MG__KNOCK_OUT_MAX];
} mg__knock_out;

typedef struct mg__moe_spec {
  int64_t kind;
  int64_t experts, width;
  int64_t activation;  /* mg_activation */
  double alpha, limit; /* of clamped_silu */
  bool gated, biases, scale_inputs;
  mg__capacity capacity;
  mg__shared shared;
  mg__parallel parallel;
  mg__null null;
  mg__knock_out knock_out;
  mg__loss losses[MG_MOE_LOSSES_MAX];
  int64_t losses_count;
  const json_t *router; /* borrowed from the specification */
} mg__moe_spec;

mg_status mg__moe_spec_read(mg_context *context, const json_t *json, mg__moe_spec *out);
/* Refuses what is described but cannot run yet, by name. */
mg_status mg__moe_spec_runs(mg_context *context, const mg__moe_spec *spec);
/* Refuses losses and policies that need what the router does not give. */
mg_status mg__moe_spec_fits(const mg__moe_spec *spec, const mg_router *router);
json_t *mg__moe_spec_json(const mg__moe_spec *spec, const mg_router *router);
const char *mg__loss_name(int64_t kind);
/* The longest window of a global balance loss; 1 if none counts beyond its batch. */
int64_t mg__moe_spec_window(const mg__moe_spec *spec);

struct mg_moe {
  mg_context *context;
  mg__moe_spec spec; /* `router` is NULL once created */
  int64_t width;
  mg_router *router;
  mg_params *params;
  int64_t gate, up, down;                                           /* of the routed experts, in the store; -1 = none */
  int64_t gate_bias, up_bias, down_bias;                            /* [E,H], [E,H], [E,D] */
  int64_t shared_gate, shared_up, shared_down;                      /* of the shared experts */
  int64_t shared_mix;                                               /* [1,D], whose sigmoid weighs them */
  int64_t parallel_gate, parallel_up, parallel_down, parallel_norm; /* of the dense feed-forward beside them */
  int64_t null_mix, null_value;                                     /* of the constant null experts: [2n,D] and [n,D] */
  int64_t window; /* the demand of earlier batches, newest first; -1 = none */
  void *scratch;  /* host memory that grows in warm-up */
  size_t scratch_bytes;
};

/* Host memory of at least `bytes`, valid until the next call; NULL on failure. */
void *mg__moe_scratch(mg_moe *moe, size_t bytes);

/* What the router asked for, before any limit: i32 [T,S], or the slots. */
mg_var *mg__demanded_ids(const mg_moe_record *record);

/* The assignment under the layer's capacity policy: fills capacity, ids, weights and assignment of the record. */
mg_status mg__capacity_apply(mg_moe *moe, mg_tape *tape, mg_moe_record *record);

/* Experts that compute nothing (null.c): how many, the others, and the share of balanced choices that those get. */
int64_t mg__null_experts(const mg__moe_spec *spec);
int64_t mg__computing_experts(const mg__moe_spec *spec);
double mg__computing_share(const mg__moe_spec *spec);
double mg__null_flops(const mg_moe *moe); /* of their products, per token */
int64_t mg__null_parameters(const mg_moe *moe);
/* 1 for null experts, else 0: [1,E]. */
mg_var *mg__null_row(const mg_moe *moe, mg_tape *tape, mg_dtype dtype);
/* The ids, with -1 instead of null experts. */
mg_var *mg__computing_ids(const mg_moe *moe, mg_tape *tape, mg_var *ids);
/* What the chosen null experts add to the layer's output [T,D]; NULL if they are all zero experts, or after a failure. */
mg_var *mg__null_output(mg_moe *moe, mg_tape *tape, mg_var *x, const mg_moe_record *record);

/* Slots (slots.c). Begins: the record's ids and weights become those of the slots; then their assignment. Mixes tokens
 * [T,D] into slots [sequences * E p, D], and spreads what the experts made of them over the tokens. */
mg_status mg__slots_begin(mg_moe *moe, mg_tape *tape, mg_moe_record *record);
mg_status mg__slots_assign(mg_moe *moe, mg_tape *tape, mg_moe_record *record);
mg_var *mg__slots_mix(mg_tape *tape, mg_var *x, const mg_moe_record *record);
mg_var *mg__slots_spread(mg_tape *tape, mg_var *slots, const mg_moe_record *record);

/* The router's choices [T,S] without those that the specification knocks out (knock_out.c). */
mg_var *mg__surviving_ids(const mg_moe *moe, mg_tape *tape, mg_var *ids);
mg_status mg__knock_out_read(mg_context *context, const json_t *json, mg__moe_spec *out);
json_t *mg__knock_out_json(const mg__knock_out *knock_out); /* NULL if nothing is knocked out */

/* The auxiliary losses: fills loss and losses of the record. */
mg_status mg__losses_apply(mg_moe *moe, mg_tape *tape, const mg_moe_input *input, mg_moe_record *record);
/* Puts a batch's demand in front of the window. */
mg_status mg__losses_remember(mg_moe *moe, mg_tape *tape, const mg_moe_record *record);

#endif
