/* The unigram language model (Kudo 2018, "Subword Regularization"): of all ways to cut a piece into tokens, the one of
 * greatest total score, found from left to right (Viterbi). A character without a token of its own may be the unknown
 * token, 10 below the lowest score; unknown tokens in a row become one.
 *
 * Of equally good ways the one found first is kept; time is the piece's length times that of the longest token. */
#include <math.h>
#include <string.h>

#include "base/vector.h"
#include "model/tokenizer/pipeline.h"

static const double unknown_penalty = 10;

typedef struct place {
  double score;   /* of the best way to here */
  uint32_t bytes; /* of its last token; 0 = no way leads here */
  int32_t id;
} place;

typedef struct unigram_model {
  mg__model base;
  mg__trie trie;
  double *scores; /* [count] */
  size_t count;
  double unknown_score;
  int32_t unknown;    /* -1 = none */
  int32_t bytes[256]; /* the token of each byte; -1 = none, or no fallback to bytes */
  place *places;
  size_t places_room;
  mg__segment *segments; /* the best way, from the end */
  size_t segments_count, segments_room;
} unigram_model;

/* ---- encoding ---- */

static void offer(place *to, double score, size_t bytes, int32_t id) {
  if (to->bytes == 0 || score > to->score) *to = (place){score, (uint32_t)bytes, id};
}

/* Offers every token that begins at `at`. */
static mg_status step(unigram_model *self, const char *text, size_t bytes, size_t at) {
  const double so_far = self->places[at].score;
  const size_t width = mg__utf8_bytes(text + at, bytes - at);
  bool single = false;
  uint32_t node = 0;
  for (size_t end = at; end < bytes;) {
    node = mg__trie_step(&self->trie, node, (unsigned char)text[end++]);
    if (node == 0) break;
    const int32_t id = self->trie.nodes[node].value;
    if (id < 0) continue;
    offer(&self->places[end], so_far + self->scores[id], end - at, id);
    single = single || end - at == width;
  }
  if (single) return MG_OK;
  if (self->unknown < 0)
    return mg_fail(self->base.context, MG_FILE,
                   "the vocabulary has no token for '%.*s', and 'unk_id' is null; text with it cannot be encoded",
                   (int)width, text + at);
  offer(&self->places[at + width], so_far + self->unknown_score, width, self->unknown);
  return MG_OK;
}

/* Walks the best way back; unknown tokens in a row become one segment. `match` marks the known ones. */
static mg_status walk_back(unigram_model *self, size_t bytes) {
  self->segments_count = 0;
  for (size_t end = bytes; end > 0;) {
    const place *here = &self->places[end];
    const size_t begin = end - here->bytes;
    const bool known = here->id != self->unknown;
    mg__segment *last = self->segments_count ? &self->segments[self->segments_count - 1] : NULL;
    if (!known && last && !last->match) {
      last->start = begin;
    } else {
      MG_TRY(MG_VECTOR_RESERVE(self->base.context, self->segments, self->segments_room, self->segments_count + 1));
      self->segments[self->segments_count++] = (mg__segment){begin, end, known};
    }
    end = begin;
  }
  return MG_OK;
}

static mg_status append_bytes(unigram_model *self, const char *text, size_t bytes, mg_token_list *list, bool *done) {
  *done = true;
  for (size_t i = 0; *done && i < bytes; i++) *done = self->bytes[(unsigned char)text[i]] >= 0;
  for (size_t i = 0; *done && i < bytes; i++)
    MG_TRY(mg__token_list_append(self->base.context, list, self->bytes[(unsigned char)text[i]]));
  return MG_OK;
}

/* Appends a segment's id: by its text, which several unknown characters together may be a token's. */
static mg_status append_segment(unigram_model *self, const char *text, size_t bytes, mg_token_list *list) {
  const int32_t id = mg__token_map_find(self->base.map, text, bytes);
  if (id >= 0) return mg__token_list_append(self->base.context, list, id);
  bool done;
  MG_TRY(append_bytes(self, text, bytes, list, &done));
  return done ? MG_OK : mg__token_list_append(self->base.context, list, self->unknown);
}

static mg_status unigram_encode(mg__model *model, const char *text, size_t bytes, mg_token_list *list) {
  unigram_model *self = (unigram_model *)model;
  if (bytes >= UINT32_MAX) return mg_fail(model->context, MG_USAGE, "a piece of %zu bytes is too long", bytes);
  MG_TRY(MG_VECTOR_RESERVE(model->context, self->places, self->places_room, bytes + 1));
  memset(self->places, 0, (bytes + 1) * sizeof *self->places);
  for (size_t at = 0; at < bytes; at += mg__utf8_bytes(text + at, bytes - at)) MG_TRY(step(self, text, bytes, at));
  MG_TRY(walk_back(self, bytes));
  for (size_t i = self->segments_count; i-- > 0;) {
    const mg__segment *segment = &self->segments[i];
    MG_TRY(append_segment(self, text + segment->start, segment->end - segment->start, list));
  }
  return MG_OK;
}

static mg_status unigram_encode_raw(mg__model *model, const char *text, size_t bytes, mg_token_list *list) {
  unigram_model *self = (unigram_model *)model;
  bool done;
  MG_TRY(append_bytes(self, text, bytes, list, &done));
  return done || self->unknown < 0 ? MG_OK : mg__token_list_append(model->context, list, self->unknown);
}

/* ---- creation ---- */

static void unigram_destroy(mg__model *model) {
  unigram_model *self = (unigram_model *)model;
  mg_context *context = model->context;
  mg__trie_release(context, &self->trie);
  if (self->scores) mg_free(context, self->scores, self->count * sizeof *self->scores);
  MG_VECTOR_FREE(context, self->places, self->places_room);
  MG_VECTOR_FREE(context, self->segments, self->segments_room);
  mg_free(context, self, sizeof *self);
}

static mg_status read_unknown(unigram_model *self, const json_t *json) {
  const json_t *unknown = json_object_get(json, "unk_id");
  self->unknown = -1;
  if (!unknown || json_is_null(unknown)) return MG_OK;
  const json_int_t id = json_integer_value(unknown);
  if (!json_is_integer(unknown) || id < 0 || (size_t)id >= self->count)
    return mg_fail(self->base.context, MG_FILE, "'unk_id' is not in the vocabulary of %zu tokens", self->count);
  self->unknown = (int32_t)id;
  return MG_OK;
}

static mg_status read_scores(unigram_model *self, const json_t *vocabulary) {
  double lowest = INFINITY;
  self->scores = mg_alloc(self->base.context, self->count * sizeof *self->scores);
  if (!self->scores) return MG_MEMORY;
  size_t i;
  const json_t *entry;
  json_array_foreach(vocabulary, i, entry) {
    const json_t *score = json_array_get(entry, 1);
    if (!json_is_number(score)) return mg_fail(self->base.context, MG_FILE, "vocab[%zu] has no score", i);
    self->scores[i] = json_number_value(score);
    if (self->scores[i] < lowest) lowest = self->scores[i];
  }
  self->unknown_score = lowest - unknown_penalty;
  return MG_OK;
}

static mg_status build_trie(unigram_model *self) {
  mg_context *context = self->base.context;
  const size_t bytes = self->count * sizeof(mg__trie_entry);
  mg__trie_entry *entries = mg_alloc(context, bytes);
  if (!entries) return MG_MEMORY;
  size_t used = 0;
  for (size_t i = 0; i < self->count; i++) {
    const mg_token_text token = mg_tokenizer_token(self->base.owner, (int32_t)i);
    if (token.count) entries[used++] = (mg__trie_entry){token.bytes, token.count, (int32_t)i};
  }
  const mg_status status = mg__trie_build(context, entries, used, &self->trie);
  mg_free(context, entries, bytes);
  return status;
}

static mg_status unigram_create(mg_context *context, const json_t *json, const mg_tokenizer *owner,
                                const mg__token_map *map, mg__model **out) {
  unigram_model *self = mg_alloc(context, sizeof *self);
  if (!self) return MG_MEMORY;
  self->base = (mg__model){&mg__unigram_model, context, owner, map};
  *out = &self->base;
  const json_t *vocabulary = json_object_get(json, "vocab");
  self->count = json_array_size(vocabulary);
  MG_TRY(read_unknown(self, json));
  bool fallback;
  MG_TRY(mg__stage_read_bool(context, json, "byte_fallback", false, &fallback));
  for (int byte = 0; byte < 256; byte++) self->bytes[byte] = fallback ? mg__byte_token(map, (unsigned char)byte) : -1;
  MG_TRY(read_scores(self, vocabulary));
  return build_trie(self);
}

const mg__model_kind mg__unigram_model = {
    "Unigram", " unk_id vocab byte_fallback ", unigram_create, unigram_encode, unigram_encode_raw, unigram_destroy,
};
