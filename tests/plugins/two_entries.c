/* Exports the entries of both kinds. */
#include "zoo.h"

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("two_entries", zoo_one), .route = zoo_route};
MG_ROUTER_PLUGIN(plugin)
MG_API const mg_backend_plugin *mg_backend_entry(void);
const mg_backend_plugin *mg_backend_entry(void) {
  return NULL;
}
