/* Training on a small language whose next token mostly follows from the last: the loss falls, runs repeat bit by bit,
 * an interrupted run goes on as if nothing had happened, and failures leave what was learned until then. The file is
 * long because all of them share one made-up data set and its way of training. */
#include "support/world.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "train/trainer.h"

/* ---- the language: this file stands in for the data pipeline ------------------------------------------------ */

enum { VOCABULARY = 24, DOMAINS = 2, VALID_SEQUENCES = 11 };

struct mg_dataset {
  int64_t batches; /* that were drawn */
};

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
double mg_dataset_bytes_per_token(const mg_dataset *dataset, mg_split split) {
  (void)dataset;
  (void)split;
  return 2.0;
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

static const char dense_text[] = "{'layers': 1, 'width': 16, 'heads': 2, 'vocabulary': 24,"
                                 " 'feed_forward': {'kind': 'dense', 'width': 32}}";
static const char moe_text[] =
    "{'layers': 2, 'width': 16, 'heads': 2, 'vocabulary': 24, 'feed_forward': [{'kind': 'dense', 'width': 32},"
    "  {'kind': 'moe', 'experts': 4, 'width': 16, 'router': {'name': 'topk', 'k': 2}, 'capacity': 1.0,"
    "   'losses': [{'kind': 'balance'}]}]}";
static const char train_text[] = "{'tokens': 3840, 'batch': 4, 'sequence': 16, 'rate': 0.02, 'evaluate_tokens': 64,"
                                 " 'final_tokens': -1, 'timing_steps': 1}";

static json_t *json_of(const char *quoted) {
  char text[1024];
  snprintf(text, sizeof text, "%s", quoted);
  for (char *c = text; *c; c++)
    if (*c == '\'') *c = '"';
  json_t *json = json_loads(text, 0, NULL);
  if (!json) fail_msg("not JSON: %s", text);
  return json;
}

typedef struct run {
  mg_world world;
  mg_model *model;
  mg_dataset data;
  json_t *spec, *result;
  int64_t stop_after; /* steps; 0 = never */
} run;

static void open_run(run *r, const char *model, const char *train) {
  memset(r, 0, sizeof *r);
  mg_world_open(&r->world, "cpu", MG_F32);
  json_t *spec = json_of(model);
  assert_ok(r->world.context,
            mg_model_create(r->world.context, r->world.registry, r->world.backend, spec, MG_F32, 11, &r->model));
  json_decref(spec);
  r->spec = json_of(train);
}

static void close_run(run *r) {
  json_decref(r->spec);
  json_decref(r->result);
  mg_model_destroy(r->model);
  mg_world_close(&r->world);
}

static bool on_progress(void *user, const mg_train_progress *progress) {
  const run *r = user;
  return progress->step != r->stop_after;
}

static mg_status train(run *r) {
  const mg_train_hooks hooks = {.progress = on_progress, .user = r};
  return mg_train(r->world.context, r->model, &r->data, r->spec, &hooks, &r->result);
}

static double metric(const run *r, const char *name) {
  const json_t *value = json_object_get(json_object_get(r->result, "metrics"), name);
  if (!json_is_number(value)) fail_msg("metric '%s' is missing", name);
  return json_number_value(value);
}

static const json_t *table(const run *r, const char *name) {
  return json_object_get(json_object_get(r->result, "tables"), name);
}

static void assert_same_parameters(run *a, run *b) {
  mg_params *x = mg_model_params(a->model), *y = mg_model_params(b->model);
  for (int64_t i = 0; i < mg_params_count(x); i++) {
    const mg_param *p = mg_params_at(x, i), *q = mg_params_at(y, i);
    if (memcmp(p->value.data, q->value.data, mg_tensor_bytes(&p->value)) != 0) fail_msg("%s differs", p->name);
  }
}

/* ---- tests -------------------------------------------------------------------------------------------------- */

static void a_dense_model_learns(void **state) {
  (void)state;
  run r;
  open_run(&r, dense_text, train_text);
  assert_ok(r.world.context, train(&r));
  assert_near(metric(&r, "steps"), 60, 0);
  assert_near(metric(&r, "tokens"), 3840, 0);
  assert_true(metric(&r, "loss") < 2.0); /* ln 24 = 3.18 at the start */
  assert_true(metric(&r, "accuracy") > 0.4);
  assert_near(metric(&r, "perplexity"), exp(metric(&r, "loss")), 1e-9);
  assert_near(metric(&r, "bits_per_byte"), metric(&r, "loss") / log(2.0) / 2.0, 1e-12);
  assert_near(metric(&r, "entropy_gap"), metric(&r, "loss") - 0.25, 1e-12);
  assert_near(metric(&r, "evaluated_tokens"), VALID_SEQUENCES * 15, 0);
  assert_near(metric(&r, "spikes"), 0, 0);
  assert_null(json_object_get(json_object_get(r.result, "metrics"), "cv"));
  assert_null(json_object_get(json_object_get(r.result, "metrics"), "millijoules_per_token"));
  close_run(&r);
}

static void a_moe_model_learns_and_tells_how_it_routes(void **state) {
  (void)state;
  run r;
  open_run(&r, moe_text, train_text);
  assert_ok(r.world.context, train(&r));
  assert_true(metric(&r, "loss") < 2.0);
  static const char *const names[] = {"train_loss",
                                      "seconds",
                                      "tokens_per_second",
                                      "flops_per_token",
                                      "flops_per_token_gate",
                                      "flops_per_token_routed",
                                      "backward_flops_per_token",
                                      "useful_flops_per_token",
                                      "padded_flops_per_token",
                                      "dropped_flops_per_token",
                                      "params_total",
                                      "params_active",
                                      "gate_ns_per_token",
                                      "ns_per_token_attention",
                                      "forward_ns_per_token_routed",
                                      "max_over_mean",
                                      "max_violation",
                                      "entropy",
                                      "gini",
                                      "effective_experts",
                                      "dead_experts",
                                      "random_floor_cv",
                                      "random_floor_max_violation",
                                      "random_floor_dropped",
                                      "dropped_assignments",
                                      "dropped_tokens",
                                      "train_dropped_assignments",
                                      "peak_bytes",
                                      "accounted_bytes",
                                      "accounted_bytes_moments",
                                      "optimiser_ns_per_token",
                                      "data_ns_per_token",
                                      "cv"};
  for (size_t i = 0; i < MG_COUNT(names); i++) assert_true(metric(&r, names[i]) >= 0.0);
  assert_true(metric(&r, "train_dropped_assignments") > 0.0); /* capacity factor 1 cannot keep all */
  assert_true(metric(&r, "dropped_flops_per_token") > 0.0);
  const double kept = metric(&r, "useful_flops_per_token"), dropped = metric(&r, "dropped_flops_per_token");
  assert_near(kept + dropped, 2 * 2 * 3 * 16 * 16, 1e-6); /* k = 2 choices of 3 products of 16 x 16 */
  close_run(&r);
}

/* Every row of shares sums to 1, and there are as many rows as the axes say. */
static void check_rows(const json_t *layer, size_t rows, size_t experts) {
  assert_int_equal(json_array_size(layer), rows);
  for (size_t i = 0; i < rows; i++) {
    const json_t *row = json_array_get(layer, i);
    double sum = 0.0;
    assert_int_equal(json_array_size(row), experts);
    for (size_t e = 0; e < experts; e++) sum += json_number_value(json_array_get(row, e));
    assert_near(sum, 1.0, 1e-9);
  }
}

/* The largest and smallest element of the first parameter whose name ends so. */
static void extremes(const run *r, const char *end, float *least, float *most) {
  mg_params *params = mg_model_params(r->model);
  *least = INFINITY;
  *most = -INFINITY;
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    const mg_param *param = mg_params_at(params, i);
    const size_t length = strlen(param->name), tail = strlen(end);
    if (length < tail || strcmp(param->name + length - tail, end) != 0) continue;
    for (int64_t j = 0; j < mg_tensor_count(&param->value); j++) {
      *least = fminf(*least, ((const float *)param->value.data)[j]);
      *most = fmaxf(*most, ((const float *)param->value.data)[j]);
    }
    return;
  }
  fail_msg("no parameter ends with %s", end);
}

static void routers_get_the_token_counts_before_and_the_load_after_a_step(void **state) {
  (void)state;
  static const char *const routers[] = {"{'name': 'hash', 'kind': 'balanced'}",
                                        "{'name': 'deepseek', 'k': 2, 'rate': 0.01}"};
  static const char *const buffers[] = {"table", "bias"};
  for (int i = 0; i < 2; i++) {
    char text[512];
    float least, most;
    run r;
    snprintf(text, sizeof text,
             "{'layers': 1, 'width': 16, 'heads': 2, 'vocabulary': 24, 'feed_forward':"
             " {'kind': 'moe', 'experts': 4, 'width': 16, 'router': %s}}",
             routers[i]);
    open_run(&r, text, train_text);
    assert_ok(r.world.context, train(&r));
    extremes(&r, buffers[i], &least, &most);
    assert_true(i == 0 ? least >= 1 && most <= 4 : least < 0 && most > 0);
    assert_near(metric(&r, "dead_experts"), 0, 0);
    close_run(&r);
  }
}

/* Expert choice has room for all 4 experts and uses 1.5 on average: each takes 24 of a batch of 64 tokens. */
static void analytic_costs_know_that_most_choices_are_not_made(void **state) {
  (void)state;
  run r;
  open_run(&r,
           "{'layers': 1, 'width': 16, 'heads': 2, 'vocabulary': 24, 'feed_forward': {'kind': 'moe', 'experts': 4,"
           " 'width': 16, 'router': {'name': 'expert_choice', 'factor': 1.5}}}",
           train_text);
  assert_ok(r.world.context, train(&r));
  double flops[MG_PART_COUNT];
  mg_model_flops_per_token(r.model, 16, flops);
  assert_near(metric(&r, "flops_per_token_routed") / flops[MG_PART_ROUTED], 1, 1e-9);
  assert_near(metric(&r, "max_over_mean"), 1, 1e-9);
  close_run(&r);
}

/* One draw for a whole batch of 4 sequences: the 11 of the validation are three batches, which go to different experts. */
static void every_batch_of_an_evaluation_draws_anew(void **state) {
  (void)state;
  run r;
  open_run(&r,
           "{'layers': 1, 'width': 16, 'heads': 2, 'vocabulary': 24, 'feed_forward': {'kind': 'moe', 'experts': 16,"
           " 'width': 4, 'router': {'name': 'random', 'k': 1, 'scope': 'batch'}}}",
           train_text);
  assert_ok(r.world.context, train(&r));
  assert_near(metric(&r, "dead_experts"), 16 - 3, 0);
  close_run(&r);
}

static void tables_hold_the_load_over_training_and_per_domain(void **state) {
  (void)state;
  run r;
  open_run(&r, moe_text, train_text);
  assert_ok(r.world.context, train(&r));
  const json_t *load = table(&r, "load"), *domains = table(&r, "domain_load"), *losses = table(&r, "losses");
  const size_t times = json_array_size(json_object_get(load, "tokens"));
  assert_int_equal(times, 30); /* 60 steps in windows of 60 / 24 = 2 */
  assert_int_equal(json_integer_value(json_array_get(json_object_get(load, "layers"), 0)), 1);
  check_rows(json_array_get(json_object_get(load, "values"), 0), times, 4);
  check_rows(json_array_get(json_object_get(domains, "values"), 0), DOMAINS, 4);
  assert_string_equal(json_string_value(json_array_get(json_object_get(domains, "domains"), 1)), "odd");
  assert_int_equal(json_array_size(json_array_get(json_object_get(losses, "values"), 0)), times);
  const json_t *series = json_object_get(r.result, "series");
  assert_int_equal(json_array_size(json_object_get(series, "train_loss")), 60);
  assert_int_equal(json_array_size(json_object_get(series, "loss")), 9); /* every 60 / 8 = 7 steps, and at the end */
  assert_int_equal(json_array_size(json_object_get(series, "cv")), times);
  const json_t *last = json_array_get(json_object_get(series, "loss"), 8);
  assert_near(json_number_value(json_array_get(last, 0)), 3840, 0);
  assert_near(json_number_value(json_array_get(last, 1)), metric(&r, "loss"), 0);
  close_run(&r);
}

static void the_same_seed_gives_the_same_bits(void **state) {
  (void)state;
  run a, b;
  open_run(&a, moe_text, train_text);
  open_run(&b, moe_text, train_text);
  assert_ok(a.world.context, train(&a));
  assert_ok(b.world.context, train(&b));
  assert_same_parameters(&a, &b);
  assert_near(metric(&a, "loss"), metric(&b, "loss"), 0);
  close_run(&a);
  close_run(&b);
}

/* Sanitizers keep shadow memory beside every byte, so what a process holds says nothing there. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MG_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MG_SANITIZED 1
#endif
#endif

/* Some 60 MB, so that what the process holds anyway does not decide. */
static void the_process_holds_no_more_than_the_account_says(void **state) {
  (void)state;
#ifdef MG_SANITIZED
  skip();
#endif
  run r;
  open_run(&r,
           "{'width': 128, 'vocabulary': 24, 'feed_forward': {'kind': 'moe', 'experts': 8, 'width': 128,"
           " 'router': {'name': 'topk', 'k': 2}}}",
           "{'tokens': 4096, 'batch': 32, 'sequence': 64, 'timing_steps': 1}");
  assert_ok(r.world.context, train(&r));
  static const char *const rows[] = {"accounted_bytes_parameters", "accounted_bytes_gradients",
                                     "accounted_bytes_moments", "accounted_bytes_activations", "accounted_bytes_other"};
  double sum = 0.0;
  for (size_t i = 0; i < MG_COUNT(rows); i++) sum += metric(&r, rows[i]);
  assert_near(sum, metric(&r, "accounted_bytes"), 0.5);
  assert_true(sum > 3e7);
  assert_true(metric(&r, "peak_over_accounted") > 0.5);
  assert_true(metric(&r, "peak_over_accounted") < 1.3);
  close_run(&r);
}

/* ---- checkpoints -------------------------------------------------------------------------------------------- */

static char folder[] = "/tmp/moegauge-train-XXXXXX";

static void checkpoint_into(run *r, const char *name) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  json_object_set_new(r->spec, "checkpoint", json_string(path));
}

static int remove_folder(void **state) {
  (void)state;
  char command[128];
  snprintf(command, sizeof command, "rm -r %s", folder);
  return system(command);
}
static int make_folder(void **state) {
  (void)state;
  return mkdtemp(folder) ? 0 : 1;
}

/* Stops after 29 steps, between two checkpoints and in the middle of a window. */
static void an_interrupted_run_ends_as_if_it_had_not_been(void **state) {
  (void)state;
  run whole, part;
  open_run(&whole, moe_text, train_text);
  assert_ok(whole.world.context, train(&whole));
  open_run(&part, moe_text, train_text);
  checkpoint_into(&part, "resume");
  part.stop_after = 29;
  assert_refused(part.world.context, MG_INTERRUPTED, "stopped after step 29 of 60", train(&part));
  assert_null(part.result);
  close_run(&part);

  open_run(&part, moe_text, train_text);
  checkpoint_into(&part, "resume");
  assert_ok(part.world.context, train(&part));
  assert_true(part.data.batches < whole.data.batches);
  assert_same_parameters(&whole, &part);
  static const char *const equal[] = {"loss", "train_loss", "cv", "flops_per_token", "train_dropped_assignments"};
  for (size_t i = 0; i < MG_COUNT(equal); i++) assert_near(metric(&part, equal[i]), metric(&whole, equal[i]), 0);
  static const char *const series[] = {"train_loss", "loss", "cv", "grad_norm", "learning_rate"};
  for (size_t i = 0; i < MG_COUNT(series); i++)
    assert_true(json_equal(json_object_get(json_object_get(whole.result, "series"), series[i]),
                           json_object_get(json_object_get(part.result, "series"), series[i])));
  assert_true(json_equal(table(&whole, "load"), table(&part, "load")));
  close_run(&whole);
  close_run(&part);
}

static void another_run_in_the_folder_is_refused(void **state) {
  (void)state;
  run r;
  open_run(&r, moe_text, train_text);
  checkpoint_into(&r, "resume");
  json_object_set_new(r.spec, "rate", json_real(0.03));
  assert_refused(r.world.context, MG_USAGE, "belongs to another", train(&r));
  close_run(&r);
}

/* The newest checkpoint is cut short: the run goes on from the one before it, to the same end. */
static void a_damaged_checkpoint_is_passed_over(void **state) {
  (void)state;
  run r;
  char newest[256], older[256];
  double loss;
  snprintf(newest, sizeof newest, "%s/damage/step-000000060.safetensors", folder);
  snprintf(older, sizeof older, "%s/damage/step-000000054.safetensors", folder);
  open_run(&r, moe_text, train_text);
  checkpoint_into(&r, "damage");
  assert_ok(r.world.context, train(&r));
  loss = metric(&r, "loss");
  close_run(&r);
  assert_int_equal(access(older, F_OK), 0);
  assert_int_equal(truncate(newest, 5000), 0);

  open_run(&r, moe_text, train_text);
  checkpoint_into(&r, "damage");
  assert_ok(r.world.context, train(&r));
  assert_near(metric(&r, "loss"), loss, 0);
  close_run(&r);
}

static void only_the_two_newest_checkpoints_stay(void **state) {
  (void)state;
  char path[256];
  int found = 0;
  for (int step = 1; step <= 60; step++) {
    snprintf(path, sizeof path, "%s/damage/step-%09d.safetensors", folder, step);
    found += access(path, F_OK) == 0;
  }
  assert_int_equal(found, 2);
}

/* ---- failures ----------------------------------------------------------------------------------------------- */

/* An infinity put into a weight in the middle of the run, as a fault would. */
static bool break_weight(void *user, const mg_train_progress *progress) {
  run *r = user;
  mg_params *params = mg_model_params(r->model);
  if (progress->step == 20) *(float *)mg_params_at(params, 0)->value.data = INFINITY;
  return true;
}

static void a_loss_that_is_no_number_stops_the_run_and_keeps_the_record(void **state) {
  (void)state;
  run r;
  open_run(&r, dense_text, train_text);
  const mg_train_hooks hooks = {.progress = break_weight, .user = &r};
  json_object_set_new(r.spec, "evaluate_every", json_integer(1000));
  assert_refused(r.world.context, MG_NUMERIC, "of step 21 of 60",
                 mg_train(r.world.context, r.model, &r.data, r.spec, &hooks, &r.result));
  assert_int_equal(json_array_size(json_object_get(json_object_get(r.result, "series"), "train_loss")), 20);
  assert_near(metric(&r, "steps"), 20, 0);
  close_run(&r);
}

/* An allocator that gives `left` more blocks and then none. */
static void *give_some(void *user, void *pointer, size_t old_size, size_t size) {
  int64_t *left = user;
  (void)old_size;
  if (size == 0) {
    free(pointer);
    return NULL;
  }
  return (*left)-- > 0 ? realloc(pointer, size) : NULL;
}

static mg_status train_once(mg_context *context, mg_registry *registry) {
  mg_backend *backend = NULL;
  mg_model *model = NULL;
  mg_dataset data = {0};
  json_t *model_spec = json_of(moe_text), *result = NULL;
  json_t *spec = json_of("{'tokens': 64, 'batch': 2, 'sequence': 8, 'evaluate_tokens': 16, 'timing_steps': 1}");
  mg_status status = mg_backend_open(context, registry, "cpu", NULL, &backend);
  if (status == MG_OK) status = mg_model_create(context, registry, backend, model_spec, MG_F32, 1, &model);
  if (status == MG_OK) status = mg_train(context, model, &data, spec, NULL, &result);
  mg_model_destroy(model);
  mg_backend_close(backend);
  json_decref(model_spec);
  json_decref(spec);
  json_decref(result);
  return status;
}

/* Memory ends at every eleventh block of a run in turn: each time a status comes back and nothing is leaked. */
static void memory_may_end_anywhere(void **state) {
  (void)state;
  int64_t refused = 0;
  for (int64_t blocks = 0;; blocks += 11) {
    int64_t left = INT64_MAX;
    const mg_allocator allocator = {.resize = give_some, .user = &left};
    mg_context *context;
    mg_registry *registry;
    assert_int_equal(mg_context_create(&allocator, &context), MG_OK);
    assert_ok(context, mg_registry_create(context, &registry));
    assert_ok(context, mg_testing_register(registry));
    left = blocks;
    const mg_status status = train_once(context, registry);
    if (status != MG_OK && status != MG_MEMORY)
      fail_msg("block %lld: %s", (long long)blocks, mg_context_message(context));
    mg_registry_destroy(registry);
    assert_int_equal(mg_context_bytes(context), 0);
    mg_context_destroy(context);
    if (status == MG_OK) break;
    refused++;
  }
  assert_true(refused > 10);
}

static void wrong_training_specifications_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *train, *words;
  } cases[] = {{"{'token': 5}", "did you mean 'tokens'"},
               {"{'rate': 'fast'}", "'rate' must be a number"},
               {"{'schedule': 'cosin'}", "one of cosine, linear, constant"},
               {"{'batch': 0}", "'batch' must be an integer from 1"},
               {"{'precision': 'f16'}", "one of bf16, f32"},
               {"{'warmup': 2}", "'warmup' must be a number from 0 to 1"}};
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    run r;
    open_run(&r, dense_text, cases[i].train);
    assert_refused(r.world.context, MG_USAGE, cases[i].words, train(&r));
    assert_null(r.result);
    close_run(&r);
  }
  run r;
  open_run(&r, "{'vocabulary': 7, 'width': 16}", train_text);
  assert_refused(r.world.context, MG_USAGE, "'vocabulary' is 7", train(&r));
  close_run(&r);
}

/* Two batches of half the size are one step with the same gradient, but for the order of sums. */
static void accumulated_batches_make_one_step(void **state) {
  (void)state;
  run a, b;
  open_run(&a, dense_text, train_text);
  open_run(&b, dense_text, train_text);
  json_object_set_new(a.spec, "tokens", json_integer(640));
  json_object_set_new(b.spec, "tokens", json_integer(640));
  json_object_set_new(a.spec, "precision", json_string("f32"));
  json_object_set_new(b.spec, "precision", json_string("f32"));
  json_object_set_new(b.spec, "batch", json_integer(2));
  json_object_set_new(b.spec, "accumulate", json_integer(2));
  assert_ok(a.world.context, train(&a));
  assert_ok(b.world.context, train(&b));
  assert_near(metric(&a, "steps"), metric(&b, "steps"), 0);
  assert_near(metric(&a, "loss"), metric(&b, "loss"), 1e-4);
  close_run(&a);
  close_run(&b);
}

/* A meter that shows 3 joules more each time it is read, and a clock by which every call takes 1000 ns. */
static mg_status read_joules(mg_backend *backend, double *out_joules) {
  static double drawn = 100;
  (void)backend;
  *out_joules = drawn += 3;
  return MG_OK;
}
static mg_status start_clock(mg_backend *backend) {
  return backend->plugin->synchronize(backend);
}
static mg_status stop_clock(mg_backend *backend, int64_t *out_ns) {
  *out_ns = 1000;
  return backend->plugin->synchronize(backend);
}

static void a_device_s_own_clock_and_meter_are_used(void **state) {
  (void)state;
  run r;
  open_run(&r, dense_text, train_text);
  mg_backend_plugin plugin = *r.world.backend->plugin;
  const mg_backend_plugin *without = r.world.backend->plugin;
  plugin.energy = read_joules;
  plugin.clock_start = start_clock;
  plugin.clock_stop = stop_clock;
  r.world.backend->plugin = &plugin;
  assert_ok(r.world.context, train(&r));
  r.world.backend->plugin = without;
  assert_near(metric(&r, "millijoules_per_token"), 3000.0 / 64, 1e-9); /* 64 tokens in a step */
  const double calls = metric(&r, "ns_per_token_head") * 64 / 1000;
  assert_near(calls, round(calls), 1e-9);
  assert_true(calls >= 3); /* forward, and the gradients of both operands */
  close_run(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_dense_model_learns),
                                     cmocka_unit_test(a_device_s_own_clock_and_meter_are_used),
                                     cmocka_unit_test(a_moe_model_learns_and_tells_how_it_routes),
                                     cmocka_unit_test(routers_get_the_token_counts_before_and_the_load_after_a_step),
                                     cmocka_unit_test(analytic_costs_know_that_most_choices_are_not_made),
                                     cmocka_unit_test(every_batch_of_an_evaluation_draws_anew),
                                     cmocka_unit_test(tables_hold_the_load_over_training_and_per_domain),
                                     cmocka_unit_test(the_same_seed_gives_the_same_bits),
                                     cmocka_unit_test(the_process_holds_no_more_than_the_account_says),
                                     cmocka_unit_test(an_interrupted_run_ends_as_if_it_had_not_been),
                                     cmocka_unit_test(another_run_in_the_folder_is_refused),
                                     cmocka_unit_test(a_damaged_checkpoint_is_passed_over),
                                     cmocka_unit_test(only_the_two_newest_checkpoints_stay),
                                     cmocka_unit_test(a_loss_that_is_no_number_stops_the_run_and_keeps_the_record),
                                     cmocka_unit_test(memory_may_end_anywhere),
                                     cmocka_unit_test(wrong_training_specifications_are_refused),
                                     cmocka_unit_test(accumulated_batches_make_one_step)};
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
