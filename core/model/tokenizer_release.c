/* A tokenizer as the tokenizer.json that Hugging Face's library reads: of a trained one byte-level BPE, every byte written
 * as its character of GPT-2's table, words cut by the pattern. */
#include <string.h>

#include "model/tokenizer/pipeline.h"
#include "model/tokenizer_kind.h"
#include "model/tokenizer_sentencepiece.h"

enum { SPELT_BYTES_MOST = 2 * 512 };

/* The token's bytes as characters; NULL without memory. */
static json_t *spelt(const mg__byte_table *table, mg_token_text token) {
  char text[SPELT_BYTES_MOST];
  size_t count = 0;
  for (size_t i = 0; i < token.count && count + 2 <= sizeof text; i++) {
    const unsigned char byte = (unsigned char)token.bytes[i];
    memcpy(text + count, table->text[byte], table->bytes[byte]);
    count += table->bytes[byte];
  }
  return json_stringn(text, count);
}

static mg_status add_vocabulary(const mg_tokenizer *tokenizer, const mg__byte_table *table, json_t *vocabulary) {
  for (int32_t id = 0; id < tokenizer->vocabulary; id++) {
    json_t *text = spelt(table, mg_tokenizer_token(tokenizer, id));
    const char *name = text ? json_string_value(text) : "";
    const json_t *other = json_object_get(vocabulary, name);
    const json_int_t same = other ? json_integer_value(other) : -1;
    const bool good = text && !other && json_object_set_new(vocabulary, name, json_integer(id)) == 0;
    json_decref(text);
    if (same >= 0)
      return mg_fail(tokenizer->context, MG_UNSUPPORTED,
                     "tokenizer.json: tokens %lld and %d have one text, and there a text has one id", (long long)same,
                     id);
    if (!good) return mg_fail(tokenizer->context, MG_MEMORY, "tokenizer.json: no memory for the vocabulary");
  }
  return MG_OK;
}

/* `own` is the tokenizer's own JSON, with merges [left, right, merged] by rank. */
static mg_status add_merges(const mg_tokenizer *tokenizer, const mg__byte_table *table, const json_t *own,
                            json_t *merges) {
  size_t rank;
  const json_t *merge;
  json_array_foreach(json_object_get(own, "merges"), rank, merge) {
    json_t *pair = json_array();
    for (size_t side = 0; side < 2; side++) {
      const int32_t id = (int32_t)json_integer_value(json_array_get(merge, side));
      json_array_append_new(pair, spelt(table, mg_tokenizer_token(tokenizer, id)));
    }
    const bool good = json_array_size(pair) == 2 && json_array_append(merges, pair) == 0;
    json_decref(pair);
    if (!good) return mg_fail(tokenizer->context, MG_MEMORY, "tokenizer.json: no memory for the merges");
  }
  return MG_OK;
}

/* Words by the pattern, if there is one, then bytes as characters. */
static json_t *pre_tokenizer(const char *pattern) {
  json_t *bytes =
      json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 0);
  if (!pattern) return bytes;
  return json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, o]}", "type", "Sequence", "pretokenizers", "type", "Split",
                   "pattern", "Regex", pattern, "behavior", "Isolated", "invert", 0, bytes);
}

static mg_status fill(const mg_tokenizer *tokenizer, const json_t *own, json_t *vocabulary, json_t *merges) {
  mg__byte_table table;
  mg__byte_table_fill(&table);
  MG_TRY(add_vocabulary(tokenizer, &table, vocabulary));
  return add_merges(tokenizer, &table, own, merges);
}

static mg_status from_bpe(const mg_tokenizer *tokenizer, const json_t *own, json_t **out) {
  json_t *vocabulary = json_object(), *merges = json_array();
  const mg_status status = fill(tokenizer, own, vocabulary, merges);
  *out = json_pack("{s:s, s:n, s:n, s:[], s:n, s:o, s:n, s:{s:s, s:b, s:b, s:b},"
                   " s:{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}}",
                   "version", "1.0", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
                   pre_tokenizer(json_string_value(json_object_get(own, "pattern"))), "post_processor", "decoder",
                   "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 0, "model", "type",
                   "BPE", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                   "byte_fallback", 0, "ignore_merges", 0, "vocab", vocabulary, "merges", merges);
  if (status == MG_OK && *out) return MG_OK;
  json_decref(*out);
  *out = NULL;
  return status != MG_OK ? status : mg_fail(tokenizer->context, MG_MEMORY, "tokenizer.json: no memory to write it");
}

/* That of a released tokenizer is the file that it came from, or for a GGUF vocabulary what that amounts to. */
static mg_status from_released(const mg_tokenizer *tokenizer, const json_t *own, json_t **out) {
  json_t *file = json_object_get(own, "tokenizer");
  const char *model = json_string_value(json_object_get(json_object_get(file, "model"), "type"));
  if (model && strcmp(model, "SentencePieceBPE") == 0) return mg__sentencepiece_as_bpe(tokenizer->context, file, out);
  *out = json_incref(file);
  return MG_OK;
}

mg_status mg_tokenizer_released_json(const mg_tokenizer *tokenizer, json_t **out) {
  *out = NULL;
  json_t *own = mg_tokenizer_to_json(tokenizer);
  if (!own) return mg_fail(tokenizer->context, MG_MEMORY, "tokenizer.json: no memory to write it");
  const bool released = json_object_get(own, "tokenizer") != NULL;
  const mg_status status = released ? from_released(tokenizer, own, out) : from_bpe(tokenizer, own, out);
  json_decref(own);
  return status;
}
