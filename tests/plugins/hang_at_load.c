/* Never finishes loading. */
#include "zoo.h"

#include <unistd.h>

__attribute__((constructor)) static void at_load(void) {
  for (;;) pause();
}

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("hang_at_load", zoo_one), .route = zoo_route};
MG_ROUTER_PLUGIN(plugin)
