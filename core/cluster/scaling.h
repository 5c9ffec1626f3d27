/* How many instances a pool shall have: asked at fixed intervals, answered by a policy.
 *
 *   fixed       `instances`, always
 *   target      u n / `target` for a utilisation u of n instances: those at which the same work would fill each to `target`
 *   threshold   `by` more while u > `high`, `by` fewer while u < `low`
 *   scheduled   by the time of day: a list of {hour, instances}
 *   predictive  f / (c `target`) for the demand f in tokens per second that the arrivals' curve foretells in `lead_seconds`,
 *               and c = `tokens_per_second` of one instance
 *   custom      a function of the state
 *
 * Every answer is rounded up and held within `least` and `most`. Instances are given back only when every decision of the
 * last `calm_seconds` wanted fewer than there are. */
#ifndef MG_CLUSTER_SCALING_H
#define MG_CLUSTER_SCALING_H

#include <jansson.h>

#include "moegauge/option.h"

typedef enum mg_scaling_kind {
  MG_SCALING_FIXED,
  MG_SCALING_TARGET,
  MG_SCALING_THRESHOLD,
  MG_SCALING_SCHEDULED,
  MG_SCALING_PREDICTIVE,
  MG_SCALING_CUSTOM
} mg_scaling_kind;

enum { MG_SCALING_SCHEDULE_MAX = 96 };

typedef struct mg_scaling {
  int64_t policy; /* a mg_scaling_kind */
  int64_t instances, least, most, by;
  double target, high, low;
  double interval_seconds, calm_seconds, lead_seconds, tokens_per_second;
  struct {
    double hour;
    int64_t instances;
  } schedule[MG_SCALING_SCHEDULE_MAX];
  int64_t schedule_count;
  double last_needed_seconds; /* when a decision last wanted as many as there were, or more */
} mg_scaling;

/* What a policy knows when it decides. */
typedef struct mg_scaling_state {
  double seconds;                    /* since the start, which is midnight */
  double requests_per_second;        /* that came since the last decision */
  double tokens_per_second;          /* demand since then: prompt tokens to compute, or output tokens asked for */
  double forecast_tokens_per_second; /* in lead_seconds; NaN where arrivals have no curve */
  double utilisation;                /* since then, from 0 to 1 */
  int64_t queued;                    /* requests that wait now */
  int64_t instances, starting; /* there are (without those that drain), and how many of them start up or are down */
} mg_scaling_state;

const mg_option *mg_scaling_options(void);
/* From a JSON object of the options and "schedule". MG_USAGE says what is wrong; `where` begins messages. */
mg_status mg_scaling_from_json(mg_context *context, const char *where, const json_t *json, mg_scaling *out);

/* The wanted number, before and after the limits and the calm; `custom` is the answer of the function where that is the
 * policy. */
int64_t mg_scaling_wanted(mg_scaling *scaling, const mg_scaling_state *state, double custom);

#endif
