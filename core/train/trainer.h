/* The trainer: batches, forward, backward, clipping, AdamW, evaluation, and a record of all that happened. */
#ifndef MG_TRAIN_TRAINER_H
#define MG_TRAIN_TRAINER_H

#include "base/options.h"
#include "model/model.h"
#include "train/data.h"

/* Called between steps; returning false stops the run with MG_INTERRUPTED after a checkpoint was written. */
typedef struct mg_train_progress {
  int64_t step, steps;
  double loss, tokens_per_second;
} mg_train_progress;
typedef struct mg_train_hooks {
  bool (*progress)(void *user, const mg_train_progress *progress);
  void *user;
} mg_train_hooks;

/* Trains `model` on `data` as `spec` says; the keys and their defaults are mg_train_options ({"tokens": 1e6, "batch":
 * 16, "sequence": 256, "rate": 1e-3, ...}). *result is a new JSON object (core/train/README.md lists every name and
 * unit):
 *
 *   {"metrics": {"loss": 3.1, "perplexity": 22.2, ...},                a number that is not finite is null
 *    "series": {"loss": [[tokens, value], ...], "cv": [...], ...},
 *    "tables": {"load": {"axes": ["layer", "tokens", "expert"], "layers": [...], "tokens": [...],
 *                        "values": [layer][tokens][expert]}, "domain_load": {...}, "losses": {...}}}
 *
 * With a checkpoint folder that holds a valid checkpoint of the same spec, training resumes exactly. MG_NUMERIC when
 * the loss or the gradient norm is not finite (the message names the step); *result then holds what was recorded until
 * then. On any other failure *result is NULL. */
mg_status mg_train(mg_context *context, mg_model *model, mg_dataset *data, const json_t *spec,
                   const mg_train_hooks *hooks, json_t **result);

/* The keys of a training specification; ends with MG_OPTION_END. */
const mg_option *mg_train_options(void);
/* Fails with MG_USAGE for a wrong key, type or range, without training. *resolved (may be NULL) gets the specification
 * with every default written out, as a new reference. */
mg_status mg_train_check_spec(mg_context *context, const json_t *spec, json_t **resolved);

#endif
