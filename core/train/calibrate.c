/* What routers do on text, and their buffers fitted to it: passes as in a training, after each of which a router moves what
 * it moves by its own rule, while every weight stays. */
#include "moe/balance.h"
#include "moe/spec.h"
#include "train/adapt.h"
#include "train/run.h"

typedef struct calibrate_settings {
  int64_t tokens, batch, sequence, precision, seed;
  bool fit;
} calibrate_settings;

typedef struct calibration {
  mg__run run;
  bool fit;
  json_t *series, *load;
} calibration;

static const char *const precisions[] = {"bf16", "f32", NULL};

static const mg_option options[] = {
    MG_OPTION_INT(calibrate_settings, tokens, 65536, 1, 1e15, "tokens to look at, up to a whole batch"),
    MG_OPTION_INT(calibrate_settings, batch, 4, 1, 65536, "sequences per pass"),
    MG_OPTION_INT(calibrate_settings, sequence, 256, 1, 1 << 20, "tokens per sequence"),
    MG_OPTION_CHOICE(calibrate_settings, precision, 0, precisions, "how matrix products round their operands"),
    MG_OPTION_INT(calibrate_settings, seed, 1, 0, 9007199254740992.0, "which text: the order of the training data"),
    MG_OPTION_BOOL(calibrate_settings, fit, true, "move the buffers; false only counts the load of the experts"),
    MG_OPTION_END};

const mg_option *mg_calibrate_options(void) {
  return options;
}

/* Makes the buffers writable; *found tells whether there are any. */
static mg_status own_buffers(mg_params *params, bool *found) {
  *found = false;
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    if (!mg_params_look(params, i)->fixed) continue;
    *found = true;
    MG_TRY(mg_params_own(params, i));
  }
  return MG_OK;
}

static int64_t experts_of(const mg_model *model, int64_t layer) {
  return mg_moe_describe(mg_model_moe(model, layer)).experts;
}

/* Takes the last pass's demand into `load`; its CV, mean over layers. */
static double add_load(const calibration *c) {
  const mg_model *model = c->run.model;
  const int64_t layers = mg_model_moe_layers(model);
  double sum = 0.0;
  for (int64_t i = 0; i < layers; i++) {
    const double *demand = mg_model_demand(model, i);
    for (int64_t e = 0; e < experts_of(model, i); e++) c->run.load[i][e] += demand[e];
    sum += mg_balance_cv(demand, experts_of(model, i));
  }
  return sum / (double)layers;
}

static mg_status run_pass(calibration *c, int64_t index) {
  mg__run *run = &c->run;
  int64_t filled;
  mg_model_output output;
  MG_TRY(mg__run_fill_batch(run, MG_SPLIT_TRAIN, index, &filled));
  if (filled < run->settings.batch)
    return mg_fail(run->context, MG_USAGE,
                   "calibrate: the training split gives %lld of 'batch' = %lld sequences of 'sequence' = %lld tokens",
                   (long long)filled, (long long)run->settings.batch, (long long)run->settings.sequence);
  mg_model_batch batch = mg__run_model_batch(run, filled, c->fit, index);
  batch.targets = NULL;
  batch.last_only = true;
  mg_tape_reset(run->tape);
  MG_TRY(mg_model_forward(run->model, run->tape, &batch, &output));
  MG_TRY(mg_model_collect_demand(run->model, run->tape, run->counts));
  const double seen = (double)((index + 1) * run->batch_tokens);
  json_array_append_new(c->series, json_pack("[f, o]", seen, mg__number(add_load(c))));
  if (c->fit) return mg_model_after_step(run->model, run->tape);
  mg_model_forget_demand(run->model);
  return MG_OK;
}

static json_t *load_table(const mg__run *run) {
  json_t *values = json_array();
  for (int64_t i = 0; i < mg_model_moe_layers(run->model); i++) {
    json_t *row = json_array();
    for (int64_t e = 0; e < experts_of(run->model, i); e++) json_array_append_new(row, json_real(run->load[i][e]));
    json_array_append_new(values, row);
  }
  return json_pack("{s:[s, s], s:o, s:o}", "axes", "layer", "expert", "layers", mg__layer_blocks(run), "values",
                   values);
}

static mg_status run_all(calibration *c, int64_t tokens) {
  mg__run *run = &c->run;
  bool found = true;
  if (mg_model_moe_layers(run->model) == 0)
    return mg_fail(run->context, MG_USAGE, "calibrate: the model has no mixture of experts");
  if (c->fit) MG_TRY(own_buffers(mg_model_params(run->model), &found));
  if (!found)
    return mg_fail(run->context, MG_USAGE, "calibrate: no router of the model has a buffer that could be fitted");
  MG_TRY(mg__run_open(run));
  MG_TRY(mg__load_create(run));
  if (c->fit) MG_TRY(mg__run_prepare(run));
  mg_tape_set_recording(run->tape, false);
  for (int64_t i = 0; i * run->batch_tokens < tokens; i++) MG_TRY(run_pass(c, i));
  c->load = load_table(run);
  return c->load ? MG_OK : MG_MEMORY;
}

mg_status mg_calibrate(mg_context *context, mg_model *model, mg_dataset *data, const json_t *spec, json_t **result) {
  calibrate_settings s;
  *result = NULL;
  MG_TRY(mg_spec_read(context, options, NULL, 0, spec, "calibrate", &s));
  calibration c = {
      .run = {.context = context,
              .model = model,
              .data = data,
              .settings = {.batch = s.batch, .sequence = s.sequence, .precision = s.precision, .seed = s.seed}},
      .fit = s.fit,
      .series = json_array()};
  mg_status status = c.series ? run_all(&c, s.tokens) : MG_MEMORY;
  if (status == MG_OK)
    *result = json_pack("{s:{}, s:{s:O}, s:{s:O}}", "metrics", "series", "calibration_cv", c.series, "tables", "load",
                        c.load);
  json_decref(c.series);
  json_decref(c.load);
  mg__run_close(&c.run);
  return status != MG_OK || *result ? status : MG_MEMORY;
}
