/* A trace of a corpus holds its validation split sequence by sequence: the tokens, their domains, and the choices that the
 * model makes when it sees that sequence alone; the simulator reads it back and can put the domains in order. */
#include "measure/trace.h"

#include <stdio.h>

#include "cluster/routing.h"
#include "support/corpus.h"
#include "support/world.h"

enum { SEQUENCE = 32, TOKENS = 1000, DOMAINS = 3, EXPERTS = 8, CHOICES = 2 };

static const char model_text[] = "{\"layers\": 2, \"width\": 16, \"heads\": 2, \"vocabulary\": 24, \"feed_forward\": "
                                 "{\"kind\": \"moe\", \"experts\": 8, \"width\": 16, \"router\": %s}}";

static corpus *files;
static mg_world world;
static mg_dataset *data;
static mg_model *model;
static char path[128];

static mg_model *make(const char *router) {
  char text[1024];
  mg_model *made;
  snprintf(text, sizeof text, model_text, router);
  json_t *spec = json_loads(text, 0, NULL);
  assert_non_null(spec);
  assert_ok(world.context, mg_model_draw(world.context, world.registry, world.backend, spec, MG_F32, 5, &made));
  json_decref(spec);
  return made;
}

static int open_all(void **state) {
  if (corpus_setup(state) != 0) return 1;
  files = *state;
  snprintf(path, sizeof path, "%s/trace", files->folder);
  mg_world_open(&world, "cpu", MG_F32);
  mg_tape_set_recording(world.tape, false);
  assert_ok(files->context, corpus_open(files,
                                        "{\"corpus\": \"synthetic\", \"vocabulary\": 24, \"collect\": {\"domains\": 3, "
                                        "\"documents\": 48, \"document_tokens\": 256}}",
                                        &data));
  model = make("{\"name\": \"topk\", \"k\": 2}");
  return 0;
}

static int close_all(void **state) {
  mg_model_destroy(model);
  mg_dataset_close(data);
  mg_world_close(&world);
  return corpus_teardown(state);
}

/* The trace of the first 1000 tokens, up to a whole sequence. */
static mg_routing *recorded(void) {
  mg_trace *trace;
  mg_routing *routing;
  assert_ok(world.context, mg_trace_create(model, &trace));
  assert_ok(world.context, mg_trace_corpus(trace, world.tape, data, SEQUENCE, TOKENS));
  assert_ok(world.context, mg_trace_write(trace, path, NULL));
  mg_trace_destroy(trace);
  assert_ok(world.context, mg_routing_read(world.context, path, &routing));
  return routing;
}

static void sequences_are_those_of_the_split(void **state) {
  (void)state;
  mg_routing *routing = recorded();
  assert_int_equal(routing->tokens, 1024);
  assert_int_equal(routing->starts_count, 1024 / SEQUENCE);
  assert_true(routing->layers == 2 && routing->experts == EXPERTS && routing->choices == CHOICES);
  int32_t inputs[SEQUENCE], targets[SEQUENCE], domain;
  mg_batch batch = {inputs, targets, &domain, 1, SEQUENCE};
  for (int64_t i = 0; i < routing->starts_count; i++) {
    int64_t filled;
    assert_ok(world.context, mg_dataset_batch(data, MG_SPLIT_VALID, 0, i, &batch, &filled));
    assert_int_equal(routing->starts[i], i * SEQUENCE);
    assert_int_equal(routing->domains[i], domain);
    assert_memory_equal(routing->token_ids + i * SEQUENCE, inputs, sizeof inputs);
  }
  mg_routing_destroy(routing);
}

static void choices_are_those_of_the_sequence_alone(void **state) {
  (void)state;
  mg_routing *routing = recorded();
  const int64_t first = 5 * SEQUENCE;
  const mg_model_batch batch = {.inputs = routing->token_ids + first, .sequences = 1, .sequence_tokens = SEQUENCE};
  mg_model_output output;
  int32_t ids[SEQUENCE * CHOICES];
  mg_tape_reset(world.tape);
  assert_ok(world.context, mg_model_forward(model, world.tape, &batch, &output));
  for (int64_t layer = 0; layer < 2; layer++) {
    assert_ok(world.context, mg_tape_download(world.tape, output.records[layer].ids, ids, sizeof ids));
    assert_memory_equal(mg_routing_layer(routing, layer) + first * CHOICES, ids, sizeof ids);
  }
  mg_routing_destroy(routing);
}

/* Sorting moves whole texts, keeps those of a domain in their order, and takes their choices and weights along. */
static void domains_are_put_in_order(void **state) {
  (void)state;
  mg_routing *before = recorded(), *after = recorded();
  assert_ok(world.context, mg_routing_sort_domains(after));
  int64_t place = 0;
  for (int32_t domain = 0; domain < DOMAINS; domain++)
    for (int64_t i = 0; i < before->starts_count; i++) {
      if (before->domains[i] != domain) continue;
      const int64_t from = before->starts[i], to = place * SEQUENCE;
      assert_int_equal(after->domains[place], domain);
      assert_int_equal(after->starts[place++], to);
      assert_memory_equal(after->token_ids + to, before->token_ids + from, SEQUENCE * sizeof(int32_t));
      for (int64_t layer = 0; layer < 2; layer++) {
        const size_t bytes = SEQUENCE * CHOICES * sizeof(int32_t);
        assert_memory_equal(mg_routing_layer(after, layer) + to * CHOICES,
                            mg_routing_layer(before, layer) + from * CHOICES, bytes);
        assert_memory_equal(after->weights + (layer * after->tokens + to) * CHOICES,
                            before->weights + (layer * before->tokens + from) * CHOICES, bytes);
      }
    }
  assert_int_equal(place, before->starts_count);
  mg_routing_destroy(before);
  mg_routing_destroy(after);
}

static void what_cannot_be_traced_is_refused(void **state) {
  (void)state;
  mg_trace *trace;
  mg_routing *plain;
  mg_model *soft = make("{\"name\": \"soft\"}");
  assert_refused(world.context, MG_USAGE, "soft mixes all tokens", mg_trace_create(soft, &trace));
  mg_model_destroy(soft);
  assert_ok(world.context, mg__routing_create(world.context, 4, 1, 4, 2, 1, &plain));
  assert_refused(world.context, MG_FILE, "which domain", mg_routing_sort_domains(plain));
  mg_routing_destroy(plain);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sequences_are_those_of_the_split), cmocka_unit_test(choices_are_those_of_the_sequence_alone),
      cmocka_unit_test(domains_are_put_in_order), cmocka_unit_test(what_cannot_be_traced_is_refused)};
  return cmocka_run_group_tests(tests, open_all, close_all);
}
