/* Prints while it is loaded. */
#include "zoo.h"

#include <stdio.h>

__attribute__((constructor)) static void at_load(void) {
  printf("{\"hello\": 1}\n");
}

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("print_at_load", zoo_one), .route = zoo_route};
MG_ROUTER_PLUGIN(plugin)
