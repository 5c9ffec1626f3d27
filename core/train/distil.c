/* Distillation of gates (Hinton et al. 2015, arXiv 1503.02531): for every mixture and token, with p the probabilities of
 * the teacher's router and q those of the student's on the same hidden state,
 *
 *   kl    sum_e p_e (ln p_e - ln q_e)        mse    sum_e (p_e - q_e)^2
 *
 * and the mean over tokens, summed over layers, falls by AdamW. The teacher computes the hidden states, so that the layers
 * learn apart from each other and no gradient passes a block. */
#include <math.h>
#include <string.h>

#include "moe/spec.h"
#include "train/adapt.h"
#include "train/run.h"

typedef struct distil_settings {
  int64_t tokens, batch, sequence, loss, precision, seed;
  double rate, warmup, clip;
} distil_settings;

enum { KL, MSE };
enum { REPORTED = 8 }; /* the first and the last of so many equal runs of steps are reported */
static const char *const losses[] = {"kl", "mse", NULL};
static const char *const precisions[] = {"bf16", "f32", NULL};

static const mg_option options[] = {
    MG_OPTION_INT(distil_settings, tokens, 65536, 1, 1e15, "tokens to learn from, up to a whole batch"),
    MG_OPTION_INT(distil_settings, batch, 4, 1, 65536, "sequences per step"),
    MG_OPTION_INT(distil_settings, sequence, 256, 1, 1 << 20, "tokens per sequence"),
    MG_OPTION_CHOICE(distil_settings, loss, KL, losses, "divergence from the teacher's probabilities, or squares"),
    MG_OPTION_FLOAT(distil_settings, rate, 1e-3, 0, 1e3, "largest learning rate; it falls to a tenth by a cosine"),
    MG_OPTION_FLOAT(distil_settings, warmup, 0.1, 0, 1, "fraction of the steps in which the rate rises from 0"),
    MG_OPTION_FLOAT(distil_settings, clip, 1, 0, 1e9, "largest gradient norm; 0 = no limit"),
    MG_OPTION_CHOICE(distil_settings, precision, 0, precisions, "how matrix products round their operands"),
    MG_OPTION_INT(distil_settings, seed, 1, 0, 9007199254740992.0, "order of the training data"),
    MG_OPTION_END};

const mg_option *mg_distil_options(void) {
  return options;
}

typedef struct distillation {
  mg__run run; /* of the student */
  mg_model *teacher;
  const json_t *experts;
  const distil_settings *settings;
} distillation;

/* ---- what is trained ------------------------------------------------------------------------------------------ */

static bool is_gate(const mg_param *param) {
  return !param->fixed && strstr(param->name, ".router.") != NULL;
}

static mg_status train_gates(mg_params *params) {
  for (int64_t i = 0; i < mg_params_count(params); i++)
    if (is_gate(mg_params_look(params, i))) MG_TRY(mg_params_train(params, i));
  return MG_OK;
}

static void freeze_all(mg_params *params) {
  for (int64_t i = 0; i < mg_params_count(params); i++) mg_params_freeze(params, i);
}

static mg_status check_models(const distillation *d) {
  const int64_t layers = mg_model_moe_layers(d->run.model);
  mg_model *const models[] = {d->teacher, d->run.model};
  if (mg_model_moe_layers(d->teacher) != layers)
    return mg_fail(d->run.context, MG_USAGE, "distil: teacher and student must have as many mixtures");
  for (int64_t i = 0; i < 2 * layers; i++) {
    const mg_router *router = mg_moe_router(mg_model_moe(models[i % 2], i / 2));
    if (mg_router_promises(router) & MG_ROUTER_GIVES_PROBS) continue;
    return mg_fail(d->run.context, MG_USAGE,
                   "distil: router %s gives no probabilities, by which one gate could learn from another",
                   router->plugin->name);
  }
  return MG_OK;
}

/* ---- the loss ---------------------------------------------------------------------------------------------------- */

/* The teacher's probabilities in the order of the student's experts, each row with the sum 1: [T,E]. */
static mg_var *target(const distillation *d, mg_tape *tape, mg_var *probs, int64_t layer) {
  const json_t *list = json_array_get(d->experts, (size_t)layer);
  const int64_t count = (int64_t)json_array_size(list);
  if (!json_is_array(list)) return mg_shares(tape, probs);
  int32_t *ids = mg_alloc(d->run.context, (size_t)count * sizeof *ids);
  if (!ids) return mg_tape_fail(tape, MG_MEMORY, "distil: no memory for %lld experts", (long long)count);
  for (int64_t e = 0; e < count; e++) ids[e] = (int32_t)json_integer_value(json_array_get(list, (size_t)e));
  mg_var *rows = mg_tape_upload(tape, MG_I32, 1, &count, ids);
  mg_free(d->run.context, ids, (size_t)count * sizeof *ids);
  return mg_shares(tape, mg_transpose(tape, mg_gather_rows(tape, mg_transpose(tape, probs), rows)));
}

/* Small probabilities count as 1e-20, below what a softmax in f32 tells from 0. */
static mg_var *log_of(mg_tape *tape, mg_var *x) {
  return mg_log(tape, mg_affine(tape, x, 1, 1e-20));
}

static mg_var *distance(mg_tape *tape, mg_var *p, mg_var *q, int64_t kind) {
  const double tokens = (double)mg_var_rows(p);
  mg_var *each = kind == KL ? mg_mul(tape, p, mg_sub(tape, log_of(tape, p), log_of(tape, q)))
                            : mg_square(tape, mg_sub(tape, p, q));
  return mg_scale(tape, mg_sum(tape, each), 1 / tokens);
}

static mg_var *layer_loss(const distillation *d, mg_tape *tape, const mg_moe_record *record, int64_t layer) {
  mg_router *student = mg_moe_router(mg_model_moe(d->run.model, layer));
  mg_var *x = mg_cast(tape, mg_detach(tape, record->x), MG_F32);
  const mg_route_input in = {
      .x = x, .tokens = mg_var_rows(x), .sequence_tokens = d->run.batch.sequence_tokens, .training = false};
  mg_route_output out;
  mg_tape_set_recording(tape, false);
  mg_var *p = target(d, tape, record->route.probs, layer);
  mg_tape_set_recording(tape, true);
  if (mg_router_route(student, tape, &in, &out) != MG_OK) return NULL;
  return distance(tape, p, out.probs, d->settings->loss);
}

static mg_var *total_loss(const distillation *d, const mg_model_output *output) {
  mg_tape *tape = d->run.tape;
  mg_tape_set_compute(tape, MG_F32);
  mg_var *sum = NULL;
  for (int64_t i = 0; i < output->records_count; i++) {
    mg_var *loss = layer_loss(d, tape, &output->records[i], i);
    sum = sum ? mg_add(tape, sum, loss) : loss;
  }
  return sum;
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

static mg_status run_batch(distillation *d, int64_t index, double *loss) {
  mg__run *run = &d->run;
  int64_t filled;
  mg_model_output output;
  float value;
  MG_TRY(mg__run_fill_batch(run, MG_SPLIT_TRAIN, index, &filled));
  if (filled < run->settings.batch)
    return mg_fail(run->context, MG_USAGE,
                   "distil: the training split gives %lld of 'batch' = %lld sequences of 'sequence' = %lld tokens",
                   (long long)filled, (long long)run->settings.batch, (long long)run->settings.sequence);
  mg_model_batch batch = mg__run_model_batch(run, filled, false, index);
  batch.targets = NULL;
  batch.last_only = true;
  mg_tape_reset(run->tape);
  mg_tape_set_recording(run->tape, false);
  mg_tape_set_compute(run->tape, run->settings.precision == 0 ? MG_BF16 : MG_F32);
  MG_TRY(mg_model_forward(d->teacher, run->tape, &batch, &output));
  mg_var *sum = total_loss(d, &output);
  MG_TRY(mg_tape_status(run->tape));
  MG_TRY(mg_tape_backward(run->tape, sum));
  MG_TRY(mg_tape_download(run->tape, sum, &value, sizeof value));
  *loss = (double)value / (double)output.records_count;
  if (isfinite(*loss)) return MG_OK;
  return mg_fail(run->context, MG_NUMERIC, "distil: the loss of step %lld is %f; lower 'rate'", (long long)run->step,
                 *loss);
}

static mg_status run_step(distillation *d, double *loss) {
  mg__run *run = &d->run;
  double norm;
  run->step++;
  MG_TRY(mg_params_zero_gradients(mg_model_params(run->model)));
  MG_TRY(run_batch(d, run->step - 1, loss));
  MG_TRY(mg__optimiser_norm(&run->optimiser, &norm));
  const double clip = run->settings.clip, scale = clip > 0 && norm > clip ? clip / norm : 1.0;
  const double rate = mg__schedule_rate(&run->settings, run->step, run->steps);
  return mg__optimiser_step(&run->optimiser, &run->settings, rate, scale, run->step);
}

static mg_status run_steps(distillation *d, json_t *metrics, json_t *series) {
  mg__run *run = &d->run;
  const int64_t span = run->steps >= REPORTED ? run->steps / REPORTED : 1;
  double first = 0.0, last = 0.0;
  for (int64_t i = 0; i < run->steps; i++) {
    double loss = 0.0;
    MG_TRY(run_step(d, &loss));
    if (i < span) first += loss / (double)span;
    if (i >= run->steps - span) last += loss / (double)span;
    json_array_append_new(series, json_pack("[f, o]", (double)((i + 1) * run->batch_tokens), mg__number(loss)));
  }
  json_object_set_new(metrics, "distillation_loss_first", mg__number(first));
  json_object_set_new(metrics, "distillation_loss", mg__number(last));
  return MG_OK;
}

static mg_status distil(distillation *d, json_t *metrics, json_t *series) {
  mg__run *run = &d->run;
  mg_params *params = mg_model_params(run->model);
  MG_TRY(check_models(d));
  MG_TRY(train_gates(params));
  MG_TRY(mg__run_open(run));
  run->steps = (d->settings->tokens + run->batch_tokens - 1) / run->batch_tokens;
  MG_TRY(mg__optimiser_create(run->context, run->tape, params, &run->optimiser));
  return run_steps(d, metrics, series);
}

/* The trainer's settings; no weight decays, as the teacher's do not either. */
static mg__train_settings trainer_settings(const distil_settings *s) {
  return (mg__train_settings){.batch = s->batch,
                              .sequence = s->sequence,
                              .precision = s->precision,
                              .seed = s->seed,
                              .rate = s->rate,
                              .router_rate = 1,
                              .warmup = s->warmup,
                              .schedule = MG__SCHEDULE_COSINE,
                              .final_rate = 0.1,
                              .clip = s->clip,
                              .beta1 = 0.9,
                              .beta2 = 0.95,
                              .epsilon = 1e-8};
}

mg_status mg_distil(mg_context *context, mg_model *teacher, mg_model *student, const json_t *experts, mg_dataset *data,
                    const json_t *spec, json_t **result) {
  distil_settings s;
  *result = NULL;
  MG_TRY(mg_spec_read(context, options, NULL, 0, spec, "distil", &s));
  distillation d = {.run = {.context = context, .model = student, .data = data, .settings = trainer_settings(&s)},
                    .teacher = teacher,
                    .experts = experts,
                    .settings = &s};
  json_t *metrics = json_object(), *series = json_array();
  mg_status status = metrics && series ? distil(&d, metrics, series) : MG_MEMORY;
  if (status == MG_OK)
    *result = json_pack("{s:O, s:{s:O}, s:{}}", "metrics", metrics, "series", "distillation_loss", series, "tables");
  json_decref(metrics);
  json_decref(series);
  freeze_all(mg_model_params(student));
  mg__run_close(&d.run);
  return status != MG_OK || *result ? status : MG_MEMORY;
}
