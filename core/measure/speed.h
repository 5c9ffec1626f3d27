/* How fast a model reads a prompt (prefill) and writes one token after another (decode). */
#ifndef MG_MEASURE_SPEED_H
#define MG_MEASURE_SPEED_H

#include "model/model.h"

typedef struct mg_speed_settings {
  int64_t prompt;   /* tokens that one pass reads into an empty cache */
  int64_t generate; /* tokens that follow one at a time, each in a pass of its own */
  int64_t depth;    /* tokens in the cache before the first of them */
  int64_t rounds;
  uint64_t seed; /* of the tokens, which are drawn at random */
} mg_speed_settings;

typedef struct mg_speed {
  int64_t prefill_ns, decode_ns; /* of all prompt tokens, of all generated ones; 0 when there are none */
  double prefill_flops;          /* executed in those times */
  double decode_flops;
} mg_speed;

/* Each round is a prefill, then a decode after `depth` tokens, which are filled in untimed. Untimed passes before them
 * bring all memory in place. Logits are computed for the last token of each pass, as text would need them. The tape must
 * not record and is reset. `out` receives settings->rounds measurements. MG_USAGE for a model with an encoder, or when
 * there is nothing to measure. */
mg_status mg_speed_run(mg_model *model, mg_tape *tape, mg_dtype precision, const mg_speed_settings *settings,
                       mg_speed *out);

/* Bytes that decoding one token after `depth` others must read: the weights of the parts that it uses, of experts as many
 * as it chooses, and the cache. The embedding table counts only when it is the head. */
double mg_speed_decode_bytes(const mg_model *model, mg_dtype precision, int64_t depth);

#endif
