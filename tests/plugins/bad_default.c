/* Has an option whose default its own range excludes. */
#include "zoo.h"

typedef struct bad_options {
  int64_t k;
} bad_options;
static const mg_option options[] = {MG_OPTION_INT(bad_options, k, 99, 1, 8, "experts kept per token"), MG_OPTION_END};

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("bad_default", zoo_one), .options = options,
                                        .options_size = sizeof(bad_options), .route = zoo_route};
MG_ROUTER_PLUGIN(plugin)
