/* Joins adjacent symbols by rank, lowest first and leftmost first (Sennrich et al. 2016, "Neural Machine Translation of
 * Rare Words with Subword Units").
 *
 * The symbols are a doubly linked list and the pairs wait in a heap by (rank, position); a pair whose symbols have
 * changed since it was pushed is skipped when it comes up. Before that, the symbols are cut wherever no merged token
 * holds the two neighbours side by side: no merge can cross such a place, and short stretches keep the heap small. */
#include "model/bpe_merge.h"

#include <string.h>

#include "base/hash.h"
#include "base/vector.h"
#include "model/tokenizer_kind.h"

enum { CACHE_SLOTS = 1 << 14, CACHE_TEXT = 23, CACHE_IDS = 10 };

typedef struct pair_slot {
  int32_t left, right; /* left -1 = empty */
  int32_t rank, merged;
} pair_slot;

typedef struct neighbours {
  int32_t left, right; /* left -1 = empty */
} neighbours;

typedef struct waiting {
  int32_t rank, position, left, right;
} waiting;

struct mg__merger {
  mg_context *context;
  pair_slot *pairs;
  neighbours *inside; /* initial symbols that some merged token holds side by side */
  size_t mask;        /* of both tables */
  int32_t *next, *previous;
  size_t next_room, previous_room;
  waiting *heap;
  size_t heap_count, heap_room;
};

static uint64_t pair_hash(int32_t left, int32_t right) {
  return mg_mix64(((uint64_t)(uint32_t)left << 32) | (uint32_t)right);
}

/* The slot of a pair: its own, or the empty one where it belongs. */
static pair_slot *pair_find(const mg__merger *self, int32_t left, int32_t right) {
  for (size_t at = pair_hash(left, right);; at++) {
    pair_slot *slot = self->pairs + (at & self->mask);
    if (slot->left < 0 || (slot->left == left && slot->right == right)) return slot;
  }
}

static neighbours *inside_find(const mg__merger *self, int32_t left, int32_t right) {
  for (size_t at = pair_hash(left, right);; at++) {
    neighbours *slot = self->inside + (at & self->mask);
    if (slot->left < 0 || (slot->left == left && slot->right == right)) return slot;
  }
}

/* ---- the heap of pairs, smallest (rank, position) on top ---- */

static bool before(const waiting *a, const waiting *b) {
  return a->rank != b->rank ? a->rank < b->rank : a->position < b->position;
}

static mg_status heap_push(mg__merger *self, waiting item) {
  MG_TRY(MG_VECTOR_RESERVE(self->context, self->heap, self->heap_room, self->heap_count + 1));
  size_t at = self->heap_count++;
  for (; at > 0 && before(&item, &self->heap[(at - 1) / 2]); at = (at - 1) / 2)
    self->heap[at] = self->heap[(at - 1) / 2];
  self->heap[at] = item;
  return MG_OK;
}

static waiting heap_pop(mg__merger *self) {
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

/* ---- one stretch of symbols ---- */

/* Lets the pair that begins at `position` wait, if it has a rank. */
static mg_status consider(mg__merger *self, const int32_t *ids, int32_t position) {
  if (position < 0 || self->next[position] < 0) return MG_OK;
  const int32_t left = ids[position], right = ids[self->next[position]];
  const pair_slot *slot = pair_find(self, left, right);
  return slot->left < 0 ? MG_OK : heap_push(self, (waiting){slot->rank, position, left, right});
}

static mg_status link_symbols(mg__merger *self, const int32_t *ids, int32_t count) {
  MG_TRY(MG_VECTOR_RESERVE(self->context, self->next, self->next_room, (size_t)count));
  MG_TRY(MG_VECTOR_RESERVE(self->context, self->previous, self->previous_room, (size_t)count));
  for (int32_t i = 0; i < count; i++) {
    self->next[i] = i + 1 < count ? i + 1 : -1;
    self->previous[i] = i - 1;
  }
  self->heap_count = 0;
  for (int32_t i = 0; i + 1 < count; i++) MG_TRY(consider(self, ids, i));
  return MG_OK;
}

/* Merges `count` symbols and writes those that are left to the front; *left is their number. */
static mg_status merge_stretch(mg__merger *self, int32_t *ids, int32_t count, int32_t *left) {
  MG_TRY(link_symbols(self, ids, count));
  while (self->heap_count > 0) {
    const waiting pair = heap_pop(self);
    const int32_t position = pair.position, gone = self->next[position];
    if (ids[position] != pair.left || gone < 0 || ids[gone] != pair.right) continue;
    ids[position] = pair_find(self, pair.left, pair.right)->merged;
    ids[gone] = -1; /* so that a pair waiting there is seen to be stale */
    self->next[position] = self->next[gone];
    if (self->next[gone] >= 0) self->previous[self->next[gone]] = position;
    MG_TRY(consider(self, ids, self->previous[position]));
    MG_TRY(consider(self, ids, position));
  }
  *left = 0;
  for (int32_t i = 0; i >= 0; i = self->next[i]) ids[(*left)++] = ids[i];
  return MG_OK;
}

mg_status mg__merger_run(mg__merger *self, int32_t *ids, size_t *count) {
  if (*count > INT32_MAX)
    return mg_fail(self->context, MG_USAGE, "a word of %zu symbols is too long to tokenize; the most is %d", *count,
                   INT32_MAX);
  size_t written = 0;
  for (size_t start = 0, end; start < *count; start = end) {
    for (end = start + 1; end < *count && inside_find(self, ids[end - 1], ids[end])->left >= 0;) end++;
    int32_t left = 1;
    if (end - start > 1) MG_TRY(merge_stretch(self, ids + start, (int32_t)(end - start), &left));
    memmove(ids + written, ids + start, (size_t)left * sizeof *ids);
    written += (size_t)left;
  }
  *count = written;
  return MG_OK;
}

/* ---- creation ---- */

static mg_status take_pairs(mg__merger *self, const mg_merge *merges, const int32_t *ranks, size_t count) {
  for (size_t i = 0; i < count; i++) {
    pair_slot *slot = pair_find(self, merges[i].left, merges[i].right);
    if (slot->left >= 0)
      return mg_fail(self->context, MG_FILE, "merge %zu repeats the pair [%d, %d]", i, merges[i].left, merges[i].right);
    *slot = (pair_slot){merges[i].left, merges[i].right, ranks ? ranks[i] : (int32_t)i, merges[i].merged};
  }
  return MG_OK;
}

/* The first (or last) initial symbol of `id`: follows the left (or right) halves of merges that make it. */
static int32_t edge(const mg_merge *merges, const int32_t *made_by, int32_t id, bool last) {
  while (made_by[id] >= 0) id = last ? merges[made_by[id]].right : merges[made_by[id]].left;
  return id;
}

/* Notes for each merge the two initial symbols that meet where it joins. */
static mg_status note_neighbours(mg__merger *self, const mg_merge *merges, size_t count, int32_t symbols) {
  const size_t bytes = (size_t)symbols * sizeof(int32_t);
  int32_t *made_by = mg_alloc(self->context, bytes);
  if (!made_by) return MG_MEMORY;
  memset(made_by, 0xff, bytes);
  for (size_t i = 0; i < count; i++) made_by[merges[i].merged] = (int32_t)i;
  for (size_t i = 0; i < count; i++) {
    const neighbours pair = {edge(merges, made_by, merges[i].left, true),
                             edge(merges, made_by, merges[i].right, false)};
    *inside_find(self, pair.left, pair.right) = pair;
  }
  mg_free(self->context, made_by, bytes);
  return MG_OK;
}

static mg_status fill(mg__merger *self, const mg_merge *merges, const int32_t *ranks, size_t count, int32_t symbols) {
  if (count > INT32_MAX / 4) return mg_fail(self->context, MG_FILE, "%zu merges are too many", count);
  size_t slots = 16;
  while (slots < 2 * count + 2) slots *= 2;
  self->pairs = mg_alloc(self->context, slots * sizeof *self->pairs);
  self->inside = mg_alloc(self->context, slots * sizeof *self->inside);
  self->mask = slots - 1;
  if (!self->pairs || !self->inside) return MG_MEMORY;
  for (size_t i = 0; i < slots; i++) self->pairs[i].left = self->inside[i].left = -1;
  MG_TRY(take_pairs(self, merges, ranks, count));
  return count ? note_neighbours(self, merges, count, symbols) : MG_OK;
}

mg_status mg__merger_create(mg_context *context, const mg_merge *merges, const int32_t *ranks, size_t count,
                            int32_t symbols, mg__merger **out) {
  *out = NULL;
  mg__merger *self = mg_alloc(context, sizeof *self);
  if (!self) return MG_MEMORY;
  self->context = context;
  const mg_status status = fill(self, merges, ranks, count, symbols);
  if (status == MG_OK)
    *out = self;
  else
    mg__merger_destroy(self);
  return status;
}

void mg__merger_destroy(mg__merger *self) {
  if (!self) return;
  mg_context *context = self->context;
  if (self->pairs) mg_free(context, self->pairs, (self->mask + 1) * sizeof *self->pairs);
  if (self->inside) mg_free(context, self->inside, (self->mask + 1) * sizeof *self->inside);
  MG_VECTOR_FREE(context, self->next, self->next_room);
  MG_VECTOR_FREE(context, self->previous, self->previous_room);
  MG_VECTOR_FREE(context, self->heap, self->heap_room);
  mg_free(context, self, sizeof *self);
}

/* ---- the cache of words ---- */

typedef struct cached_word {
  uint8_t bytes, count; /* bytes 0 = empty */
  char text[CACHE_TEXT];
  int32_t ids[CACHE_IDS];
} cached_word;

struct mg__word_cache {
  cached_word words[CACHE_SLOTS];
};

mg__word_cache *mg__word_cache_create(mg_context *context) {
  return mg_alloc(context, sizeof(mg__word_cache));
}

void mg__word_cache_destroy(mg_context *context, mg__word_cache *cache) {
  if (cache) mg_free(context, cache, sizeof *cache);
}

static size_t cache_slot(const char *word, size_t bytes) {
  return mg_hash64(word, bytes, 0) % CACHE_SLOTS;
}

mg_status mg__word_cache_find(mg_context *context, const mg__word_cache *cache, const char *word, size_t bytes,
                              mg_token_list *list, bool *found) {
  *found = false;
  if (bytes > CACHE_TEXT) return MG_OK;
  const cached_word *slot = &cache->words[cache_slot(word, bytes)];
  if (slot->bytes != bytes || memcmp(slot->text, word, bytes) != 0) return MG_OK;
  MG_TRY(MG_VECTOR_RESERVE(context, list->ids, list->room, list->count + slot->count));
  memcpy(list->ids + list->count, slot->ids, slot->count * sizeof *slot->ids);
  list->count += slot->count;
  *found = true;
  return MG_OK;
}

void mg__word_cache_store(mg__word_cache *cache, const char *word, size_t bytes, const int32_t *ids, size_t count) {
  if (bytes == 0 || bytes > CACHE_TEXT || count > CACHE_IDS) return;
  cached_word *slot = &cache->words[cache_slot(word, bytes)];
  slot->bytes = (uint8_t)bytes;
  slot->count = (uint8_t)count;
  memcpy(slot->text, word, bytes);
  memcpy(slot->ids, ids, count * sizeof *ids);
}
