/* The router ABI: how a shared object turns hidden states into a routing.
 *
 * A router is written once, with the differentiable functions of tape.h, so the same source trains, runs inside a
 * checkpoint, and runs on every backend; it writes no backward pass. A whole plugin:
 *
 *     #include <moegauge/router.h>
 *     typedef struct { int64_t k; } options_t;
 *     static const mg_option options[] = {MG_OPTION_INT(options_t, k, 2, 1, 4096, "experts kept per token"), MG_OPTION_END};
 *     static const mg_param_spec params[] = {{"gate", {MG_DIM_EXPERTS, MG_DIM_WIDTH}, MG_INIT_NORMAL, 0.02}, MG_PARAM_END};
 *     static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *in, mg_route_output *out) {
 *       const options_t *o = router->options;
 *       out->logits = mg_linear(tape, in->x, mg_router_param(router, tape, "gate"));
 *       out->probs = mg_softmax(tape, out->logits);
 *       out->ids = mg_top_k(tape, out->probs, o->k, &out->weights);
 *       return mg_tape_status(tape);
 *     }
 *     static const mg_router_plugin plugin = {.abi = MG_ABI, .size = sizeof(mg_router_plugin), .name = "mine",
 *       .summary = "Softmax top-k.", .options = options, .options_size = sizeof(options_t), .params = params, .route = route};
 *     MG_ROUTER_PLUGIN(plugin)
 */
#ifndef MOEGAUGE_ROUTER_H
#define MOEGAUGE_ROUTER_H

#include "moegauge/option.h"
#include "moegauge/param.h"
#include "moegauge/tape.h"

typedef struct mg_router mg_router;

/* ---- one call --------------------------------------------------------------------------------------------- */

typedef struct mg_route_input {
  mg_var *x;               /* [T,D] hidden states */
  mg_var *token_ids;       /* i32 [T] ids of the input tokens; NULL if there are none */
  int64_t tokens;          /* T */
  int64_t sequence_tokens; /* tokens per sequence; T is a multiple */
  bool training;           /* noise and jitter only when true */
  mg_stream noise;         /* random numbers for this layer and batch, in evaluation too */
  mg_var *previous;        /* [T,E] logits of the mixture before; NULL if it gave none or has other experts */
} mg_route_input;

/* What a router fills: `ids` and `weights`, or `dispatch` and `combine` if it mixes tokens (plugin->slots). The rest is
 * for losses and measures, NULL where it has no meaning. The struct grows at its tail; the core clears it before a call. */
typedef struct mg_route_output {
  mg_var *ids;     /* i32 [T,S]: the chosen experts, distinct per token, -1 = no choice; S may exceed K */
  mg_var *weights; /* [T,S]: combine weights, through which gradients flow to the router */
  mg_var
      *probs; /* [T,E]: the router's distribution over experts, for balance losses and re-routing; sums to 1 per token,
                      or to less where experts were not evaluated (those hold 0) */
  mg_var *logits; /* [T,E]: scores before softmax or sigmoid, for the z-loss */
  mg_var *load;   /* [T,E]: differentiable probability that each expert is chosen, for the smooth load loss */
  mg_var *loss;   /* [1]: a loss of the router's own, already weighted; added to the layer's */

  /* Assignments that carry a dispatch weight, both [T, E p]: every expert has p = plugin->slots slots in every sequence,
   * and slot s of a sequence, which is one of expert s / p, is computed on sum_t dispatch[t,s] x[t] over the sequence's
   * tokens; token t gets sum_s combine[t,s] times the slot's output. The core then fills ids [T,E] with all experts and
   * weights [T,E] with the sums of combine over an expert's slots. */
  mg_var *dispatch, *combine;

  /* i32 [T,S]: the choices before a limit of the router's own, which leaves some out of `ids`; NULL = `ids`. Demand and the
   * counts of balance losses are these, and what is missing in `ids` counts as dropped. */
  mg_var *wanted;
} mg_route_output;

/* ---- what a router promises; `moegauge check router` holds it to these ------------------------------------- */

enum {
  MG_ROUTER_WEIGHTS_SUM_TO_ONE = 1u << 0, /* for the options given; see plugin->promises */
  MG_ROUTER_WEIGHTS_NONNEGATIVE = 1u << 1,
  MG_ROUTER_CAUSAL = 1u << 2,               /* a later token never changes an earlier token's routing */
  MG_ROUTER_PER_TOKEN = 1u << 3,            /* a token's routing depends on that token alone */
  MG_ROUTER_EXPERTS_EXCHANGEABLE = 1u << 4, /* permuting the experts' parameters permutes the routing */
  /* What `route` fills beside ids and weights; a loss or policy that needs a missing one is refused before a run. */
  MG_ROUTER_GIVES_PROBS = 1u << 5,
  MG_ROUTER_GIVES_LOGITS = 1u << 6,
  MG_ROUTER_GIVES_LOAD = 1u << 7,
  MG_ROUTER_GIVES_LOSS = 1u << 8,
  /* The weights are those of a hard choice while their gradient is that of soft ones, so that it is no derivative. */
  MG_ROUTER_STRAIGHT_THROUGH = 1u << 9,
  /* Experts are weighed one after the other, each among those that are left, so that a weight is no share of the
   * expert's probability. */
  MG_ROUTER_ONE_BY_ONE = 1u << 10
};

typedef struct mg_router_plugin {
  uint32_t abi;  /* MG_ABI */
  uint32_t size; /* sizeof(mg_router_plugin) as the plugin was compiled */
  const char *name;
  const char *summary;      /* one sentence */
  const char *paper;        /* "Shazeer et al. 2017, arXiv 1701.06538"; NULL = none */
  const mg_option *options; /* ends with MG_OPTION_END; NULL = none */
  size_t options_size;
  const mg_param_spec *params; /* ends with MG_PARAM_END; NULL = none */

  /* Optional: refuses options that do not fit the layer (k > E, branching^depth != E) with MG_USAGE and a message that
   * names the option and the allowed values. Called before anything is allocated. Default: an option `k` may not be more
   * than E. */
  mg_status (*check)(const mg_router *router);
  /* The size of a MG_DIM_CUSTOM dimension; 0 leaves the parameter out. `param` and `dim` index the tables above. */
  int64_t (*dimension)(const mg_router *router, int32_t param, int32_t dim);
  /* Optional: the most choices per token (S), for memory and FLOPs. Default: the integer option `k` where there is one,
   * else E. */
  int64_t (*choices)(const mg_router *router);
  /* Optional: the promises kept under these options, a set of MG_ROUTER_ flags. Default: none. */
  uint32_t (*promises)(const mg_router *router);
  mg_status (*route)(mg_router *router, mg_tape *tape, const mg_route_input *input, mg_route_output *output);
  /* Optional: analytic FLOPs of the gate's products for one token, forward. Default: 2 for each element of the trained
   * parameters whose last dimension is the width, by which a hidden state is multiplied. */
  double (*gate_flops)(const mg_router *router);

  /* Optional: called on the host after each optimiser step with the batch's demand per expert [E], to move buffers. */
  mg_status (*after_step)(mg_router *router, mg_tape *tape, const int32_t *demand);
  /* Free for a host that makes plugins at run time (routers written in Lua). */
  void *user;
  /* Optional: into how many equal runs of consecutive experts load is worth splitting (the levels of a tree, devices);
   * writes at most `most` numbers to `groups` and returns how many there are. */
  int64_t (*groupings)(const mg_router *router, int64_t *groups, int64_t most);
  /* Optional: the router in one line, as its paper writes it, for `moegauge help router NAME`. */
  const char *formula;
  /* Optional: choices per token on average, where most tokens make fewer than `choices` allows; for analytic FLOPs. */
  double (*mean_choices)(const mg_router *router);
  /* Optional: called before a training with how often each token id occurs in its data [V], to fill buffers. A buffer
   * that is filled already (a checkpoint's) should stay. */
  mg_status (*prepare)(mg_router *router, mg_tape *tape, const int64_t *token_counts);
  /* Optional: p, the slots of each expert in a sequence, for a router that fills `dispatch` and `combine`; without it, or
   * with 0, experts compute tokens. Such a router has no `choices`: every token takes part in every expert. */
  int64_t (*slots)(const mg_router *router);
  /* Optional: called after `prepare` with a sample of the training data in running order, `count` token ids with -1
   * between documents, to fill buffers from which tokens stand together. */
  mg_status (*prepare_text)(mg_router *router, mg_tape *tape, const int32_t *ids, int64_t count);
  /* Optional: analytic FLOPs of choosing in one forward call: one for each score that mg_top_k looks at. `call` has its
   * numbers of tokens and `training`, no variables. Default: one selection over all experts for each token, none for a
   * router that mixes tokens. */
  double (*selection_flops)(const mg_router *router, const mg_route_input *call);
} mg_router_plugin;

/* A router inside one layer. The core creates it. */
struct mg_router {
  const mg_router_plugin *plugin;
  mg_context *context;
  const void *options; /* filled from plugin->options */
  int64_t width;       /* D */
  int64_t experts;     /* E */
  int64_t vocabulary;  /* V; 0 if there are no token ids */
  int32_t layer;       /* index of the layer, for streams and messages */
  void *host;          /* the core's: parameter storage */
  int64_t step_tokens; /* tokens routed in training since the last after_step: those behind its demand */
};

/* For a plugin's check: refuses k experts per token where the layer has fewer, and k = 1 with `renormalised` weights,
 * which would always be 1, so that the gate learned nothing. MG_USAGE with a message that names k and what is allowed. */
MG_API mg_status mg_router_check_k(const mg_router *router, int64_t k, bool renormalised);

/* The parameter as a variable on `tape`; its gradient is collected by the core. A parameter left out gives NULL without
 * failing the tape, so that `if (mg_router_has_param(...))` can guard it. */
MG_API mg_var *mg_router_param(mg_router *router, mg_tape *tape, const char *name);
MG_API bool mg_router_has_param(const mg_router *router, const char *name);
/* Overwrites a fixed parameter (a buffer) with `value` of as many elements; for prepare and after_step. Variables that still stand
 * for the buffer on the tape see the new elements. */
MG_API mg_status mg_router_store(mg_router *router, mg_tape *tape, const char *name, mg_var *value);

typedef const mg_router_plugin *(*mg_router_entry_function)(void);

#ifdef MG_PLUGIN_STATIC
#define MG_ROUTER_PLUGIN(table)                                                                                        \
  const mg_router_plugin *MG_PLUGIN_STATIC(void);                                                                      \
  const mg_router_plugin *MG_PLUGIN_STATIC(void) {                                                                     \
    return &(table);                                                                                                   \
  }
#else
#define MG_ROUTER_PLUGIN(table)                                                                                        \
  MG_API const mg_router_plugin *mg_router_entry(void);                                                                \
  const mg_router_plugin *mg_router_entry(void) {                                                                      \
    return &(table);                                                                                                   \
  }
#endif

#endif
