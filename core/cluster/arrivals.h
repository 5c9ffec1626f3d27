/* Where requests come from: a renewal process under a daily curve, or a file of recorded ones.
 *
 * Gaps between requests are gamma with mean 1 and coefficient of variation `cv` in operational time: 1 is a Poisson
 * process, more is bursty, 0 is a clock. Operational time is the integral of the rate, so that a curve bends the process
 * without changing it: with cv 1 it is the inhomogeneous Poisson process of that rate. Where requests are taken in groups
 * of g, a group comes with every g-th request: its gap is gamma of shape g / cv^2, which is the sum of g gaps.
 *
 * Lengths are independent, from a gamma or a log-normal distribution with a mean and a coefficient of variation. */
#ifndef MG_CLUSTER_ARRIVALS_H
#define MG_CLUSTER_ARRIVALS_H

#include <jansson.h>

#include "moegauge/option.h"

typedef struct mg_request {
  double seconds; /* when it comes */
  int32_t prompt_tokens, output_tokens;
  int32_t cached_tokens; /* of the prompt, whose keys and values are there already; fewer than prompt_tokens */
} mg_request;

typedef struct mg_arrivals mg_arrivals;

/* The flat options, for help; `curve` is read beside them. */
const mg_option *mg_arrivals_options(void);

/* From a JSON object of the options and, instead of `requests_per_second` alone, "curve": the rate over a day (24 hours)
 * as factors at equal distances from midnight on, linear between them, scaled to a mean of 1. `group` > 1 takes so many
 * requests at a time. MG_USAGE or, for a recorded file, MG_FILE with file, line and reason. */
mg_status mg_arrivals_create(mg_context *context, const json_t *json, uint64_t seed, int64_t group, mg_arrivals **out);
void mg_arrivals_destroy(mg_arrivals *arrivals);

/* The next request (or group of equal ones) in order of time; false when a recorded file has ended. */
bool mg_arrivals_next(mg_arrivals *arrivals, mg_request *out);

/* Expected requests per second at a time, in expectation over seeds; NaN for a recorded file. */
double mg_arrivals_rate(const mg_arrivals *arrivals, double seconds);
/* Mean tokens of a request that must be computed before its first token, and mean output tokens, as asked for (before
 * rounding and limits); NaN for a recorded file. */
double mg_arrivals_mean_prefill(const mg_arrivals *arrivals);
double mg_arrivals_mean_output(const mg_arrivals *arrivals);

#endif
