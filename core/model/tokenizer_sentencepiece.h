/* SentencePiece's BPE in the form that others read. */
#ifndef MG_MODEL_TOKENIZER_SENTENCEPIECE_H
#define MG_MODEL_TOKENIZER_SENTENCEPIECE_H

#include <jansson.h>

#include "moegauge/context.h"

/* A tokenizer.json whose model is our own SentencePieceBPE (tokenizer/gguf.c) as one with a BPE of merges, which gives the
 * same tokens where the scores of tokens differ, as trained ones do. *out is a new reference. MG_UNSUPPORTED if two tokens
 * have one text. */
mg_status mg__sentencepiece_as_bpe(mg_context *context, const json_t *file, json_t **out);

#endif
