/* Markov corpora: their exact entropy against what their own tokens show, and against a chain worked by hand. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/corpus.h"
#include "support/testing.h"

enum { SEQUENCE = 500 };

/* Adds up counts of (domain, context, next) over one pass of the training side. */
static double *count_transitions(mg_dataset *dataset, int64_t vocabulary) {
  const int64_t domains = mg_dataset_domains(dataset);
  double *counts = calloc((size_t)(domains * vocabulary * vocabulary), sizeof *counts);
  int32_t inputs[SEQUENCE], targets[SEQUENCE], domain;
  mg_batch batch = {inputs, targets, &domain, 1, SEQUENCE};
  const int64_t sequences = mg_dataset_tokens(dataset, MG_SPLIT_TRAIN) / SEQUENCE;
  for (int64_t i = 0; i < sequences; i++) {
    int64_t filled;
    if (mg_dataset_batch(dataset, MG_SPLIT_TRAIN, 1, i, &batch, &filled) != MG_OK) abort();
    for (int k = 0; k < SEQUENCE; k++)
      if (targets[k] >= 0) counts[(domain * vocabulary + inputs[k]) * vocabulary + targets[k]]++;
  }
  return counts;
}

/* Mean nats per target of the maximum-likelihood bigram model of each domain, with the first-order correction of its
 * bias, (cells seen - rows seen) / (2 N) (Miller 1955). */
static double empirical_entropy(const double *counts, int64_t rows, int64_t vocabulary) {
  double nats = 0.0, all = 0.0, free_cells = 0.0;
  for (int64_t row = 0; row < rows; row++) {
    double sum = 0.0, cells = 0.0;
    for (int64_t t = 0; t < vocabulary; t++) {
      sum += counts[row * vocabulary + t];
      cells += counts[row * vocabulary + t] > 0.0;
    }
    for (int64_t t = 0; t < vocabulary; t++) {
      const double n = counts[row * vocabulary + t];
      if (n > 0.0) nats -= n * log(n / sum);
    }
    all += sum;
    free_cells += cells > 0.0 ? cells - 1.0 : 0.0;
  }
  return (nats + free_cells / 2.0) / all;
}

static void exact_entropy_is_what_the_tokens_show(void **state) {
  corpus *self = *state;
  mg_dataset *dataset;
  assert_ok(
      self->context,
      corpus_open(self, "{\"corpus\": \"synthetic\", \"vocabulary\": 24, \"collect\": {\"domains\": 3}}", &dataset));
  assert_int_equal(mg_dataset_vocabulary(dataset), 24);
  assert_int_equal(mg_dataset_domains(dataset), 3);
  double *counts = count_transitions(dataset, 24);
  const double seen = empirical_entropy(counts, 3 * 24, 24), exact = mg_dataset_entropy(dataset);
  assert_true(exact > 0.3 && exact < log(24.0));
  assert_true(fabs(seen - exact) < 0.01); /* 1.5 million tokens: the standard error is about 0.002 */
  free(counts);
  mg_dataset_close(dataset);
}

static void order_two_is_sharper_than_its_bigrams(void **state) {
  corpus *self = *state;
  mg_dataset *dataset;
  assert_ok(self->context,
            corpus_open(self,
                        "{\"corpus\": \"synthetic\", \"vocabulary\": 12, \"collect\": {\"domains\": 1, \"order\": 2}}",
                        &dataset));
  double *counts = count_transitions(dataset, 12);
  const double bigram = empirical_entropy(counts, 12, 12);
  assert_true(mg_dataset_entropy(dataset) < bigram - 0.05); /* one token of context is not enough */
  free(counts);
  mg_dataset_close(dataset);
}

/* With smoothing 1 every row is uniform: log V exactly. */
static void uniform_chains_have_log_v(void **state) {
  corpus *self = *state;
  mg_dataset *dataset;
  for (int order = 1; order <= 2; order++) {
    char spec[256];
    snprintf(spec, sizeof spec,
             "{\"corpus\": \"synthetic\", \"vocabulary\": 10, \"collect\": {\"smoothing\": 1, \"order\": %d, "
             "\"documents\": 20}}",
             order);
    assert_ok(self->context, corpus_open(self, spec, &dataset));
    assert_true(fabs(mg_dataset_entropy(dataset) - log(10.0)) < 1e-9);
    mg_dataset_close(dataset);
  }
}

static void the_seed_decides(void **state) {
  corpus *self = *state;
  mg_dataset *first, *other;
  const char *spec = "{\"corpus\": \"synthetic\", \"seed\": %c, \"collect\": {\"documents\": 20}}";
  char text[256];
  snprintf(text, sizeof text, spec, '1');
  assert_ok(self->context, corpus_open(self, text, &first));
  snprintf(text, sizeof text, spec, '2');
  assert_ok(self->context, corpus_open(self, text, &other));
  assert_string_not_equal(mg_dataset_checksum(first), mg_dataset_checksum(other));
  char words[64];
  const int32_t ids[] = {3, 14};
  assert_int_equal(mg_dataset_decode(first, ids, 2, words, sizeof words), 5);
  assert_memory_equal(words, "3 14 ", 5);
  mg_dataset_close(first);
  mg_dataset_close(other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, corpus_setup, corpus_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {TEST(exact_entropy_is_what_the_tokens_show),
                                     TEST(order_two_is_sharper_than_its_bigrams), TEST(uniform_chains_have_log_v),
                                     TEST(the_seed_decides)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
