/* Tokenizers: text to token ids and back, behind one interface, so that a trained one, plain bytes and a released
 * model's vocabulary are used alike.
 *
 * Every tokenizer here is byte-level: decode(encode(x)) == x for any bytes, valid UTF-8 or not. Invalid UTF-8 is
 * encoded byte by byte. A tokenizer is used by one thread at a time (it keeps scratch and a cache of words). */
#ifndef MG_MODEL_TOKENIZER_H
#define MG_MODEL_TOKENIZER_H

#include <jansson.h>

#include "moegauge/context.h"

typedef struct mg_tokenizer mg_tokenizer;

/* A growing list of ids; zero-initialise it. */
typedef struct mg_token_list {
  int32_t *ids;
  size_t count, room;
} mg_token_list;
void mg_token_list_free(mg_context *context, mg_token_list *list);

/* Id b is byte b; 256 ids. */
mg_status mg_tokenizer_create_bytes(mg_context *context, mg_tokenizer **out);

/* The tables of a byte-level BPE vocabulary. All 256 single bytes must be among the tokens. `merges[rank]` joins two
 * tokens into a third whose text is theirs joined; a lower rank is applied first. Everything is copied. */
typedef struct mg_token_text {
  const char *bytes; /* not NUL-terminated */
  size_t count;
} mg_token_text;
typedef struct mg_merge {
  int32_t left, right, merged;
} mg_merge;
typedef struct mg_bpe_tables {
  const mg_token_text *tokens; /* [vocabulary], by id */
  int64_t vocabulary;
  const mg_merge *merges;
  size_t merges_count;
  const char *pattern; /* PCRE2 (UTF and UCP) that cuts text into words; merges never cross a cut */
} mg_bpe_tables;
mg_status mg_tokenizer_create_bpe(mg_context *context, const mg_bpe_tables *tables, mg_tokenizer **out);

void mg_tokenizer_destroy(mg_tokenizer *tokenizer);

/* Appends the ids of `text` to `list`. */
mg_status mg_tokenizer_encode(mg_tokenizer *tokenizer, const char *text, size_t bytes, mg_token_list *list);
/* Returns the bytes that the text of `ids` needs and writes at most `bytes` of them; unknown ids are skipped. No NUL.
 */
size_t mg_tokenizer_decode(const mg_tokenizer *tokenizer, const int32_t *ids, int64_t count, char *text, size_t bytes);
int64_t mg_tokenizer_vocabulary(const mg_tokenizer *tokenizer);
/* "bytes" or "bpe". */
const char *mg_tokenizer_kind_name(const mg_tokenizer *tokenizer);
/* The bytes of one token; {NULL, 0} for an id out of range. */
mg_token_text mg_tokenizer_token(const mg_tokenizer *tokenizer, int32_t id);

/* A tokenizer as a small JSON object: {"format": "moegauge-tokenizer", "version": 1, "kind": "bpe", "pattern": "...",
 * "tokens": ["61", ...] (every token's bytes in hexadecimal, by id), "merges": [[left, right, merged], ...]}. NULL when
 * memory runs out. */
json_t *mg_tokenizer_to_json(const mg_tokenizer *tokenizer);
/* MG_FILE with the reason if `json` is not a tokenizer. */
mg_status mg_tokenizer_from_json(mg_context *context, const json_t *json, mg_tokenizer **out);
mg_status mg_tokenizer_save(const mg_tokenizer *tokenizer, const char *path);
mg_status mg_tokenizer_load(mg_context *context, const char *path, mg_tokenizer **out);

/* ---- training a byte-level BPE (core/model/bpe_train.c) ---- */

/* Cuts contractions, words with one leading mark or space, up to three digits, runs of marks, and white space. */
extern const char mg_bpe_default_pattern[];

typedef struct mg_bpe_trainer mg_bpe_trainer;
/* `pattern` NULL = the default. MG_USAGE if it does not compile. */
mg_status mg_bpe_trainer_create(mg_context *context, const char *pattern, mg_bpe_trainer **out);
void mg_bpe_trainer_destroy(mg_bpe_trainer *trainer);
/* Counts the words of one document. */
mg_status mg_bpe_trainer_add(mg_bpe_trainer *trainer, const char *text, size_t bytes);
/* Learns up to vocabulary - 256 merges; fewer when no pair occurs twice any more. Ids: byte b is b, merge i is 256 + i.
 * The same documents in any order give the same tokenizer. */
mg_status mg_bpe_trainer_finish(mg_bpe_trainer *trainer, int64_t vocabulary, mg_tokenizer **out);

#endif
