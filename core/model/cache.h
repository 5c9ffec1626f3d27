/* What attention remembers of the tokens that a batch of sequences has seen, so that further tokens cost only their own
 * work: keys and values of each layer, the latent rows of latent attention, and keys and values of the encoder's output.
 *
 *   mg_cache_create(model, MG_F32, 2, 128, &cache);
 *   mg_model_forward with batch.cache = cache and a prompt of 100 tokens per sequence, then with one token per sequence
 *
 * All sequences are equally long. Layers with a window keep 3 windows at most: the first pass may have any length that
 * fits, later ones at most mg_cache_step_tokens. Gradients do not flow into what is remembered. */
#ifndef MG_MODEL_CACHE_H
#define MG_MODEL_CACHE_H

#include "model/model.h"

/* Room for `capacity` tokens of each of `sequences`. `dtype` is what branches compute in: MG_BF16 on a tape that computes
 * in bf16, else that of the parameters' activations (MG_F32, MG_F64). The model must outlive the cache. */
mg_status mg_cache_create(mg_model *model, mg_dtype dtype, int64_t sequences, int64_t capacity, mg_cache **out);
void mg_cache_destroy(mg_cache *cache);

int64_t mg_cache_length(const mg_cache *cache); /* tokens of each sequence it holds */
int64_t mg_cache_capacity(const mg_cache *cache);
size_t mg_cache_bytes(const mg_cache *cache);
/* The most tokens of each sequence that one pass may add after the first. */
int64_t mg_cache_step_tokens(const mg_cache *cache);
/* Forgets all but the first `length` tokens. MG_USAGE if a window has dropped what they would see. */
mg_status mg_cache_truncate(mg_cache *cache, int64_t length);

#endif
