/* Calls itself by another name than its file. */
#include "zoo.h"

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("somebody_else", zoo_one), .route = zoo_route};
MG_ROUTER_PLUGIN(plugin)
