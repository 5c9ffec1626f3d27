/* How likely a model finds a text. */
#ifndef MG_MEASURE_SCORE_H
#define MG_MEASURE_SCORE_H

#include "model/model.h"

typedef struct mg_score {
  double log_likelihood; /* sum of ln p over the tokens scored, in nats */
  int64_t tokens;        /* that were scored */
  int64_t greedy;        /* of those, the most likely one (ties: the lowest id) */
} mg_score;

/* Scores ids[from .. count), each given all tokens before it, in one pass of `count` - 1 tokens. 1 <= from < count.
 * Resets the tape before, and records nothing: branches share their memory. */
mg_status mg_score_tokens(mg_model *model, mg_tape *tape, const int32_t *ids, int64_t count, int64_t from,
                          mg_score *out);

#endif
