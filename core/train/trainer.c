/* Training from a specification to a result. */
#include "train/trainer.h"

#include <stdlib.h>
#include <string.h>

#include "moe/spec.h"
#include "train/run.h"

enum { POINTS = 256, WINDOWS = 24, EVALUATIONS = 8, CHECKPOINTS = 10 }; /* in a run */

static const char *const schedules[] = {"cosine", "linear", "constant", NULL};
static const char *const precisions[] = {"bf16", "f32", NULL};

static const mg_option options[] = {
    MG_OPTION_INT(mg__train_settings, tokens, 1000000, 1, 1e15, "tokens to train on, up to a whole step"),
    MG_OPTION_INT(mg__train_settings, batch, 16, 1, 65536, "sequences per batch"),
    MG_OPTION_INT(mg__train_settings, sequence, 256, 1, 1 << 20, "tokens per sequence"),
    MG_OPTION_INT(mg__train_settings, accumulate, 1, 1, 65536, "batches per optimiser step"),
    MG_OPTION_FLOAT(mg__train_settings, rate, 3e-3, 0, 1e3, "largest learning rate"),
    MG_OPTION_FLOAT(mg__train_settings, router_rate, 1, 0, 1e3, "factor on the rate for the parameters of routers"),
    MG_OPTION_FLOAT(mg__train_settings, warmup, 0.1, 0, 1, "fraction of the steps in which the rate rises from 0"),
    MG_OPTION_CHOICE(mg__train_settings, schedule, MG__SCHEDULE_COSINE, schedules, "how the rate falls afterwards"),
    MG_OPTION_FLOAT(mg__train_settings, final_rate, 0.1, 0, 1, "rate at the end, as a fraction of the largest"),
    MG_OPTION_FLOAT(mg__train_settings, clip, 1, 0, 1e9, "largest gradient norm; 0 = no limit"),
    MG_OPTION_FLOAT(mg__train_settings, decay, 0.1, 0, 10, "weight decay of matrices"),
    MG_OPTION_FLOAT(mg__train_settings, beta1, 0.9, 0, 0.999999, "AdamW: memory of the first moment"),
    MG_OPTION_FLOAT(mg__train_settings, beta2, 0.95, 0, 0.999999, "AdamW: memory of the second moment"),
    MG_OPTION_FLOAT(mg__train_settings, epsilon, 1e-8, 0, 1, "AdamW: added to the root of the second moment"),
    MG_OPTION_CHOICE(mg__train_settings, precision, 0, precisions, "how matrix products round their operands"),
    MG_OPTION_INT(mg__train_settings, seed, 1, 0, 9007199254740992.0, "order of the training data"),
    MG_OPTION_INT(mg__train_settings, evaluate_every, 0, 0, 1e12, "steps between validations; 0 = 8 in the run"),
    MG_OPTION_INT(mg__train_settings, evaluate_tokens, 0, -1, 1e15,
                  "tokens of a validation; 0 = a 32nd of 'tokens', -1 = the whole split"),
    MG_OPTION_INT(mg__train_settings, final_tokens, 0, -1, 1e15,
                  "tokens of the last one; 0 = an eighth of 'tokens', at least 65536, -1 = the whole split"),
    MG_OPTION_INT(mg__train_settings, timing_steps, 3, 0, 63, "separate passes that time the parts"),
    MG_OPTION_STRING(mg__train_settings, checkpoint, "", "folder of this run's checkpoints; empty = none"),
    MG_OPTION_INT(mg__train_settings, checkpoint_every, 0, 0, 1e12, "steps between checkpoints; 0 = 10 in the run"),
    MG_OPTION_BOOL(mg__train_settings, specialisation, false,
                   "record the final routing and what experts specialise in"),
    MG_OPTION_END};

const mg_option *mg_train_options(void) {
  return options;
}

static int64_t at_least(int64_t least, int64_t value) {
  return value < least ? least : value;
}

static int64_t steps_of(const mg__train_settings *s) {
  const int64_t step_tokens = s->batch * s->sequence * s->accumulate;
  return (s->tokens + step_tokens - 1) / step_tokens;
}

/* Writes out the defaults that depend on the length of the run. */
static void settle(mg__train_settings *s) {
  const int64_t steps = steps_of(s);
  if (s->evaluate_every == 0) s->evaluate_every = at_least(1, steps / EVALUATIONS);
  if (s->checkpoint_every == 0) s->checkpoint_every = at_least(1, steps / CHECKPOINTS);
  if (s->evaluate_tokens == 0) s->evaluate_tokens = at_least(s->batch * s->sequence, s->tokens / 32);
  if (s->final_tokens == 0) s->final_tokens = at_least(65536, s->tokens / 8);
}

/* ---- snapshots and evaluations: keys with values of their own ------------------------------------------------ */

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static mg_status read_snapshots(mg_context *context, const json_t *json, mg__train_settings *s) {
  if (!json) return MG_OK;
  if (!json_is_array(json) || json_array_size(json) > MG__SNAPSHOTS_MAX)
    return mg_fail(context, MG_USAGE, "train: 'snapshots' must be a list of at most %d shares of the training",
                   MG__SNAPSHOTS_MAX);
  for (size_t i = 0; i < json_array_size(json); i++) {
    const json_t *share = json_array_get(json, i);
    const double value = json_is_number(share) ? json_number_value(share) : -1.0;
    if (!(value >= 0.0 && value < 1.0))
      return mg_fail(context, MG_USAGE, "train: 'snapshots' are shares from 0 to below 1, and entry %zu is none",
                     i + 1);
    s->snapshots[s->snapshots_count++] = value;
  }
  if (s->snapshots_count > 0 && s->checkpoint[0])
    return mg_fail(context, MG_USAGE, "train: 'snapshots' are not kept in checkpoints; leave one of the two out");
  qsort(s->snapshots, (size_t)s->snapshots_count, sizeof *s->snapshots, by_value);
  return MG_OK;
}

/* Letters, digits and _, so that "NAME.loss" reads as one metric. */
static bool is_name(const char *text) {
  const char *const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
  const size_t length = strlen(text);
  return length > 0 && length <= 32 && strspn(text, allowed) == length;
}

static mg_status read_evaluations(mg_context *context, const json_t *json, mg__train_settings *s) {
  s->evaluations = json;
  if (!json) return MG_OK;
  if (!json_is_object(json))
    return mg_fail(context, MG_USAGE, "train: 'evaluations' must be a table of models by name");
  const char *name;
  json_t *model;
  json_object_foreach((json_t *)json, name, model) {
    if (!is_name(name))
      return mg_fail(context, MG_USAGE, "train: evaluations: '%s' is no name (1 to 32 letters, digits and _)", name);
    if (!json_is_object(model))
      return mg_fail(context, MG_USAGE, "train: evaluations.%s must be a model, made with mg.model{...}", name);
  }
  return MG_OK;
}

static void write_parts(const mg__train_settings *s, json_t *resolved) {
  if (s->snapshots_count > 0) {
    json_t *shares = json_array();
    for (int64_t i = 0; i < s->snapshots_count; i++) json_array_append_new(shares, json_real(s->snapshots[i]));
    json_object_set_new(resolved, "snapshots", shares);
  }
  if (s->evaluations) json_object_set_new(resolved, "evaluations", json_deep_copy(s->evaluations));
}

static mg_status read_settings(mg_context *context, const json_t *spec, mg__train_settings *settings,
                               json_t **resolved) {
  mg_spec_part parts[] = {{"snapshots", NULL}, {"evaluations", NULL}};
  *settings = (mg__train_settings){0};
  MG_TRY(mg_spec_read(context, options, parts, MG_COUNT(parts), spec, "train", settings));
  MG_TRY(read_snapshots(context, parts[0].value, settings));
  MG_TRY(read_evaluations(context, parts[1].value, settings));
  settle(settings);
  *resolved = mg_options_to_json(options, settings);
  if (!*resolved) return mg_fail(context, MG_MEMORY, "train: no memory for its specification");
  write_parts(settings, *resolved);
  return MG_OK;
}

mg_status mg_train_check_spec(mg_context *context, const json_t *spec, json_t **resolved) {
  mg__train_settings settings;
  json_t *read = NULL;
  MG_TRY(read_settings(context, spec, &settings, &read));
  if (resolved)
    *resolved = read;
  else
    json_decref(read);
  return MG_OK;
}

/* ---- setting up -------------------------------------------------------------------------------------------- */

static void plan_steps(mg__run *run) {
  const mg__train_settings *s = &run->settings;
  run->step_tokens = s->batch * s->sequence * s->accumulate;
  run->steps = steps_of(s);
  run->point_every = at_least(1, run->steps / POINTS);
  run->window_every = at_least(1, run->steps / WINDOWS);
}

static mg_status make_batch(mg__run *run) {
  const size_t bytes = (size_t)run->batch_tokens * sizeof(int32_t);
  mg_batch *batch = &run->batch;
  batch->sequences = run->settings.batch;
  batch->sequence_tokens = run->settings.sequence;
  batch->inputs = mg_alloc(run->context, bytes);
  batch->targets = mg_alloc(run->context, bytes);
  batch->domains = mg_alloc(run->context, (size_t)batch->sequences * sizeof(int32_t));
  return batch->inputs && batch->targets && batch->domains ? MG_OK : MG_MEMORY;
}

static mg_status check_fit(const mg__run *run) {
  const int64_t data = mg_dataset_vocabulary(run->data);
  const int64_t model = json_integer_value(json_object_get(mg_model_spec(run->model), "vocabulary"));
  if (data <= model) return MG_OK;
  return mg_fail(run->context, MG_USAGE, "train: the data has %lld tokens, but the model's 'vocabulary' is %lld",
                 (long long)data, (long long)model);
}

enum { SAMPLE_TOKENS = 1 << 20 };

/* The routing of experts that mix all tokens is no list of choices. */
static mg_status check_routing(const mg__run *run) {
  for (int64_t i = 0; mg__routing_wanted(run) && i < mg_model_moe_layers(run->model); i++) {
    mg_moe *moe = mg_model_moe(run->model, i);
    if (mg_moe_describe(moe).slots)
      return mg_fail(run->context, MG_USAGE,
                     "train: router %s chooses nothing that 'specialisation' or 'snapshots' could look at",
                     mg_moe_router(moe)->plugin->name);
  }
  return MG_OK;
}

mg_status mg__run_open(mg__run *run) {
  const mg_dtype compute = run->settings.precision == 0 ? MG_BF16 : MG_F32;
  run->batch_tokens = run->settings.batch * run->settings.sequence;
  MG_TRY(check_fit(run));
  MG_TRY(mg_tape_create(mg_model_backend(run->model), compute, &run->tape));
  return make_batch(run);
}

mg_status mg__run_prepare(mg__run *run) {
  if (!mg_model_wants_text(run->model)) return MG_OK;
  const int64_t vocabulary = json_integer_value(json_object_get(mg_model_spec(run->model), "vocabulary"));
  const size_t counts_bytes = (size_t)vocabulary * sizeof(int64_t),
               bytes = counts_bytes + SAMPLE_TOKENS * sizeof(int32_t);
  int64_t *counts = mg_alloc(run->context, bytes);
  if (!counts) return MG_MEMORY;
  int32_t *ids = (int32_t *)(void *)(counts + vocabulary);
  memset(counts, 0, counts_bytes);
  mg_dataset_count_tokens(run->data, MG_SPLIT_TRAIN, counts);
  const int64_t length = mg_dataset_sample_tokens(run->data, MG_SPLIT_TRAIN, ids, SAMPLE_TOKENS);
  const mg_router_text text = {.counts = counts, .ids = ids, .length = length};
  const mg_status status = mg_model_prepare(run->model, run->tape, &text);
  mg_free(run->context, counts, bytes);
  return status;
}

static mg_status run_create(mg__run *run, const json_t *spec) {
  MG_TRY(read_settings(run->context, spec, &run->settings, &run->resolved));
  MG_TRY(check_routing(run));
  plan_steps(run);
  mg__account_begin(run);
  MG_TRY(mg__run_open(run));
  MG_TRY(mg__run_prepare(run));
  MG_TRY(mg__optimiser_create(run->context, run->tape, mg_model_params(run->model), &run->optimiser));
  MG_TRY(mg__load_create(run));
  MG_TRY(mg__record_create(run));
  MG_TRY(mg__evaluations_check(run));
  return mg__checkpoint_resume(run);
}

void mg__run_close(mg__run *run) {
  const size_t bytes = (size_t)run->batch_tokens * sizeof(int32_t);
  mg_batch *batch = &run->batch;
  mg_free(run->context, batch->inputs, batch->inputs ? bytes : 0);
  mg_free(run->context, batch->targets, batch->targets ? bytes : 0);
  mg_free(run->context, batch->domains, batch->domains ? (size_t)batch->sequences * sizeof(int32_t) : 0);
  for (int64_t i = 0; i < run->snapshots_taken; i++) mg__routing_release(run->context, &run->snapshots[i]);
  mg__load_destroy(run);
  mg__optimiser_destroy(&run->optimiser);
  mg_tape_destroy(run->tape);
  json_decref(run->series);
  json_decref(run->tables);
  json_decref(run->resolved);
}

/* ---- running ------------------------------------------------------------------------------------------------ */

static mg_status validate(mg__run *run) {
  mg__evaluation evaluation;
  mg_status status = mg__evaluate(run, run->settings.evaluate_tokens, false, &evaluation);
  if (status == MG_OK) status = mg__record_point(run, "loss", evaluation.loss);
  mg__evaluation_release(run, &evaluation);
  return status;
}

static mg_status tell_progress(mg__run *run) {
  if (!run->hooks || !run->hooks->progress) return MG_OK;
  const int64_t seen = run->spikes.seen;
  const mg_train_progress progress = {
      .step = run->step,
      .steps = run->steps,
      .loss = seen > 0 ? run->spikes.window[(seen - 1) % MG__SPIKE_WINDOW] : 0.0,
      .tokens_per_second = run->last_step_ns > 0 ? 1e9 * (double)run->step_tokens / (double)run->last_step_ns : 0.0};
  if (run->hooks->progress(run->hooks->user, &progress)) return MG_OK;
  MG_TRY(mg__checkpoint_save(run));
  return mg_fail(run->context, MG_INTERRUPTED, "train: stopped after step %lld of %lld; %s", (long long)run->step,
                 (long long)run->steps,
                 run->settings.checkpoint[0] ? "run it again to go on from its checkpoint"
                                             : "there is no checkpoint because 'checkpoint' was not given");
}

static mg_status run_steps(mg__run *run) {
  while (run->step < run->steps) {
    MG_TRY(mg__routing_snapshot(run));
    MG_TRY(mg__run_step(run));
    const bool last = run->step == run->steps;
    if (!last && run->step % run->settings.evaluate_every == 0) MG_TRY(validate(run));
    if (last || run->step % run->settings.checkpoint_every == 0) MG_TRY(mg__checkpoint_save(run));
    MG_TRY(tell_progress(run));
  }
  return MG_OK;
}

static mg_status finish(mg__run *run, json_t **result) {
  mg__evaluation evaluation;
  mg_status status = mg__evaluate(run, run->settings.final_tokens, true, &evaluation);
  if (status == MG_OK) status = mg__record_point(run, "loss", evaluation.loss);
  if (status == MG_OK) status = mg__result_build(run, &evaluation, result);
  mg__evaluation_release(run, &evaluation);
  return status;
}

mg_status mg_train(mg_context *context, mg_model *model, mg_dataset *data, const json_t *spec,
                   const mg_train_hooks *hooks, json_t **result) {
  mg__run run = {.context = context, .model = model, .data = data, .hooks = hooks};
  *result = NULL;
  mg_status status = run_create(&run, spec);
  if (status == MG_OK) status = run_steps(&run);
  if (status == MG_OK) status = finish(&run, result);
  if (status == MG_NUMERIC && run.series) {
    json_decref(*result);
    mg__result_build(&run, NULL, result);
  }
  mg__run_close(&run);
  return status;
}
