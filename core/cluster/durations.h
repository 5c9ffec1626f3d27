/* The distribution of durations, kept as counts in bins of 1 % width, so that percentiles of any number of requests cost
 * the same memory and are right within half a bin. */
#ifndef MG_CLUSTER_DURATIONS_H
#define MG_CLUSTER_DURATIONS_H

#include "moegauge/context.h"

enum { MG_DURATIONS_BINS = 3300 }; /* from 1e-6 seconds to 1e8 */

typedef struct mg_durations {
  int64_t bins[MG_DURATIONS_BINS];
  int64_t count;
  double sum; /* exact */
} mg_durations;

/* Adds `count` equal durations. */
void mg_durations_add(mg_durations *durations, double seconds, int64_t count);
/* NaN when empty. */
double mg_durations_mean(const mg_durations *durations);
/* The duration that a share of all (0 to 1) does not exceed: the middle of its bin. NaN when empty. */
double mg_durations_quantile(const mg_durations *durations, double share);

#endif
