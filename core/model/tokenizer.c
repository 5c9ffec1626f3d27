/* The interface of all tokenizers, the table of token texts, and the tokenizer whose tokens are bytes. */
#include "model/tokenizer.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/vector.h"
#include "model/tokenizer/pipeline.h"
#include "model/tokenizer_kind.h"

enum { BYTES = 256, FILE_BYTES_MOST = 1 << 28 };

#define ROW(x) x, x + 1, x + 2, x + 3, x + 4, x + 5, x + 6, x + 7
#define ROWS(x) ROW(x), ROW(x + 8), ROW(x + 16), ROW(x + 24), ROW(x + 32), ROW(x + 40), ROW(x + 48), ROW(x + 56)
const unsigned char mg__byte_texts[BYTES] = {ROWS(0), ROWS(64), ROWS(128), ROWS(192)};

void mg_token_list_free(mg_context *context, mg_token_list *list) {
  MG_VECTOR_FREE(context, list->ids, list->room);
  *list = (mg_token_list){0};
}

void mg_text_free(mg_context *context, mg_text *text) {
  MG_VECTOR_FREE(context, text->bytes, text->room);
  *text = (mg_text){0};
}

mg_status mg__token_list_append(mg_context *context, mg_token_list *list, int32_t id) {
  if (list->count == list->room) MG_TRY(MG_VECTOR_RESERVE(context, list->ids, list->room, list->count + 1));
  list->ids[list->count++] = id;
  return MG_OK;
}

static mg_status copy_texts(mg_tokenizer *tokenizer, const mg_token_text *tokens) {
  const size_t count = (size_t)tokenizer->vocabulary;
  size_t total = 0;
  for (size_t i = 0; i < count; i++)
    if (__builtin_add_overflow(total, tokens[i].count, &total))
      return mg_fail(tokenizer->context, MG_MEMORY, "the texts of %zu tokens do not fit in memory", count);
  tokenizer->starts = mg_alloc(tokenizer->context, (count + 1) * sizeof *tokenizer->starts);
  tokenizer->text = total < SIZE_MAX ? mg_alloc(tokenizer->context, total + 1) : NULL; /* never nothing */
  if (!tokenizer->starts || !tokenizer->text) return MG_MEMORY;
  for (size_t i = 0; i < count; i++) {
    if (tokens[i].count) memcpy(tokenizer->text + tokenizer->starts[i], tokens[i].bytes, tokens[i].count);
    tokenizer->starts[i + 1] = tokenizer->starts[i] + tokens[i].count;
  }
  return MG_OK;
}

mg_status mg__tokenizer_create(mg_context *context, const mg__tokenizer_kind *kind, size_t bytes,
                               const mg_token_text *tokens, int64_t vocabulary, mg_tokenizer **out) {
  *out = NULL;
  mg_tokenizer *tokenizer = mg_alloc(context, bytes);
  if (!tokenizer) return MG_MEMORY;
  *tokenizer =
      (mg_tokenizer){.kind = kind, .context = context, .bytes = bytes, .vocabulary = vocabulary, .bos = -1, .eos = -1};
  const mg_status status = copy_texts(tokenizer, tokens);
  if (status != MG_OK) {
    mg_tokenizer_destroy(tokenizer);
    return status;
  }
  *out = tokenizer;
  return MG_OK;
}

void mg_tokenizer_destroy(mg_tokenizer *tokenizer) {
  if (!tokenizer) return;
  mg_context *context = tokenizer->context;
  if (tokenizer->kind->release) tokenizer->kind->release(tokenizer);
  const size_t count = (size_t)tokenizer->vocabulary;
  if (tokenizer->text) mg_free(context, tokenizer->text, tokenizer->starts[count] + 1);
  if (tokenizer->starts) mg_free(context, tokenizer->starts, (count + 1) * sizeof *tokenizer->starts);
  if (tokenizer->special) mg_free(context, tokenizer->special, count * sizeof *tokenizer->special);
  mg_free(context, tokenizer, tokenizer->bytes);
}

mg_status mg_tokenizer_encode(mg_tokenizer *tokenizer, const char *text, size_t bytes, unsigned flags,
                              mg_token_list *list) {
  return tokenizer->kind->encode(tokenizer, text, bytes, flags, list);
}

mg_token_text mg_tokenizer_token(const mg_tokenizer *tokenizer, int32_t id) {
  if (id < 0 || id >= tokenizer->vocabulary) return (mg_token_text){NULL, 0};
  const size_t *start = tokenizer->starts + id;
  return (mg_token_text){tokenizer->text + start[0], start[1] - start[0]};
}

mg_status mg_tokenizer_decode(mg_tokenizer *tokenizer, const int32_t *ids, int64_t count, unsigned flags,
                              mg_text *text) {
  if (tokenizer->kind->decode) return tokenizer->kind->decode(tokenizer, ids, count, flags, text);
  for (int64_t i = 0; i < count; i++) {
    const mg_token_text token = mg_tokenizer_token(tokenizer, ids[i]);
    if (token.count) MG_TRY(mg__text_add(tokenizer->context, text, token.bytes, token.count));
  }
  return MG_OK;
}

int32_t mg_tokenizer_find(const mg_tokenizer *tokenizer, const char *token) {
  const size_t bytes = strlen(token);
  for (int32_t id = 0; id < tokenizer->vocabulary; id++) {
    const mg_token_text found = mg_tokenizer_token(tokenizer, id);
    if (found.count == bytes && bytes > 0 && memcmp(found.bytes, token, bytes) == 0) return id;
  }
  return -1;
}

bool mg_tokenizer_is_special(const mg_tokenizer *tokenizer, int32_t id) {
  return tokenizer->special && id >= 0 && id < tokenizer->vocabulary && tokenizer->special[id];
}

int32_t mg_tokenizer_bos(const mg_tokenizer *tokenizer) {
  return tokenizer->bos;
}

int32_t mg_tokenizer_eos(const mg_tokenizer *tokenizer) {
  return tokenizer->eos;
}

int64_t mg_tokenizer_vocabulary(const mg_tokenizer *tokenizer) {
  return tokenizer->vocabulary;
}

const char *mg_tokenizer_kind_name(const mg_tokenizer *tokenizer) {
  return tokenizer->kind->name;
}

static mg_status bytes_encode(mg_tokenizer *tokenizer, const char *text, size_t bytes, unsigned flags,
                              mg_token_list *list) {
  (void)flags;
  size_t wanted;
  if (__builtin_add_overflow(list->count, bytes, &wanted))
    return mg_fail(tokenizer->context, MG_MEMORY, "%zu more tokens do not fit in memory", bytes);
  MG_TRY(MG_VECTOR_RESERVE(tokenizer->context, list->ids, list->room, wanted));
  for (size_t i = 0; i < bytes; i++) list->ids[list->count++] = (unsigned char)text[i];
  return MG_OK;
}

static bool bytes_to_json(const mg_tokenizer *tokenizer, json_t *object) {
  (void)tokenizer;
  (void)object;
  return true;
}

static const mg__tokenizer_kind bytes_kind = {.name = "bytes", .encode = bytes_encode, .to_json = bytes_to_json};

mg_status mg_tokenizer_create_bytes(mg_context *context, mg_tokenizer **out) {
  mg_token_text tokens[BYTES];
  for (int i = 0; i < BYTES; i++) tokens[i] = (mg_token_text){(const char *)&mg__byte_texts[i], 1};
  return mg__tokenizer_create(context, &bytes_kind, sizeof(mg_tokenizer), tokens, BYTES, out);
}

json_t *mg_tokenizer_to_json(const mg_tokenizer *tokenizer) {
  json_t *object =
      json_pack("{s:s, s:i, s:s}", "format", "moegauge-tokenizer", "version", 1, "kind", tokenizer->kind->name);
  if (object && tokenizer->kind->to_json(tokenizer, object)) return object;
  json_decref(object);
  return NULL;
}

static mg_status from_own_json(mg_context *context, const json_t *json, mg_tokenizer **out) {
  const json_t *version = json_object_get(json, "version");
  if (!json_is_integer(version) || json_integer_value(version) != 1)
    return mg_fail(context, MG_FILE, "tokenizer: 'version' must be 1; write it again with this version of moegauge");
  const char *kind = json_string_value(json_object_get(json, "kind"));
  if (kind && strcmp(kind, "bytes") == 0) return mg_tokenizer_create_bytes(context, out);
  if (kind && strcmp(kind, "bpe") == 0) return mg__bpe_from_json(context, json, out);
  if (kind && strcmp(kind, "released") == 0)
    return mg__released_from_json(context, json_object_get(json, "tokenizer"), out);
  return mg_fail(context, MG_FILE, "tokenizer: 'kind' must be \"bytes\", \"bpe\" or \"released\", not '%.64s'",
                 kind ? kind : "");
}

mg_status mg_tokenizer_from_json(mg_context *context, const json_t *json, mg_tokenizer **out) {
  *out = NULL;
  const char *format = json_string_value(json_object_get(json, "format"));
  if (format && strcmp(format, "moegauge-tokenizer") == 0) return from_own_json(context, json, out);
  if (!format && json_is_object(json_object_get(json, "model"))) return mg__released_from_json(context, json, out);
  return mg_fail(context, MG_FILE,
                 "tokenizer: neither 'format' is \"moegauge-tokenizer\" nor is there the 'model' of a tokenizer.json");
}

mg_status mg_tokenizer_save(const mg_tokenizer *tokenizer, const char *path) {
  json_t *json = mg_tokenizer_to_json(tokenizer);
  char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
  json_decref(json);
  if (!text) return mg_fail(tokenizer->context, MG_MEMORY, "%s: no memory to write the tokenizer", path);
  const mg_status status = mg_file_write_atomic(tokenizer->context, path, text, strlen(text));
  free(text);
  return status;
}

static mg_status load_file(mg_context *context, const char *path, mg_tokenizer **out) {
  char *text;
  size_t bytes;
  MG_TRY(mg_file_read(context, path, FILE_BYTES_MOST, &text, &bytes));
  json_error_t error;
  json_t *json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
  mg_free(context, text, bytes + 1);
  if (!json) return mg_fail(context, MG_FILE, "%s:%d: not JSON: %s", path, error.line, error.text);
  const mg_status status = mg_tokenizer_from_json(context, json, out);
  json_decref(json);
  return status == MG_OK ? MG_OK : mg_fail_where(context, status, "%s", path);
}

mg_status mg_tokenizer_load(mg_context *context, const char *path, mg_tokenizer **out) {
  *out = NULL;
  struct stat about;
  char inside[PATH_MAX];
  if (stat(path, &about) != 0 || !S_ISDIR(about.st_mode)) return load_file(context, path, out);
  const int length = snprintf(inside, sizeof inside, "%s/tokenizer.json", path);
  if (length < 0 || (size_t)length >= sizeof inside) return mg_fail(context, MG_FILE, "%s: the path is too long", path);
  return load_file(context, inside, out);
}
