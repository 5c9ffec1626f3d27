/* What a run leaves behind while it goes: series over tokens and tables over training. */
#include "train/run.h"

#include <math.h>

json_t *mg__number(double value) {
  return isfinite(value) ? json_real(value) : json_null();
}

/* {"axes": [...], "layers": [...], "tokens": [], "values": [[] per layer]} */
static json_t *layer_table(const mg__run *run, const char *last_axis) {
  json_t *layers = json_array(), *values = json_array();
  for (int64_t i = 0; i < mg_model_moe_layers(run->model); i++) {
    json_array_append_new(layers, json_integer(mg_model_moe_block(run->model, i)));
    json_array_append_new(values, json_array());
  }
  return json_pack("{s:[s, s, s], s:o, s:[], s:o}", "axes", "layer", "tokens", last_axis, "layers", layers, "tokens",
                   "values", values);
}

/* The names of every layer's auxiliary losses, in the order of the table's last axis. */
static json_t *loss_names(const mg__run *run) {
  json_t *layers = json_array();
  for (int64_t layer = 0; layer < mg_model_moe_layers(run->model); layer++) {
    const mg_moe_facts facts = mg_moe_describe(mg_model_moe(run->model, layer));
    json_t *names = json_array();
    for (int64_t i = 0; i < facts.losses_count; i++) json_array_append_new(names, json_string(facts.loss_names[i]));
    json_array_append_new(layers, names);
  }
  return layers;
}

mg_status mg__record_create(mg__run *run) {
  run->series = json_object();
  run->tables = json_object();
  int failed = !run->series || !run->tables;
  if (mg_model_moe_layers(run->model) > 0) {
    json_t *losses = layer_table(run, "loss");
    failed |= json_object_set_new(losses, "losses", loss_names(run));
    failed |= json_object_set_new(run->tables, "load", layer_table(run, "expert"));
    failed |= json_object_set_new(run->tables, "losses", losses);
  }
  return failed ? mg_fail(run->context, MG_MEMORY, "train: no memory for the record") : MG_OK;
}

mg_status mg__record_point(mg__run *run, const char *series, double value) {
  json_t *points = json_object_get(run->series, series);
  if (!points) {
    points = json_array();
    json_object_set_new(run->series, series, points);
  }
  json_t *point = json_pack("[o, o]", mg__number((double)run->step * (double)run->step_tokens), mg__number(value));
  if (json_array_append_new(points, point) == 0) return MG_OK;
  return mg_fail(run->context, MG_MEMORY, "train: no memory for the series %s", series);
}

static mg_status end_point(mg__run *run, double rate) {
  mg__totals *t = &run->totals;
  MG_TRY(mg__record_point(run, "train_loss", t->point_loss / t->point_steps));
  MG_TRY(mg__record_point(run, "grad_norm", t->point_norm / t->point_steps));
  t->point_loss = t->point_norm = t->point_steps = 0.0;
  return mg__record_point(run, "learning_rate", rate);
}

static mg_status end_window(mg__run *run, const mg_model_output *output) {
  mg__totals *t = &run->totals;
  t->train_loss = t->window_loss / t->window_steps;
  MG_TRY(mg__load_window(run, output));
  MG_TRY(mg__record_point(run, "tokens_per_second", t->window_steps * (double)run->step_tokens / t->window_seconds));
  t->window_loss = t->window_steps = t->window_seconds = 0.0;
  t->window_cv = t->window_violation = t->window_assignments = t->window_dropped = 0.0;
  return MG_OK;
}

mg_status mg__record_step(mg__run *run, double loss, double norm, double rate, const mg_model_output *output) {
  mg__totals *t = &run->totals;
  const double seconds = 1e-9 * (double)run->last_step_ns;
  t->seconds += seconds;
  t->window_seconds += seconds;
  t->point_loss += loss;
  t->point_norm += norm;
  t->window_loss += loss;
  t->point_steps += 1.0;
  t->window_steps += 1.0;
  const bool last = run->step == run->steps;
  if (last || run->step % run->point_every == 0) MG_TRY(end_point(run, rate));
  if (last || run->step % run->window_every == 0) MG_TRY(end_window(run, output));
  return MG_OK;
}
