/* Was compiled for an ABI after ours. */
#include "zoo.h"

static const mg_router_plugin plugin = {
    .abi = MG_ABI + 1, .size = sizeof(mg_router_plugin), ZOO_COMMON("newer_abi", zoo_one), .route = zoo_route};
MG_ROUTER_PLUGIN(plugin)
