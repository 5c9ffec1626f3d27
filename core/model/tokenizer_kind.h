/* What the files of the tokenizers share: the base of every kind, and the cutter of text into words. */
#ifndef MG_MODEL_TOKENIZER_KIND_H
#define MG_MODEL_TOKENIZER_KIND_H

#include "model/tokenizer.h"

typedef struct mg__tokenizer_kind {
  const char *name;
  mg_status (*encode)(mg_tokenizer *tokenizer, const char *text, size_t bytes, unsigned flags, mg_token_list *list);
  mg_status (*decode)(mg_tokenizer *tokenizer, const int32_t *ids, int64_t count, unsigned flags,
                      mg_text *text);                             /* NULL = the tokens' texts joined */
  bool (*to_json)(const mg_tokenizer *tokenizer, json_t *object); /* adds the kind's own keys; false without memory */
  void (*release)(mg_tokenizer *tokenizer);                       /* the kind's own members; NULL = none */
} mg__tokenizer_kind;

/* The first member of every kind's struct. */
struct mg_tokenizer {
  const mg__tokenizer_kind *kind;
  mg_context *context;
  size_t bytes; /* of the kind's struct */
  int64_t vocabulary;
  size_t *starts; /* [vocabulary + 1]: where each token's text begins in `text` */
  char *text;
  bool *special;    /* [vocabulary]; NULL = no token is */
  int32_t bos, eos; /* -1 = none */
};

/* Allocates a kind's struct of `bytes` and copies the token texts. */
mg_status mg__tokenizer_create(mg_context *context, const mg__tokenizer_kind *kind, size_t bytes,
                               const mg_token_text *tokens, int64_t vocabulary, mg_tokenizer **out);
mg_status mg__token_list_append(mg_context *context, mg_token_list *list, int32_t id);

/* The texts of the 256 single bytes: &mg__byte_texts[b] is byte b. */
extern const unsigned char mg__byte_texts[256];

/* Cuts text into words by a PCRE2 pattern. Bytes that the pattern does not cover, and invalid UTF-8, become words of
 * their own, so that the words joined are always the text. */
typedef struct mg__splitter mg__splitter;
typedef mg_status (*mg__word_function)(void *user, const char *word, size_t bytes);
mg_status mg__splitter_create(mg_context *context, const char *pattern, mg__splitter **out);
void mg__splitter_destroy(mg__splitter *splitter);
const char *mg__splitter_pattern(const mg__splitter *splitter);
mg_status mg__splitter_each(mg__splitter *splitter, const char *text, size_t bytes, mg__word_function word, void *user);

mg_status mg__bpe_from_json(mg_context *context, const json_t *json, mg_tokenizer **out);

#endif
