/* What an evaluation found, as metrics and tables; README.md lists every name with its unit. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "moe/balance.h"
#include "train/run.h"

enum { FLOOR_RUNS = 8 };

void mg__put_named(json_t *object, const char *prefix, const char *name, json_t *value) {
  char full[128];
  snprintf(full, sizeof full, "%s%s", prefix, name);
  json_object_set_new(object, full, value);
}

json_t *mg__domain_names(const mg__run *run) {
  json_t *names = json_array();
  for (int64_t d = 0; d < mg_dataset_domains(run->data); d++)
    json_array_append_new(names, json_string(mg_dataset_domain_name(run->data, d)));
  return names;
}

json_t *mg__layer_blocks(const mg__run *run) {
  json_t *blocks = json_array();
  for (int64_t i = 0; i < mg_model_moe_layers(run->model); i++)
    json_array_append_new(blocks, json_integer(mg_model_moe_block(run->model, i)));
  return blocks;
}

/* ---- quality ------------------------------------------------------------------------------------------------ */

/* Where metrics go. */
typedef struct target {
  json_t *metrics;
  const char *prefix;
} target;

static void put(target to, const char *name, double value) {
  mg__put_named(to.metrics, to.prefix, name, mg__number(value));
}

static void put_quality(const mg__run *run, const mg__evaluation *e, target to) {
  const double entropy = mg_dataset_entropy(run->data);
  put(to, "loss", e->loss);
  put(to, "perplexity", exp(e->loss));
  put(to, "bits_per_byte", e->loss * (double)e->targets / (log(2.0) * (double)e->target_bytes));
  put(to, "accuracy", e->accuracy);
  put(to, "evaluated_tokens", (double)e->targets);
  if (isfinite(entropy)) put(to, "entropy_gap", e->loss - entropy);
}

static void put_drops(const mg__run *run, const mg__evaluation *e, target to) {
  const double layers = (double)mg_model_moe_layers(run->model);
  if (layers == 0.0) return;
  put(to, "dropped_assignments", e->assignments > 0 ? e->dropped_assignments / e->assignments : 0.0);
  put(to, "dropped_tokens", e->dropped_tokens / ((double)e->tokens * layers));
  if (e->random_dropped > 0) put(to, "random_floor_dropped", e->random_dropped / e->assignments);
}

/* ---- balance ------------------------------------------------------------------------------------------------ */

static double dead_experts(const double *load, int64_t experts) {
  return (double)mg_balance_dead_experts(load, experts);
}

static const struct {
  const char *name;
  double (*of)(const double *load, int64_t experts);
} balances[] = {{"cv", mg_balance_cv},
                {"cv_sample", mg_balance_cv_sample},
                {"max_over_mean", mg_balance_max_over_mean},
                {"max_violation", mg_balance_max_violation},
                {"entropy", mg_balance_entropy},
                {"gini", mg_balance_gini},
                {"effective_experts", mg_balance_effective_experts},
                {"dead_experts", dead_experts}};

/* The load of all domains together; NULL when memory runs out. The caller frees it. */
static double *load_of(const mg__evaluation *e, int64_t layer, int64_t experts) {
  double *load = calloc((size_t)experts, sizeof *load);
  for (int64_t i = 0; load && i < e->domains * experts; i++) load[i % experts] += e->load[layer][i];
  return load;
}

/* The row of one layer, added to `sums` too. */
static json_t *balance_row(const mg__run *run, const mg__evaluation *e, int64_t layer, double *sums) {
  const int64_t experts = mg_moe_describe(mg_model_moe(run->model, layer)).experts;
  double *load = load_of(e, layer, experts);
  json_t *row = json_array();
  for (size_t i = 0; load && i < MG_COUNT(balances); i++) {
    const double value = balances[i].of(load, experts);
    sums[i] += value;
    json_array_append_new(row, mg__number(value));
  }
  free(load);
  return row;
}

static void put_balance(const mg__run *run, const mg__evaluation *e, target to) {
  const int64_t layers = mg_model_moe_layers(run->model);
  double sums[MG_COUNT(balances)] = {0};
  json_t *values = json_array(), *names = json_array();
  for (int64_t i = 0; i < layers; i++) json_array_append_new(values, balance_row(run, e, i, sums));
  for (size_t i = 0; i < MG_COUNT(balances); i++) {
    put(to, balances[i].name, sums[i] / (double)layers);
    json_array_append_new(names, json_string(balances[i].name));
  }
  put(to, "sequence_cv", e->sequence_cv / (e->sequences * (double)layers));
  put(to, "sequence_max_violation", e->sequence_violation / (e->sequences * (double)layers));
  mg__put_named(run->tables, to.prefix, "balance",
                json_pack("{s:[s, s], s:o, s:o, s:o}", "axes", "layer", "metric", "layers", mg__layer_blocks(run),
                          "metrics", names, "values", values));
}

/* Random routing with as many experts and choices as a layer: over the whole evaluation, and within one sequence. */
typedef struct floors {
  int64_t experts, choices;
  mg_balance_floor whole, sequence;
} floors;

static double choices_made(const mg__evaluation *e, int64_t layer, int64_t experts) {
  double made = 0;
  for (int64_t i = 0; i < e->domains * experts; i++) made += e->load[layer][i];
  return made;
}

/* The floors take a while to draw, and most models have one shape of layer. */
static void find_floors(const mg__run *run, const mg__evaluation *e, int64_t layer, floors *found) {
  const mg_moe_facts facts = mg_moe_describe(mg_model_moe(run->model, layer));
  const double mean = facts.slots ? facts.mean_choices : choices_made(e, layer, facts.experts) / (double)e->tokens;
  const int64_t choices = (int64_t)fmin(fmax(round(mean), 1), (double)facts.experts);
  const uint64_t seed = (uint64_t)run->settings.seed;
  if (facts.experts == found->experts && choices == found->choices) return;
  *found = (floors){
      .experts = facts.experts,
      .choices = choices,
      .whole = mg_balance_random_floor(facts.experts, choices, e->tokens, FLOOR_RUNS, seed),
      .sequence = mg_balance_random_floor(facts.experts, choices, run->batch.sequence_tokens, 16 * FLOOR_RUNS, seed)};
}

static void put_floors(const mg__run *run, const mg__evaluation *e, target to) {
  const int64_t layers = mg_model_moe_layers(run->model);
  floors found = {0};
  mg_balance_floor whole = {0}, sequence = {0};
  for (int64_t i = 0; i < layers; i++) {
    find_floors(run, e, i, &found);
    whole.cv += found.whole.cv / (double)layers;
    whole.max_violation += found.whole.max_violation / (double)layers;
    sequence.cv += found.sequence.cv / (double)layers;
    sequence.max_violation += found.sequence.max_violation / (double)layers;
  }
  put(to, "random_floor_cv", whole.cv);
  put(to, "random_floor_max_over_mean", 1.0 + whole.max_violation);
  put(to, "random_floor_max_violation", whole.max_violation);
  put(to, "random_floor_sequence_cv", sequence.cv);
  put(to, "random_floor_sequence_max_violation", sequence.max_violation);
}

/* ---- tables ------------------------------------------------------------------------------------------------- */

/* The shares of one domain's choices that each expert got. */
static json_t *domain_row(const double *load, int64_t experts) {
  json_t *row = json_array();
  double sum = 0.0;
  for (int64_t i = 0; i < experts; i++) sum += load[i];
  for (int64_t i = 0; i < experts; i++) json_array_append_new(row, mg__number(sum > 0.0 ? load[i] / sum : 0.0));
  return row;
}

static void put_domain_load(mg__run *run, const mg__evaluation *e, const char *prefix) {
  if (mg_model_moe_layers(run->model) == 0) return;
  json_t *values = json_array();
  for (int64_t i = 0; i < mg_model_moe_layers(run->model); i++) {
    const int64_t experts = mg_moe_describe(mg_model_moe(run->model, i)).experts;
    json_t *rows = json_array();
    for (int64_t d = 0; d < e->domains; d++) json_array_append_new(rows, domain_row(e->load[i] + d * experts, experts));
    json_array_append_new(values, rows);
  }
  mg__put_named(run->tables, prefix, "domain_load",
                json_pack("{s:[s, s, s], s:o, s:o, s:o}", "axes", "layer", "domain", "expert", "layers",
                          mg__layer_blocks(run), "domains", mg__domain_names(run), "values", values));
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
static void put_level_load(mg__run *run, const mg__evaluation *e, const char *prefix) {
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
    mg__put_named(run->tables, prefix, "level_load", table);
}

static void put_domain_loss(mg__run *run, const mg__evaluation *e, const char *prefix) {
  json_t *values = json_array();
  for (int64_t d = 0; d < e->domains; d++)
    json_array_append_new(values, mg__number(e->domain_loss[d] / e->domain_targets[d]));
  mg__put_named(run->tables, prefix, "domain_loss",
                json_pack("{s:[s], s:o, s:o}", "axes", "domain", "domains", mg__domain_names(run), "values", values));
}

mg_status mg__findings_put(mg__run *run, const mg__evaluation *evaluation, const char *prefix, json_t *metrics) {
  const target to = {metrics, prefix};
  put_quality(run, evaluation, to);
  put_domain_loss(run, evaluation, prefix);
  if (mg_model_moe_layers(run->model) == 0) return MG_OK;
  put_drops(run, evaluation, to);
  put_balance(run, evaluation, to);
  put_floors(run, evaluation, to);
  put_domain_load(run, evaluation, prefix);
  put_level_load(run, evaluation, prefix);
  return mg__specialisation_put(run, evaluation, prefix, metrics);
}
