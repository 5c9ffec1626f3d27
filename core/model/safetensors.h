/* Files of named tensors in the safetensors format (https://huggingface.co/docs/safetensors): 8 bytes of header length
 * (little endian), a JSON header {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets"}}, then the
 * data. Files that we write carry the XXH3-128 of header and data in the
 * metadata, which mg_checkpoint_verify compares. Reading is in model/checkpoint.h. */
#ifndef MG_MODEL_SAFETENSORS_H
#define MG_MODEL_SAFETENSORS_H

#include <jansson.h>

#include "moegauge/backend.h"

/* One tensor to be written, borrowed for the call. Its data lies in the backend's memory; where it is NULL, `make` writes
 * all its bytes to host memory when its turn has come. */
typedef struct mg_safetensors_item {
  const char *name;
  const mg_tensor *tensor;
  mg_status (*make)(void *user, void *bytes);
  void *user;
} mg_safetensors_item;

/* Replaces `path` as mg_file_write_atomic does, holding one megabyte at a time, and one tensor that is made. `metadata` is
 * an object of texts. */
mg_status mg_safetensors_write(mg_context *context, mg_backend *backend, const char *path,
                               const mg_safetensors_item *items, int64_t count, const json_t *metadata);

#endif
