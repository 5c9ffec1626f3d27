/* The result of a run as JSON; README.md lists every name with its unit. */
#include "train/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void put(json_t *metrics, const char *name, double value) {
  json_object_set_new(metrics, name, mg__number(value));
}

static void put_part(json_t *metrics, const char *prefix, int part, double value) {
  char name[64];
  if (value == 0.0) return;
  snprintf(name, sizeof name, "%s_%s", prefix, mg_part_name((mg_part)part));
  put(metrics, name, value);
}

/* The median of the windows' speeds, without the first, in which caches and memory warm up. */
static double speed(const mg__run *run) {
  const json_t *points = json_object_get(run->series, "tokens_per_second");
  const size_t count = json_array_size(points), first = count > 1 ? 1 : 0;
  double *values = malloc((count + 1) * sizeof *values);
  if (!values) return NAN;
  for (size_t i = first; i < count; i++)
    values[i - first] = json_number_value(json_array_get(json_array_get(points, i), 1));
  const double median = mg__median(values, (int64_t)(count - first));
  free(values);
  return median;
}

static void put_progress(const mg__run *run, json_t *metrics) {
  const mg__totals *t = &run->totals;
  const double tokens = (double)run->step * (double)run->step_tokens;
  put(metrics, "steps", (double)run->step);
  put(metrics, "tokens", tokens);
  put(metrics, "train_loss", t->window_steps > 0 ? t->window_loss / t->window_steps : t->train_loss);
  put(metrics, "spikes", (double)run->spikes.count);
  put(metrics, "seconds", t->seconds);
  put(metrics, "tokens_per_second", speed(run));
  put(metrics, "data_ns_per_token", 1e9 * t->data_seconds / fmax(tokens, 1.0));
  put(metrics, "optimiser_ns_per_token", 1e9 * t->optimiser_seconds / fmax(tokens, 1.0));
  if (t->metered_steps > 0)
    put(metrics, "millijoules_per_token", 1e3 * t->joules / (t->metered_steps * (double)run->step_tokens));
}

void mg__flops_put(const double flops[MG_PART_COUNT], double tokens, json_t *metrics) {
  double forward = 0.0;
  for (int part = 0; part < MG_PART_COUNT; part++) {
    if (part != MG_PART_OPTIMISER) forward += flops[part] / tokens;
    put_part(metrics, "flops_per_token", part, flops[part] / tokens);
  }
  put(metrics, "flops_per_token", forward);
}

static void put_work(const mg__run *run, json_t *metrics) {
  const mg__totals *t = &run->totals;
  const double tokens = fmax((double)run->step * (double)run->step_tokens, 1.0);
  double backward = 0.0;
  for (int part = 0; part < MG_PART_COUNT; part++) backward += t->backward_flops[part] / tokens;
  mg__flops_put(t->flops, tokens, metrics);
  put(metrics, "backward_flops_per_token", backward);
  put(metrics, "useful_flops_per_token", t->useful_flops / tokens);
  put(metrics, "padded_flops_per_token", t->padded_flops / tokens);
  put(metrics, "dropped_flops_per_token", t->dropped_flops / tokens);
}

void mg__size_put(mg__run *run, json_t *metrics) {
  const mg_model_size size = mg_model_count(run->model);
  json_t *parts = json_object();
  for (int part = 0; part < MG_MODEL_PART_COUNT; part++)
    json_object_set_new(parts, mg_model_part_names[part], json_integer((json_int_t)size.part[part]));
  json_object_set_new(run->tables, "parameters", parts);
  json_object_set(run->tables, "model", (json_t *)mg_model_spec(run->model));
  put(metrics, "params_total", (double)size.total);
  put(metrics, "params_active", (double)size.active);
}

static void put_train_drops(const mg__run *run, json_t *metrics) {
  const double layers = (double)mg_model_moe_layers(run->model);
  const mg__totals *t = &run->totals;
  if (layers == 0.0) return;
  const double trained = (double)run->step * (double)run->step_tokens * layers;
  put(metrics, "train_dropped_assignments", t->assignments > 0 ? t->dropped_assignments / t->assignments : 0.0);
  put(metrics, "train_dropped_tokens", trained > 0 ? t->dropped_tokens / trained : 0.0);
}

mg_status mg__result_build(mg__run *run, const mg__evaluation *evaluation, json_t **result) {
  json_t *metrics = json_object();
  *result = json_pack("{s:o, s:O, s:O}", "metrics", metrics, "series", run->series, "tables", run->tables);
  if (!*result) return mg_fail(run->context, MG_MEMORY, "train: no memory for the result");
  put_progress(run, metrics);
  put_work(run, metrics);
  mg__size_put(run, metrics);
  json_object_set(run->tables, "train", run->resolved);
  put_train_drops(run, metrics);
  mg__account_report(run, metrics);
  if (!evaluation) return MG_OK;
  MG_TRY(mg__findings_put(run, evaluation, "", metrics));
  MG_TRY(mg__saturation_put(run, &evaluation->routing, metrics));
  MG_TRY(mg__timing_measure(run, metrics));
  return mg__evaluations_run(run, metrics);
}
