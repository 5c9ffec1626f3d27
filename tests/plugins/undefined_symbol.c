/* Needs a function that nothing provides. */
#include "zoo.h"

void mg_zoo_nobody_has_this(void);

static mg_status route(mg_router *router, mg_tape *tape, const mg_route_input *input, mg_route_output *output) {
  mg_zoo_nobody_has_this();
  return zoo_route(router, tape, input, output);
}

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("undefined_symbol", zoo_one), .route = route};
MG_ROUTER_PLUGIN(plugin)
