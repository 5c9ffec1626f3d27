/* Folders of text for tests of the data pipeline. */
#include "support/corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "moegauge/rng.h"
#include "train/data_stage.h"

int corpus_setup(void **state) {
  corpus *self = calloc(1, sizeof *self);
  if (!self) return -1;
  snprintf(self->folder, sizeof self->folder, "/tmp/mg_corpus_XXXXXX");
  *state = self;
  return mkdtemp(self->folder) && mg_context_create(NULL, &self->context) == MG_OK ? 0 : -1;
}

int corpus_teardown(void **state) {
  corpus *self = *state;
  const size_t left = mg_context_bytes(self->context);
  mg_context_destroy(self->context);
  mg__folder_remove(self->folder);
  free(self);
  return left == 0 ? 0 : -1;
}

void corpus_write_bytes(const corpus *self, const char *name, const void *data, size_t bytes) {
  char path[512];
  snprintf(path, sizeof path, "%s/text/%s", self->folder, name);
  char *slash = strrchr(path, '/');
  *slash = '\0';
  mg_folder_make(self->context, path);
  *slash = '/';
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(data, 1, bytes, file) != bytes) abort();
  fclose(file);
}

void corpus_write(const corpus *self, const char *name, const char *text) {
  corpus_write_bytes(self, name, text, strlen(text));
}

void corpus_write_prose(const corpus *self, const char *name, uint64_t number, size_t bytes) {
  const mg_stream stream = mg_stream_named(number, "prose", 0, 0);
  char *text = malloc(bytes + 64);
  size_t at = 0;
  for (uint64_t i = 0; at < bytes; i++) {
    const uint32_t bits = mg_random_bits(stream, i);
    for (uint32_t k = 0; k < 3 + bits % 6; k++)
      text[at++] = (char)('a' + (mg_random_bits(stream, 100000 + 8 * i + k) % 26));
    text[at++] = bits % 11 == 0 ? '\n' : ' ';
  }
  text[at++] = '\n';
  corpus_write_bytes(self, name, text, at);
  free(text);
}

mg_status corpus_open_filtered(const corpus *self, const char *spec, const mg_document_filter *filter,
                               mg_dataset **out) {
  char text[2048], folder[128], cache[128];
  snprintf(folder, sizeof folder, "%s/text", self->folder);
  snprintf(cache, sizeof cache, "%s/cache", self->folder);
  const char *hole = strstr(spec, "%s");
  if (hole)
    snprintf(text, sizeof text, "%.*s%s%s", (int)(hole - spec), spec, folder, hole + 2);
  else
    snprintf(text, sizeof text, "%s", spec);
  json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
  if (!json) abort();
  const mg_status status = mg_dataset_open_filtered(self->context, json, cache, filter, out);
  json_decref(json);
  return status;
}

mg_status corpus_open(const corpus *self, const char *spec, mg_dataset **out) {
  return corpus_open_filtered(self, spec, NULL, out);
}

int64_t corpus_report(const mg_dataset *dataset, const char *stage, const char *keys) {
  size_t i;
  const json_t *row;
  json_array_foreach(mg_dataset_report(dataset), i, row) {
    if (strcmp(json_string_value(json_object_get(row, "stage")), stage) != 0) continue;
    char copy[128];
    snprintf(copy, sizeof copy, "%s", keys);
    const json_t *value = row;
    for (char *key = strtok(copy, "."); key; key = strtok(NULL, ".")) value = json_object_get(value, key);
    return json_integer_value(value);
  }
  return 0;
}

/* A sequence as long as the whole split takes each domain's stream whole; the repetition that fills it has no targets. */
char *corpus_text(mg_dataset *dataset, mg_split split) {
  const int64_t length = mg_dataset_tokens(dataset, split), rows = mg_dataset_domains(dataset);
  const size_t cells = (size_t)(length * rows), most = cells * 64;
  int32_t *inputs = malloc(3 * cells * sizeof *inputs);
  char *text = malloc(most + 1);
  mg_batch batch = {inputs, inputs + cells, inputs + 2 * cells, rows, length};
  int64_t filled = 0;
  size_t used = 0;
  if (mg_dataset_batch(dataset, split, 0, 0, &batch, &filled) != MG_OK) abort();
  for (int64_t row = 0; row < filled; row++) {
    int64_t count = length;
    while (count > 1 && batch.targets[row * length + count - 2] < 0) count--;
    used += mg_dataset_decode(dataset, inputs + row * length, count, text + used, most - used);
  }
  text[used] = '\0';
  free(inputs);
  return text;
}
