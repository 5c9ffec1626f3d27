/* Has the table of a newer header of the same ABI, which goes on after the fields that we know. */
#include "zoo.h"

static const struct {
  mg_router_plugin known;
  const char *later[4];
} plugin = {{.abi = MG_ABI, .size = sizeof plugin, ZOO_COMMON("larger_table", zoo_one), .route = zoo_route}, {"later"}};
MG_ROUTER_PLUGIN(plugin.known)
