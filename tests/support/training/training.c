/* A made-up data set and runs on it. */
#include "support/training/training.h"

#include <stdio.h>

/* ---- the language: this file stands in for the data pipeline ------------------------------------------------ */

int64_t mg_dataset_vocabulary(const mg_dataset *dataset) {
  (void)dataset;
  return VOCABULARY;
}
int64_t mg_dataset_domains(const mg_dataset *dataset) {
  (void)dataset;
  return DOMAINS;
}
const char *mg_dataset_domain_name(const mg_dataset *dataset, int64_t domain) {
  (void)dataset;
  return domain ? "odd" : "even";
}
/* As if token t occurred 100 - t times. */
void mg_dataset_count_tokens(const mg_dataset *dataset, mg_split split, int64_t *counts) {
  (void)dataset;
  for (int64_t t = 0; t < VOCABULARY; t++) counts[t] += split == MG_SPLIT_TRAIN ? 100 - t : 0;
}
/* All tokens once, in order. */
int64_t mg_dataset_sample_tokens(const mg_dataset *dataset, mg_split split, int32_t *ids, int64_t most) {
  (void)dataset;
  (void)split;
  for (int32_t t = 0; t < VOCABULARY && t < most; t++) ids[t] = t;
  return VOCABULARY;
}
mg_status mg_dataset_target_bytes(const mg_dataset *dataset, const mg_batch *batch, int64_t sequences, int64_t *bytes) {
  (void)dataset;
  *bytes = 0;
  for (int64_t i = 0; i < sequences * batch->sequence_tokens; i++) *bytes += batch->targets[i] >= 0 ? 2 : 0;
  return MG_OK;
}
double mg_dataset_entropy(const mg_dataset *dataset) {
  (void)dataset;
  return 0.25;
}
const char *mg_dataset_checksum(const mg_dataset *dataset) {
  (void)dataset;
  return "counting";
}

/* Domain d counts in steps of 2 d + 1, with a random token one time in ten. */
static void fill_sequence(mg_batch *batch, int64_t place, mg_stream stream) {
  const int64_t length = batch->sequence_tokens;
  const int32_t domain = (int32_t)mg_random_below(stream, 0, DOMAINS);
  int32_t token = (int32_t)mg_random_below(stream, 1, VOCABULARY);
  batch->domains[place] = domain;
  for (int64_t t = 0; t < length; t++) {
    batch->inputs[place * length + t] = token;
    const bool stray = mg_random_below(stream, (uint64_t)(2 * t + 2), 10) == 0;
    const int32_t any = (int32_t)mg_random_below(stream, (uint64_t)(2 * t + 3), VOCABULARY);
    token = stray ? any : (token + 2 * domain + 1) % VOCABULARY;
    batch->targets[place * length + t] = t + 1 < length ? token : -1;
  }
}

mg_status mg_dataset_batch(mg_dataset *dataset, mg_split split, uint64_t seed, int64_t index, mg_batch *batch,
                           int64_t *sequences_filled) {
  int64_t count = batch->sequences;
  if (split == MG_SPLIT_VALID && (index + 1) * count > VALID_SEQUENCES) count = VALID_SEQUENCES - index * count;
  *sequences_filled = count > 0 ? count : 0;
  for (int64_t b = 0; b < count; b++) {
    const uint64_t number = (uint64_t)(index * batch->sequences + b);
    fill_sequence(batch, b, mg_stream_named(seed, split == MG_SPLIT_TRAIN ? "train" : "valid", number, 0));
  }
  dataset->batches++;
  return MG_OK;
}

/* ---- one run ------------------------------------------------------------------------------------------------ */

const char training_dense[] = "{'layers': 1, 'width': 16, 'heads': 2, 'vocabulary': 24,"
                              " 'feed_forward': {'kind': 'dense', 'width': 32}}";
const char training_moe[] =
    "{'layers': 2, 'width': 16, 'heads': 2, 'vocabulary': 24, 'feed_forward': [{'kind': 'dense', 'width': 32},"
    "  {'kind': 'moe', 'experts': 4, 'width': 16, 'router': {'name': 'topk', 'k': 2}, 'capacity': 1.0,"
    "   'losses': [{'kind': 'balance'}]}]}";
const char training_short[] = "{'tokens': 3840, 'batch': 4, 'sequence': 16, 'rate': 0.02, 'evaluate_tokens': 64,"
                              " 'final_tokens': -1, 'timing_steps': 1}";

json_t *training_json(const char *quoted) {
  char text[1024];
  snprintf(text, sizeof text, "%s", quoted);
  for (char *c = text; *c; c++)
    if (*c == '\'') *c = '"';
  json_t *json = json_loads(text, 0, NULL);
  if (!json) fail_msg("not JSON: %s", text);
  return json;
}

void training_open(training *r, const char *model, const char *train) {
  memset(r, 0, sizeof *r);
  mg_world_open(&r->world, "cpu", MG_F32);
  json_t *spec = training_json(model);
  assert_ok(r->world.context,
            mg_model_create(r->world.context, r->world.registry, r->world.backend, spec, MG_F32, 11, &r->model));
  json_decref(spec);
  r->spec = training_json(train);
}

void training_close(training *r) {
  json_decref(r->spec);
  json_decref(r->result);
  mg_model_destroy(r->model);
  mg_world_close(&r->world);
}

static bool on_progress(void *user, const mg_train_progress *progress) {
  const training *r = user;
  return progress->step != r->stop_after;
}

mg_status training_run(training *r) {
  const mg_train_hooks hooks = {.progress = on_progress, .user = r};
  return mg_train(r->world.context, r->model, &r->data, r->spec, &hooks, &r->result);
}

double training_metric(const training *r, const char *name) {
  const json_t *value = json_object_get(json_object_get(r->result, "metrics"), name);
  if (!json_is_number(value)) fail_msg("metric '%s' is missing", name);
  return json_number_value(value);
}

const json_t *training_table(const training *r, const char *name) {
  return json_object_get(json_object_get(r->result, "tables"), name);
}

void training_assert_same(training *a, training *b) {
  mg_params *x = mg_model_params(a->model), *y = mg_model_params(b->model);
  for (int64_t i = 0; i < mg_params_count(x); i++) {
    const mg_param *p = mg_params_at(x, i), *q = mg_params_at(y, i);
    if (memcmp(p->value.data, q->value.data, mg_tensor_bytes(&p->value)) != 0) fail_msg("%s differs", p->name);
  }
}
