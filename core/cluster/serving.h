/* A serving cluster under a stream of requests, simulated event by event: continuous batching in pools of instances, KV
 * memory, failures, slow nodes, and pools that grow and shrink. core/cluster/README.md says what is modelled and what is
 * not. Deterministic: the same specification gives the same result on every machine. */
#ifndef MG_CLUSTER_SERVING_H
#define MG_CLUSTER_SERVING_H

#include <jansson.h>

#include "cluster/scaling.h"

typedef struct mg_serving_hooks {
  /* The answer of a custom policy of a pool ("prefill", "decode" or "mixed"). A failure ends the simulation. NULL: there
   * is none, and a custom policy is refused. */
  mg_status (*decide)(void *user, const char *pool, const mg_scaling_state *state, double *wanted);
  /* Told how many simulated seconds of how many are over; false ends the simulation with MG_INTERRUPTED. May be NULL. */
  bool (*progress)(void *user, double seconds, double all_seconds);
  void *user;
} mg_serving_hooks;

/* The flat options of a simulation and of a pool, for help. */
const mg_option *mg_serving_options(void);
const mg_option *mg_serving_pool_options(void);

/* Refuses what mg_serving_run would refuse before it starts: MG_USAGE, or MG_FILE for a recorded file. */
mg_status mg_serving_check(mg_context *context, const json_t *spec);

/* Simulates {options, "arrivals": {...}, and "mixed": {...} or "prefill": {...} and "decode": {...}}. *result is {"metrics",
 * "series", "tables"}, a new reference; core/cluster/README.md lists the names. MG_USAGE also when a step leaves its cost
 * table. `hooks` may be NULL. */
mg_status mg_serving_run(mg_context *context, const json_t *spec, const mg_serving_hooks *hooks, json_t **result);

#endif
