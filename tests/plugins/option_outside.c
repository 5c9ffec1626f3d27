/* Has an option that lies outside its options struct. */
#include "zoo.h"

typedef struct small_options {
  int64_t k;
} small_options;
static const mg_option options[] = {MG_OPTION_INT(small_options, k, 2, 1, 8, "experts kept per token"), MG_OPTION_END};

static const mg_router_plugin plugin = {ZOO_HEADER, ZOO_COMMON("option_outside", zoo_one), .options = options,
                                        .options_size = 4, .route = zoo_route};
MG_ROUTER_PLUGIN(plugin)
