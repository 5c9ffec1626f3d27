/* SentencePiece's compiled table of replacements: a double-array trie (Yata et al. 2007, as darts-clone lays it out) whose
 * values are places in a block of NUL-terminated texts. Layout: u32 bytes of the trie, its 32-bit units, the texts; all
 * little-endian, the whole in base 64. Every step is checked, since the table comes from a file. */
#include <string.h>

#include "model/tokenizer/pipeline.h"

struct mg__charsmap {
  unsigned char *data;
  size_t bytes;
  size_t units; /* in the trie, which begins at byte 4 */
  size_t texts; /* where they begin */
};

static int digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes base 64 with its padding into data; false if it is none. */
static bool decode(const char *text, size_t count, unsigned char *data, size_t *bytes) {
  while (count > 0 && text[count - 1] == '=') count--;
  if (count % 4 == 1) return false;
  uint32_t bits = 0;
  *bytes = 0;
  for (size_t i = 0; i < count; i++) {
    const int value = digit(text[i]);
    if (value < 0) return false;
    bits = (bits << 6) | (uint32_t)value;
    if (i % 4 == 1) data[(*bytes)++] = (unsigned char)(bits >> 4);
    if (i % 4 == 2) data[(*bytes)++] = (unsigned char)(bits >> 2);
    if (i % 4 == 3) data[(*bytes)++] = (unsigned char)bits;
  }
  return true;
}

static uint32_t unit_at(const mg__charsmap *map, size_t index) {
  const unsigned char *at = map->data + 4 + 4 * index;
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static mg_status check(mg_context *context, mg__charsmap *map, size_t bytes) {
  bool valid = true;
  if (bytes < 8) return mg_fail(context, MG_FILE, "'precompiled_charsmap' has %zu bytes; it has at least 8", bytes);
  const size_t trie =
      (size_t)map->data[0] | (size_t)map->data[1] << 8 | (size_t)map->data[2] << 16 | (size_t)map->data[3] << 24;
  if (trie < 4 || trie % 4 != 0 || trie > bytes - 4)
    return mg_fail(context, MG_FILE, "'precompiled_charsmap' says that its trie has %zu bytes of %zu", trie, bytes);
  map->units = trie / 4;
  map->texts = 4 + trie;
  const size_t texts = bytes - map->texts;
  if (texts && (mg__utf8_stretch((char *)map->data + map->texts, texts, &valid) != texts || !valid))
    return mg_fail(context, MG_FILE, "'precompiled_charsmap' holds texts that are no UTF-8");
  return MG_OK;
}

mg_status mg__charsmap_read(mg_context *context, const json_t *base64, mg__charsmap **out) {
  if (!json_is_string(base64)) return mg_fail(context, MG_FILE, "'precompiled_charsmap' must be a string");
  const size_t count = json_string_length(base64);
  mg__charsmap *map = *out = mg_alloc(context, sizeof *map);
  if (!map) return MG_MEMORY;
  map->bytes = count / 4 * 3 + 3;
  map->data = mg_alloc(context, map->bytes);
  if (!map->data) return MG_MEMORY;
  size_t bytes;
  if (!decode(json_string_value(base64), count, map->data, &bytes))
    return mg_fail(context, MG_FILE, "'precompiled_charsmap' is no base 64");
  const mg_status status = check(context, map, bytes);
  if (status == MG_OK) { /* a NUL ends the last text, whatever the file says */
    const size_t room = map->bytes;
    unsigned char *data = mg_resize(context, map->data, room, bytes + 1);
    if (!data) return MG_MEMORY;
    data[bytes] = 0;
    map->data = data;
    map->bytes = bytes + 1;
  }
  return status;
}

void mg__charsmap_destroy(mg_context *context, mg__charsmap *map) {
  if (!map) return;
  if (map->data) mg_free(context, map->data, map->bytes);
  mg_free(context, map, sizeof *map);
}

static size_t offset_of(uint32_t unit) {
  return (size_t)(unit >> 10) << ((unit & (1U << 9)) >> 6);
}

/* The text that a value points to; false if it points outside or into a character. */
static bool text_of(const mg__charsmap *map, uint32_t value, mg_token_text *to) {
  const size_t start = map->texts + (value & 0x7fffffffU);
  if (start >= map->bytes || (map->data[start] & 0xc0) == 0x80) return false;
  *to = (mg_token_text){(const char *)map->data + start, strlen((const char *)map->data + start)};
  return true;
}

bool mg__charsmap_find(const mg__charsmap *map, const char *text, size_t bytes, mg_token_text *to) {
  size_t at = offset_of(unit_at(map, 0));
  for (size_t i = 0; i < bytes && text[i]; i++) {
    const unsigned char label = (unsigned char)text[i];
    at ^= label;
    if (at >= map->units) return false;
    const uint32_t unit = unit_at(map, at);
    if ((unit & (1U << 31 | 0xff)) != label) return false;
    at ^= offset_of(unit);
    if (unit >> 8 & 1) return at < map->units && text_of(map, unit_at(map, at), to);
  }
  return false;
}
