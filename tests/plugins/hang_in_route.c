/* Never returns from route. */
#include "zoo.h"

#include <unistd.h>

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *input, mg_route_output *output) {
  (void)router, (void)input, (void)output;
  for (;;) pause();
  return mg_tape_status(tape);
}

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("hang_in_route", zoo_one), .route = route};
MG_ROUTER_PLUGIN(plugin)
