/* Has the table of an older header of the same ABI: the fields after it lie in other data and must not be read. */
#include "zoo.h"

static const mg_router_plugin plugin = {.abi = MG_ABI,
                                        .size = offsetof(mg_router_plugin, user),
                                        ZOO_COMMON("smaller_table", zoo_one),
                                        .route = zoo_route,
                                        .formula = "THIS MUST NOT BE SHOWN"};
MG_ROUTER_PLUGIN(plugin)
