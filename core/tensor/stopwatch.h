/* Time of a backend's calls: by the device's own clock where it has one, else by the host's, waiting on either side. */
#ifndef MG_TENSOR_STOPWATCH_H
#define MG_TENSOR_STOPWATCH_H

#include "moegauge/backend.h"

typedef struct mg_stopwatch {
  int64_t start_ns; /* of the host's clock */
} mg_stopwatch;

/* Start before the calls, stop after them; stop waits until they have finished. One at a time on a backend. */
mg_status mg_stopwatch_start(mg_backend *backend, mg_stopwatch *watch);
mg_status mg_stopwatch_stop(mg_backend *backend, const mg_stopwatch *watch, int64_t *out_ns);

#endif
