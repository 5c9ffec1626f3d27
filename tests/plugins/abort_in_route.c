/* Ends the process when it is asked to route. */
#include "zoo.h"

#include <stdlib.h>

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *input, mg_route_output *output) {
  (void)router, (void)tape, (void)input, (void)output;
  abort();
}

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("abort_in_route", zoo_one), .route = route};
MG_ROUTER_PLUGIN(plugin)
