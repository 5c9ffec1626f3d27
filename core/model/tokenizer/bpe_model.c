/* Byte-pair encoding over characters: byte-level vocabularies (whose pieces spell bytes as characters), vocabularies with
 * byte fallback, and SentencePiece's BPE (Kudo & Richardson 2018), where any two tokens join if the vocabulary has the
 * result, and its score is their rank. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/vector.h"
#include "model/bpe_merge.h"
#include "model/tokenizer/pipeline.h"

enum { NEAR_CODES = 0x800, CODES = 0x110000, SCORED_BYTES_MOST = 256 };

typedef struct bpe_model {
  mg__model base;
  mg__merger *merger;
  mg__word_cache *cache;
  int32_t *near_ids;  /* [NEAR_CODES]: tokens of one character of low code */
  int32_t bytes[256]; /* tokens of single bytes; -1 = none */
  int32_t unknown;    /* -1 = none */
  bool fuse_unknown, byte_fallback, ignore_merges;
  bool scored; /* a character without a token is the symbol `vocabulary + code` until nothing more merges */
  int32_t *symbols;
  size_t symbols_room;
} bpe_model;

/* ---- encoding ---- */

static int32_t character_id(const bpe_model *self, const char *text, size_t bytes, int32_t code) {
  return code < NEAR_CODES ? self->near_ids[code] : mg__token_map_find(self->base.map, text, bytes);
}

static bool has_bytes(const bpe_model *self, const char *text, size_t bytes) {
  for (size_t i = 0; i < bytes; i++)
    if (self->bytes[(unsigned char)text[i]] < 0) return false;
  return true;
}

static size_t put_bytes(const bpe_model *self, const char *text, size_t bytes, int32_t *symbols) {
  for (size_t i = 0; i < bytes; i++) symbols[i] = self->bytes[(unsigned char)text[i]];
  return bytes;
}

/* The piece's first symbols, at most one a byte. An unknown token waits until the next known one, as the library that
 * defines this does it; without an unknown token a character that is not in the vocabulary is dropped. */
static size_t first_symbols(const bpe_model *self, const char *text, size_t bytes, int32_t *symbols) {
  size_t count = 0, used;
  bool waiting = false;
  for (size_t at = 0; at < bytes; at += used) {
    const int32_t code = mg__utf8_code(text + at, bytes - at, &used);
    const int32_t id = character_id(self, text + at, used, code);
    if (id >= 0) {
      if (waiting) symbols[count++] = self->unknown;
      waiting = false;
      symbols[count++] = id;
    } else if (self->scored) {
      symbols[count++] = (int32_t)self->base.owner->vocabulary + code;
    } else if (self->byte_fallback && has_bytes(self, text + at, used)) {
      count += put_bytes(self, text + at, used, symbols + count);
    } else if (self->unknown >= 0) {
      if (waiting && !self->fuse_unknown) symbols[count++] = self->unknown;
      waiting = true;
    }
  }
  if (waiting) symbols[count++] = self->unknown;
  return count;
}

/* Appends the ids of one symbol; those of a character without a token are its bytes, or one unknown token in a row. */
static mg_status append_symbol(bpe_model *self, mg_token_list *list, int32_t symbol, bool *unknown) {
  mg_context *context = self->base.context;
  const int32_t code = symbol - (int32_t)self->base.owner->vocabulary;
  if (code < 0) {
    *unknown = false;
    return mg__token_list_append(context, list, symbol);
  }
  char text[4];
  const size_t bytes = (size_t)utf8proc_encode_char(code, (utf8proc_uint8_t *)text);
  if (has_bytes(self, text, bytes)) {
    *unknown = false;
    for (size_t i = 0; i < bytes; i++)
      MG_TRY(mg__token_list_append(context, list, self->bytes[(unsigned char)text[i]]));
    return MG_OK;
  }
  if (self->unknown < 0)
    return mg_fail(context, MG_FILE, "the vocabulary has no token for U+%04X, and none for unknown characters", code);
  const bool repeated = *unknown;
  *unknown = true;
  return repeated ? MG_OK : mg__token_list_append(context, list, self->unknown);
}

static mg_status encode_merged(bpe_model *self, const char *text, size_t bytes, mg_token_list *list) {
  MG_TRY(MG_VECTOR_RESERVE(self->base.context, self->symbols, self->symbols_room, bytes + 1));
  size_t count = first_symbols(self, text, bytes, self->symbols);
  MG_TRY(mg__merger_run(self->merger, self->symbols, &count));
  bool unknown = false;
  for (size_t i = 0; i < count; i++) MG_TRY(append_symbol(self, list, self->symbols[i], &unknown));
  return MG_OK;
}

static mg_status bpe_encode(mg__model *model, const char *text, size_t bytes, mg_token_list *list) {
  bpe_model *self = (bpe_model *)model;
  const int32_t whole = self->ignore_merges ? mg__token_map_find(model->map, text, bytes) : -1;
  if (whole >= 0) return mg__token_list_append(model->context, list, whole);
  bool found;
  MG_TRY(mg__word_cache_find(model->context, self->cache, text, bytes, list, &found));
  if (found) return MG_OK;
  const size_t first = list->count;
  MG_TRY(encode_merged(self, text, bytes, list));
  if (list->count > first) /* else every character was dropped */
    mg__word_cache_store(self->cache, text, bytes, list->ids + first, list->count - first);
  return MG_OK;
}

static mg_status bpe_encode_raw(mg__model *model, const char *text, size_t bytes, mg_token_list *list) {
  const bpe_model *self = (const bpe_model *)model;
  if (has_bytes(self, text, bytes)) {
    for (size_t i = 0; i < bytes; i++)
      MG_TRY(mg__token_list_append(model->context, list, self->bytes[(unsigned char)text[i]]));
    return MG_OK;
  }
  return self->unknown >= 0 ? mg__token_list_append(model->context, list, self->unknown) : MG_OK;
}

/* ---- creation ---- */

static void bpe_destroy(mg__model *model) {
  bpe_model *self = (bpe_model *)model;
  mg_context *context = model->context;
  mg__merger_destroy(self->merger);
  mg__word_cache_destroy(context, self->cache);
  if (self->near_ids) mg_free(context, self->near_ids, NEAR_CODES * sizeof *self->near_ids);
  MG_VECTOR_FREE(context, self->symbols, self->symbols_room);
  mg_free(context, self, sizeof *self);
}

static mg_status find_characters(bpe_model *self) {
  self->near_ids = mg_alloc(self->base.context, NEAR_CODES * sizeof *self->near_ids);
  self->cache = mg__word_cache_create(self->base.context);
  if (!self->near_ids || !self->cache) return MG_MEMORY;
  for (int32_t code = 0; code < NEAR_CODES; code++) {
    char text[4];
    const size_t bytes = (size_t)utf8proc_encode_char(code, (utf8proc_uint8_t *)text);
    self->near_ids[code] = mg__token_map_find(self->base.map, text, bytes);
  }
  for (int byte = 0; byte < 256; byte++)
    self->bytes[byte] = self->byte_fallback ? mg__byte_token(self->base.map, (unsigned char)byte) : -1;
  return MG_OK;
}

static mg_status start(mg_context *context, const mg__model_kind *kind, const mg_tokenizer *owner,
                       const mg__token_map *map, bpe_model **out) {
  bpe_model *self = *out = mg_alloc(context, sizeof *self);
  if (!self) return MG_MEMORY;
  *self = (bpe_model){.base = {kind, context, owner, map}, .unknown = -1};
  return MG_OK;
}

/* An option that must have its neutral value: dropout 0, no prefix, no suffix. */
static mg_status check_neutral(mg_context *context, const json_t *json) {
  static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
  const json_t *dropout = json_object_get(json, "dropout");
  if (dropout && !json_is_null(dropout) && json_number_value(dropout) != 0)
    return mg_fail(context, MG_FILE, "'dropout' other than 0 is not known");
  for (size_t i = 0; i < 2; i++) {
    const json_t *affix = json_object_get(json, affixes[i]);
    if (affix && !json_is_null(affix) && json_string_length(affix) > 0)
      return mg_fail(context, MG_FILE, "'%s' other than \"\" is not known", affixes[i]);
  }
  return MG_OK;
}

static mg_status read_options(bpe_model *self, const json_t *json) {
  mg_context *context = self->base.context;
  MG_TRY(check_neutral(context, json));
  MG_TRY(mg__stage_read_bool(context, json, "fuse_unk", false, &self->fuse_unknown));
  MG_TRY(mg__stage_read_bool(context, json, "byte_fallback", false, &self->byte_fallback));
  MG_TRY(mg__stage_read_bool(context, json, "ignore_merges", false, &self->ignore_merges));
  const json_t *unknown = json_object_get(json, "unk_token");
  if (!unknown || json_is_null(unknown)) return MG_OK;
  if (!json_is_string(unknown)) return mg_fail(context, MG_FILE, "'unk_token' must be a string");
  self->unknown = mg__token_map_find(self->base.map, json_string_value(unknown), json_string_length(unknown));
  if (self->unknown < 0)
    return mg_fail(context, MG_FILE, "'unk_token' '%.64s' is not in the vocabulary", json_string_value(unknown));
  return MG_OK;
}

/* The halves of a merge: ["a", "b"], or "a b" in older files. */
static bool halves(const json_t *json, mg_token_text *left, mg_token_text *right) {
  if (json_is_string(json)) {
    const char *text = json_string_value(json);
    const size_t bytes = json_string_length(json);
    const char *space = memchr(text, ' ', bytes);
    if (!space || memchr(space + 1, ' ', bytes - (size_t)(space + 1 - text))) return false;
    *left = (mg_token_text){text, (size_t)(space - text)};
    *right = (mg_token_text){space + 1, bytes - left->count - 1};
  } else {
    const json_t *a = json_array_get(json, 0), *b = json_array_get(json, 1);
    if (json_array_size(json) != 2 || !json_is_string(a) || !json_is_string(b)) return false;
    *left = (mg_token_text){json_string_value(a), json_string_length(a)};
    *right = (mg_token_text){json_string_value(b), json_string_length(b)};
  }
  return left->count > 0 && right->count > 0;
}

/* Ids of the halves and of the two joined; a half that is in no vocabulary fails. */
static mg_status resolve(const bpe_model *self, size_t rank, mg_token_text left, mg_token_text right, mg_merge *out) {
  const mg__token_map *map = self->base.map;
  char joined[MG__TOKEN_BYTES_MOST];
  if (left.count > sizeof joined || right.count > sizeof joined - left.count)
    return mg_fail(self->base.context, MG_FILE, "merges[%zu] makes a token of more than %zu bytes", rank,
                   sizeof joined);
  memcpy(joined, left.bytes, left.count);
  memcpy(joined + left.count, right.bytes, right.count);
  out->left = mg__token_map_find(map, left.bytes, left.count);
  out->right = mg__token_map_find(map, right.bytes, right.count);
  out->merged = mg__token_map_find(map, joined, left.count + right.count);
  if (out->left >= 0 && out->right >= 0 && out->merged >= 0) return MG_OK;
  return mg_fail(self->base.context, MG_FILE, "merges[%zu]: '%.*s' + '%.*s': %s is not in the vocabulary", rank,
                 (int)left.count, left.bytes, (int)right.count, right.bytes,
                 out->left < 0    ? "the first half"
                 : out->right < 0 ? "the second half"
                                  : "the result");
}

static mg_status read_merges(bpe_model *self, const json_t *json, mg_merge *merges) {
  size_t i;
  const json_t *item;
  json_array_foreach(json, i, item) {
    mg_token_text left, right;
    if (!halves(item, &left, &right))
      return mg_fail(self->base.context, MG_FILE, "merges[%zu] is neither [\"a\", \"b\"] nor \"a b\"", i);
    MG_TRY(resolve(self, i, left, right, &merges[i]));
  }
  return mg__merger_create(self->base.context, merges, NULL, json_array_size(json),
                           (int32_t)self->base.owner->vocabulary, &self->merger);
}

static mg_status bpe_create(mg_context *context, const json_t *json, const mg_tokenizer *owner,
                            const mg__token_map *map, mg__model **out) {
  bpe_model *self;
  MG_TRY(start(context, &mg__bpe_model, owner, map, &self));
  *out = &self->base;
  MG_TRY(read_options(self, json));
  MG_TRY(find_characters(self));
  const json_t *list = json_object_get(json, "merges");
  if (!json_is_array(list)) return mg_fail(context, MG_FILE, "'merges' must be a list");
  const size_t count = json_array_size(list);
  mg_merge *merges = mg_alloc(context, count * sizeof *merges);
  if (count && !merges) return MG_MEMORY;
  const mg_status status = read_merges(self, list, merges);
  if (merges) mg_free(context, merges, count * sizeof *merges);
  return status;
}

/* ---- SentencePiece's BPE ---- */

typedef struct scored_merges {
  mg_merge *merges;
  float *scores; /* of the merged tokens */
  int32_t *ranks;
  size_t count, merges_room, scores_room, ranks_room;
} scored_merges;

/* The symbol of a half: a token with a score, or a character without a token; -1 = neither. */
static int32_t half_symbol(const bpe_model *self, const json_t *vocabulary, const char *text, size_t bytes) {
  const int32_t id = mg__token_map_find(self->base.map, text, bytes);
  if (id >= 0) return json_is_number(json_array_get(json_array_get(vocabulary, (size_t)id), 1)) ? id : -1;
  size_t used;
  const int32_t code = mg__utf8_code(text, bytes, &used);
  return used == bytes ? (int32_t)self->base.owner->vocabulary + code : -1;
}

static mg_status add_splits(const bpe_model *self, const json_t *vocabulary, int32_t id, float score,
                            scored_merges *all) {
  const mg_token_text token = mg_tokenizer_token(self->base.owner, id);
  mg_context *context = self->base.context;
  if (token.count > SCORED_BYTES_MOST)
    return mg_fail(context, MG_FILE, "token %d has %zu bytes; one with a score has at most %d", id, token.count,
                   SCORED_BYTES_MOST);
  for (size_t at = 0; at < token.count;) {
    at += mg__utf8_bytes(token.bytes + at, token.count - at);
    if (at >= token.count) break;
    const int32_t left = half_symbol(self, vocabulary, token.bytes, at);
    const int32_t right = half_symbol(self, vocabulary, token.bytes + at, token.count - at);
    if (left < 0 || right < 0) continue;
    MG_TRY(MG_VECTOR_RESERVE(context, all->merges, all->merges_room, all->count + 1));
    MG_TRY(MG_VECTOR_RESERVE(context, all->scores, all->scores_room, all->count + 1));
    all->merges[all->count] = (mg_merge){left, right, id};
    all->scores[all->count++] = score;
  }
  return MG_OK;
}

static int by_score(const void *a, const void *b) { /* highest first */
  const float x = *(const float *)a, y = *(const float *)b;
  return (x < y) - (x > y);
}

/* Ranks by score, equal ones alike. */
static mg_status rank_scores(bpe_model *self, scored_merges *all) {
  const size_t bytes = all->count * sizeof *all->scores;
  if (all->count == 0) return MG_OK;
  MG_TRY(MG_VECTOR_RESERVE(self->base.context, all->ranks, all->ranks_room, all->count));
  float *sorted = mg_alloc(self->base.context, bytes);
  if (!sorted) return MG_MEMORY;
  memcpy(sorted, all->scores, bytes);
  qsort(sorted, all->count, sizeof *sorted, by_score);
  size_t distinct = 0;
  for (size_t i = 0; i < all->count; i++)
    if (i == 0 || sorted[i] != sorted[i - 1]) sorted[distinct++] = sorted[i];
  for (size_t i = 0; i < all->count; i++) {
    const float *found = bsearch(&all->scores[i], sorted, distinct, sizeof *sorted, by_score);
    all->ranks[i] = (int32_t)(found - sorted);
  }
  mg_free(self->base.context, sorted, bytes);
  return MG_OK;
}

static mg_status read_scored(bpe_model *self, const json_t *vocabulary, scored_merges *all) {
  size_t id;
  const json_t *entry;
  json_array_foreach(vocabulary, id, entry) {
    const json_t *score = json_array_get(entry, 1);
    if (json_is_null(score)) continue;
    if (!json_is_number(score) || !isfinite((float)json_number_value(score)))
      return mg_fail(self->base.context, MG_FILE, "vocab[%zu] has a score that is no finite number", id);
    MG_TRY(add_splits(self, vocabulary, (int32_t)id, (float)json_number_value(score), all));
  }
  MG_TRY(rank_scores(self, all));
  return mg__merger_create(self->base.context, all->merges, all->ranks, all->count,
                           (int32_t)self->base.owner->vocabulary + CODES, &self->merger);
}

static mg_status scored_create(mg_context *context, const json_t *json, const mg_tokenizer *owner,
                               const mg__token_map *map, mg__model **out) {
  bpe_model *self;
  MG_TRY(start(context, &mg__scored_bpe_model, owner, map, &self));
  *out = &self->base;
  self->scored = self->byte_fallback = true;
  const json_t *unknown = json_object_get(json, "unk_id");
  if (json_is_integer(unknown)) self->unknown = (int32_t)json_integer_value(unknown);
  if (self->unknown < -1 || self->unknown >= owner->vocabulary)
    return mg_fail(context, MG_FILE, "'unk_id' is not in the vocabulary");
  MG_TRY(find_characters(self));
  scored_merges all = {0};
  const mg_status status = read_scored(self, json_object_get(json, "vocab"), &all);
  MG_VECTOR_FREE(context, all.merges, all.merges_room);
  MG_VECTOR_FREE(context, all.scores, all.scores_room);
  MG_VECTOR_FREE(context, all.ranks, all.ranks_room);
  return status;
}

const mg__model_kind mg__bpe_model = {
    "BPE",
    " dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk byte_fallback ignore_merges vocab "
    "merges ",
    bpe_create,
    bpe_encode,
    bpe_encode_raw,
    bpe_destroy,
};

const mg__model_kind mg__scored_bpe_model = {
    "SentencePieceBPE", " vocab unk_id ", scored_create, bpe_encode, bpe_encode_raw, bpe_destroy,
};
