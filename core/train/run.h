/* One training run: what its files share. */
#ifndef MG_TRAIN_RUN_H
#define MG_TRAIN_RUN_H

#include "moe/specialisation.h"
#include "tensor/tape_work.h"
#include "train/trainer.h"

enum { MG__SNAPSHOTS_MAX = 16 };

typedef struct mg__train_settings {
  int64_t tokens, batch, sequence, accumulate, schedule, precision, seed, evaluate_every, evaluate_tokens, final_tokens,
      timing_steps, checkpoint_every;
  int64_t evaluate_first; /* the batch of the validation split that evaluations begin with */
  double rate, router_rate, warmup, final_rate, clip, decay, beta1, beta2, epsilon;
  char checkpoint[MG_OPTION_STRING_MAX];
  bool specialisation;
  double snapshots[MG__SNAPSHOTS_MAX]; /* shares of the training, ascending */
  int64_t snapshots_count;
  const json_t *evaluations; /* name -> model specification, borrowed; NULL = none */
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
  double joules, metered_steps;               /* what the device drew, and the steps in which that was measured */
  double point_loss, point_norm, point_steps; /* since the last point of train_loss */
  double window_loss, window_cv, window_violation, window_dropped, window_assignments, window_steps, window_seconds;
  double train_loss; /* mean over the last whole window */
} mg__totals;

/* A growing list of ids. */
typedef struct mg__ids {
  int32_t *items;
  size_t room;
} mg__ids;

/* Who was sent where on the validation split, on the host. All zero when nothing was recorded. */
typedef struct mg__routing {
  int64_t tokens, sequence_tokens, layers;
  mg__ids inputs, targets, guesses, domains; /* [tokens] */
  mg__ids *ids;                              /* [layers]: [tokens, choices of the layer], -1 = no choice */
  int64_t *choices, *experts;                /* [layers] */
} mg__routing;

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
  mg__routing snapshots[MG__SNAPSHOTS_MAX];
  double snapshot_tokens[MG__SNAPSHOTS_MAX]; /* trained on when it was taken */
  int64_t snapshots_taken;
  json_t *series, *tables;
  int64_t baseline_bytes; /* resident when the run began, without what the account lists */
  int64_t last_step_ns;
} mg__run;

/* ---- trainer.c -------------------------------------------------------------------------------------------- */

/* What every pass over the data needs: that they fit the model, the tape, a batch. To be closed also after a failure. */
mg_status mg__run_open(mg__run *run);
void mg__run_close(mg__run *run);
/* Routers that want it learn how often each token occurs in the training data, and see a sample of it. */
mg_status mg__run_prepare(mg__run *run);

/* ---- step.c ----------------------------------------------------------------------------------------------- */

/* One optimiser step: batches, forward, backward, clipping, AdamW, the routers' after_step. */
mg_status mg__run_step(mg__run *run);
mg_status mg__run_fill_batch(mg__run *run, mg_split split, int64_t index, int64_t *filled);
mg_model_batch mg__run_model_batch(const mg__run *run, int64_t sequences, bool training, int64_t number);

/* ---- load.c: how evenly the experts are loaded while training ----------------------------------------------- */

mg_status mg__load_create(mg__run *run);
void mg__load_destroy(mg__run *run);
/* After each batch's forward pass: counts what became of the choices. */
mg_status mg__load_batch(mg__run *run);
/* Before the routers' after_step: takes the demand of the whole step into the window. */
void mg__load_step(mg__run *run);
/* Ends a window: one more point of cv and one more column of the load and losses tables. */
mg_status mg__load_window(mg__run *run, const mg_model_output *output);

/* ---- routing.c: who was sent where --------------------------------------------------------------------------- */

/* Whether the run wants the routing of its full evaluations. */
bool mg__routing_wanted(const mg__run *run);
/* Adds a batch of `sequences` sequences, its forward pass done; `guesses` are the tokens predicted. */
mg_status mg__routing_add(mg__run *run, int64_t sequences, const mg_model_output *output, const int32_t *guesses,
                          mg__routing *routing);
void mg__routing_release(mg_context *context, mg__routing *routing);
mg_choices mg__routing_choices(const mg__routing *routing, int64_t layer);
/* Takes the snapshots that are due. */
mg_status mg__routing_snapshot(mg__run *run);

/* ---- evaluate.c ------------------------------------------------------------------------------------------- */

typedef struct mg__evaluation {
  double loss, accuracy;                 /* nats per token; fraction of targets that had the largest logit */
  int64_t targets, tokens, target_bytes; /* target_bytes: of the text of the targets */
  double assignments, dropped_assignments, dropped_tokens; /* summed over MoE layers */
  double random_dropped; /* what uniform random choices of as many would lose to the capacities */
  int64_t domains;
  double *domain_loss, *domain_targets;              /* [domains] */
  double **load;                                     /* [MoE layer][domain * E + expert] */
  double sequences, sequence_cv, sequence_violation; /* of the load of each sequence, summed over MoE layers too */
  double flops[MG_PART_COUNT];                       /* of the forward passes */
  mg__routing routing;                               /* where the run wants it */
} mg__evaluation;
/* Runs through the validation split until `tokens` tokens (-1 = all) were seen. With `full` also the accuracy and what
 * the routers did; release the result in any case. */
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

/* ---- evaluations.c: the trained weights in other models ------------------------------------------------------- */

/* Fails with MG_USAGE, naming the evaluation, if the run's weights do not fit it. */
mg_status mg__evaluations_check(mg__run *run);
/* Runs each and adds its metrics and tables under its name. */
mg_status mg__evaluations_run(mg__run *run, json_t *metrics);

/* ---- findings.c: what an evaluation found, under names that begin with `prefix` -------------------------------- */

mg_status mg__findings_put(mg__run *run, const mg__evaluation *evaluation, const char *prefix, json_t *metrics);
/* Sets object[prefix name]; takes the reference to `value`. */
void mg__put_named(json_t *object, const char *prefix, const char *name, json_t *value);
json_t *mg__domain_names(const mg__run *run);
json_t *mg__layer_blocks(const mg__run *run); /* the blocks that the MoE layers stand in */

/* ---- specialise.c: what the experts specialise in -------------------------------------------------------------- */

mg_status mg__specialisation_put(mg__run *run, const mg__evaluation *evaluation, const char *prefix, json_t *metrics);
/* How much of the final routing stood at each snapshot. */
mg_status mg__saturation_put(mg__run *run, const mg__routing *final, json_t *metrics);

/* ---- result.c --------------------------------------------------------------------------------------------- */

/* `evaluation` may be NULL after a run that failed. */
mg_status mg__result_build(mg__run *run, const mg__evaluation *evaluation, json_t **result);
/* Forward FLOPs per token, in all and by part, of `tokens` tokens; parameters, and the tables `parameters` and `model`. */
void mg__flops_put(const double flops[MG_PART_COUNT], double tokens, json_t *metrics);
void mg__size_put(mg__run *run, json_t *metrics);
/* ---- timing.c: nanoseconds per token and part, from a few separate steps ------------------------------------ */
mg_status mg__timing_measure(mg__run *run, json_t *metrics);
/* ---- account.c: memory --------------------------------------------------------------------------------------- */
void mg__account_begin(mg__run *run);
void mg__account_report(mg__run *run, json_t *metrics);

#endif
