/* What the files that read GGUF vocabularies share. */
#ifndef MG_MODEL_TOKENIZER_GGUF_H
#define MG_MODEL_TOKENIZER_GGUF_H

#include <stdbool.h>

enum { MG__GGUF_PATTERNS_MOST = 8 };

typedef struct mg__gguf_cut {
  const char *names;                            /* of tokenizer.ggml.pre, between blanks */
  bool nfc;                                     /* text is brought to NFC first, which GGUF files do not say */
  bool ignore_merges;                           /* a piece that is a token is that token */
  int add_bos;                                  /* if the file does not say */
  const char *patterns[MG__GGUF_PATTERNS_MOST]; /* applied in turn; NULL ends them */
} mg__gguf_cut;

/* NULL if the name is not known. */
const mg__gguf_cut *mg__gguf_cut_find(const char *name);

#endif
