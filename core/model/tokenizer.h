/* Tokenizers: text to token ids and back, behind one interface, so that a trained one, plain bytes and a released
 * model's vocabulary are used alike.
 *
 * Plain bytes, trained ones, and released byte-level ones give decode(encode(x)) == x for any bytes, valid UTF-8 or not
 * (a released one only if it adds no space and normalises nothing). Bytes that are not UTF-8 are pieces of their own,
 * which no normaliser or pattern sees; they are encoded byte by byte, or as the unknown token where a vocabulary has no
 * bytes. A tokenizer is used by one thread at a time (it keeps scratch and a cache of words). */
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

/* A growing text, not NUL-terminated; zero-initialise it. */
typedef struct mg_text {
  char *bytes;
  size_t count, room;
} mg_text;
void mg_text_free(mg_context *context, mg_text *text);

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

/* What encode and decode do beyond the text; flags are or-ed. Trained tokenizers and bytes have no special tokens. */
enum {
  MG_ENCODE_ADD_SPECIAL = 1,     /* put the tokens around the text that the model expects (BOS, EOS) */
  MG_ENCODE_SPECIAL_AS_TEXT = 2, /* "<|eot|>" in the text is text; without this flag it is the special token */
  MG_DECODE_SKIP_SPECIAL = 4     /* leave special tokens out */
};

/* Appends the ids of `text` to `list`. MG_FILE if the vocabulary has no token for a piece of it and none for unknown
 * ones, or a pattern of the vocabulary's file takes too long on it. */
mg_status mg_tokenizer_encode(mg_tokenizer *tokenizer, const char *text, size_t bytes, unsigned flags,
                              mg_token_list *list);
/* Appends the text of `ids` to `text`; ids that the vocabulary lacks are skipped. Bytes that are no UTF-8 (half a
 * character) come out as they are. */
mg_status mg_tokenizer_decode(mg_tokenizer *tokenizer, const int32_t *ids, int64_t count, unsigned flags,
                              mg_text *text);
/* Ids are below this number; a released vocabulary may have gaps. */
int64_t mg_tokenizer_vocabulary(const mg_tokenizer *tokenizer);
/* "bytes", "bpe" (trained here) or "released". */
const char *mg_tokenizer_kind_name(const mg_tokenizer *tokenizer);
/* The bytes of one token, in a released vocabulary as its file spells them; {NULL, 0} for an id out of range. */
mg_token_text mg_tokenizer_token(const mg_tokenizer *tokenizer, int32_t id);
/* The lowest id whose token is spelt so, or -1. Looks through the whole vocabulary. */
int32_t mg_tokenizer_find(const mg_tokenizer *tokenizer, const char *token);
/* True for a token that stands for no text of its own (BOS, EOS, "<|im_start|>"). */
bool mg_tokenizer_is_special(const mg_tokenizer *tokenizer, int32_t id);
/* The tokens that begin and end a text, or -1: what a GGUF vocabulary names, or what a tokenizer.json, which names
 * none, puts first and last. Whether MG_ENCODE_ADD_SPECIAL adds them is the model's choice. */
int32_t mg_tokenizer_bos(const mg_tokenizer *tokenizer);
int32_t mg_tokenizer_eos(const mg_tokenizer *tokenizer);

/* A tokenizer as a JSON object: {"format": "moegauge-tokenizer", "version": 1, "kind": "bpe", "pattern": "...",
 * "tokens": ["61", ...] (every token's bytes in hexadecimal, by id), "merges": [[left, right, merged], ...]}. A released
 * one holds its tokenizer.json under "tokenizer". NULL when memory runs out. */
json_t *mg_tokenizer_to_json(const mg_tokenizer *tokenizer);
/* The same as the tokenizer.json that Hugging Face's library reads, and mg_tokenizer_from_json as well: with the same ids.
 * MG_UNSUPPORTED if there is no such form: two tokens have one text. */
mg_status mg_tokenizer_released_json(const mg_tokenizer *tokenizer, json_t **out);
/* MG_FILE with the reason if `json` is not a tokenizer. */
mg_status mg_tokenizer_from_json(mg_context *context, const json_t *json, mg_tokenizer **out);
mg_status mg_tokenizer_save(const mg_tokenizer *tokenizer, const char *path);
/* Reads what mg_tokenizer_save wrote, or a released model's tokenizer.json (core/model/README.md says which parts are
 * known), or the tokenizer.json in the folder `path`. MG_FILE with the file, the part and the rule that it breaks. */
mg_status mg_tokenizer_load(mg_context *context, const char *path, mg_tokenizer **out);

/* The vocabulary of a GGUF file, all borrowed for the call; the names are the keys' after "tokenizer.ggml.". */
typedef struct mg_gguf_vocabulary {
  const char *model;           /* "llama" (SentencePiece BPE), "gpt2" (byte-level BPE), "t5" (SentencePiece Unigram) */
  const char *pre;             /* the cut of a gpt2 vocabulary; NULL = the file does not say */
  const mg_token_text *tokens; /* [count], by id */
  const float *scores;         /* [count]; NULL = none */
  const int32_t *types;        /* [count]: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; NULL = 1 */
  int64_t count;
  const mg_token_text *merges; /* "left right", by rank */
  size_t merges_count;
  int64_t bos, eos, unknown;           /* ids; -1 = the file does not say */
  int add_bos, add_eos;                /* 0, 1; -1 = the file does not say */
  int add_space_prefix, remove_spaces; /* the same; remove_spaces is remove_extra_whitespaces */
  const unsigned char *charsmap;       /* precompiled_charsmap; NULL = none */
  size_t charsmap_bytes;
} mg_gguf_vocabulary;
/* MG_FILE if the description breaks a rule, or names a model or a cut that is not known. */
mg_status mg_tokenizer_create_gguf(mg_context *context, const mg_gguf_vocabulary *vocabulary, mg_tokenizer **out);

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
