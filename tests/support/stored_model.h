/* Checkpoints of random weights in one storage type, of any size: a Mixtral as a GGUF file, or for what only safetensors
 * hold, a DeepSeek-V3 in 8 bits with tile factors and a gpt-oss with MXFP4 pairs. */
#ifndef MG_TESTS_SUPPORT_STORED_MODEL_H
#define MG_TESTS_SUPPORT_STORED_MODEL_H

#include "model/storage.h"

typedef struct mg_stored_model {
  const char *name;                                   /* of the kind, see mg_stored_model_kinds */
  int64_t layers, width, experts, hidden, vocabulary; /* widths are multiples of 256 */
} mg_stored_model;

/* "f32", ..., "mxfp4" (GGUF), "f8_e4m3" and "mxfp4_pairs" (safetensors); NULL-terminated. */
extern const char *const mg_stored_model_kinds[];

/* Writes model.gguf, or config.json and model.safetensors, into a folder that is there. Gives the path to open and the bytes
 * of the file. False, with nothing to rely on, if the kind is unknown or the disk refuses. */
bool mg_stored_model_write(const mg_stored_model *model, const char *folder, char path[1100], int64_t *bytes);

#endif
