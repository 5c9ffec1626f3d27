/* Byte-level byte-pair encoding (Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units";
 * bytes as in GPT-2): each word starts as its bytes, and pairs are joined by rank (bpe_merge.c). */
#include <string.h>

#include "base/vector.h"
#include "model/bpe_merge.h"
#include "model/tokenizer_kind.h"

enum { BYTE_VALUES = 256 };

typedef struct bpe {
  mg_tokenizer base;
  mg__splitter *splitter;
  mg_merge *merges;
  size_t merges_count;
  mg__merger *merger;
  mg__word_cache *cache;
  int32_t byte_ids[BYTE_VALUES];
} bpe;

typedef struct sink {
  bpe *self;
  mg_token_list *list;
} sink;

static mg_status encode_word(void *user, const char *word, size_t bytes) {
  bpe *self = ((sink *)user)->self;
  mg_token_list *list = ((sink *)user)->list;
  mg_context *context = self->base.context;
  bool found;
  MG_TRY(mg__word_cache_find(context, self->cache, word, bytes, list, &found));
  if (found) return MG_OK;
  size_t wanted, count = bytes;
  if (__builtin_add_overflow(list->count, bytes, &wanted))
    return mg_fail(context, MG_MEMORY, "%zu more tokens do not fit in memory", bytes);
  MG_TRY(MG_VECTOR_RESERVE(context, list->ids, list->room, wanted));
  int32_t *ids = list->ids + list->count;
  for (size_t i = 0; i < bytes; i++) ids[i] = self->byte_ids[(unsigned char)word[i]];
  MG_TRY(mg__merger_run(self->merger, ids, &count));
  mg__word_cache_store(self->cache, word, bytes, ids, count);
  list->count += count;
  return MG_OK;
}

static mg_status bpe_encode(mg_tokenizer *tokenizer, const char *text, size_t bytes, unsigned flags,
                            mg_token_list *list) {
  (void)flags;
  bpe *self = (bpe *)tokenizer;
  return mg__splitter_each(self->splitter, text, bytes, encode_word, &(sink){self, list});
}

/* ---- creation ---- */

static void bpe_release(mg_tokenizer *tokenizer) {
  bpe *self = (bpe *)tokenizer;
  mg_context *context = tokenizer->context;
  mg__splitter_destroy(self->splitter);
  mg__merger_destroy(self->merger);
  mg__word_cache_destroy(context, self->cache);
  MG_VECTOR_FREE(context, self->merges, self->merges_count);
}

static mg_status find_bytes(bpe *self) {
  for (int i = 0; i < BYTE_VALUES; i++) self->byte_ids[i] = -1;
  for (int32_t id = (int32_t)self->base.vocabulary - 1; id >= 0; id--) {
    const mg_token_text token = mg_tokenizer_token(&self->base, id);
    if (token.count == 1) self->byte_ids[(unsigned char)*token.bytes] = id;
  }
  for (int i = 0; i < BYTE_VALUES; i++)
    if (self->byte_ids[i] < 0)
      return mg_fail(self->base.context, MG_FILE, "tokenizer: no token for byte %d; a byte-level BPE has all 256", i);
  return MG_OK;
}

/* True if the merge's ids exist and its text is that of its halves. */
static bool merge_good(const mg_tokenizer *tokenizer, const mg_merge *merge) {
  const mg_token_text left = mg_tokenizer_token(tokenizer, merge->left);
  const mg_token_text right = mg_tokenizer_token(tokenizer, merge->right);
  const mg_token_text both = mg_tokenizer_token(tokenizer, merge->merged);
  return left.count && right.count && both.count == left.count + right.count &&
         memcmp(both.bytes, left.bytes, left.count) == 0 &&
         memcmp(both.bytes + left.count, right.bytes, right.count) == 0;
}

static mg_status take_merges(bpe *self, const mg_merge *merges, size_t count) {
  mg_context *context = self->base.context;
  for (size_t rank = 0; rank < count; rank++)
    if (!merge_good(&self->base, &merges[rank]))
      return mg_fail(context, MG_FILE, "tokenizer: merge %zu, [%d, %d] -> %d, does not join its tokens' texts", rank,
                     merges[rank].left, merges[rank].right, merges[rank].merged);
  if (count > SIZE_MAX / sizeof *merges) return mg_fail(context, MG_FILE, "tokenizer: %zu merges are too many", count);
  self->merges = mg_alloc(context, count * sizeof *merges);
  if (count && !self->merges) return MG_MEMORY;
  self->merges_count = count;
  if (count) memcpy(self->merges, merges, count * sizeof *merges);
  const mg_status status =
      mg__merger_create(context, merges, NULL, count, (int32_t)self->base.vocabulary, &self->merger);
  return status == MG_OK ? MG_OK : mg_fail_where(context, status, "tokenizer");
}

/* Appends the bytes of `token` in hexadecimal. */
static json_t *hexadecimal(mg_token_text token) {
  static const char digits[] = "0123456789abcdef";
  char text[2 * 512];
  if (token.count > sizeof text / 2) return NULL;
  for (size_t i = 0; i < token.count; i++) {
    text[2 * i] = digits[(unsigned char)token.bytes[i] >> 4];
    text[2 * i + 1] = digits[(unsigned char)token.bytes[i] & 15];
  }
  return json_stringn(text, 2 * token.count);
}

static bool bpe_to_json(const mg_tokenizer *tokenizer, json_t *object) {
  const bpe *self = (const bpe *)tokenizer;
  json_t *tokens = json_array(), *merges = json_array();
  bool good = tokens && merges;
  for (int32_t id = 0; good && id < tokenizer->vocabulary; id++)
    good = json_array_append_new(tokens, hexadecimal(mg_tokenizer_token(tokenizer, id))) == 0;
  for (size_t i = 0; good && i < self->merges_count; i++) {
    const mg_merge *merge = &self->merges[i];
    good = json_array_append_new(merges, json_pack("[i, i, i]", merge->left, merge->right, merge->merged)) == 0;
  }
  good = good && json_object_set_new(object, "pattern", json_string(mg__splitter_pattern(self->splitter))) == 0;
  good = good && json_object_set(object, "tokens", tokens) == 0 && json_object_set(object, "merges", merges) == 0;
  json_decref(tokens);
  json_decref(merges);
  return good;
}

static const mg__tokenizer_kind bpe_kind = {
    .name = "bpe", .encode = bpe_encode, .to_json = bpe_to_json, .release = bpe_release};

static mg_status fill(bpe *self, const mg_bpe_tables *tables) {
  MG_TRY(find_bytes(self));
  MG_TRY(take_merges(self, tables->merges, tables->merges_count));
  self->cache = mg__word_cache_create(self->base.context);
  return self->cache ? mg__splitter_create(self->base.context, tables->pattern, &self->splitter) : MG_MEMORY;
}

mg_status mg_tokenizer_create_bpe(mg_context *context, const mg_bpe_tables *tables, mg_tokenizer **out) {
  *out = NULL;
  if (tables->vocabulary < BYTE_VALUES || tables->vocabulary > INT32_MAX)
    return mg_fail(context, MG_FILE, "tokenizer: a vocabulary from 256 to %d was expected, not %lld", INT32_MAX,
                   (long long)tables->vocabulary);
  mg_tokenizer *base;
  MG_TRY(mg__tokenizer_create(context, &bpe_kind, sizeof(bpe), tables->tokens, tables->vocabulary, &base));
  const mg_status status = fill((bpe *)base, tables);
  if (status != MG_OK) {
    mg_tokenizer_destroy(base);
    return status;
  }
  *out = base;
  return MG_OK;
}
