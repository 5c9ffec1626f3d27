/* Byte-level byte-pair encoding (Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units";
 * bytes as in GPT-2): each word starts as its bytes, and the adjacent pair of lowest rank, leftmost first, is joined
 * until no pair has a rank.
 *
 * A word of n bytes takes O(n log n): its symbols are a doubly linked list and the pairs wait in a heap by (rank,
 * position); a pair whose symbols have changed since it was pushed is skipped when it comes up. Short words are kept in
 * a fixed cache. */
#include <string.h>

#include "base/hash.h"
#include "base/vector.h"
#include "model/tokenizer_kind.h"

enum { CACHE_SLOTS = 1 << 14, CACHE_TEXT = 23, CACHE_IDS = 10, BYTE_VALUES = 256 };
static const size_t word_bytes_most = INT32_MAX;

typedef struct pair_slot {
  int32_t left, right; /* left -1 = empty */
  int32_t rank;
} pair_slot;

typedef struct waiting {
  int32_t rank, position, left, right;
} waiting;

typedef struct cached_word {
  uint8_t bytes, count; /* bytes 0 = empty */
  char text[CACHE_TEXT];
  int32_t ids[CACHE_IDS];
} cached_word;

typedef struct bpe {
  mg_tokenizer base;
  mg__splitter *splitter;
  mg_merge *merges;
  size_t merges_count;
  pair_slot *pairs;
  size_t pairs_mask;
  int32_t byte_ids[BYTE_VALUES];
  cached_word *cache;
  int32_t *ids, *next, *previous; /* the symbols of the word at work */
  size_t ids_room, next_room, previous_room;
  waiting *heap;
  size_t heap_count, heap_room;
} bpe;

static uint64_t pair_hash(int32_t left, int32_t right) {
  return mg_mix64(((uint64_t)(uint32_t)left << 32) | (uint32_t)right);
}

/* The slot of a pair: its own, or the empty one where it belongs. */
static pair_slot *pair_find(const bpe *self, int32_t left, int32_t right) {
  for (size_t at = pair_hash(left, right);; at++) {
    pair_slot *slot = self->pairs + (at & self->pairs_mask);
    if (slot->left < 0 || (slot->left == left && slot->right == right)) return slot;
  }
}

/* ---- the heap of pairs, smallest (rank, position) on top ---- */

static bool before(const waiting *a, const waiting *b) {
  return a->rank != b->rank ? a->rank < b->rank : a->position < b->position;
}

static mg_status heap_push(bpe *self, waiting item) {
  MG_TRY(MG_VECTOR_RESERVE(self->base.context, self->heap, self->heap_room, self->heap_count + 1));
  size_t at = self->heap_count++;
  for (; at > 0 && before(&item, &self->heap[(at - 1) / 2]); at = (at - 1) / 2)
    self->heap[at] = self->heap[(at - 1) / 2];
  self->heap[at] = item;
  return MG_OK;
}

static waiting heap_pop(bpe *self) {
  waiting *heap = self->heap;
  const waiting top = heap[0], last = heap[--self->heap_count];
  size_t at = 0;
  for (size_t child; (child = 2 * at + 1) < self->heap_count; at = child) {
    if (child + 1 < self->heap_count && before(&heap[child + 1], &heap[child])) child++;
    if (!before(&heap[child], &last)) break;
    heap[at] = heap[child];
  }
  heap[at] = last;
  return top;
}

/* ---- one word ---- */

/* Lets the pair that begins at `position` wait, if it has a rank. */
static mg_status consider(bpe *self, int32_t position) {
  if (position < 0 || self->next[position] < 0) return MG_OK;
  const int32_t left = self->ids[position], right = self->ids[self->next[position]];
  const pair_slot *slot = pair_find(self, left, right);
  return slot->left < 0 ? MG_OK : heap_push(self, (waiting){slot->rank, position, left, right});
}

static mg_status start_word(bpe *self, const char *word, size_t bytes) {
  mg_context *context = self->base.context;
  if (bytes > word_bytes_most)
    return mg_fail(context, MG_USAGE, "a word of %zu bytes is too long to tokenize; the most is %zu", bytes,
                   word_bytes_most);
  MG_TRY(MG_VECTOR_RESERVE(context, self->ids, self->ids_room, bytes));
  MG_TRY(MG_VECTOR_RESERVE(context, self->next, self->next_room, bytes));
  MG_TRY(MG_VECTOR_RESERVE(context, self->previous, self->previous_room, bytes));
  const int32_t count = (int32_t)bytes;
  for (int32_t i = 0; i < count; i++) {
    self->ids[i] = self->byte_ids[(unsigned char)word[i]];
    self->next[i] = i + 1 < count ? i + 1 : -1;
    self->previous[i] = i - 1;
  }
  self->heap_count = 0;
  for (int32_t i = 0; i + 1 < count; i++) MG_TRY(consider(self, i));
  return MG_OK;
}

static mg_status merge_word(bpe *self) {
  while (self->heap_count > 0) {
    const waiting pair = heap_pop(self);
    const int32_t position = pair.position, gone = self->next[position];
    if (self->ids[position] != pair.left || gone < 0 || self->ids[gone] != pair.right) continue;
    self->ids[position] = self->merges[pair.rank].merged;
    self->ids[gone] = -1; /* so that a pair waiting there is seen to be stale */
    self->next[position] = self->next[gone];
    if (self->next[gone] >= 0) self->previous[self->next[gone]] = position;
    MG_TRY(consider(self, self->previous[position]));
    MG_TRY(consider(self, position));
  }
  return MG_OK;
}

static void cache_store(cached_word *slot, const char *word, size_t bytes, const int32_t *ids, size_t count) {
  if (!slot || count > CACHE_IDS) return;
  slot->bytes = (uint8_t)bytes;
  slot->count = (uint8_t)count;
  memcpy(slot->text, word, bytes);
  memcpy(slot->ids, ids, count * sizeof *ids);
}

typedef struct sink {
  bpe *self;
  mg_token_list *list;
} sink;

static mg_status encode_word(void *user, const char *word, size_t bytes) {
  bpe *self = ((sink *)user)->self;
  mg_token_list *list = ((sink *)user)->list;
  mg_context *context = self->base.context;
  cached_word *slot = bytes <= CACHE_TEXT ? &self->cache[mg_hash64(word, bytes, 0) % CACHE_SLOTS] : NULL;
  if (slot && slot->bytes == bytes && memcmp(slot->text, word, bytes) == 0) {
    MG_TRY(MG_VECTOR_RESERVE(context, list->ids, list->room, list->count + slot->count));
    memcpy(list->ids + list->count, slot->ids, slot->count * sizeof *slot->ids);
    list->count += slot->count;
    return MG_OK;
  }
  MG_TRY(start_word(self, word, bytes));
  MG_TRY(merge_word(self));
  const size_t first = list->count;
  for (int32_t i = 0; i >= 0; i = self->next[i]) MG_TRY(mg__token_list_append(context, list, self->ids[i]));
  cache_store(slot, word, bytes, list->ids + first, list->count - first);
  return MG_OK;
}

static mg_status bpe_encode(mg_tokenizer *tokenizer, const char *text, size_t bytes, mg_token_list *list) {
  bpe *self = (bpe *)tokenizer;
  return mg__splitter_each(self->splitter, text, bytes, encode_word, &(sink){self, list});
}

/* ---- creation ---- */

static void bpe_release(mg_tokenizer *tokenizer) {
  bpe *self = (bpe *)tokenizer;
  mg_context *context = tokenizer->context;
  mg__splitter_destroy(self->splitter);
  MG_VECTOR_FREE(context, self->merges, self->merges_count);
  if (self->pairs) mg_free(context, self->pairs, (self->pairs_mask + 1) * sizeof *self->pairs);
  if (self->cache) mg_free(context, self->cache, CACHE_SLOTS * sizeof *self->cache);
  MG_VECTOR_FREE(context, self->ids, self->ids_room);
  MG_VECTOR_FREE(context, self->next, self->next_room);
  MG_VECTOR_FREE(context, self->previous, self->previous_room);
  MG_VECTOR_FREE(context, self->heap, self->heap_room);
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
  if (count > INT32_MAX / 4) return mg_fail(context, MG_FILE, "tokenizer: %zu merges are too many", count);
  size_t slots = 16;
  while (slots < 2 * count + 2) slots *= 2;
  self->merges = mg_alloc(context, count * sizeof *merges);
  self->pairs = mg_alloc(context, slots * sizeof *self->pairs);
  if ((count && !self->merges) || !self->pairs) return MG_MEMORY;
  self->merges_count = count;
  self->pairs_mask = slots - 1;
  for (size_t i = 0; i < slots; i++) self->pairs[i].left = -1;
  for (size_t rank = 0; rank < count; rank++) {
    const mg_merge merge = merges[rank];
    if (!merge_good(&self->base, &merge))
      return mg_fail(context, MG_FILE, "tokenizer: merge %zu, [%d, %d] -> %d, does not join its tokens' texts", rank,
                     merge.left, merge.right, merge.merged);
    pair_slot *slot = pair_find(self, merge.left, merge.right);
    if (slot->left >= 0)
      return mg_fail(context, MG_FILE, "tokenizer: merge %zu repeats the pair [%d, %d]", rank, merge.left, merge.right);
    *slot = (pair_slot){merge.left, merge.right, (int32_t)rank};
    self->merges[rank] = merge;
  }
  return MG_OK;
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
  self->cache = mg_alloc(self->base.context, CACHE_SLOTS * sizeof *self->cache);
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
