/* A SentencePiece vocabulary of a GGUF file, where any two tokens whose text is a token join, as the BPE of a tokenizer.json:
 * every such pair becomes a merge, in the order of the scores of what they give (Kudo and Richardson 2018, arXiv
 * 1808.06226). */
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer/pipeline.h"
#include "model/tokenizer_sentencepiece.h"

typedef struct scored {
  double score;
  size_t id;
} scored;

static int by_score(const void *a, const void *b) { /* highest first, then as they stand */
  const scored *x = a, *y = b;
  if (x->score != y->score) return x->score < y->score ? 1 : -1;
  return (x->id > y->id) - (x->id < y->id);
}

/* [["token", score or null]] by id -> {"token": id} */
static mg_status name_tokens(mg_context *context, const json_t *list, json_t *vocabulary) {
  size_t id;
  const json_t *entry;
  json_array_foreach(list, id, entry) {
    const char *text = json_string_value(json_array_get(entry, 0));
    if (json_object_get(vocabulary, text))
      return mg_fail(context, MG_UNSUPPORTED,
                     "tokenizer.json: token %zu has the text of one before it, and there a text has one id", id);
    if (json_object_set_new(vocabulary, text, json_integer((json_int_t)id)) != 0)
      return mg_fail(context, MG_MEMORY, "tokenizer.json: no memory for the vocabulary");
  }
  return MG_OK;
}

static bool is_scored(const json_t *list, const json_t *vocabulary, const char *text, size_t bytes) {
  const json_t *id = json_object_getn(vocabulary, text, bytes);
  return id && json_is_number(json_array_get(json_array_get(list, (size_t)json_integer_value(id)), 1));
}

/* Every cut of the token into two that are tokens with a score. */
static bool add_cuts(const json_t *list, const json_t *vocabulary, size_t id, json_t *merges) {
  const json_t *name = json_array_get(json_array_get(list, id), 0);
  const char *text = json_string_value(name);
  const size_t bytes = json_string_length(name);
  for (size_t at = mg__utf8_bytes(text, bytes); at < bytes; at += mg__utf8_bytes(text + at, bytes - at)) {
    if (!is_scored(list, vocabulary, text, at) || !is_scored(list, vocabulary, text + at, bytes - at)) continue;
    if (json_array_append_new(merges, json_pack("[s%, s%]", text, at, text + at, bytes - at)) != 0) return false;
  }
  return true;
}

static mg_status add_merges(mg_context *context, const json_t *list, const json_t *vocabulary, json_t *merges) {
  const size_t room = json_array_size(list) * sizeof(scored);
  scored *order = mg_alloc(context, room);
  size_t count = 0, id;
  const json_t *entry;
  if (room && !order) return MG_MEMORY;
  json_array_foreach(list, id, entry) {
    const json_t *score = json_array_get(entry, 1);
    if (json_is_number(score)) order[count++] = (scored){json_number_value(score), id};
  }
  if (count) qsort(order, count, sizeof *order, by_score);
  bool good = true;
  for (size_t i = 0; i < count && good; i++) good = add_cuts(list, vocabulary, order[i].id, merges);
  mg_free(context, order, room);
  return good ? MG_OK : mg_fail(context, MG_MEMORY, "tokenizer.json: no memory for the merges");
}

mg_status mg__sentencepiece_as_bpe(mg_context *context, const json_t *file, json_t **out) {
  const json_t *model = json_object_get(file, "model"), *list = json_object_get(model, "vocab");
  const json_t *unknown = json_array_get(list, (size_t)json_integer_value(json_object_get(model, "unk_id")));
  json_t *vocabulary = json_object(), *merges = json_array();
  mg_status status = name_tokens(context, list, vocabulary);
  if (status == MG_OK) status = add_merges(context, list, vocabulary, merges);
  json_t *bpe = json_pack("{s:s, s:n, s:O?, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token",
                          json_array_get(unknown, 0), "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                          "byte_fallback", 1, "ignore_merges", 0, "vocab", vocabulary, "merges", merges);
  *out = json_copy((json_t *)file);
  const bool good = bpe && *out && json_object_set(*out, "model", bpe) == 0;
  json_decref(bpe);
  if (status == MG_OK && !good) status = mg_fail(context, MG_MEMORY, "tokenizer.json: no memory to write it");
  if (status == MG_OK) return MG_OK;
  json_decref(*out);
  *out = NULL;
  return status;
}
