/* Dies of a memory fault when it is asked to route. */
#include "zoo.h"

#include <signal.h>

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *input, mg_route_output *output) {
  (void)router, (void)input, (void)output;
  raise(SIGSEGV);
  return mg_tape_status(tape);
}

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("crash_in_route", zoo_one), .route = route};
MG_ROUTER_PLUGIN(plugin)
