/* States a table that ends before the fields that every router has. */
#include "zoo.h"

static const mg_router_plugin plugin = {
    .abi = MG_ABI, .size = 16, ZOO_COMMON("table_too_small", zoo_one), .route = zoo_route};
MG_ROUTER_PLUGIN(plugin)
