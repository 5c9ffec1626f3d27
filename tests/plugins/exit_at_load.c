/* Ends the program while it is loaded. */
#include "zoo.h"

#include <stdlib.h>

__attribute__((constructor)) static void at_load(void) {
  exit(0);
}

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("exit_at_load", zoo_one), .route = zoo_route};
MG_ROUTER_PLUGIN(plugin)
