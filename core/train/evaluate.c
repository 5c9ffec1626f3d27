/* Validation: loss in nats per token, next-token accuracy, and where the router sends each domain. */
#include "train/run.h"

#include <math.h>
#include <string.h>

#include "moe/balance.h"

/* Host copies of one batch's results. */
typedef struct scratch {
  float *loss;           /* [T] */
  int32_t *guess;        /* [T] */
  float *load;           /* [B, most experts] */
  double *sequence_load; /* [most experts] */
  size_t tokens, load_count, most_experts;
} scratch;

static int64_t experts_of(const mg__run *run, int64_t layer) {
  return mg_moe_describe(mg_model_moe(run->model, layer)).experts;
}

static mg_status scratch_create(mg__run *run, scratch *s) {
  int64_t most = 1;
  for (int64_t i = 0; i < mg_model_moe_layers(run->model); i++)
    if (experts_of(run, i) > most) most = experts_of(run, i);
  s->tokens = (size_t)run->batch_tokens;
  s->most_experts = (size_t)most;
  s->load_count = (size_t)(run->settings.batch * most);
  s->loss = mg_alloc(run->context, s->tokens * sizeof *s->loss);
  s->guess = mg_alloc(run->context, s->tokens * sizeof *s->guess);
  s->load = mg_alloc(run->context, s->load_count * sizeof *s->load);
  s->sequence_load = mg_alloc(run->context, s->most_experts * sizeof *s->sequence_load);
  return s->loss && s->guess && s->load && s->sequence_load ? MG_OK : MG_MEMORY;
}

static void scratch_destroy(mg__run *run, scratch *s) {
  mg_free(run->context, s->loss, s->loss ? s->tokens * sizeof *s->loss : 0);
  mg_free(run->context, s->guess, s->guess ? s->tokens * sizeof *s->guess : 0);
  mg_free(run->context, s->load, s->load ? s->load_count * sizeof *s->load : 0);
  mg_free(run->context, s->sequence_load, s->sequence_load ? s->most_experts * sizeof *s->sequence_load : 0);
}

static mg_status evaluation_create(mg__run *run, mg__evaluation *out) {
  const int64_t layers = mg_model_moe_layers(run->model);
  out->domains = mg_dataset_domains(run->data);
  const size_t bytes = (size_t)out->domains * sizeof(double);
  out->domain_loss = mg_alloc(run->context, bytes);
  out->domain_targets = mg_alloc(run->context, bytes);
  if (!out->domain_loss || !out->domain_targets) return MG_MEMORY;
  if (layers == 0) return MG_OK;
  out->load = mg_alloc(run->context, (size_t)layers * sizeof *out->load);
  if (!out->load) return MG_MEMORY;
  for (int64_t i = 0; i < layers; i++) {
    out->load[i] = mg_alloc(run->context, (size_t)experts_of(run, i) * bytes);
    if (!out->load[i]) return MG_MEMORY;
  }
  return MG_OK;
}

void mg__evaluation_release(mg__run *run, mg__evaluation *e) {
  const int64_t layers = mg_model_moe_layers(run->model);
  const size_t bytes = (size_t)e->domains * sizeof(double);
  mg_free(run->context, e->domain_loss, e->domain_loss ? bytes : 0);
  mg_free(run->context, e->domain_targets, e->domain_targets ? bytes : 0);
  for (int64_t i = 0; e->load && i < layers; i++)
    if (e->load[i]) mg_free(run->context, e->load[i], (size_t)experts_of(run, i) * bytes);
  mg_free(run->context, e->load, e->load ? (size_t)layers * sizeof *e->load : 0);
  mg__routing_release(run->context, &e->routing);
  memset(e, 0, sizeof *e);
}

/* Adds the losses of `sequences` sequences; e->loss holds the sum until the end. */
static void add_losses(const mg__run *run, const scratch *s, int64_t sequences, mg__evaluation *e) {
  const mg_batch *batch = &run->batch;
  for (int64_t i = 0; i < sequences * batch->sequence_tokens; i++) {
    if (batch->targets[i] < 0) continue;
    const int32_t domain = batch->domains[i / batch->sequence_tokens];
    e->loss += (double)s->loss[i];
    e->domain_loss[domain] += (double)s->loss[i];
    e->domain_targets[domain] += 1.0;
    e->targets++;
  }
}

static mg_status add_bytes(const mg__run *run, int64_t sequences, mg__evaluation *e) {
  int64_t bytes;
  MG_TRY(mg_dataset_target_bytes(run->data, &run->batch, sequences, &bytes));
  e->target_bytes += bytes;
  return MG_OK;
}

static mg_status add_accuracy(mg__run *run, scratch *s, int64_t sequences, const mg_model_output *output,
                              mg__evaluation *e) {
  const int64_t tokens = sequences * run->batch.sequence_tokens;
  mg_var *guess = mg_top_k(run->tape, output->logits, 1, NULL);
  MG_TRY(mg_tape_download(run->tape, guess, s->guess, (size_t)tokens * sizeof *s->guess));
  for (int64_t i = 0; i < tokens; i++)
    e->accuracy += run->batch.targets[i] >= 0 && s->guess[i] == run->batch.targets[i];
  return MG_OK;
}

/* The load of each sequence of a batch: by domain, and as balance within the sequence. */
static void add_sequence_loads(const mg__run *run, const scratch *s, int64_t sequences, int64_t layer,
                               mg__evaluation *e) {
  const int64_t experts = experts_of(run, layer);
  for (int64_t b = 0; b < sequences; b++) {
    double *domain = e->load[layer] + run->batch.domains[b] * experts;
    for (int64_t i = 0; i < experts; i++) {
      s->sequence_load[i] = (double)s->load[b * experts + i];
      domain[i] += s->sequence_load[i];
    }
    e->sequence_cv += mg_balance_cv(s->sequence_load, experts);
    e->sequence_violation += mg_balance_max_violation(s->sequence_load, experts);
  }
}

/* What as many uniform random choices would lose to the layer's capacity; null experts have none. */
static double random_drops(const mg__run *run, int64_t layer, const mg_moe_counts *counts, int64_t tokens,
                           int64_t capacity) {
  const mg_moe_facts facts = mg_moe_describe(mg_model_moe(run->model, layer));
  const double choices = (double)(counts->demand - counts->null);
  const double share = choices / ((double)tokens * (double)(facts.experts - facts.null_experts));
  return capacity > 0 ? choices * mg_balance_random_drop(share, tokens, capacity) : 0.0;
}

static mg_status add_layer(mg__run *run, scratch *s, int64_t sequences, const mg_moe_record *record, int64_t layer,
                           mg__evaluation *e) {
  const int64_t experts = experts_of(run, layer);
  mg_moe_counts counts;
  MG_TRY(mg_moe_count(mg_model_moe(run->model, layer), run->tape, record, NULL, NULL, &counts));
  e->assignments += (double)counts.demand;
  e->dropped_assignments += (double)counts.dropped;
  e->dropped_tokens += (double)counts.dropped_tokens;
  e->random_dropped += random_drops(run, layer, &counts, sequences * run->batch.sequence_tokens, record->capacity);
  mg_var *load = mg_histogram(run->tape, mg_moe_wanted(record), experts, sequences);
  MG_TRY(mg_tape_download(run->tape, load, s->load, (size_t)(sequences * experts) * sizeof *s->load));
  add_sequence_loads(run, s, sequences, layer, e);
  return MG_OK;
}

static mg_status add_batch(mg__run *run, scratch *s, int64_t index, int64_t sequences, bool full, mg__evaluation *e) {
  mg_model_output output;
  const mg_model_batch batch = mg__run_model_batch(run, sequences, false, index);
  const size_t tokens = (size_t)(sequences * run->batch.sequence_tokens);
  const mg_counters *counters = mg_tape_counters(run->tape), before = *counters;
  mg_tape_reset(run->tape);
  MG_TRY(mg_model_forward(run->model, run->tape, &batch, &output));
  for (int part = 0; part < MG_PART_COUNT; part++) e->flops[part] += counters->flops[part] - before.flops[part];
  MG_TRY(mg_tape_download(run->tape, output.token_loss, s->loss, tokens * sizeof *s->loss));
  add_losses(run, s, sequences, e);
  e->tokens += (int64_t)tokens;
  if (!full) return MG_OK;
  MG_TRY(add_bytes(run, sequences, e));
  MG_TRY(add_accuracy(run, s, sequences, &output, e));
  e->sequences += (double)sequences;
  for (int64_t i = 0; i < output.records_count; i++) MG_TRY(add_layer(run, s, sequences, &output.records[i], i, e));
  return mg__routing_wanted(run) ? mg__routing_add(run, sequences, &output, s->guess, &e->routing) : MG_OK;
}

static mg_status add_all(mg__run *run, scratch *s, int64_t tokens, bool full, mg__evaluation *e) {
  for (int64_t index = run->settings.evaluate_first; tokens < 0 || e->tokens < tokens; index++) {
    int64_t filled;
    MG_TRY(mg__run_fill_batch(run, MG_SPLIT_VALID, index, &filled));
    if (filled > 0) MG_TRY(add_batch(run, s, index, filled, full, e));
    if (filled < run->settings.batch) break;
  }
  if (e->targets == 0)
    return mg_fail(
        run->context, MG_USAGE,
        "train: the validation split holds no sequence of 'sequence' = %lld tokens from number %lld on; lower "
        "'sequence' or use a larger corpus",
        (long long)run->settings.sequence, (long long)(run->settings.evaluate_first * run->settings.batch + 1));
  e->loss /= (double)e->targets;
  e->accuracy /= (double)e->targets;
  if (isfinite(e->loss)) return MG_OK;
  return mg_fail(run->context, MG_NUMERIC,
                 "train: the validation loss after step %lld is %f; lower 'rate' or set 'clip'", (long long)run->step,
                 e->loss);
}

mg_status mg__evaluate(mg__run *run, int64_t tokens, bool full, mg__evaluation *out) {
  scratch s = {0};
  *out = (mg__evaluation){0};
  mg_counters *counters = mg_tape_counters(run->tape);
  const mg_counters before = *counters;
  mg_tape_set_recording(run->tape, false);
  mg_status status = evaluation_create(run, out);
  if (status == MG_OK) status = scratch_create(run, &s);
  if (status == MG_OK) status = add_all(run, &s, tokens, full, out);
  scratch_destroy(run, &s);
  mg_tape_reset(run->tape);
  mg_tape_set_recording(run->tape, true);
  *counters = before;
  return status;
}
