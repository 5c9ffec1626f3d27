/* A model measured as it stands, on a segment of the validation split, alone or beside another. */
#include "base/clock.h"
#include "moe/spec.h"
#include "train/adapt.h"
#include "train/run.h"

enum { TIMED_MAX = 63 };

typedef struct evaluate_settings {
  int64_t tokens, batch, sequence, segment, precision, timing_passes;
  bool specialisation;
} evaluate_settings;

static const char *const precisions[] = {"bf16", "f32", NULL};

static const mg_option options[] = {
    MG_OPTION_INT(evaluate_settings, tokens, 16384, 1, 1e15, "tokens of the segment, up to a whole batch"),
    MG_OPTION_INT(evaluate_settings, batch, 1, 1, 65536, "sequences per pass"),
    MG_OPTION_INT(evaluate_settings, sequence, 256, 1, 1 << 20, "tokens per sequence"),
    MG_OPTION_INT(evaluate_settings, segment, 1, 1, 1 << 30, "which segment of the validation split, from 1"),
    MG_OPTION_CHOICE(evaluate_settings, precision, 0, precisions, "how matrix products round their operands"),
    MG_OPTION_INT(evaluate_settings, timing_passes, 5, 0, TIMED_MAX, "separate passes that are timed; 0 = none"),
    MG_OPTION_BOOL(evaluate_settings, specialisation, false, "report what experts specialise in"),
    MG_OPTION_END};

const mg_option *mg_evaluate_options(void) {
  return options;
}

/* The median of whole passes over the segment's first batch, the first of which warms up. */
static mg_status time_passes(mg__run *run, int64_t passes, json_t *metrics) {
  double speeds[TIMED_MAX + 1];
  int64_t filled;
  MG_TRY(mg__run_fill_batch(run, MG_SPLIT_VALID, run->settings.evaluate_first, &filled));
  mg_model_batch batch = mg__run_model_batch(run, filled, false, 0);
  batch.targets = NULL;
  batch.logits_only = true;
  mg_backend *backend = mg_model_backend(run->model);
  mg_tape_set_recording(run->tape, false);
  for (int64_t pass = 0; pass <= passes; pass++) {
    mg_model_output output;
    const int64_t start = mg_clock_ns();
    mg_tape_reset(run->tape);
    MG_TRY(mg_model_forward(run->model, run->tape, &batch, &output));
    MG_TRY(backend->plugin->synchronize(backend));
    const double seconds = 1e-9 * (double)(mg_clock_ns() - start);
    speeds[pass] = (double)(filled * run->batch.sequence_tokens) / seconds;
  }
  json_object_set_new(metrics, "forward_tokens_per_second", mg__number(mg__median(speeds + 1, passes)));
  return MG_OK;
}

/* What a run over the segment needs of the settings. */
static mg__train_settings segment_settings(const evaluate_settings *s) {
  const int64_t batches = (s->tokens + s->batch * s->sequence - 1) / (s->batch * s->sequence);
  return (mg__train_settings){.batch = s->batch,
                              .sequence = s->sequence,
                              .precision = s->precision,
                              .specialisation = s->specialisation,
                              .evaluate_first = (s->segment - 1) * batches};
}

static mg_status measure(mg__run *run, const evaluate_settings *s, json_t *metrics) {
  mg__evaluation evaluation;
  mg_status status = mg__evaluate(run, s->tokens, true, &evaluation);
  if (status == MG_OK) status = mg__findings_put(run, &evaluation, "", metrics);
  if (status == MG_OK) {
    mg__flops_put(evaluation.flops, (double)evaluation.tokens, metrics);
    mg__size_put(run, metrics);
  }
  mg__evaluation_release(run, &evaluation);
  return status == MG_OK && s->timing_passes ? time_passes(run, s->timing_passes, metrics) : status;
}

mg_status mg_evaluate(mg_context *context, mg_model *model, mg_dataset *data, const json_t *spec, json_t **result) {
  evaluate_settings s;
  mg__run run = {.context = context, .model = model, .data = data};
  *result = NULL;
  MG_TRY(mg_spec_read(context, options, NULL, 0, spec, "evaluate", &s));
  run.settings = segment_settings(&s);
  json_t *metrics = json_object();
  run.tables = json_object();
  mg_status status = metrics && run.tables ? mg__run_open(&run) : MG_MEMORY;
  if (status == MG_OK) status = measure(&run, &s, metrics);
  if (status == MG_OK) *result = json_pack("{s:O, s:{}, s:O}", "metrics", metrics, "series", "tables", run.tables);
  json_decref(metrics);
  mg__run_close(&run);
  return status != MG_OK || *result ? status : MG_MEMORY;
}

/* ---- beside another ------------------------------------------------------------------------------------------- */

static bool holds(const int32_t *row, int64_t count, int32_t id) {
  for (int64_t s = 0; s < count; s++)
    if (row[s] == id) return true;
  return false;
}

/* Tokens of a layer whose choices are not the same set; -1 is no choice. */
static int64_t count_flips(const mg_choices *a, const mg_choices *b) {
  int64_t flips = 0;
  for (int64_t t = 0; t < a->tokens; t++) {
    const int32_t *x = a->ids + t * a->choices, *y = b->ids + t * b->choices;
    bool same = true;
    for (int64_t s = 0; s < a->choices && same; s++) same = x[s] < 0 || holds(y, b->choices, x[s]);
    for (int64_t s = 0; s < b->choices && same; s++) same = y[s] < 0 || holds(x, a->choices, y[s]);
    flips += !same;
  }
  return flips;
}

static mg_status put_flips(mg__run *run, const mg__routing *a, const mg__routing *b, json_t *metrics) {
  json_t *values = json_array();
  double sum = 0.0;
  for (int64_t layer = 0; layer < a->layers; layer++) {
    const mg_choices mine = mg__routing_choices(a, layer), theirs = mg__routing_choices(b, layer);
    const double share = (double)count_flips(&mine, &theirs) / (double)a->tokens;
    json_array_append_new(values, json_real(share));
    sum += share;
  }
  json_object_set_new(metrics, "flip_rate", json_real(sum / (double)a->layers));
  json_object_set_new(
      run->tables, "flips",
      json_pack("{s:[s], s:o, s:o}", "axes", "layer", "layers", mg__layer_blocks(run), "values", values));
  return MG_OK;
}

static mg_status compare(mg__run *run, mg__run *other, const evaluate_settings *s, json_t *metrics) {
  mg__evaluation mine = {0}, theirs = {0};
  mg_status status = mg__evaluate(run, s->tokens, true, &mine);
  if (status == MG_OK) status = mg__evaluate(other, s->tokens, true, &theirs);
  if (status == MG_OK) {
    json_object_set_new(metrics, "loss", mg__number(mine.loss));
    json_object_set_new(metrics, "other_loss", mg__number(theirs.loss));
    json_object_set_new(metrics, "evaluated_tokens", json_integer(mine.targets));
    status = put_flips(run, &mine.routing, &theirs.routing, metrics);
  }
  mg__evaluation_release(run, &mine);
  mg__evaluation_release(other, &theirs);
  return status;
}

static mg_status check_alike(mg_context *context, const mg_model *a, const mg_model *b) {
  const int64_t layers = mg_model_moe_layers(a);
  bool alike = layers == mg_model_moe_layers(b);
  for (int64_t i = 0; i < layers && alike; i++)
    alike = mg_moe_describe(mg_model_moe(a, i)).experts == mg_moe_describe(mg_model_moe(b, i)).experts;
  if (alike && layers > 0) return MG_OK;
  return mg_fail(context, MG_USAGE,
                 "compare_routing: two models with as many mixtures of as many experts were expected, at least one");
}

mg_status mg_compare_routing(mg_context *context, mg_model *model, mg_model *other, mg_dataset *data,
                             const json_t *spec, json_t **result) {
  evaluate_settings s;
  *result = NULL;
  MG_TRY(mg_spec_read(context, options, NULL, 0, spec, "compare_routing", &s));
  MG_TRY(check_alike(context, model, other));
  s.specialisation = true; /* brings the routing to the host */
  mg__run runs[2] = {{.model = model}, {.model = other}};
  json_t *metrics = json_object();
  mg_status status = metrics ? MG_OK : MG_MEMORY;
  for (int i = 0; i < 2; i++) {
    runs[i].context = context;
    runs[i].data = data;
    runs[i].settings = segment_settings(&s);
    runs[i].tables = json_object();
    if (status == MG_OK) status = runs[i].tables ? mg__run_open(&runs[i]) : MG_MEMORY;
  }
  if (status == MG_OK) status = compare(&runs[0], &runs[1], &s, metrics);
  if (status == MG_OK) *result = json_pack("{s:O, s:{}, s:O}", "metrics", metrics, "series", "tables", runs[0].tables);
  json_decref(metrics);
  for (int i = 0; i < 2; i++) mg__run_close(&runs[i]);
  return status != MG_OK || *result ? status : MG_MEMORY;
}
