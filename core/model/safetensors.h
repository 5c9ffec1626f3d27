/* Files of named tensors in the safetensors format (https://huggingface.co/docs/safetensors): 8 bytes of header length
 * (little endian), a JSON header {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets"}}, then the
 * data. Files that we write carry the XXH3-128 of header and data in the metadata, which opening can verify. */
#ifndef MG_MODEL_SAFETENSORS_H
#define MG_MODEL_SAFETENSORS_H

#include <jansson.h>

#include "moegauge/backend.h"

/* One tensor to be written; both are borrowed for the call, the tensor lies in the backend's memory. */
typedef struct mg_safetensors_item {
  const char *name;
  const mg_tensor *tensor;
} mg_safetensors_item;

/* Replaces `path` as mg_file_write_atomic does, holding one megabyte at a time. `metadata` is an object of texts. */
mg_status mg_safetensors_write(mg_context *context, mg_backend *backend, const char *path,
                               const mg_safetensors_item *items, int64_t count, const json_t *metadata);

typedef struct mg_safetensors mg_safetensors;

/* Reads and checks the header: sizes within the file, known dtypes, shapes that fit their bytes, no holes and no
 * overlap. With `verify` also reads all and compares the checksum (MG_FILE if there is none). */
mg_status mg_safetensors_open(mg_context *context, const char *path, bool verify, mg_safetensors **out);
void mg_safetensors_close(mg_safetensors *file);

/* A text of the metadata; NULL if there is none of that key. */
const char *mg_safetensors_metadata(const mg_safetensors *file, const char *key);
int64_t mg_safetensors_count(const mg_safetensors *file);
/* The name, and shape and dtype (data NULL), of tensor `index` in file order. */
const char *mg_safetensors_at(const mg_safetensors *file, int64_t index, mg_tensor *shape);
/* -1 if there is none of that name. */
int64_t mg_safetensors_find(const mg_safetensors *file, const char *name);
/* Reads tensor `name` into `tensor`, whose shape and dtype must be the file's. */
mg_status mg_safetensors_load(mg_safetensors *file, mg_backend *backend, const char *name, const mg_tensor *tensor);

#endif
