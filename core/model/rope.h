/* Tables of rotary frequencies, computed on the host in double. */
#ifndef MG_MODEL_ROPE_H
#define MG_MODEL_ROPE_H

#include "model/spec.h"

/* Fills rope->columns / 2 frequencies for sequences of so far `positions` tokens; returns the factor on rotated columns.
 * Only longrope looks at `positions`. */
double mg__rope_table(const mg__rope *rope, int64_t positions, float *frequencies);
/* Whether sequences of so many tokens take other frequencies than those of so many others. */
bool mg__rope_turns(const mg__rope *rope, int64_t positions, int64_t others);
/* What scaling puts on the scores of attention beside 1 / sqrt(width). */
double mg__rope_score_factor(const mg__rope *rope);
/* Whether two layers can share a table. */
bool mg__rope_same(const mg__rope *a, const mg__rope *b);

#endif
