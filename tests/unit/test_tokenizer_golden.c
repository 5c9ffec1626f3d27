/* Released tokenizers give the ids and texts that the libraries which define them give, for every string of
 * tests/golden/tokenizers (made by tests/golden/make_tokenizers.py). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "model/tokenizer.h"
#include "support/golden_file.h"
#include "support/testing.h"

enum { FULL = 1000 };

typedef struct text_list {
  mg_golden_file file;
  size_t count;
  const char **texts;
  size_t *bytes;
} text_list;

static text_list open_texts(void) {
  text_list list = {.file = mg_golden_file_open("tokenizers/strings.gz")};
  list.count = mg_golden_file_u32(&list.file);
  list.texts = malloc(list.count * sizeof *list.texts);
  list.bytes = malloc(list.count * sizeof *list.bytes);
  for (size_t i = 0; i < list.count; i++) {
    list.bytes[i] = mg_golden_file_u32(&list.file);
    list.texts[i] = (const char *)mg_golden_file_bytes(&list.file, list.bytes[i]);
  }
  return list;
}

static void close_texts(text_list *list) {
  free(list->texts);
  free(list->bytes);
  mg_golden_file_close(&list->file);
}

static uint32_t crc_of_ids(const mg_token_list *list) {
  uLong crc = crc32(0, NULL, 0);
  for (size_t i = 0; i < list->count; i++) {
    const unsigned char two[] = {(unsigned char)list->ids[i], (unsigned char)(list->ids[i] >> 8)};
    crc = crc32(crc, two, 2);
  }
  return (uint32_t)crc;
}

static uint32_t crc_of_text(const mg_text *text) {
  return (uint32_t)crc32(crc32(0, NULL, 0), (const unsigned char *)text->bytes, (uInt)text->count);
}

/* What differs, shown by the string and by our ids. */
static void show(const char *kind, const char *what, size_t index, const char *text, size_t bytes,
                 const mg_token_list *ours) {
  fprintf(stderr, "%s: string %zu, %s:\n  text ", kind, index, what);
  for (size_t i = 0; i < bytes && i < 400; i++) fprintf(stderr, "%02x ", (unsigned char)text[i]);
  fprintf(stderr, "\n  ours ");
  for (size_t i = 0; i < ours->count && i < 200; i++) fprintf(stderr, "%d ", ours->ids[i]);
  fprintf(stderr, "\n");
}

typedef struct expected {
  uint32_t ids, text, plain_text, as_text;
} expected;

typedef struct tally {
  mg_context *context;
  mg_tokenizer *tokenizer;
  const char *kind;
  unsigned encode_flags; /* of the first ids */
  size_t differences;
} tally;

static void count_difference(tally *self, bool differs, const char *what, size_t index, const char *text, size_t bytes,
                             const mg_token_list *list) {
  if (!differs) return;
  if (self->differences++ < 5) show(self->kind, what, index, text, bytes, list);
}

static void compare_decoded(tally *self, const mg_token_list *list, unsigned flags, uint32_t crc, size_t index,
                            const char *text, size_t bytes) {
  mg_text decoded = {0};
  assert_ok(self->context, mg_tokenizer_decode(self->tokenizer, list->ids, (int64_t)list->count, flags, &decoded));
  count_difference(self, crc_of_text(&decoded) != crc, flags ? "decoded without special tokens" : "decoded", index,
                   text, bytes, list);
  mg_text_free(self->context, &decoded);
}

static void compare_string(tally *self, mg_golden_file *file, size_t index, const char *text, size_t bytes) {
  const expected wanted = {mg_golden_file_u32(file), mg_golden_file_u32(file), mg_golden_file_u32(file),
                           mg_golden_file_u32(file)};
  mg_token_list list = {0}, plain = {0};
  assert_ok(self->context, mg_tokenizer_encode(self->tokenizer, text, bytes, self->encode_flags, &list));
  count_difference(self, crc_of_ids(&list) != wanted.ids, "ids", index, text, bytes, &list);
  compare_decoded(self, &list, 0, wanted.text, index, text, bytes);
  compare_decoded(self, &list, MG_DECODE_SKIP_SPECIAL, wanted.plain_text, index, text, bytes);
  assert_ok(self->context, mg_tokenizer_encode(self->tokenizer, text, bytes, MG_ENCODE_SPECIAL_AS_TEXT, &plain));
  count_difference(self, crc_of_ids(&plain) != wanted.as_text, "special tokens as text", index, text, bytes, &plain);
  if (index < FULL) {
    const size_t count = mg_golden_file_u16(file);
    for (size_t i = 0; i < count; i++) {
      const int32_t id = mg_golden_file_u16(file);
      const bool same = i < list.count && list.ids[i] == id;
      if (!same && self->differences < 5) fprintf(stderr, "  id %zu should be %d\n", i, id);
    }
  }
  mg_token_list_free(self->context, &list);
  mg_token_list_free(self->context, &plain);
}

static void compare_all(tally *self, mg_golden_file *file) {
  text_list texts = open_texts();
  assert_true(texts.count >= 10000);
  for (size_t i = 0; i < texts.count; i++) compare_string(self, file, i, texts.texts[i], texts.bytes[i]);
  assert_int_equal(file->at, file->bytes);
  close_texts(&texts);
  if (self->differences) fail_msg("%s: %zu differences", self->kind, self->differences);
}

static json_t *read_document(mg_golden_file *file) {
  const size_t bytes = mg_golden_file_u32(file);
  json_error_t error;
  json_t *json = json_loadb((const char *)mg_golden_file_bytes(file, bytes), bytes,
                            JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
  if (!json) fail_msg("the golden tokenizer is no JSON: %s", error.text);
  return json;
}

static void compare_kind(void **state, const char *kind) {
  mg_context *context = *state;
  char name[64];
  snprintf(name, sizeof name, "tokenizers/%s.gz", kind);
  mg_golden_file file = mg_golden_file_open(name);
  json_t *json = read_document(&file);
  tally self = {.context = context, .kind = kind, .encode_flags = MG_ENCODE_ADD_SPECIAL};
  assert_ok(context, mg_tokenizer_from_json(context, json, &self.tokenizer));
  json_decref(json);
  compare_all(&self, &file);
  mg_tokenizer_destroy(self.tokenizer);
  mg_golden_file_close(&file);
}

#define KIND(name)                                                                                                     \
  static void name(void **state) {                                                                                     \
    compare_kind(state, #name);                                                                                        \
  }
KIND(gpt2)
KIND(roberta)
KIND(llama3)
KIND(qwen2)
KIND(deepseek3)
KIND(deepseek_llm)
KIND(gpt_oss)
KIND(falcon)
KIND(llama2)
KIND(mixtral)
KIND(t5)
KIND(nllb)
KIND(odd_unigram)
KIND(odd_bpe)

/* The tokenizer.json that a tokenizer is saved as, read again in its place. */
static void read_as_saved(mg_context *context, mg_tokenizer **tokenizer) {
  json_t *file;
  assert_ok(context, mg_tokenizer_released_json(*tokenizer, &file));
  assert_string_equal(json_string_value(json_object_get(json_object_get(file, "model"), "type")), "BPE");
  mg_tokenizer_destroy(*tokenizer);
  assert_ok(context, mg_tokenizer_from_json(context, file, tokenizer));
  json_decref(file);
}

/* A SentencePiece vocabulary as a GGUF file holds it, against the sentencepiece library. */
static void compare_sentencepiece(mg_context *context, bool saved) {
  mg_golden_file file = mg_golden_file_open("tokenizers/sentencepiece.gz");
  json_t *json = read_document(&file), *pieces = json_object_get(json, "tokens");
  const size_t count = json_array_size(pieces);
  mg_token_text *tokens = calloc(count, sizeof *tokens);
  float *scores = calloc(count, sizeof *scores);
  int32_t *types = calloc(count, sizeof *types);
  for (size_t i = 0; i < count; i++) {
    const json_t *piece = json_array_get(pieces, i);
    tokens[i] = (mg_token_text){json_string_value(piece), json_string_length(piece)};
    scores[i] = (float)json_number_value(json_array_get(json_object_get(json, "scores"), i));
    types[i] = (int32_t)json_integer_value(json_array_get(json_object_get(json, "types"), i));
  }
  const mg_gguf_vocabulary vocabulary = {.model = "llama",
                                         .tokens = tokens,
                                         .scores = scores,
                                         .types = types,
                                         .count = (int64_t)count,
                                         .bos = 1,
                                         .eos = 2,
                                         .unknown = 0,
                                         .add_bos = -1,
                                         .add_eos = -1,
                                         .add_space_prefix = -1,
                                         .remove_spaces = -1};
  tally self = {.context = context, .kind = "sentencepiece", .encode_flags = MG_ENCODE_SPECIAL_AS_TEXT};
  assert_ok(context, mg_tokenizer_create_gguf(context, &vocabulary, &self.tokenizer));
  if (saved) read_as_saved(context, &self.tokenizer);
  compare_all(&self, &file);
  mg_tokenizer_destroy(self.tokenizer);
  free(tokens);
  free(scores);
  free(types);
  json_decref(json);
  mg_golden_file_close(&file);
}

static void sentencepiece(void **state) {
  compare_sentencepiece(*state, false);
}

static void sentencepiece_as_it_is_saved(void **state) {
  compare_sentencepiece(*state, true);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(gpt2, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(roberta, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(llama3, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(qwen2, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(deepseek3, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(deepseek_llm, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(gpt_oss, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(falcon, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(llama2, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(mixtral, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(t5, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(nllb, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(odd_unigram, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(odd_bpe, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(sentencepiece, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(sentencepiece_as_it_is_saved, mg_testing_open_context, mg_testing_close_context),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
