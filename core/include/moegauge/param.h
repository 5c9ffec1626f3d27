/* How a parameter is shaped and what it starts as: data, read by the core. */
#ifndef MOEGAUGE_PARAM_H
#define MOEGAUGE_PARAM_H

#include "moegauge/tensor.h"

/* A dimension of a parameter: a positive number, or one of these. MG_DIM_CUSTOM asks the plugin's `dimension`. */
enum { MG_DIM_NONE = 0, MG_DIM_WIDTH = -1, MG_DIM_EXPERTS = -2, MG_DIM_VOCABULARY = -3, MG_DIM_CUSTOM = -4 };

typedef enum mg_init {
  MG_INIT_ZERO,
  MG_INIT_ONE,
  MG_INIT_NORMAL,          /* mean 0, standard deviation `scale` */
  MG_INIT_TRUNCATED_FAN_IN /* mean 0, deviation sqrt(scale / last dimension), redrawn beyond 2 deviations */
} mg_init;

typedef struct mg_param_spec {
  const char *name;
  int64_t shape[MG_DIMS_MAX]; /* ends at MG_DIM_NONE */
  mg_init init;
  double scale;
  bool fixed; /* true: a buffer that no gradient trains; a router's prepare and after_step may change it */
} mg_param_spec;
#define MG_PARAM_END                                                                                                   \
  { NULL, {MG_DIM_NONE}, MG_INIT_ZERO, 0.0, false }

#endif
