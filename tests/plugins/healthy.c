/* The animal that nothing is wrong with. */
#include "zoo.h"

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("healthy", zoo_one), .route = zoo_route};
MG_ROUTER_PLUGIN(plugin)
