/* A router inside a layer: options checked, parameters made, calls checked. */
#ifndef MG_MOE_ROUTER_H
#define MG_MOE_ROUTER_H

#include <jansson.h>

#include "host/registry.h"
#include "tensor/params.h"

typedef struct mg_router_place {
  int64_t width, experts, vocabulary;
  int32_t layer;
} mg_router_place;

/* Checks a router specification {"name": "topk", "k": 2, ...} for a layer of that shape without allocating weights.
 * MG_USAGE names the option and the allowed values. */
mg_status mg_router_check_spec(mg_context *context, mg_registry *registry, const json_t *spec, mg_router_place place);

/* What a router would be, without parameters: for checks, analytic costs and promises before a run. Its `route` must
 * not be called. Destroyed with mg_router_destroy. */
mg_status mg_router_describe(mg_context *context, mg_registry *registry, const json_t *spec, mg_router_place place,
                             mg_router **out);

/* Makes the router and its parameters in `params` under `prefix` ("layers.2.feed_forward.router."). The store must
 * outlive the router. */
mg_status mg_router_create(mg_context *context, mg_registry *registry, const json_t *spec, mg_router_place place,
                           mg_params *params, const char *prefix, uint64_t seed, mg_router **out);
void mg_router_destroy(mg_router *router);

/* The specification with every default written out, as a new object; NULL when memory runs out. */
json_t *mg_router_spec(const mg_router *router);

/* Runs the router and checks what came back: both dues present, shapes and dtypes right, and, where the host can read
 * it, every id in -1 .. E-1. MG_PLUGIN if not; the tape has then failed. Fills ids and weights of a router with slots. */
mg_status mg_router_route(mg_router *router, mg_tape *tape, const mg_route_input *input, mg_route_output *output);

/* What a router may learn of the training data before the first step. */
typedef struct mg_router_text {
  const int64_t *counts; /* [V]: how often each token id occurs */
  const int32_t *ids;    /* [length]: a sample in running order, -1 between documents */
  int64_t length;
} mg_router_text;

/* Whether the plugin has a `prepare` or `prepare_text`, and their calls; MG_OK where it has none. */
bool mg_router_wants_text(const mg_router *router);
mg_status mg_router_prepare(mg_router *router, mg_tape *tape, const mg_router_text *text);

/* Trainable elements of the router's parameters; 0 for a description. */
int64_t mg_router_parameters(const mg_router *router);

/* The plugin's answers, or the defaults of moegauge/router.h where it gives none. */
int64_t mg_router_choices(const mg_router *router);
/* Choices per token on average: what the plugin says, else mg_router_choices. */
double mg_router_mean_choices(const mg_router *router);
/* Slots of each expert in a sequence; 0 where experts compute tokens. */
int64_t mg_router_slots(const mg_router *router);
uint32_t mg_router_promises(const mg_router *router);
double mg_router_gate_flops(const mg_router *router);
/* Of one forward call, of which the numbers of tokens and `training` count. */
double mg_router_selection_flops(const mg_router *router, const mg_route_input *call);
int64_t mg_router_groupings(const mg_router *router, int64_t *groups, int64_t most);

#endif
