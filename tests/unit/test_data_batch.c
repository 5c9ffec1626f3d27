/* Batches: every token is a target once per epoch, by position and seed, whatever the length; nothing crosses a document
 * or a domain. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/corpus.h"
#include "support/golden_file.h"
#include "support/testing.h"

static const char spec[] = "{\"corpus\": \"%s\", \"tokenizer\": \"bytes\", \"stages\": [\"split\", \"tokenize\", "
                           "\"encode\", \"pack\"], \"split\": {\"valid_share\": 0.4}}";

/* Documents of single letters, each letter in one domain: "aaaa...", "bbbb...". */
static void write_letters(const corpus *self) {
  for (int i = 0; i < 26; i++) {
    char name[64], text[64] = "";
    snprintf(name, sizeof name, "%s/%c.txt", i % 3 ? "many" : "few", 'a' + i);
    memset(text, 'a' + i, 20 + (size_t)i);
    corpus_write(self, name, text);
  }
}

/* All validation sequences: counts the targets of each letter, and checks each sequence. */
static void run_validation(mg_dataset *dataset, int64_t length, int counts[26]) {
  int32_t *inputs = malloc((size_t)length * sizeof *inputs), *targets = malloc((size_t)length * sizeof *targets);
  int32_t domain = 0;
  mg_batch batch = {inputs, targets, &domain, 1, length};
  int64_t per_domain[2] = {0}, filled = 1;
  for (int64_t i = 0; filled > 0; i++) {
    if (mg_dataset_batch(dataset, MG_SPLIT_VALID, 0, i, &batch, &filled) != MG_OK) abort();
    if (filled == 0) break;
    per_domain[domain]++;
    const int few = strcmp(mg_dataset_domain_name(dataset, domain), "few") == 0;
    for (int64_t k = 0; k < length; k++) {
      assert_int_equal(few, (inputs[k] - 'a') % 3 == 0);
      if (targets[k] < 0) continue;
      assert_int_equal(targets[k], inputs[k]); /* a document holds one letter: a target across documents would differ */
      counts[targets[k] - 'a']++;
    }
  }
  assert_true(per_domain[0] > 0 && per_domain[1] > 0);
  free(inputs);
  free(targets);
}

static void every_target_once_at_any_length(void **state) {
  corpus *self = *state;
  write_letters(self);
  mg_dataset *dataset;
  assert_ok(self->context, corpus_open(self, spec, &dataset));
  int expected[26] = {0};
  char *text = corpus_text(dataset, MG_SPLIT_VALID);
  for (const char *c = text; *c; c++) expected[*c - 'a']++;
  free(text);
  const int64_t lengths[] = {1, 2, 3, 7, 16, 33, 100, 1000, 5000};
  for (size_t n = 0; n < MG_COUNT(lengths); n++) {
    int counts[26] = {0};
    run_validation(dataset, lengths[n], counts);
    for (int i = 0; i < 26; i++) assert_int_equal(counts[i], expected[i] ? expected[i] - 1 : 0);
  }
  mg_dataset_close(dataset);
}

static void counts_are_those_of_the_text(void **state) {
  corpus *self = *state;
  write_letters(self);
  mg_dataset *dataset;
  assert_ok(self->context, corpus_open(self, spec, &dataset));
  for (int split = 0; split < 2; split++) {
    int64_t counts[256] = {0}, expected[256] = {0};
    assert_int_equal(mg_dataset_vocabulary(dataset), 256);
    mg_dataset_count_tokens(dataset, (mg_split)split, counts);
    char *text = corpus_text(dataset, (mg_split)split);
    for (const char *c = text; *c; c++) expected[(unsigned char)*c]++;
    free(text);
    assert_memory_equal(counts, expected, sizeof counts);
  }
  mg_dataset_close(dataset);
}

/* Whole when there is room, else the same share of every domain; documents, each of one letter, end in -1. */
/* Bytes of all validation targets, taken in sequences of `length` tokens, three to a batch. */
static int64_t target_bytes(const corpus *self, mg_dataset *dataset, int64_t length) {
  const size_t count = (size_t)(3 * length);
  int32_t *inputs = malloc(count * sizeof *inputs), *targets = malloc(count * sizeof *targets), domains[3];
  mg_batch batch = {inputs, targets, domains, 3, length};
  int64_t sum = 0, filled = 1;
  for (int64_t i = 0; filled > 0; i++) {
    int64_t bytes;
    assert_ok(self->context, mg_dataset_batch(dataset, MG_SPLIT_VALID, 0, i, &batch, &filled));
    assert_ok(self->context, mg_dataset_target_bytes(dataset, &batch, filled, &bytes));
    sum += bytes;
  }
  free(inputs);
  free(targets);
  return sum;
}

enum { DOCUMENTS = 40, TOKEN_MOST = 24 };

/* All of a document's text but its first token, whatever the length of the sequences. */
static void assert_target_bytes(const corpus *self, const char *kind, const char *options) {
  char full[512];
  mg_dataset *dataset;
  snprintf(full, sizeof full,
           "{\"corpus\": \"%%s\", \"stages\": [\"split\", \"tokenize\", \"encode\", \"pack\"], \"split\": "
           "{\"valid_share\": 0.5}, \"tokenize\": {\"kind\": \"%s\"%s}}",
           kind, options);
  assert_ok(self->context, corpus_open(self, full, &dataset));
  char *text = corpus_text(dataset, MG_SPLIT_VALID);
  const int64_t bytes = (int64_t)strlen(text), once = target_bytes(self, dataset, 1);
  assert_in_range(once, bytes - DOCUMENTS * TOKEN_MOST, bytes - 1);
  const int64_t lengths[] = {2, 7, 64, 100000};
  for (size_t n = 0; n < MG_COUNT(lengths); n++) assert_int_equal(target_bytes(self, dataset, lengths[n]), once);
  free(text);
  mg_dataset_close(dataset);
}

/* With tokens of one byte, of several, and of a tokenizer that drops the space before the first word that it decodes. */
static void targets_stand_for_the_bytes_of_the_text(void **state) {
  corpus *self = *state;
  char path[128], name[32], option[160];
  for (uint64_t i = 0; i < DOCUMENTS; i++) {
    snprintf(name, sizeof name, "prose/%d.txt", (int)i);
    corpus_write_prose(self, name, i, 300);
  }
  snprintf(path, sizeof path, "%s/llama2.json", self->folder);
  snprintf(option, sizeof option, ", \"path\": \"%s\"", path);
  json_t *llama2 = mg_golden_tokenizer_json("llama2");
  assert_int_equal(json_dump_file(llama2, path, 0), 0);
  json_decref(llama2);
  assert_target_bytes(self, "bytes", "");
  assert_target_bytes(self, "bpe", ", \"vocabulary\": 400");
  assert_target_bytes(self, "file", option);
}

static void a_sample_is_the_text_in_order(void **state) {
  (void)state;
  corpus *self = *state;
  write_letters(self);
  mg_dataset *dataset;
  assert_ok(self->context, corpus_open(self, spec, &dataset));
  const int64_t tokens = mg_dataset_tokens(dataset, MG_SPLIT_TRAIN), most = 2 * tokens + 2;
  int64_t expected[256] = {0}, counts[256] = {0};
  int32_t *ids = malloc((size_t)most * sizeof *ids);
  assert_non_null(ids);
  mg_dataset_count_tokens(dataset, MG_SPLIT_TRAIN, expected);
  const int64_t all = mg_dataset_sample_tokens(dataset, MG_SPLIT_TRAIN, ids, most);
  for (int64_t i = 0; i < all; i++) {
    if (ids[i] >= 0) counts[ids[i]]++;
    if (i > 0 && ids[i] >= 0 && ids[i - 1] >= 0) assert_int_equal(ids[i], ids[i - 1]);
  }
  assert_memory_equal(counts, expected, sizeof counts);
  assert_int_equal(ids[all - 1], -1);
  assert_in_range(mg_dataset_sample_tokens(dataset, MG_SPLIT_TRAIN, ids, tokens), tokens / 3, tokens);
  assert_int_equal(mg_dataset_sample_tokens(dataset, MG_SPLIT_TRAIN, ids, 0), 0);
  free(ids);
  mg_dataset_close(dataset);
}

static void training_epochs_are_permutations(void **state) {
  corpus *self = *state;
  write_letters(self);
  mg_dataset *dataset;
  assert_ok(self->context, corpus_open(self, spec, &dataset));
  int32_t inputs[8], targets[8], domains[2], again[8];
  mg_batch batch = {inputs, targets, domains, 2, 4};
  int epochs[3][26] = {{0}};
  int64_t filled, sequences = 0;
  const int64_t tokens = mg_dataset_tokens(dataset, MG_SPLIT_TRAIN);
  /* The sum over domains of ceil(tokens / 4), from the report's streams. */
  size_t row;
  const json_t *stage;
  json_array_foreach(mg_dataset_report(dataset), row, stage) {
    const json_t *train = json_array_get(json_object_get(stage, "streams"), MG_SPLIT_TRAIN);
    for (size_t d = 0; d < json_array_size(train); d++)
      sequences += (json_integer_value(json_array_get(json_array_get(train, d), 1)) + 3) / 4;
  }
  assert_true(sequences * 4 >= tokens);
  for (int64_t n = 0; n < 6 * sequences / 2; n++) { /* 3 epochs of batches of 2, so that some straddle two epochs */
    assert_ok(self->context, mg_dataset_batch(dataset, MG_SPLIT_TRAIN, 9, n, &batch, &filled));
    assert_int_equal(filled, 2);
    for (int64_t k = 0; k < 8; k++) {
      const int64_t epoch = (2 * n + k / 4) / sequences;
      if (epoch < 3 && targets[k] >= 0) epochs[epoch][targets[k] - 'a']++;
    }
  }
  assert_memory_equal(epochs[0], epochs[1], sizeof epochs[0]);
  assert_memory_equal(epochs[0], epochs[2], sizeof epochs[0]);
  int equal = 0;
  for (int64_t n = 0; n < 10; n++) { /* the same by position, another order under another seed */
    assert_ok(self->context, mg_dataset_batch(dataset, MG_SPLIT_TRAIN, 9, n, &batch, &filled));
    memcpy(again, inputs, sizeof again);
    assert_ok(self->context, mg_dataset_batch(dataset, MG_SPLIT_TRAIN, 9, n, &batch, &filled));
    assert_memory_equal(again, inputs, sizeof again);
    assert_ok(self->context, mg_dataset_batch(dataset, MG_SPLIT_TRAIN, 10, n, &batch, &filled));
    equal += memcmp(again, inputs, sizeof again) == 0;
  }
  assert_true(equal < 5);
  mg_dataset_close(dataset);
}

static void batches_allocate_nothing(void **state) {
  corpus *self = *state;
  write_letters(self);
  mg_dataset *dataset;
  assert_ok(self->context, corpus_open(self, spec, &dataset));
  int32_t inputs[40], targets[40], domains[4];
  mg_batch batch = {inputs, targets, domains, 4, 10};
  int64_t filled;
  const size_t before = mg_context_bytes(self->context);
  for (int64_t i = 0; i < 100; i++)
    assert_ok(self->context, mg_dataset_batch(dataset, MG_SPLIT_TRAIN, 1, i, &batch, &filled));
  assert_int_equal(mg_context_bytes(self->context), before);
  batch.sequences = 0;
  assert_refused(self->context, MG_USAGE, "at least 1",
                 mg_dataset_batch(dataset, MG_SPLIT_TRAIN, 1, 0, &batch, &filled));
  batch.sequences = 4;
  assert_refused(self->context, MG_USAGE, "index from 0",
                 mg_dataset_batch(dataset, MG_SPLIT_TRAIN, 1, -1, &batch, &filled));
  mg_dataset_close(dataset);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, corpus_setup, corpus_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {TEST(every_target_once_at_any_length),         TEST(counts_are_those_of_the_text),
                                     TEST(targets_stand_for_the_bytes_of_the_text), TEST(a_sample_is_the_text_in_order),
                                     TEST(training_epochs_are_permutations),        TEST(batches_allocate_nothing)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
