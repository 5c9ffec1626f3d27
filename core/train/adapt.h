/* What is done with a model that is there already: it is measured as it stands, the buffers of its routers are fitted to
 * text, and its gates are taught to route as those of another model. README.md lists every key and every number. */
#ifndef MG_TRAIN_ADAPT_H
#define MG_TRAIN_ADAPT_H

#include "train/trainer.h"

/* The keys of the three specifications; each ends with MG_OPTION_END. */
const mg_option *mg_evaluate_options(void);
const mg_option *mg_calibrate_options(void);
const mg_option *mg_distil_options(void);

/* Measures `model` on a segment of the validation split, as a training ends: *result is {"metrics", "series", "tables"}
 * with the names of a training, and the speed of forward passes. Nothing is trained. */
mg_status mg_evaluate(mg_context *context, mg_model *model, mg_dataset *data, const json_t *spec, json_t **result);

/* Holds the routing of `other` against that of `model`, which may stand on another backend, on the same segment: the metric
 * "flip_rate" is the share of (token, mixture) whose chosen experts differ, in whatever order, the table "flips" has it by
 * layer; "loss" and "other_loss" are theirs. The specification is that of mg_evaluate. MG_USAGE unless both have as many
 * mixtures of as many experts. */
mg_status mg_compare_routing(mg_context *context, mg_model *model, mg_model *other, mg_dataset *data,
                             const json_t *spec, json_t **result);

/* Lets the routers of `model` see the training split as in a training, without gradients: they are prepared (tables by the
 * frequency of tokens), and after each pass move their buffers by their own rule (a bias by sign or proportion,
 * thresholds by quantile). The buffers become the model's own. *result has the series "calibration_cv" (the load's CV
 * over tokens) and the table "load" (choices of each expert in all passes). With "fit" = false nothing moves and the load
 * is only counted; else MG_USAGE if no router has a buffer. */
mg_status mg_calibrate(mg_context *context, mg_model *model, mg_dataset *data, const json_t *spec, json_t **result);

/* Trains the router parameters of `student` that are not buffers, and nothing else, until their probabilities are near
 * those of the same layers of `teacher`, which computes all hidden states. `experts` (NULL = all as they stand) says, layer
 * by layer, which of the teacher's experts the student's are. *result has the series "distillation_loss", per token and
 * layer, and the metrics "distillation_loss_first" and "distillation_loss", means over the first and the last eighth of the
 * steps. MG_USAGE if a router gives no probabilities, or none of the student's parameters can be trained. */
mg_status mg_distil(mg_context *context, mg_model *teacher, mg_model *student, const json_t *experts, mg_dataset *data,
                    const json_t *spec, json_t **result);

#endif
