/* Chooses the same expert twice for a token. */
#include "zoo.h"

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *input, mg_route_output *output) {
  (void)router;
  output->ids = zoo_ids(tape, input, 2, 0.0);
  output->weights = zoo_weights(tape, input, 2, 0.5);
  return mg_tape_status(tape);
}

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("duplicate_ids", zoo_two), .route = route};
MG_ROUTER_PLUGIN(plugin)
