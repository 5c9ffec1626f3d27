/* bin/moegauge-load: what loading and running a checkpoint of one storage type takes, as a row of a Markdown table.
 *
 *   moegauge-load FOLDER KIND PRECISION       KIND as in tests/support/stored_model.c, PRECISION f32 or bf16
 *
 * Writes a random checkpoint of that type into FOLDER, loads it, touches every weight, reads a prompt and writes tokens,
 * and prints: MB of the file; the most MB that the process held once every weight was touched, also as a share of the
 * file, and in the end; tokens per second reading and writing; MB that a written token reads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "measure/speed.h"
#include "support/golden.h"
#include "support/stored_model.h"

enum { ROUNDS = 5 };

static double resident_bytes(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return (double)used.ru_maxrss * 1024.0;
}

static int compare(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Tokens per second in the middle of the rounds. */
static double rate(const mg_speed *rounds, bool decode, int64_t tokens) {
  double rates[ROUNDS];
  for (int i = 0; i < ROUNDS; i++)
    rates[i] = (double)tokens * 1e9 / (double)(decode ? rounds[i].decode_ns : rounds[i].prefill_ns);
  qsort(rates, ROUNDS, sizeof *rates, compare);
  return rates[ROUNDS / 2];
}

/* 0.6 G weights, of which a token uses a fifth. */
static const mg_stored_model shape = {.layers = 11, .width = 1024, .experts = 16, .hidden = 1024, .vocabulary = 16384};

/* A byte of each page of each weight, those of experts that no token chose as well. */
static void touch(const mg_params *params) {
  enum { PAGE = 4096 };
  volatile unsigned sum = 0; /* volatile: what it comes to is of no interest, the reads are */
  for (int64_t i = 0; i < mg_params_count(params); i++) {
    const mg_tensor *value = &mg_params_look(params, i)->value;
    for (size_t at = 0; at < mg_tensor_bytes(value); at += PAGE) sum = sum + ((const unsigned char *)value->data)[at];
  }
}

static void measure(mg_world *world, const char *path, const char *described, int64_t bytes, mg_dtype precision) {
  const mg_speed_settings settings = {.prompt = 256, .generate = 16, .depth = 64, .rounds = ROUNDS, .seed = 1};
  mg_checkpoint *checkpoint;
  mg_model *model;
  mg_speed rounds[ROUNDS];
  json_t *family = mg_golden_family(world, described);
  mg_tape_set_recording(world->tape, false);
  assert_ok(world->context, mg_checkpoint_open(world->context, path, NULL, &checkpoint));
  assert_ok(world->context, mg_model_load(world->context, world->registry, world->backend,
                                          json_object_get(family, "spec"), json_object_get(family, "tensors"),
                                          json_object_get(family, "ignored"), checkpoint, precision, &model));
  touch(mg_model_params(model));
  const double loaded = resident_bytes();
  assert_ok(world->context, mg_speed_run(model, world->tape, precision, &settings, rounds));
  const double file = (double)bytes, peak = resident_bytes();
  printf("%.0f | %.0f | %.2f | %.0f | %.0f | %.1f | %.0f |\n", file * 1e-6, loaded * 1e-6, loaded / file, peak * 1e-6,
         rate(rounds, false, settings.prompt), rate(rounds, true, settings.generate),
         mg_speed_decode_bytes(model, precision, settings.depth) * 1e-6);
  fflush(stdout);
  mg_model_destroy(model);
  mg_checkpoint_close(checkpoint);
  json_decref(family);
}

int main(int argc, char **argv) {
  mg_world world;
  mg_dtype precision;
  char path[1100];
  int64_t bytes;
  if (argc != 4 || !mg_dtype_from_name(argv[3], &precision)) {
    fprintf(stderr, "usage: moegauge-load FOLDER KIND f32|bf16\n");
    return 2;
  }
  mg_stored_model model = shape;
  model.name = argv[2];
  if (!mg_stored_model_write(&model, argv[1], path, &bytes)) {
    fprintf(stderr, "moegauge-load: no checkpoint of kind '%s' could be written into %s\n", argv[2], argv[1]);
    return 2;
  }
  printf("| %s | %s | ", argv[2], argv[3]);
  mg_world_open(&world, "cpu", precision);
  measure(&world, path, strstr(path, ".gguf") ? path : argv[1], bytes, precision);
  mg_world_close(&world);
  return 0;
}
