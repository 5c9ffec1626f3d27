/* Training on a small language whose next token mostly follows from the last, in place of the data pipeline: only programs
 * that are linked with training.c see it (tests/CMakeLists.txt). */
#ifndef MG_TESTS_SUPPORT_TRAINING_H
#define MG_TESTS_SUPPORT_TRAINING_H

#include <jansson.h>

#include "support/world.h"
#include "train/trainer.h"

enum { VOCABULARY = 24, DOMAINS = 2, VALID_SEQUENCES = 11 };

struct mg_dataset {
  int64_t batches; /* that were drawn */
};

/* A dense model, one with a mixture, and 60 steps, as JSON with single quotes. */
extern const char training_dense[], training_moe[], training_short[];

/* JSON of a text with single quotes; fails the test where it is none. */
json_t *training_json(const char *quoted);

typedef struct training {
  mg_world world;
  mg_model *model;
  mg_dataset data;
  json_t *spec, *result;
  int64_t stop_after; /* steps; 0 = never */
} training;

void training_open(training *r, const char *model, const char *train);
void training_close(training *r);
/* Trains; r->result is new. */
mg_status training_run(training *r);
double training_metric(const training *r, const char *name);
const json_t *training_table(const training *r, const char *name);
void training_assert_same(training *a, training *b);

#endif
