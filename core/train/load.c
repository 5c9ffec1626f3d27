/* How evenly the experts are loaded while training: the demand of every step, summed over windows of some 24 per run.
 */
#include "train/run.h"

#include <string.h>

#include "moe/balance.h"

static int64_t experts_of(const mg__run *run, int64_t layer) {
  return mg_moe_describe(mg_model_moe(run->model, layer)).experts;
}

mg_status mg__load_create(mg__run *run) {
  const int64_t layers = mg_model_moe_layers(run->model);
  if (layers == 0) return MG_OK;
  run->counts = mg_alloc(run->context, (size_t)layers * sizeof *run->counts);
  run->load = mg_alloc(run->context, (size_t)layers * sizeof *run->load);
  if (!run->counts || !run->load) return MG_MEMORY;
  for (int64_t i = 0; i < layers; i++) {
    run->load[i] = mg_alloc(run->context, (size_t)experts_of(run, i) * sizeof(double));
    if (!run->load[i]) return MG_MEMORY;
  }
  return MG_OK;
}

void mg__load_destroy(mg__run *run) {
  const int64_t layers = mg_model_moe_layers(run->model);
  for (int64_t i = 0; run->load && i < layers; i++)
    if (run->load[i]) mg_free(run->context, run->load[i], (size_t)experts_of(run, i) * sizeof(double));
  mg_free(run->context, run->load, run->load ? (size_t)layers * sizeof *run->load : 0);
  mg_free(run->context, run->counts, run->counts ? (size_t)layers * sizeof *run->counts : 0);
}

mg_status mg__load_batch(mg__run *run) {
  MG_TRY(mg_model_collect_demand(run->model, run->tape, run->counts));
  mg__totals *totals = &run->totals;
  for (int64_t i = 0; i < mg_model_moe_layers(run->model); i++) {
    const mg_moe_counts *counts = &run->counts[i];
    totals->assignments += (double)counts->demand;
    totals->dropped_assignments += (double)counts->dropped;
    totals->dropped_tokens += (double)counts->dropped_tokens;
    totals->useful_flops += counts->useful_flops;
    totals->padded_flops += counts->padded_flops;
    totals->dropped_flops += counts->dropped_flops;
    totals->window_assignments += (double)counts->demand;
    totals->window_dropped += (double)counts->dropped;
  }
  return MG_OK;
}

void mg__load_step(mg__run *run) {
  const int64_t layers = mg_model_moe_layers(run->model);
  for (int64_t i = 0; i < layers; i++) {
    const double *demand = mg_model_demand(run->model, i);
    const int64_t experts = experts_of(run, i);
    for (int64_t e = 0; e < experts; e++) run->load[i][e] += demand[e];
    run->totals.window_cv += mg_balance_cv(demand, experts) / (double)layers;
    run->totals.window_violation += mg_balance_max_violation(demand, experts) / (double)layers;
  }
}

/* Appends each expert's share of the window's demand to values[layer] of the load table, and starts the sum anew. */
static mg_status append_shares(mg__run *run, json_t *values, int64_t layer) {
  const int64_t experts = experts_of(run, layer);
  double *load = run->load[layer], sum = 0.0;
  json_t *row = json_array();
  for (int64_t e = 0; e < experts; e++) sum += load[e];
  for (int64_t e = 0; e < experts; e++) json_array_append_new(row, mg__number(sum > 0.0 ? load[e] / sum : 0.0));
  memset(load, 0, (size_t)experts * sizeof *load);
  if (json_array_append_new(json_array_get(values, (size_t)layer), row) == 0) return MG_OK;
  return mg_fail(run->context, MG_MEMORY, "train: no memory for the load table");
}

/* Appends the auxiliary losses of the window's last batch, unweighted, to values[layer] of the losses table. */
static mg_status append_losses(mg__run *run, json_t *values, int64_t layer, const mg_moe_record *record) {
  const mg_moe_facts facts = mg_moe_describe(mg_model_moe(run->model, layer));
  json_t *row = json_array();
  for (int64_t i = 0; i < facts.losses_count; i++) {
    float loss = 0.0f;
    if (record->losses[i]) MG_TRY(mg_tape_download(run->tape, record->losses[i], &loss, sizeof loss));
    json_array_append_new(row, mg__number((double)loss));
  }
  json_array_append_new(json_array_get(values, (size_t)layer), row);
  return MG_OK;
}

mg_status mg__load_window(mg__run *run, const mg_model_output *output) {
  const int64_t layers = mg_model_moe_layers(run->model);
  if (layers == 0) return MG_OK;
  mg__totals *totals = &run->totals;
  MG_TRY(mg__record_point(run, "cv", totals->window_cv / totals->window_steps));
  MG_TRY(mg__record_point(run, "max_violation", totals->window_violation / totals->window_steps));
  const double dropped = totals->window_assignments > 0 ? totals->window_dropped / totals->window_assignments : 0.0;
  MG_TRY(mg__record_point(run, "dropped_assignments", dropped));
  json_t *load = json_object_get(run->tables, "load"), *losses = json_object_get(run->tables, "losses");
  const double tokens = (double)run->step * (double)run->step_tokens;
  json_array_append_new(json_object_get(load, "tokens"), mg__number(tokens));
  json_array_append_new(json_object_get(losses, "tokens"), mg__number(tokens));
  for (int64_t i = 0; i < layers; i++) {
    MG_TRY(append_shares(run, json_object_get(load, "values"), i));
    MG_TRY(append_losses(run, json_object_get(losses, "values"), i, &output->records[i]));
  }
  return MG_OK;
}
