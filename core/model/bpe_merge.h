/* What all byte-pair encodings share: the merging of adjacent symbols by rank, and a cache of short words. */
#ifndef MG_MODEL_BPE_MERGE_H
#define MG_MODEL_BPE_MERGE_H

#include "model/tokenizer.h"

/* Merges for symbols 0 .. symbols - 1. A pair of lower rank is joined first, of equal rank the leftmost; `ranks` NULL =
 * each merge's place in the list. Every `merged` must be longer than its halves in whatever the symbols stand for, so
 * that no chain of merges runs in a circle; the caller checks that. MG_FILE if a pair comes twice. */
typedef struct mg__merger mg__merger;
mg_status mg__merger_create(mg_context *context, const mg_merge *merges, const int32_t *ranks, size_t count,
                            int32_t symbols, mg__merger **out);
void mg__merger_destroy(mg__merger *merger);
/* Joins pairs of ids[0 .. *count) in place until none has a rank; O(n log n). */
mg_status mg__merger_run(mg__merger *merger, int32_t *ids, size_t *count);

/* A fixed, direct-mapped table from short words to their ids. */
typedef struct mg__word_cache mg__word_cache;
mg__word_cache *mg__word_cache_create(mg_context *context); /* NULL without memory */
void mg__word_cache_destroy(mg_context *context, mg__word_cache *cache);
/* Appends the word's ids and sets *found if they are known. */
mg_status mg__word_cache_find(mg_context *context, const mg__word_cache *cache, const char *word, size_t bytes,
                              mg_token_list *list, bool *found);
void mg__word_cache_store(mg__word_cache *cache, const char *word, size_t bytes, const int32_t *ids, size_t count);

#endif
