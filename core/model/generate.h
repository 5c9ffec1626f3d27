/* Going on from a prompt: tokens drawn one after the other from what a decoder expects next. */
#ifndef MG_MODEL_GENERATE_H
#define MG_MODEL_GENERATE_H

#include "model/model.h"

typedef struct mg_generate_settings {
  int64_t tokens; /* at most so many */
  double
      temperature; /* a token's weight is e^(logit / temperature); 0 = always the likeliest, of equals the lowest id */
  int64_t top_k;   /* only the k likeliest are drawn from; 0 = all */
  double top_p; /* of those, the fewest that hold this share of their weight (Holtzman et al. 2020, arXiv 1904.09751) */
  uint64_t seed;       /* of the draws */
  const int32_t *ends; /* tokens that end a text */
  int64_t ends_count;
  bool (*each)(void *user, int32_t id); /* told every token, one that ends the text too; false stops */
  void *user;
} mg_generate_settings;

/* Reads the prompt and draws what follows; the keys and values of past tokens are kept in `precision`, that of the tape's
 * products. The same seed gives the same tokens from the same logits. MG_USAGE if the prompt is empty, a setting makes no
 * sense, or the model has an encoder; MG_NUMERIC if a logit is no number. Resets the tape. */
mg_status mg_generate(mg_model *model, mg_tape *tape, mg_dtype precision, const int32_t *prompt, int64_t count,
                      const mg_generate_settings *settings);

/* The token that `uniform`, a number in (0, 1), draws from logits [V]. */
mg_status mg_generate_draw(mg_context *context, const float *logits, int64_t vocabulary,
                           const mg_generate_settings *settings, double uniform, int32_t *id);

#endif
