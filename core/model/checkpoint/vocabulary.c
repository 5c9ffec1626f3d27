/* From the keys tokenizer.ggml.* of a GGUF file to the tables that a tokenizer is made from. */
#include "model/checkpoint_vocabulary.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "model/checkpoint/internal.h"

#define KEY(name) "tokenizer.ggml." name

enum { NUMBER_BYTES = 4 };

/* What was copied out of the metadata, where numbers need not be aligned. */
typedef struct tables {
  const mg_checkpoint *checkpoint;
  mg_token_text *tokens, *merges;
  void *scores, *types; /* f32, i32 */
  mg_gguf_vocabulary vocabulary;
} tables;

static bool has(const tables *t, const char *key) {
  mg_value value;
  return mg_checkpoint_value(t->checkpoint, key, &value);
}

/* A list of texts; none if the key is missing. */
static mg_status read_texts(const tables *t, const char *key, mg_token_text **out, size_t *count) {
  mg_value list;
  MG_TRY(mg_checkpoint_list(t->checkpoint, key, MG_VALUE_TEXT, &list));
  const size_t all = (size_t)list.count;
  *out = mg_alloc(t->checkpoint->context, all * sizeof **out);
  if (all && !*out) return MG_MEMORY;
  *count = all;
  for (size_t i = 0; i < all; i++) mg_value_next_text(&list, &(*out)[i].bytes, &(*out)[i].count);
  return MG_OK;
}

/* A list of one number of 4 bytes for each token. */
static mg_status read_numbers(const tables *t, const char *key, mg_value_type element, void **out) {
  mg_value list;
  const int64_t count = t->vocabulary.count;
  MG_TRY(mg_checkpoint_list(t->checkpoint, key, element, &list));
  if (list.count != count)
    return mg__file_refuse(t->checkpoint, &t->checkpoint->files[0], MG__NOWHERE, "key", key,
                           "it has %lld elements, but there are %lld tokens", (long long)list.count, (long long)count);
  *out = mg_alloc(t->checkpoint->context, (size_t)count * NUMBER_BYTES);
  if (count && !*out) return MG_MEMORY;
  if (count) memcpy(*out, list.data, (size_t)count * NUMBER_BYTES);
  return MG_OK;
}

static mg_status read_id(const tables *t, const char *key, int64_t *out) {
  *out = -1;
  return has(t, key) ? mg_checkpoint_integer(t->checkpoint, key, 0, INT32_MAX, out) : MG_OK;
}

static mg_status read_flag(const tables *t, const char *key, int *out) {
  bool flag;
  *out = -1;
  if (!has(t, key)) return MG_OK;
  MG_TRY(mg_checkpoint_flag(t->checkpoint, key, &flag));
  *out = flag;
  return MG_OK;
}

static mg_status read_charsmap(tables *t) {
  static const char key[] = KEY("precompiled_charsmap");
  mg_value list;
  if (!mg_checkpoint_value(t->checkpoint, key, &list)) return MG_OK;
  if (list.type != MG_VALUE_LIST || list.element != MG_VALUE_I8)
    MG_TRY(mg_checkpoint_list(t->checkpoint, key, MG_VALUE_U8, &list));
  t->vocabulary.charsmap = list.data;
  t->vocabulary.charsmap_bytes = (size_t)list.count;
  return MG_OK;
}

static mg_status read_lists(tables *t) {
  mg_gguf_vocabulary *v = &t->vocabulary;
  size_t count;
  MG_TRY(read_texts(t, KEY("tokens"), &t->tokens, &count));
  v->tokens = t->tokens;
  v->count = (int64_t)count;
  if (has(t, KEY("merges"))) MG_TRY(read_texts(t, KEY("merges"), &t->merges, &v->merges_count));
  if (has(t, KEY("scores"))) MG_TRY(read_numbers(t, KEY("scores"), MG_VALUE_F32, &t->scores));
  if (has(t, KEY("token_type"))) MG_TRY(read_numbers(t, KEY("token_type"), MG_VALUE_I32, &t->types));
  v->merges = t->merges;
  v->scores = t->scores;
  v->types = t->types;
  return read_charsmap(t);
}

static mg_status read_all(tables *t) {
  mg_gguf_vocabulary *v = &t->vocabulary;
  MG_TRY(mg_checkpoint_text(t->checkpoint, KEY("model"), &v->model));
  if (has(t, KEY("pre"))) MG_TRY(mg_checkpoint_text(t->checkpoint, KEY("pre"), &v->pre));
  MG_TRY(read_lists(t));
  MG_TRY(read_id(t, KEY("bos_token_id"), &v->bos));
  MG_TRY(read_id(t, KEY("eos_token_id"), &v->eos));
  MG_TRY(read_id(t, KEY("unknown_token_id"), &v->unknown));
  MG_TRY(read_flag(t, KEY("add_bos_token"), &v->add_bos));
  MG_TRY(read_flag(t, KEY("add_eos_token"), &v->add_eos));
  MG_TRY(read_flag(t, KEY("add_space_prefix"), &v->add_space_prefix));
  return read_flag(t, KEY("remove_extra_whitespaces"), &v->remove_spaces);
}

mg_status mg_checkpoint_tokenizer(const mg_checkpoint *checkpoint, mg_tokenizer **out) {
  mg_context *context = checkpoint->context;
  tables t = {.checkpoint = checkpoint};
  *out = NULL;
  mg_status status = read_all(&t);
  if (status == MG_OK) {
    status = mg_tokenizer_create_gguf(context, &t.vocabulary, out);
    if (status != MG_OK) status = mg_fail_where(context, status, "%s", checkpoint->files[0].path);
  }
  const size_t count = (size_t)t.vocabulary.count;
  mg_free(context, t.tokens, count * sizeof *t.tokens);
  mg_free(context, t.merges, t.vocabulary.merges_count * sizeof *t.merges);
  mg_free(context, t.scores, count * NUMBER_BYTES);
  mg_free(context, t.types, count * NUMBER_BYTES);
  return status;
}

static bool has_tokenizer_file(const char *folder) {
  char file[PATH_MAX];
  const int length = snprintf(file, sizeof file, "%s/tokenizer.json", folder);
  return length > 0 && (size_t)length < sizeof file && access(file, F_OK) == 0;
}

mg_status mg_model_tokenizer(mg_context *context, const char *path, mg_tokenizer **out) {
  mg_checkpoint *checkpoint;
  *out = NULL;
  if (has_tokenizer_file(path) || !mg_checkpoint_names_gguf(context, path))
    return mg_tokenizer_load(context, path, out);
  MG_TRY(mg_checkpoint_open(context, path, NULL, &checkpoint));
  const mg_status status = mg_checkpoint_tokenizer(checkpoint, out);
  mg_checkpoint_close(checkpoint);
  return status;
}
