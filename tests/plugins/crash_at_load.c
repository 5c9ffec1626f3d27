/* Dies of a memory fault while it is loaded. */
#include "zoo.h"

#include <signal.h>

__attribute__((constructor)) static void at_load(void) {
  raise(SIGSEGV);
}

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("crash_at_load", zoo_one), .route = zoo_route};
MG_ROUTER_PLUGIN(plugin)
