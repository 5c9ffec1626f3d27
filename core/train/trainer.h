/* The trainer: batches, forward, backward, clipping, AdamW, evaluation, and a record of all that happened. */
#ifndef MG_TRAIN_TRAINER_H
#define MG_TRAIN_TRAINER_H

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

/* Trains `model` on `data` as `spec` says ({"tokens": 1e6, "batch": 16, "sequence": 256, "rate": 1e-3, "warmup": 0.05,
 * "schedule": "cosine", "clip": 1.0, "decay": 0.1, "precision": "bf16", "seed": 1, "evaluate": 8, "checkpoint":
 * "dir"}). *result is a new JSON object {"metrics": {...}, "series": {...}, "tables": {...}} (core/train/README.md
 * lists every key with its unit). With a checkpoint folder that holds a valid checkpoint of the same spec, training
 * resumes exactly. */
mg_status mg_train(mg_context *context, mg_model *model, mg_dataset *data, const json_t *spec,
                   const mg_train_hooks *hooks, json_t **result);

#endif
