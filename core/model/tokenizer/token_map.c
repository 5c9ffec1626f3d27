/* A hash table from the texts of a model's tokens to their ids. */
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "model/tokenizer/pipeline.h"

static int32_t *slot_of(const mg__token_map *map, const char *text, size_t bytes) {
  for (size_t at = mg_hash64(text, bytes, 0);; at++) {
    int32_t *slot = &map->slots[at & map->mask];
    if (*slot < 0) return slot;
    const mg_token_text token = mg_tokenizer_token(map->tokenizer, *slot);
    if (token.count == bytes && memcmp(token.bytes, text, bytes) == 0) return slot;
  }
}

mg_status mg__token_map_build(const mg_tokenizer *tokenizer, const int32_t *ids, size_t count, mg__token_map *map) {
  size_t slots = 16;
  while (slots < 2 * count) slots *= 2;
  map->tokenizer = tokenizer;
  map->slots = mg_alloc(tokenizer->context, slots * sizeof *map->slots);
  if (!map->slots) return MG_MEMORY;
  map->mask = slots - 1;
  memset(map->slots, 0xff, slots * sizeof *map->slots);
  for (size_t i = 0; i < count; i++) {
    const mg_token_text token = mg_tokenizer_token(tokenizer, ids[i]);
    int32_t *slot = slot_of(map, token.bytes, token.count);
    if (*slot >= 0)
      return mg_fail(tokenizer->context, MG_FILE, "vocab: tokens %d and %d are both '%.*s'", *slot, ids[i],
                     (int)token.count, token.bytes);
    *slot = ids[i];
  }
  return MG_OK;
}

void mg__token_map_release(mg_context *context, mg__token_map *map) {
  if (map->slots) mg_free(context, map->slots, (map->mask + 1) * sizeof *map->slots);
}

int32_t mg__token_map_find(const mg__token_map *map, const char *text, size_t bytes) {
  return *slot_of(map, text, bytes);
}

int32_t mg__byte_token(const mg__token_map *map, unsigned char byte) {
  char text[8];
  snprintf(text, sizeof text, "<0x%02X>", byte);
  return mg__token_map_find(map, text, 6);
}
