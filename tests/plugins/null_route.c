/* Has no route function. */
#include "zoo.h"

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("null_route", zoo_one)};
MG_ROUTER_PLUGIN(plugin)
