/* How attention fills and reads the cache. */
#ifndef MG_MODEL_CACHE_INTERNAL_H
#define MG_MODEL_CACHE_INTERNAL_H

#include "model/cache.h"

/* Refuses a pass of `tokens` new tokens of each of `sequences`. */
mg_status mg__cache_check(const mg_cache *cache, const mg_model *model, int64_t sequences, int64_t tokens);
/* Adds the new rows of a layer. In the first pass *key and *value stay what they are, and 0 is returned. Later they
 * become the cached rows with room behind them, of which so many per sequence count. `value` is NULL where there are
 * only keys. Failures are the tape's. */
int64_t mg__cache_extend(mg_cache *cache, mg_tape *tape, int64_t layer, mg_var **key, mg_var **value);
/* Keeps *key and *value of the encoder's output, or fills them in where they are NULL. */
void mg__cache_cross(mg_cache *cache, mg_tape *tape, int64_t layer, mg_var **key, mg_var **value);
/* After all layers have been extended. */
void mg__cache_advance(mg_cache *cache, int64_t tokens, int64_t source_tokens);
bool mg__cache_has_source(const mg_cache *cache);

#endif
