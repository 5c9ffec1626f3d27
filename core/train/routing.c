/* The routing of a pass over the validation split, brought to the host, and snapshots of it during training. */
#include <math.h>
#include <string.h>

#include "base/vector.h"
#include "train/run.h"

bool mg__routing_wanted(const mg__run *run) {
  const mg__train_settings *s = &run->settings;
  return (s->specialisation || s->snapshots_count > 0) && mg_model_moe_layers(run->model) > 0;
}

static mg_status create(mg__run *run, mg__routing *routing) {
  const int64_t layers = mg_model_moe_layers(run->model);
  const size_t bytes = (size_t)layers * sizeof(int64_t);
  routing->layers = layers;
  routing->sequence_tokens = run->batch.sequence_tokens;
  routing->ids = mg_alloc(run->context, (size_t)layers * sizeof *routing->ids);
  routing->choices = mg_alloc(run->context, bytes);
  routing->experts = mg_alloc(run->context, bytes);
  if (!routing->ids || !routing->choices || !routing->experts) return MG_MEMORY;
  for (int64_t i = 0; i < layers; i++) {
    const mg_moe_facts facts = mg_moe_describe(mg_model_moe(run->model, i));
    routing->choices[i] = facts.choices;
    routing->experts[i] = facts.experts;
  }
  return MG_OK;
}

void mg__routing_release(mg_context *context, mg__routing *routing) {
  const size_t layers = (size_t)routing->layers;
  mg__ids *const lists[] = {&routing->inputs, &routing->targets, &routing->guesses, &routing->domains};
  for (size_t i = 0; i < MG_COUNT(lists); i++) MG_VECTOR_FREE(context, lists[i]->items, lists[i]->room);
  for (size_t i = 0; routing->ids && i < layers; i++)
    MG_VECTOR_FREE(context, routing->ids[i].items, routing->ids[i].room);
  mg_free(context, routing->ids, routing->ids ? layers * sizeof *routing->ids : 0);
  mg_free(context, routing->choices, routing->choices ? layers * sizeof(int64_t) : 0);
  mg_free(context, routing->experts, routing->experts ? layers * sizeof(int64_t) : 0);
  memset(routing, 0, sizeof *routing);
}

static mg_status append(mg_context *context, mg__ids *list, int64_t have, const int32_t *items, int64_t count) {
  MG_TRY(MG_VECTOR_RESERVE(context, list->items, list->room, (size_t)(have + count)));
  if (count > 0) memcpy(list->items + have, items, (size_t)count * sizeof *items);
  return MG_OK;
}

/* A router may give fewer choices than it says; the rest is -1. */
static mg_status append_choices(mg__run *run, mg__routing *routing, int64_t layer, const mg_var *ids) {
  const int64_t tokens = mg_var_rows(ids), given = mg_var_columns(ids), choices = routing->choices[layer];
  const int64_t have = routing->tokens * choices, count = tokens * choices;
  mg__ids *list = &routing->ids[layer];
  MG_TRY(MG_VECTOR_RESERVE(run->context, list->items, list->room, (size_t)(have + count)));
  int32_t *rows = list->items + have;
  MG_TRY(mg_tape_download(run->tape, ids, rows, (size_t)(tokens * given) * sizeof *rows));
  for (int64_t t = tokens - 1; t >= 0 && given < choices; t--) {
    memmove(rows + t * choices, rows + t * given, (size_t)given * sizeof *rows);
    for (int64_t s = given; s < choices; s++) rows[t * choices + s] = -1;
  }
  return MG_OK;
}

static mg_status append_domains(mg__run *run, mg__routing *routing, int64_t sequences) {
  const int64_t length = routing->sequence_tokens;
  mg__ids *list = &routing->domains;
  MG_TRY(MG_VECTOR_RESERVE(run->context, list->items, list->room, (size_t)(routing->tokens + sequences * length)));
  int32_t *domains = list->items + routing->tokens;
  for (int64_t t = 0; t < sequences * length; t++) domains[t] = run->batch.domains[t / length];
  return MG_OK;
}

mg_status mg__routing_add(mg__run *run, int64_t sequences, const mg_model_output *output, const int32_t *guesses,
                          mg__routing *routing) {
  const int64_t count = sequences * run->batch.sequence_tokens, have = routing->tokens;
  if (!routing->ids) MG_TRY(create(run, routing));
  MG_TRY(append(run->context, &routing->inputs, have, run->batch.inputs, count));
  MG_TRY(append(run->context, &routing->targets, have, run->batch.targets, count));
  MG_TRY(append(run->context, &routing->guesses, have, guesses, count));
  MG_TRY(append_domains(run, routing, sequences));
  for (int64_t i = 0; i < routing->layers; i++) MG_TRY(append_choices(run, routing, i, output->records[i].route.ids));
  routing->tokens += count;
  return MG_OK;
}

mg_choices mg__routing_choices(const mg__routing *routing, int64_t layer) {
  return (mg_choices){.ids = routing->ids[layer].items,
                      .tokens = routing->tokens,
                      .choices = routing->choices[layer],
                      .experts = routing->experts[layer]};
}

/* ---- snapshots: after the last whole step within each share of the training ----------------------------------- */

static mg_status take(mg__run *run) {
  mg__evaluation evaluation;
  const mg_status status = mg__evaluate(run, run->settings.final_tokens, true, &evaluation);
  if (status == MG_OK) {
    run->snapshots[run->snapshots_taken] = evaluation.routing;
    run->snapshot_tokens[run->snapshots_taken++] = (double)run->step * (double)run->step_tokens;
    evaluation.routing = (mg__routing){0};
  }
  mg__evaluation_release(run, &evaluation);
  return status;
}

mg_status mg__routing_snapshot(mg__run *run) {
  const mg__train_settings *s = &run->settings;
  if (mg_model_moe_layers(run->model) == 0) return MG_OK;
  while (run->snapshots_taken < s->snapshots_count &&
         run->step >= (int64_t)floor(s->snapshots[run->snapshots_taken] * (double)run->steps + 1e-9))
    MG_TRY(take(run));
  return MG_OK;
}
