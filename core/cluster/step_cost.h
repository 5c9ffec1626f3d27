/* Seconds of one step of a serving instance as a function of two numbers: the tokens in the step, and the tokens of
 * context that each of them attends to on average. A grid of measured or simulated values, bilinear between its points,
 * and a refusal outside of them.
 *
 * Decode: a step has one token per running sequence, and the context is the mean length of the sequences. Prefill: a step
 * has the prompt tokens that it computes, and a token's context is all that stands before it in its sequence, so that a
 * whole prompt of P tokens, none of them cached, has a mean context of P / 2. Tokens are those of the whole instance, all
 * its devices together. */
#ifndef MG_CLUSTER_STEP_COST_H
#define MG_CLUSTER_STEP_COST_H

#include <jansson.h>

#include "moegauge/context.h"

typedef struct mg_step_cost mg_step_cost;

/* Copies a grid: `tokens` and `contexts` ascend and are at least 0, seconds[t * contexts_count + c] is finite and at
 * least 0. An axis with one value is one that the cost does not depend on. `where` begins messages; MG_USAGE says what is
 * wrong. */
mg_status mg_step_cost_create(mg_context *context, const char *where, const double *tokens, int64_t tokens_count,
                              const double *contexts, int64_t contexts_count, const double *seconds,
                              mg_step_cost **out);
/* The same from {"tokens": [...], "context": [...], "seconds": [[...] per value of tokens]}. */
mg_status mg_step_cost_from_json(mg_context *context, const char *where, const json_t *json, mg_step_cost **out);
void mg_step_cost_destroy(mg_step_cost *cost);

/* The most tokens that the table knows; infinity where the cost does not depend on them. */
double mg_step_cost_most_tokens(const mg_step_cost *cost);

/* MG_USAGE outside the grid, with both numbers and both ranges in the message. */
mg_status mg_step_cost_seconds(const mg_step_cost *cost, double tokens, double mean_context, double *seconds);

#endif
