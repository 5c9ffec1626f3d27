/* What the files of the serving simulation share. Requests are simulated in groups of `group` equal ones; all counts
 * below are of groups and of one member's tokens, and limits are divided accordingly when the plan is made. */
#ifndef MG_CLUSTER_SERVING_INTERNAL_H
#define MG_CLUSTER_SERVING_INTERNAL_H

#include "base/vector.h"
#include "cluster/arrivals.h"
#include "cluster/draws.h"
#include "cluster/durations.h"
#include "cluster/serving.h"
#include "cluster/step_cost.h"

enum { MG__POOLS_MAX = 2, MG__NOBODY = -1 };

/* ---- the plan ------------------------------------------------------------------------------------------------ */

typedef struct mg__serving_settings {
  double hours;
  int64_t seed, group;
  bool drain;
  double sample_seconds;
  double ttft_seconds, tpot_seconds; /* the objective */
  double dollars_per_node_hour, idle_watts_per_node, busy_watts_per_node;
} mg__serving_settings;

typedef struct mg__pool_settings {
  int64_t nodes, step_tokens, sequences, kv_tokens;
  bool chunked, reserve;
  double start_up_seconds, transfer_seconds, transfer_seconds_per_token;
  double node_failure_hours, repair_seconds;
  double node_slow_hours, slow_seconds, slowdown;
} mg__pool_settings;

typedef struct mg__pool_plan {
  const char *name;
  bool prefills, decodes;
  mg__pool_settings set;
  int64_t step_tokens, sequences, kv_tokens; /* the limits of an instance, per member of a group */
  mg_step_cost *prefill_step, *decode_step;
  mg_scaling scaling;
} mg__pool_plan;

typedef struct mg__serving_plan {
  mg_context *context;
  mg__serving_settings set;
  mg__pool_plan pools[MG__POOLS_MAX]; /* one that prefills comes first */
  int64_t pools_count;
  mg_arrivals *arrivals;
} mg__serving_plan;

mg_status mg__serving_plan_make(mg_context *context, const json_t *spec, mg__serving_plan **out);
void mg__serving_plan_free(mg__serving_plan *plan);

/* ---- requests ------------------------------------------------------------------------------------------------ */

typedef struct mg__request {
  double arrived, first_token; /* seconds; first_token is negative until there is one */
  int32_t prompt, output, cached;
  int32_t generated;      /* tokens that the user has */
  int32_t present;        /* tokens of its context whose keys and values are in memory; not kept while it decodes */
  int32_t chunk;          /* tokens that the step under way adds to them */
  int32_t next, previous; /* in the one list that holds it */
  int32_t place;          /* in its instance's heap while it decodes */
  int64_t last_step;      /* the decode step of its instance with which it ends */
} mg__request;

typedef struct mg__requests {
  mg_context *context;
  mg__request *items;
  size_t used, room;
  int32_t free; /* head of the list of slots to use again */
} mg__requests;

mg_status mg__requests_take(mg__requests *requests, int32_t *id);
void mg__requests_give(mg__requests *requests, int32_t id);

typedef struct mg__list {
  int32_t first, last;
  int64_t count;
} mg__list;

void mg__list_clear(mg__list *list);
void mg__list_append(mg__requests *requests, mg__list *list, int32_t id);
void mg__list_prepend(mg__requests *requests, mg__list *list, int32_t id);
void mg__list_remove(mg__requests *requests, mg__list *list, int32_t id);

/* ---- events -------------------------------------------------------------------------------------------------- */

typedef enum mg__event_kind {
  MG__STEP_ENDS,
  MG__INSTANCE_READY,
  MG__NODE_FAILS,
  MG__NODE_REPAIRED,
  MG__NODE_SLOWS,
  MG__TRANSFER_ENDS,
  MG__POOL_DECIDES,
  MG__SAMPLE
} mg__event_kind;

typedef struct mg__event {
  double seconds;
  uint64_t order; /* of scheduling: equal times keep it */
  int32_t kind, pool;
  int32_t index;  /* an instance or a request */
  uint32_t epoch; /* of the instance; events of an earlier epoch are void */
} mg__event;

/* A binary heap, earliest first. */
typedef struct mg__events {
  mg_context *context;
  mg__event *items;
  size_t count, room;
  uint64_t scheduled;
} mg__events;

mg_status mg__events_add(mg__events *events, mg__event event);
mg__event mg__events_pop(mg__events *events);

/* ---- instances and pools ------------------------------------------------------------------------------------- */

typedef enum mg__instance_state {
  MG__STOPPED, /* not there; its place may be used again */
  MG__STARTING,
  MG__IDLE,
  MG__BUSY,
  MG__DOWN,
  MG__STATES
} mg__instance_state;

typedef struct mg__instance {
  mg__instance_state state;
  bool draining; /* takes nothing new and stops when it is empty */
  uint32_t epoch;
  double since;                 /* when time was last accounted */
  double slow_until;            /* a node of it is slow */
  double occupancy;             /* of the step under way, from 0 to 1 */
  bool decoding;                /* the step under way adds a token to every running sequence */
  int64_t steps;                /* decode steps done */
  mg__list prefilling, running; /* in order of admission */
  int32_t *heap;                /* running sequences, the next to end first */
  size_t heap_room;
  int64_t kv_tokens;      /* set aside: for running and prefilling ones */
  int64_t context_tokens; /* present for running ones */
} mg__instance;

/* Running totals; windows are differences of two. In instance seconds. */
typedef struct mg__meter {
  double used, available, paid; /* occupancy, busy or idle, all but stopped */
  double requests, tokens;      /* demand, in requests and tokens */
} mg__meter;

typedef struct mg__pool {
  const mg__pool_plan *plan;
  mg_scaling scaling;
  mg__instance *instances;
  size_t count, room;
  int64_t idle, paid; /* instances: idle and not draining; not stopped */
  mg__list queue;     /* requests to prefill, or ready to decode */
  double state_seconds[MG__STATES];
  double paid_since; /* when `meter.paid` was last brought up */
  mg__meter meter, decided, sampled;
  double decided_at;
  double kv_peak;        /* largest share of an instance's KV memory set aside */
  double queued_seconds; /* requests in the queue, integrated */
  double queue_since;
} mg__pool;

/* ---- the simulation ------------------------------------------------------------------------------------------ */

typedef struct mg__tally {
  int64_t arrived, finished, rejected, met, preempted, lost, failures; /* requests and events, not groups */
  double input_tokens, cached_tokens, prefill_tokens, output_tokens;
  mg_durations ttft, tpot, whole;
} mg__tally;

typedef struct mg__simulation {
  mg_context *context;
  const mg__serving_plan *plan;
  const mg_serving_hooks *hooks;
  double now, until; /* seconds; arrivals end at `until` */
  mg__events events;
  mg__requests requests;
  mg__pool pools[MG__POOLS_MAX];
  mg_request coming;
  bool more; /* `coming` is still to come */
  mg__draws draws;
  int64_t present; /* groups in the system */
  double present_seconds, present_since;
  int64_t nodes_peak;
  mg__tally tally;
  double sampled_at, sampled_output;
  json_t *series;
} mg__simulation;

static inline mg__pool *mg__decode_pool(mg__simulation *sim) {
  return &sim->pools[sim->plan->pools_count - 1];
}

/* Ends the wait of idle instances while there is work. */
mg_status mg__pool_wake(mg__simulation *sim, mg__pool *pool);
void mg__pool_enqueue(mg__simulation *sim, mg__pool *pool, int32_t id, bool first);
int32_t mg__pool_dequeue(mg__simulation *sim, mg__pool *pool);
/* Brings all sums up to now. */
void mg__pool_account(mg__simulation *sim, mg__pool *pool);
void mg__instance_enter(mg__simulation *sim, mg__pool *pool, mg__instance *instance, mg__instance_state state);
mg_status mg__pool_open(mg__simulation *sim, int64_t index);
void mg__pool_close(mg__simulation *sim, mg__pool *pool);
mg_status mg__pool_ready(mg__simulation *sim, mg__pool *pool, int32_t index);
mg_status mg__pool_fail(mg__simulation *sim, mg__pool *pool, int32_t index);
mg_status mg__pool_repair(mg__simulation *sim, mg__pool *pool, int32_t index);
mg_status mg__pool_slow(mg__simulation *sim, mg__pool *pool, int32_t index);
mg_status mg__pool_decide(mg__simulation *sim, mg__pool *pool);

/* Starts the next step of an instance, or leaves it idle, or stops it when it drains and is empty. */
mg_status mg__step_begin(mg__simulation *sim, mg__pool *pool, mg__instance *instance);
mg_status mg__step_end(mg__simulation *sim, mg__pool *pool, mg__instance *instance);
/* Sends everything that an instance held back to be prefilled. */
mg_status mg__step_lose(mg__simulation *sim, mg__pool *pool, mg__instance *instance);

/* The running sequences of an instance. */
mg_status mg__running_add(mg__simulation *sim, const mg__pool *pool, mg__instance *instance, int32_t id);
void mg__running_remove(mg__simulation *sim, const mg__pool *pool, mg__instance *instance, int32_t id);
/* The one that ends with the step just done, or MG__NOBODY. */
int32_t mg__running_ended(const mg__simulation *sim, const mg__instance *instance);

void mg__count_present(mg__simulation *sim, int64_t change);
mg_status mg__serving_sample(mg__simulation *sim);
mg_status mg__serving_result(mg__simulation *sim, json_t **result);

#endif
