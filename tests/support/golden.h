/* The golden models of tests/golden: a family's checkpoint as a model, and what transformers computed from it. */
#ifndef MG_TESTS_SUPPORT_GOLDEN_H
#define MG_TESTS_SUPPORT_GOLDEN_H

#include <jansson.h>

#include "model/cache.h"
#include "model/load.h"
#include "support/world.h"

enum { MG_GOLDEN_PROMPTS = 3 };

typedef struct mg_golden {
  mg_world *world;
  char folder[1024];
  json_t *family; /* {"spec", "tensors", "ignored"} as its Lua table says */
  mg_checkpoint *weights, *expected;
  mg_model *model;
} mg_golden;

/* What scripts/moegauge/families makes of the model at a path: {"spec", "tensors", "ignored"}. */
json_t *mg_golden_family(mg_world *world, const char *path);

/* Loads the model on the world's backend for tapes of `precision`. */
void mg_golden_open(mg_golden *golden, mg_world *world, const char *family, mg_dtype precision);
/* The same of tests/golden/gguf/NAME.gguf, of which only tokens and logits are known. */
void mg_golden_open_gguf(mg_golden *golden, mg_world *world, const char *name, mg_dtype precision);
void mg_golden_close(mg_golden *golden);

/* A stored array, named as in make_models.py, to be freed with mg_golden_free. NULL if there is none and `must` is false.
 */
typedef struct mg_golden_array {
  float *values;
  int64_t rows, columns;
} mg_golden_array;
mg_golden_array mg_golden_floats(mg_golden *golden, bool must, const char *format, ...) MG_PRINTF(3, 4);
/* Tokens of a prompt ("tokens" or "source"), to be freed with mg_golden_free_ids. */
int32_t *mg_golden_ids(mg_golden *golden, int64_t prompt, const char *what, int64_t *count);
void mg_golden_free(mg_golden *golden, mg_golden_array *array);
void mg_golden_free_ids(mg_golden *golden, int32_t *ids, int64_t count);

#endif
