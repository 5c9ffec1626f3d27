/* A router alone, with its parameters, on one input. */
#ifndef MG_TESTS_SUPPORT_ROUTER_WORLD_H
#define MG_TESTS_SUPPORT_ROUTER_WORLD_H

#include "support/moe_world.h"

enum { ROUTER_TOKENS = 9, ROUTER_WIDTH = 6, ROUTER_EXPERTS_MAX = 32, ROUTER_VOCABULARY = 50 };

typedef struct router_world {
  moe_world world;
  mg_router *router;
  int64_t experts;
  double x[ROUTER_TOKENS * ROUTER_WIDTH]; /* normal */
  int32_t token_ids[ROUTER_TOKENS];       /* uniform */
  int64_t sequence_tokens;                /* ROUTER_TOKENS until a test changes it */
  mg_route_output out;
} router_world;

/* Opens a world in f64 with the router of `spec` ("{'name': 'topk'}"), its trained parameters normal with the given
 * deviation. */
void router_world_open(router_world *r, const char *spec, int64_t experts, double deviation);
void router_world_close(router_world *r);
/* Routes x; the outputs are in r->out. */
void router_world_route(router_world *r, bool training, mg_stream noise);

/* Fails the test unless a layer of `experts` refuses the router with words in its message. */
void assert_router_refused(const char *spec, int64_t experts, const char *words);

/* A parameter's elements by the plugin's name. */
void router_world_param(router_world *r, const char *name, double *out, int64_t count);

#endif
