/* The tokenizer that a GGUF checkpoint carries in its metadata. */
#ifndef MG_MODEL_CHECKPOINT_VOCABULARY_H
#define MG_MODEL_CHECKPOINT_VOCABULARY_H

#include "model/checkpoint.h"
#include "model/tokenizer.h"

/* Reads the keys tokenizer.ggml.* with the types that they must have, and makes the tokenizer, which keeps nothing of the
 * checkpoint. MG_FILE if a key is missing, of another type or length, or describes no vocabulary that is known. */
mg_status mg_checkpoint_tokenizer(const mg_checkpoint *checkpoint, mg_tokenizer **out);

#endif
