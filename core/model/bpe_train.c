/* Learns byte-level BPE merges: count the distinct words once, then repeat "join the most frequent adjacent pair".
 *
 * Pair counts are kept up to date instead of counted anew: each pair lists the words it was seen in, so one merge costs
 * only those words. The next pair comes from a heap whose entries may be too high; one that is, goes back with its
 * true count (counts of a pair only fall once both its tokens exist). Equal counts: the lowest left id, then the lowest
 * right id, so the result does not depend on the order of documents. Words longer than WORD_BYTES are counted in pieces
 * of that size. */
#include <string.h>

#include "base/hash.h"
#include "base/vector.h"
#include "model/tokenizer_kind.h"

enum { WORD_BYTES = 128, FIRST_SLOTS = 1 << 12, BYTE_VALUES = 256, TOKEN_BYTES = 128 };
static const uint32_t none = UINT32_MAX;

typedef struct word {
  size_t start; /* in `pool`, and later in `symbols` */
  uint32_t length;
  uint32_t merge; /* the merge that last changed it, so that a word listed twice is done once */
  int64_t count;
} word;

typedef struct pair {
  int32_t left, right; /* left -1 = empty */
  int64_t count;
  uint32_t places;  /* first of a list in `places`; `none` ends it */
  uint32_t offered; /* the merge after which it was last put into the heap */
} pair;

typedef struct place {
  uint32_t word, next;
} place;

typedef struct candidate {
  int64_t count;
  int32_t left, right;
} candidate;

struct mg_bpe_trainer {
  mg_context *context;
  mg__splitter *splitter;
  char *pool;
  word *words;
  uint32_t *word_slots; /* index into words + 1; 0 = empty */
  size_t pool_bytes, pool_room, words_count, words_room, word_slots_count;
  int32_t *symbols; /* [pool_bytes] */
  pair *pairs;
  size_t pairs_count, pairs_slots;
  place *places;
  size_t places_count, places_room;
  candidate *heap;
  size_t heap_count, heap_room;
  mg_merge *merges;
  size_t merges_count, merges_room;
  char (*texts)[TOKEN_BYTES]; /* of learned tokens */
  mg_token_text *tokens;
  size_t tokens_room;
};

mg_status mg_bpe_trainer_create(mg_context *context, const char *pattern, mg_bpe_trainer **out) {
  *out = NULL;
  mg_bpe_trainer *trainer = mg_alloc(context, sizeof *trainer);
  if (!trainer) return MG_MEMORY;
  trainer->context = context;
  mg_status status = mg__splitter_create(context, pattern ? pattern : mg_bpe_default_pattern, &trainer->splitter);
  if (status == MG_OK) {
    trainer->word_slots = mg_alloc(context, FIRST_SLOTS * sizeof *trainer->word_slots);
    trainer->word_slots_count = FIRST_SLOTS;
    if (!trainer->word_slots) status = MG_MEMORY;
  }
  if (status != MG_OK) {
    if (!trainer->word_slots) trainer->word_slots_count = 0;
    mg_bpe_trainer_destroy(trainer);
    return status;
  }
  *out = trainer;
  return MG_OK;
}

void mg_bpe_trainer_destroy(mg_bpe_trainer *trainer) {
  if (!trainer) return;
  mg_context *context = trainer->context;
  mg__splitter_destroy(trainer->splitter);
  if (trainer->symbols) mg_free(context, trainer->symbols, trainer->pool_bytes * sizeof *trainer->symbols);
  MG_VECTOR_FREE(context, trainer->pool, trainer->pool_room);
  MG_VECTOR_FREE(context, trainer->words, trainer->words_room);
  MG_VECTOR_FREE(context, trainer->word_slots, trainer->word_slots_count);
  MG_VECTOR_FREE(context, trainer->pairs, trainer->pairs_slots);
  MG_VECTOR_FREE(context, trainer->places, trainer->places_room);
  MG_VECTOR_FREE(context, trainer->heap, trainer->heap_room);
  MG_VECTOR_FREE(context, trainer->merges, trainer->merges_room);
  MG_VECTOR_FREE(context, trainer->texts, trainer->merges_room);
  MG_VECTOR_FREE(context, trainer->tokens, trainer->tokens_room);
  mg_free(context, trainer, sizeof *trainer);
}

/* ---- counting words ---- */

static uint32_t *word_slot(mg_bpe_trainer *trainer, const char *text, size_t bytes) {
  const size_t mask = trainer->word_slots_count - 1;
  for (size_t at = mg_hash64(text, bytes, 0);; at++) {
    uint32_t *slot = trainer->word_slots + (at & mask);
    if (*slot == 0) return slot;
    const word *known = &trainer->words[*slot - 1];
    if (known->length == bytes && memcmp(trainer->pool + known->start, text, bytes) == 0) return slot;
  }
}

static mg_status grow_word_slots(mg_bpe_trainer *trainer) {
  const size_t count = trainer->word_slots_count;
  if (trainer->words_count * 2 < count) return MG_OK;
  uint32_t *slots = mg_alloc(trainer->context, 2 * count * sizeof *slots);
  if (!slots) return MG_MEMORY;
  mg_free(trainer->context, trainer->word_slots, count * sizeof *slots);
  trainer->word_slots = slots;
  trainer->word_slots_count = 2 * count;
  for (size_t i = 0; i < trainer->words_count; i++)
    *word_slot(trainer, trainer->pool + trainer->words[i].start, trainer->words[i].length) = (uint32_t)(i + 1);
  return MG_OK;
}

static mg_status count_piece(mg_bpe_trainer *trainer, const char *text, size_t bytes) {
  uint32_t *slot = word_slot(trainer, text, bytes);
  if (*slot) {
    trainer->words[*slot - 1].count++;
    return MG_OK;
  }
  if (trainer->words_count >= none - 1)
    return mg_fail(trainer->context, MG_MEMORY, "too many distinct words; train the tokenizer on less text");
  MG_TRY(MG_VECTOR_RESERVE(trainer->context, trainer->pool, trainer->pool_room, trainer->pool_bytes + bytes));
  MG_TRY(MG_VECTOR_RESERVE(trainer->context, trainer->words, trainer->words_room, trainer->words_count + 1));
  memcpy(trainer->pool + trainer->pool_bytes, text, bytes);
  trainer->words[trainer->words_count] = (word){trainer->pool_bytes, (uint32_t)bytes, none, 1};
  trainer->pool_bytes += bytes;
  *slot = (uint32_t)++trainer->words_count;
  return grow_word_slots(trainer);
}

static mg_status count_word(void *user, const char *text, size_t bytes) {
  for (size_t at = 0; at < bytes; at += WORD_BYTES)
    MG_TRY(count_piece(user, text + at, bytes - at < WORD_BYTES ? bytes - at : WORD_BYTES));
  return MG_OK;
}

mg_status mg_bpe_trainer_add(mg_bpe_trainer *trainer, const char *text, size_t bytes) {
  return mg__splitter_each(trainer->splitter, text, bytes, count_word, trainer);
}

/* ---- pairs ---- */

static pair *pair_slot(const mg_bpe_trainer *trainer, int32_t left, int32_t right) {
  const size_t mask = trainer->pairs_slots - 1;
  for (size_t at = mg_mix64(((uint64_t)(uint32_t)left << 32) | (uint32_t)right);; at++) {
    pair *slot = trainer->pairs + (at & mask);
    if (slot->left < 0 || (slot->left == left && slot->right == right)) return slot;
  }
}

static mg_status new_pair_slots(mg_bpe_trainer *trainer, size_t slots) {
  pair *old = trainer->pairs;
  const size_t old_slots = trainer->pairs_slots;
  pair *pairs = mg_alloc(trainer->context, slots * sizeof *pairs);
  if (!pairs) return MG_MEMORY;
  for (size_t i = 0; i < slots; i++) pairs[i] = (pair){-1, -1, 0, none, none};
  trainer->pairs = pairs;
  trainer->pairs_slots = slots;
  for (size_t i = 0; i < old_slots; i++)
    if (old[i].left >= 0) *pair_slot(trainer, old[i].left, old[i].right) = old[i];
  MG_VECTOR_FREE(trainer->context, old, old_slots);
  return MG_OK;
}

/* Adds `count` (of either sign) to a pair; a positive one also notes the word. */
static mg_status pair_add(mg_bpe_trainer *trainer, int32_t left, int32_t right, int64_t count, uint32_t in) {
  if (trainer->pairs_count * 2 >= trainer->pairs_slots) MG_TRY(new_pair_slots(trainer, 2 * trainer->pairs_slots));
  pair *slot = pair_slot(trainer, left, right);
  if (slot->left < 0) {
    *slot = (pair){left, right, 0, none, none};
    trainer->pairs_count++;
  }
  slot->count += count;
  if (count < 0 || (slot->places != none && trainer->places[slot->places].word == in)) return MG_OK;
  if (trainer->places_count >= none)
    return mg_fail(trainer->context, MG_MEMORY, "too many pairs; train the tokenizer on less text");
  MG_TRY(MG_VECTOR_RESERVE(trainer->context, trainer->places, trainer->places_room, trainer->places_count + 1));
  trainer->places[trainer->places_count] = (place){in, slot->places};
  slot->places = (uint32_t)trainer->places_count++;
  return MG_OK;
}

/* ---- the heap, most frequent pair on top ---- */

static bool better(const candidate *a, const candidate *b) {
  if (a->count != b->count) return a->count > b->count;
  return a->left != b->left ? a->left < b->left : a->right < b->right;
}

static mg_status heap_push(mg_bpe_trainer *trainer, candidate item) {
  MG_TRY(MG_VECTOR_RESERVE(trainer->context, trainer->heap, trainer->heap_room, trainer->heap_count + 1));
  candidate *heap = trainer->heap;
  size_t at = trainer->heap_count++;
  for (; at > 0 && better(&item, &heap[(at - 1) / 2]); at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
  heap[at] = item;
  return MG_OK;
}

static candidate heap_pop(mg_bpe_trainer *trainer) {
  candidate *heap = trainer->heap;
  const candidate top = heap[0], last = heap[--trainer->heap_count];
  size_t at = 0;
  for (size_t child; (child = 2 * at + 1) < trainer->heap_count; at = child) {
    if (child + 1 < trainer->heap_count && better(&heap[child + 1], &heap[child])) child++;
    if (!better(&heap[child], &last)) break;
    heap[at] = heap[child];
  }
  heap[at] = last;
  return top;
}

/* The most frequent pair by its true count; false when none occurs twice. */
static mg_status best_pair(mg_bpe_trainer *trainer, candidate *best, bool *found) {
  *found = false;
  while (trainer->heap_count > 0) {
    *best = heap_pop(trainer);
    const int64_t count = pair_slot(trainer, best->left, best->right)->count;
    *found = count == best->count;
    if (*found) return MG_OK;
    if (count > 1) MG_TRY(heap_push(trainer, (candidate){count, best->left, best->right}));
  }
  return MG_OK;
}

/* ---- merging ---- */

static mg_status start_symbols(mg_bpe_trainer *trainer) {
  trainer->symbols = mg_alloc(trainer->context, trainer->pool_bytes * sizeof *trainer->symbols);
  if (trainer->pool_bytes && !trainer->symbols) return MG_MEMORY;
  for (size_t i = 0; i < trainer->pool_bytes; i++) trainer->symbols[i] = (unsigned char)trainer->pool[i];
  MG_TRY(new_pair_slots(trainer, FIRST_SLOTS));
  for (size_t i = 0; i < trainer->words_count; i++) {
    const word *in = &trainer->words[i];
    const int32_t *symbols = trainer->symbols + in->start;
    for (uint32_t k = 0; k + 1 < in->length; k++)
      MG_TRY(pair_add(trainer, symbols[k], symbols[k + 1], in->count, (uint32_t)i));
  }
  for (size_t i = 0; i < trainer->pairs_slots; i++) {
    const pair *slot = &trainer->pairs[i];
    if (slot->left >= 0 && slot->count > 1)
      MG_TRY(heap_push(trainer, (candidate){slot->count, slot->left, slot->right}));
  }
  return MG_OK;
}

/* Joins left, right to `merged` throughout one word and keeps the counts of the pairs around each place. */
static mg_status merge_word(mg_bpe_trainer *trainer, uint32_t index, mg_merge merge) {
  word *in = &trainer->words[index];
  int32_t *symbols = trainer->symbols + in->start;
  const int64_t count = in->count;
  uint32_t written = 0;
  for (uint32_t read = 0; read < in->length; read++) {
    if (symbols[read] != merge.left || read + 1 == in->length || symbols[read + 1] != merge.right) {
      symbols[written++] = symbols[read];
      continue;
    }
    MG_TRY(pair_add(trainer, merge.left, merge.right, -count, index));
    if (written > 0) {
      MG_TRY(pair_add(trainer, symbols[written - 1], merge.left, -count, index));
      MG_TRY(pair_add(trainer, symbols[written - 1], merge.merged, count, index));
    }
    if (read + 2 < in->length) {
      MG_TRY(pair_add(trainer, merge.right, symbols[read + 2], -count, index));
      MG_TRY(pair_add(trainer, merge.merged, symbols[read + 2], count, index));
    }
    symbols[written++] = merge.merged;
    read++;
  }
  in->length = written;
  return MG_OK;
}

/* Puts the pairs of a word that contain the new token into the heap, each once per merge. */
static mg_status offer_pairs(mg_bpe_trainer *trainer, const word *in, int32_t merged) {
  const int32_t *symbols = trainer->symbols + in->start;
  for (uint32_t k = 0; k + 1 < in->length; k++) {
    if (symbols[k] != merged && symbols[k + 1] != merged) continue;
    pair *slot = pair_slot(trainer, symbols[k], symbols[k + 1]);
    if (slot->count < 2 || slot->offered == in->merge) continue;
    slot->offered = in->merge;
    MG_TRY(heap_push(trainer, (candidate){slot->count, slot->left, slot->right}));
  }
  return MG_OK;
}

static mg_status merge_everywhere(mg_bpe_trainer *trainer, mg_merge merge) {
  const uint32_t first = pair_slot(trainer, merge.left, merge.right)->places;
  const uint32_t mark = (uint32_t)trainer->merges_count;
  for (uint32_t at = first; at != none; at = trainer->places[at].next) {
    const uint32_t index = trainer->places[at].word;
    if (trainer->words[index].merge == mark) continue;
    trainer->words[index].merge = mark;
    MG_TRY(merge_word(trainer, index, merge));
  }
  for (uint32_t at = first; at != none; at = trainer->places[at].next)
    MG_TRY(offer_pairs(trainer, &trainer->words[trainer->places[at].word], merge.merged));
  return MG_OK;
}

/* ---- the result ---- */

static mg_status room_for_tokens(mg_bpe_trainer *trainer, size_t vocabulary) {
  const size_t merges = vocabulary - BYTE_VALUES;
  trainer->merges = mg_alloc(trainer->context, merges * sizeof *trainer->merges);
  trainer->texts = mg_alloc(trainer->context, merges * sizeof *trainer->texts);
  trainer->tokens = mg_alloc(trainer->context, vocabulary * sizeof *trainer->tokens);
  if (trainer->merges) trainer->merges_room = merges;
  if (trainer->tokens) trainer->tokens_room = vocabulary;
  if (!trainer->tokens || (merges && (!trainer->merges || !trainer->texts))) return MG_MEMORY;
  for (int i = 0; i < BYTE_VALUES; i++) trainer->tokens[i] = (mg_token_text){(const char *)&mg__byte_texts[i], 1};
  return MG_OK;
}

/* Notes the merge as the next token; its text never outgrows a word. */
static mg_merge note_merge(mg_bpe_trainer *trainer, candidate best) {
  const size_t index = trainer->merges_count++;
  const mg_token_text left = trainer->tokens[best.left], right = trainer->tokens[best.right];
  memcpy(trainer->texts[index], left.bytes, left.count);
  memcpy(trainer->texts[index] + left.count, right.bytes, right.count);
  trainer->tokens[BYTE_VALUES + index] = (mg_token_text){trainer->texts[index], left.count + right.count};
  trainer->merges[index] = (mg_merge){best.left, best.right, (int32_t)(BYTE_VALUES + index)};
  return trainer->merges[index];
}

mg_status mg_bpe_trainer_finish(mg_bpe_trainer *trainer, int64_t vocabulary, mg_tokenizer **out) {
  *out = NULL;
  if (vocabulary < BYTE_VALUES || vocabulary > (1 << 24))
    return mg_fail(trainer->context, MG_USAGE, "a BPE vocabulary must be from 256 to 16777216, not %lld",
                   (long long)vocabulary);
  if (trainer->symbols || trainer->pairs)
    return mg_fail(trainer->context, MG_BUG, "a BPE trainer finishes once; create another one");
  MG_TRY(room_for_tokens(trainer, (size_t)vocabulary));
  MG_TRY(start_symbols(trainer));
  while (trainer->merges_count < (size_t)vocabulary - BYTE_VALUES) {
    candidate best;
    bool found;
    MG_TRY(best_pair(trainer, &best, &found));
    if (!found) break;
    MG_TRY(merge_everywhere(trainer, note_merge(trainer, best)));
  }
  const mg_bpe_tables tables = {trainer->tokens, BYTE_VALUES + (int64_t)trainer->merges_count, trainer->merges,
                                trainer->merges_count, mg__splitter_pattern(trainer->splitter)};
  return mg_tokenizer_create_bpe(trainer->context, &tables, out);
}
