/* The tokenizer of a model: that which a GGUF checkpoint carries in its metadata, or a tokenizer.json beside it. */
#ifndef MG_MODEL_CHECKPOINT_VOCABULARY_H
#define MG_MODEL_CHECKPOINT_VOCABULARY_H

#include "model/checkpoint.h"
#include "model/tokenizer.h"

/* Reads the keys tokenizer.ggml.* with the types that they must have, and makes the tokenizer, which keeps nothing of the
 * checkpoint. MG_FILE if a key is missing, of another type or length, or describes no vocabulary that is known. */
mg_status mg_checkpoint_tokenizer(const mg_checkpoint *checkpoint, mg_tokenizer **out);
/* The tokenizer of the model at `path`: a tokenizer.json or the one in a folder, else the vocabulary of the GGUF model
 * there. */
mg_status mg_model_tokenizer(mg_context *context, const char *path, mg_tokenizer **out);

#endif
