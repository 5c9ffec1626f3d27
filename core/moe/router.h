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

/* The same, and makes the router's parameters in `params` under `prefix` ("layers.2.moe.router."). */
mg_status mg_router_create(mg_context *context, mg_registry *registry, const json_t *spec, mg_router_place place,
                           mg_params *params, const char *prefix, uint64_t seed, mg_router **out);
void mg_router_destroy(mg_router *router);

/* Runs the router and checks what came back: both dues present, shapes and dtypes right. MG_PLUGIN if not. */
mg_status mg_router_route(mg_router *router, mg_tape *tape, const mg_route_input *input, mg_route_output *output);

#endif
