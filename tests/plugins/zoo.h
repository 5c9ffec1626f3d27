/* What the zoo shares: a route that is right (all tokens to expert 0 with weight 1), for routers wrong elsewhere. */
#ifndef MG_TESTS_PLUGINS_ZOO_H
#define MG_TESTS_PLUGINS_ZOO_H

#include <moegauge/moegauge.h>

static inline mg_var *zoo_ids(mg_tape *tape, const mg_route_input *input, int64_t choices, double expert) {
  return mg_fill(tape, MG_I32, 2, (const int64_t[]){input->tokens, choices}, expert);
}

static inline mg_var *zoo_weights(mg_tape *tape, const mg_route_input *input, int64_t choices, double weight) {
  return mg_fill(tape, mg_var_dtype(input->x), 2, (const int64_t[]){input->tokens, choices}, weight);
}

static inline mg_status zoo_route(mg_router *router, mg_tape *tape, const mg_route_input *input,
                                  mg_route_output *output) {
  (void)router;
  output->ids = zoo_ids(tape, input, 1, 0.0);
  output->weights = zoo_weights(tape, input, 1, 1.0);
  return mg_tape_status(tape);
}

static inline int64_t zoo_one(const mg_router *router) {
  (void)router;
  return 1;
}

static inline int64_t zoo_two(const mg_router *router) {
  (void)router;
  return 2;
}

static inline double zoo_no_flops(const mg_router *router) {
  (void)router;
  return 0.0;
}

static inline double zoo_no_selection(const mg_router *router, const mg_route_input *call) {
  (void)router, (void)call;
  return 0.0;
}

/* The fields that are the same in every animal. */
#define ZOO_COMMON(name_, choices_)                                                                                    \
  .name = name_, .summary = "A router of the zoo.", .choices = choices_, .gate_flops = zoo_no_flops,                   \
  .selection_flops = zoo_no_selection
#define ZOO_HEADER .abi = MG_ABI, .size = sizeof(mg_router_plugin)

#endif
