/* Counters that any layer may add to: work and time, split by numbered parts that the caller names. */
#ifndef MG_BASE_COUNTERS_H
#define MG_BASE_COUNTERS_H

#include <stdint.h>

enum { MG_COUNTER_PARTS_MAX = 16 };

typedef struct mg_counters {
  double flops[MG_COUNTER_PARTS_MAX];          /* forward */
  double backward_flops[MG_COUNTER_PARTS_MAX]; /* counted while walking back */
  double bytes[MG_COUNTER_PARTS_MAX];          /* inputs read once and outputs written once */
  int64_t time_ns[MG_COUNTER_PARTS_MAX];       /* only while timing is on */
  int64_t calls[MG_COUNTER_PARTS_MAX];
} mg_counters;

#endif
