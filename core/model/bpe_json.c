/* Reads a byte-level BPE from JSON that may come from anywhere: every id, digit and length is checked. */
#include <string.h>

#include "model/tokenizer_kind.h"

enum { TOKEN_BYTES_MOST = 512 };

typedef struct reading {
  mg_context *context;
  mg_token_text *tokens;
  char *text; /* all tokens' bytes */
  mg_merge *merges;
  size_t vocabulary, text_bytes, merges_count;
} reading;

static int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes one token at `out`; false if it is no string of digit pairs. */
static bool unhexadecimal(const char *text, size_t digits, char *out) {
  for (size_t i = 0; i < digits; i += 2) {
    const int high = digit(text[i]), low = digit(text[i + 1]);
    if (high < 0 || low < 0) return false;
    *out++ = (char)(high * 16 + low);
  }
  return true;
}

static mg_status read_tokens(reading *in, const json_t *array) {
  in->vocabulary = json_array_size(array);
  if (in->vocabulary == 0 || in->vocabulary > INT32_MAX)
    return mg_fail(in->context, MG_FILE, "tokenizer: 'tokens' must be a list of hexadecimal strings");
  size_t i;
  const json_t *item;
  json_array_foreach(array, i, item) {
    const size_t digits = json_string_length(item);
    if (digits == 0 || digits % 2 || digits / 2 > TOKEN_BYTES_MOST)
      return mg_fail(in->context, MG_FILE, "tokenizer: token %zu is not 1 to %d bytes in hexadecimal", i,
                     TOKEN_BYTES_MOST);
    in->text_bytes += digits / 2;
  }
  in->text = mg_alloc(in->context, in->text_bytes);
  in->tokens = mg_alloc(in->context, in->vocabulary * sizeof *in->tokens);
  if (!in->text || !in->tokens) return MG_MEMORY;
  char *cursor = in->text;
  json_array_foreach(array, i, item) {
    const size_t digits = json_string_length(item);
    if (!unhexadecimal(json_string_value(item), digits, cursor))
      return mg_fail(in->context, MG_FILE, "tokenizer: token %zu, '%s', is not hexadecimal", i,
                     json_string_value(item));
    in->tokens[i] = (mg_token_text){cursor, digits / 2};
    cursor += digits / 2;
  }
  return MG_OK;
}

static mg_status read_merges(reading *in, const json_t *array) {
  if (!json_is_array(array)) return mg_fail(in->context, MG_FILE, "tokenizer: 'merges' must be a list");
  in->merges_count = json_array_size(array);
  in->merges = mg_alloc(in->context, in->merges_count * sizeof *in->merges);
  if (in->merges_count && !in->merges) return MG_MEMORY;
  size_t i;
  const json_t *item;
  json_array_foreach(array, i, item) {
    int32_t ids[3];
    for (size_t k = 0; k < 3; k++) {
      const json_t *id = json_array_get(item, k);
      const json_int_t value = json_integer_value(id);
      if (!json_is_integer(id) || json_array_size(item) != 3 || value < 0 || value > INT32_MAX)
        return mg_fail(in->context, MG_FILE, "tokenizer: merge %zu is not [left, right, merged]", i);
      ids[k] = (int32_t)value;
    }
    in->merges[i] = (mg_merge){ids[0], ids[1], ids[2]};
  }
  return MG_OK;
}

static mg_status read_all(reading *in, const json_t *json, mg_tokenizer **out) {
  const char *pattern = json_string_value(json_object_get(json, "pattern"));
  if (!pattern) return mg_fail(in->context, MG_FILE, "tokenizer: 'pattern' is missing");
  MG_TRY(read_tokens(in, json_object_get(json, "tokens")));
  MG_TRY(read_merges(in, json_object_get(json, "merges")));
  const mg_bpe_tables tables = {in->tokens, (int64_t)in->vocabulary, in->merges, in->merges_count, pattern};
  return mg_tokenizer_create_bpe(in->context, &tables, out);
}

mg_status mg__bpe_from_json(mg_context *context, const json_t *json, mg_tokenizer **out) {
  reading in = {.context = context};
  const mg_status status = read_all(&in, json, out);
  if (in.tokens) mg_free(context, in.tokens, in.vocabulary * sizeof *in.tokens);
  if (in.text) mg_free(context, in.text, in.text_bytes);
  if (in.merges) mg_free(context, in.merges, in.merges_count * sizeof *in.merges);
  return status;
}
