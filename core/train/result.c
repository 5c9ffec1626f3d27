/* The result of a run as JSON; README.md lists every name with its unit. */
#include "train/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "moe/balance.h"

enum { FLOOR_RUNS = 8 };

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
}

static void put_work(const mg__run *run, json_t *metrics) {
  const mg__totals *t = &run->totals;
  const double tokens = fmax((double)run->step * (double)run->step_tokens, 1.0);
  double forward = 0.0, backward = 0.0;
  for (int part = 0; part < MG_PART_COUNT; part++) {
    if (part != MG_PART_OPTIMISER) forward += t->flops[part] / tokens;
    backward += t->backward_flops[part] / tokens;
    put_part(metrics, "flops_per_token", part, t->flops[part] / tokens);
  }
  put(metrics, "flops_per_token", forward);
  put(metrics, "backward_flops_per_token", backward);
  put(metrics, "useful_flops_per_token", t->useful_flops / tokens);
  put(metrics, "padded_flops_per_token", t->padded_flops / tokens);
  put(metrics, "dropped_flops_per_token", t->dropped_flops / tokens);
}

static void put_size(mg__run *run, json_t *metrics) {
  const mg_model_size size = mg_model_count(run->model);
  json_t *parts = json_object();
  for (int part = 0; part < MG_MODEL_PART_COUNT; part++)
    json_object_set_new(parts, mg_model_part_names[part], json_integer((json_int_t)size.part[part]));
  json_object_set_new(run->tables, "parameters", parts);
  json_object_set(run->tables, "model", (json_t *)mg_model_spec(run->model));
  json_object_set(run->tables, "train", run->resolved);
  put(metrics, "params_total", (double)size.total);
  put(metrics, "params_active", (double)size.active);
}

/* ---- quality ------------------------------------------------------------------------------------------------ */

static void put_quality(const mg__run *run, const mg__evaluation *e, json_t *metrics) {
  const double bytes = mg_dataset_bytes_per_token(run->data, MG_SPLIT_VALID), entropy = mg_dataset_entropy(run->data);
  put(metrics, "loss", e->loss);
  put(metrics, "perplexity", exp(e->loss));
  put(metrics, "bits_per_byte", e->loss / (log(2.0) * bytes));
  put(metrics, "accuracy", e->accuracy);
  put(metrics, "evaluated_tokens", (double)e->targets);
  if (isfinite(entropy)) put(metrics, "entropy_gap", e->loss - entropy);
}

/* ---- balance on the validation split --------------------------------------------------------------------------- */

typedef struct balance {
  double cv, max_over_mean, max_violation, entropy, gini, effective_experts, dead_experts, floor_cv, floor_violation;
  int64_t experts, choices; /* of the layer before, to which `least` belongs */
  mg_balance_floor least;
} balance;

/* The floor takes a while to draw, and most models have one shape of layer. */
static void add_floor(const mg__run *run, const mg__evaluation *e, const mg_moe_facts *facts, balance *sum) {
  const int64_t choices = (int64_t)fmin(fmax(round(facts->mean_choices), 1), (double)facts->experts);
  if (facts->experts != sum->experts || choices != sum->choices)
    sum->least = mg_balance_random_floor(facts->experts, choices, e->tokens, FLOOR_RUNS, (uint64_t)run->settings.seed);
  sum->experts = facts->experts;
  sum->choices = choices;
  sum->floor_cv += sum->least.cv;
  sum->floor_violation += sum->least.max_violation;
}

static void add_balance(const mg__run *run, const mg__evaluation *e, int64_t layer, balance *sum) {
  const mg_moe_facts facts = mg_moe_describe(mg_model_moe(run->model, layer));
  double *load = calloc((size_t)facts.experts, sizeof *load);
  if (!load) return;
  for (int64_t i = 0; i < e->domains * facts.experts; i++) load[i % facts.experts] += e->load[layer][i];
  sum->cv += mg_balance_cv(load, facts.experts);
  sum->max_over_mean += mg_balance_max_over_mean(load, facts.experts);
  sum->max_violation += mg_balance_max_violation(load, facts.experts);
  sum->entropy += mg_balance_entropy(load, facts.experts);
  sum->gini += mg_balance_gini(load, facts.experts);
  sum->effective_experts += mg_balance_effective_experts(load, facts.experts);
  sum->dead_experts += (double)mg_balance_dead_experts(load, facts.experts);
  free(load);
  add_floor(run, e, &facts, sum);
}

static void put_balance(const mg__run *run, const mg__evaluation *e, json_t *metrics) {
  const int64_t layers = mg_model_moe_layers(run->model);
  const double share = 1.0 / (double)layers;
  balance sum = {0};
  if (layers == 0) return;
  for (int64_t i = 0; i < layers; i++) add_balance(run, e, i, &sum);
  put(metrics, "cv", sum.cv * share);
  put(metrics, "max_over_mean", sum.max_over_mean * share);
  put(metrics, "max_violation", sum.max_violation * share);
  put(metrics, "entropy", sum.entropy * share);
  put(metrics, "gini", sum.gini * share);
  put(metrics, "effective_experts", sum.effective_experts * share);
  put(metrics, "dead_experts", sum.dead_experts * share);
  put(metrics, "random_floor_cv", sum.floor_cv * share);
  put(metrics, "random_floor_max_over_mean", 1.0 + sum.floor_violation * share);
  put(metrics, "random_floor_max_violation", sum.floor_violation * share);
}

static void put_drops(const mg__run *run, const mg__evaluation *e, json_t *metrics) {
  const double layers = (double)mg_model_moe_layers(run->model);
  const mg__totals *t = &run->totals;
  if (layers == 0.0) return;
  const double trained = (double)run->step * (double)run->step_tokens * layers;
  put(metrics, "train_dropped_assignments", t->assignments > 0 ? t->dropped_assignments / t->assignments : 0.0);
  put(metrics, "train_dropped_tokens", trained > 0 ? t->dropped_tokens / trained : 0.0);
  if (!e) return;
  put(metrics, "dropped_assignments", e->assignments > 0 ? e->dropped_assignments / e->assignments : 0.0);
  put(metrics, "dropped_tokens", e->dropped_tokens / ((double)e->tokens * layers));
}

/* ---- tables ------------------------------------------------------------------------------------------------- */

static json_t *domain_names(const mg__run *run) {
  json_t *names = json_array();
  for (int64_t d = 0; d < mg_dataset_domains(run->data); d++)
    json_array_append_new(names, json_string(mg_dataset_domain_name(run->data, d)));
  return names;
}

/* The shares of one domain's choices that each expert got. */
static json_t *domain_row(const double *load, int64_t experts) {
  json_t *row = json_array();
  double sum = 0.0;
  for (int64_t i = 0; i < experts; i++) sum += load[i];
  for (int64_t i = 0; i < experts; i++) json_array_append_new(row, mg__number(sum > 0.0 ? load[i] / sum : 0.0));
  return row;
}

static void put_domain_load(mg__run *run, const mg__evaluation *e) {
  if (mg_model_moe_layers(run->model) == 0) return;
  json_t *layers = json_array(), *values = json_array();
  for (int64_t i = 0; i < mg_model_moe_layers(run->model); i++) {
    const int64_t experts = mg_moe_describe(mg_model_moe(run->model, i)).experts;
    json_t *rows = json_array();
    for (int64_t d = 0; d < e->domains; d++) json_array_append_new(rows, domain_row(e->load[i] + d * experts, experts));
    json_array_append_new(values, rows);
    json_array_append_new(layers, json_integer(mg_model_moe_block(run->model, i)));
  }
  json_object_set_new(run->tables, "domain_load",
                      json_pack("{s:[s, s, s], s:o, s:o, s:o}", "axes", "layer", "domain", "expert", "layers", layers,
                                "domains", domain_names(run), "values", values));
}

/* The shares of the nodes of each level, from the load of the leaves below them; NULL when memory runs out. */
static json_t *level_rows(mg__run *run, const mg__evaluation *e, int64_t layer, const mg_moe_facts *facts) {
  const size_t count = (size_t)facts->experts;
  double *load = mg_alloc(run->context, 2 * count * sizeof *load), *groups = load + count;
  if (!load) return NULL;
  json_t *rows = json_array();
  for (int64_t d = 0; d < e->domains; d++)
    for (size_t i = 0; i < count; i++) load[i] += e->load[layer][(size_t)d * count + i];
  for (int64_t l = 0; l < facts->groupings_count; l++)
    if (mg_balance_group(load, facts->experts, facts->groupings[l], groups))
      json_array_append_new(rows, domain_row(groups, facts->groupings[l]));
  mg_free(run->context, load, 2 * count * sizeof *load);
  return rows;
}

/* For routers that name groupings: how evenly each level of the tree is loaded on the validation split. */
static void put_level_load(mg__run *run, const mg__evaluation *e) {
  json_t *layers = json_array(), *values = json_array();
  for (int64_t i = 0; i < mg_model_moe_layers(run->model); i++) {
    const mg_moe_facts facts = mg_moe_describe(mg_model_moe(run->model, i));
    if (facts.groupings_count == 0) continue;
    json_array_append_new(values, level_rows(run, e, i, &facts));
    json_array_append_new(layers, json_integer(mg_model_moe_block(run->model, i)));
  }
  json_t *table =
      json_pack("{s:[s, s, s], s:o, s:o}", "axes", "layer", "level", "node", "layers", layers, "values", values);
  if (json_array_size(layers) == 0)
    json_decref(table);
  else
    json_object_set_new(run->tables, "level_load", table);
}

static void put_domain_loss(mg__run *run, const mg__evaluation *e) {
  json_t *values = json_array();
  for (int64_t d = 0; d < e->domains; d++)
    json_array_append_new(values, mg__number(e->domain_loss[d] / e->domain_targets[d]));
  json_object_set_new(run->tables, "domain_loss",
                      json_pack("{s:[s], s:o, s:o}", "axes", "domain", "domains", domain_names(run), "values", values));
}

mg_status mg__result_build(mg__run *run, const mg__evaluation *evaluation, json_t **result) {
  json_t *metrics = json_object();
  *result = json_pack("{s:o, s:O, s:O}", "metrics", metrics, "series", run->series, "tables", run->tables);
  if (!*result) return mg_fail(run->context, MG_MEMORY, "train: no memory for the result");
  put_progress(run, metrics);
  put_work(run, metrics);
  put_size(run, metrics);
  put_drops(run, evaluation, metrics);
  mg__account_report(run, metrics);
  if (!evaluation) return MG_OK;
  put_quality(run, evaluation, metrics);
  put_balance(run, evaluation, metrics);
  put_domain_load(run, evaluation);
  put_level_load(run, evaluation);
  put_domain_loss(run, evaluation);
  return mg__timing_measure(run, metrics);
}
