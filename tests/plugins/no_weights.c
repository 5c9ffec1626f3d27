/* Returns ids without weights. */
#include "zoo.h"

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *input, mg_route_output *output) {
  (void)router;
  output->ids = zoo_ids(tape, input, 1, 0.0);
  return mg_tape_status(tape);
}

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("no_weights", zoo_one), .route = route};
MG_ROUTER_PLUGIN(plugin)
