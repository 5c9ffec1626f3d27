/* Random variables drawn one after the other from a stream. */
#ifndef MG_CLUSTER_DRAWS_H
#define MG_CLUSTER_DRAWS_H

#include "moegauge/rng.h"

typedef struct mg__draws {
  mg_stream stream;
  uint64_t next; /* index of the next uniform */
} mg__draws;

double mg__draw_uniform(mg__draws *draws);
double mg__draw_normal(mg__draws *draws);
/* Mean `mean`. */
double mg__draw_exponential(mg__draws *draws, double mean);
/* Mean `shape`, variance `shape`. Marsaglia and Tsang 2000, "A simple method for generating gamma variables". */
double mg__draw_gamma(mg__draws *draws, double shape);

#endif
