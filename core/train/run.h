/* One training run: what its files share. */
#ifndef MG_TRAIN_RUN_H
#define MG_TRAIN_RUN_H

#include "tensor/tape_work.h"
#include "train/trainer.h"

typedef struct mg__train_settings {
  int64_t tokens, batch, sequence, accumulate, schedule, precision, seed, evaluate_every, evaluate_tokens, final_tokens,
      timing_steps, checkpoint_every;
  double rate, router_rate, warmup, final_rate, clip, decay, beta1, beta2, epsilon;
  char checkpoint[MG_OPTION_STRING_MAX];
} mg__train_settings;

/* ---- schedule.c ------------------------------------------------------------------------------------------- */

typedef enum mg__schedule { MG__SCHEDULE_COSINE, MG__SCHEDULE_LINEAR, MG__SCHEDULE_CONSTANT } mg__schedule;
/* The learning rate of a step, counted from 1. */
double mg__schedule_rate(const mg__train_settings *settings, int64_t step, int64_t steps);

/* ---- spikes.c --------------------------------------------------------------------------------------------- */

enum { MG__SPIKE_WINDOW = 128 };
typedef struct mg__spikes {
  double window[MG__SPIKE_WINDOW]; /* the last losses, as a ring */
  int64_t seen, count;
} mg__spikes;
/* Takes the next loss; true, and counted, if it is a spike. */
bool mg__spikes_add(mg__spikes *spikes, double loss);
double mg__median(double *values, int64_t count); /* sorts them */

/* ---- optimiser.c ------------------------------------------------------------------------------------------ */

typedef struct mg__optimiser {
  mg_context *context;
  mg_tape *tape;
  mg_params *params;
  mg_tensor sums; /* f32, one sum of squares per row of every gradient */
  float *host;
  int64_t rows;
} mg__optimiser;
mg_status mg__optimiser_create(mg_context *context, mg_tape *tape, mg_params *params, mg__optimiser *out);
void mg__optimiser_destroy(mg__optimiser *optimiser);
/* The Euclidean norm of all gradients together, always summed in the same order. */
mg_status mg__optimiser_norm(mg__optimiser *optimiser, double *norm);
/* One AdamW step on all parameters; gradients are multiplied by `gradient_scale` first. */
mg_status mg__optimiser_step(mg__optimiser *optimiser, const mg__train_settings *settings, double rate,
                             double gradient_scale, int64_t step);

/* ---- the run ---------------------------------------------------------------------------------------------- */

/* What adds up over a run. All doubles, so that a checkpoint can keep it as one list. */
typedef struct mg__totals {
  double flops[MG_PART_COUNT], backward_flops[MG_PART_COUNT];
  double assignments, dropped_assignments, dropped_tokens; /* over all MoE layers */
  double useful_flops, padded_flops, dropped_flops;
  double seconds, data_seconds, optimiser_seconds;
  double point_loss, point_norm, point_steps; /* since the last point of train_loss */
  double window_loss, window_cv, window_violation, window_dropped, window_assignments, window_steps, window_seconds;
  double train_loss; /* mean over the last whole window */
} mg__totals;

typedef struct mg__run {
  mg_context *context;
  mg_model *model;
  mg_dataset *data;
  const mg_train_hooks *hooks;
  mg__train_settings settings;
  json_t *resolved;
  mg_tape *tape;
  mg__optimiser optimiser;
  mg_batch batch;
  int64_t step, steps, batch_tokens, step_tokens;
  int64_t point_every, window_every; /* steps */
  mg__spikes spikes;
  mg__totals totals;
  double **load;         /* [MoE layer][expert]: demand since the last window */
  mg_moe_counts *counts; /* [MoE layer] of the last batch */
  json_t *series, *tables;
  int64_t baseline_bytes; /* resident when the run began, without what the account lists */
  int64_t last_step_ns;
} mg__run;

/* ---- step.c ----------------------------------------------------------------------------------------------- */

/* One optimiser step: batches, forward, backward, clipping, AdamW, the routers' after_step. */
mg_status mg__run_step(mg__run *run);
mg_status mg__run_fill_batch(mg__run *run, mg_split split, int64_t index, int64_t *filled);
mg_model_batch mg__run_model_batch(const mg__run *run, int64_t sequences, bool training, int64_t step);

/* ---- load.c: how evenly the experts are loaded while training ----------------------------------------------- */

mg_status mg__load_create(mg__run *run);
void mg__load_destroy(mg__run *run);
/* After each batch's forward pass: counts what became of the choices. */
mg_status mg__load_batch(mg__run *run);
/* Before the routers' after_step: takes the demand of the whole step into the window. */
void mg__load_step(mg__run *run);
/* Ends a window: one more point of cv and one more column of the load and losses tables. */
mg_status mg__load_window(mg__run *run, const mg_model_output *output);

/* ---- evaluate.c ------------------------------------------------------------------------------------------- */

typedef struct mg__evaluation {
  double loss, accuracy; /* nats per token; fraction of targets that had the largest logit */
  int64_t targets, tokens;
  double assignments, dropped_assignments, dropped_tokens; /* summed over MoE layers */
  int64_t domains;
  double *domain_loss, *domain_targets; /* [domains] */
  double **load;                        /* [MoE layer][domain * E + expert] */
} mg__evaluation;
/* Runs through the validation split until `tokens` tokens (-1 = all) were seen. With `full` also the accuracy and the
 * routing; release the result in any case. */
mg_status mg__evaluate(mg__run *run, int64_t tokens, bool full, mg__evaluation *out);
void mg__evaluation_release(mg__run *run, mg__evaluation *evaluation);

/* ---- record.c --------------------------------------------------------------------------------------------- */

/* The series and tables of a new run. */
mg_status mg__record_create(mg__run *run);
/* A number for JSON: null when it is not finite. */
json_t *mg__number(double value);
/* Adds [tokens, value] to a series. */
mg_status mg__record_point(mg__run *run, const char *series, double value);
/* Ends what is due after a step: points, windows. */
mg_status mg__record_step(mg__run *run, double loss, double norm, double rate, const mg_model_output *output);

/* ---- checkpoint.c ----------------------------------------------------------------------------------------- */

mg_status mg__checkpoint_save(mg__run *run);
/* Goes on from the newest valid checkpoint, if there is one. MG_USAGE if the folder belongs to another run. */
mg_status mg__checkpoint_resume(mg__run *run);

/* ---- result.c --------------------------------------------------------------------------------------------- */

/* `evaluation` may be NULL after a run that failed. */
mg_status mg__result_build(mg__run *run, const mg__evaluation *evaluation, json_t **result);
/* ---- timing.c: nanoseconds per token and part, from a few separate steps ------------------------------------ */
mg_status mg__timing_measure(mg__run *run, json_t *metrics);
/* ---- account.c: memory --------------------------------------------------------------------------------------- */
void mg__account_begin(mg__run *run);
void mg__account_report(mg__run *run, json_t *metrics);

#endif
