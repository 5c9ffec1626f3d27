/* Serving simulations from JSON texts, and what came out of them. */
#ifndef MG_TESTS_SUPPORT_SERVING_H
#define MG_TESTS_SUPPORT_SERVING_H

#include "cluster/serving.h"
#include "support/testing.h"

/* A specification from text, with ' for ". */
json_t *mg_serving_spec(const char *format, ...) MG_PRINTF(1, 2);
/* The result of a specification, which is released; the test fails if it is refused. */
json_t *mg_serving_result(mg_context *context, json_t *spec);
/* The status of a specification that must be refused before anything runs, and when it is run. */
mg_status mg_serving_refused(mg_context *context, json_t *spec);
/* A metric; NaN for null, and the test fails if there is none. */
double mg_serving_metric(const json_t *result, const char *name);
/* Seconds that the instances of a pool spent "starting", "idle", "busy", "down" or "paid". */
double mg_serving_seconds(const json_t *result, const char *pool, const char *state);
/* Writes requests to a temporary file and gives its path, in a static buffer; the caller removes it. */
const char *mg_serving_recorded(const char *text);

#endif
