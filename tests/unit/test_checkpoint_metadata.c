/* Metadata of GGUF files: getters that demand a type, lists, limits, and the tokenizer that a vocabulary becomes. */
#include "support/checkpoint_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "model/checkpoint_vocabulary.h"

static mg_context *context;
static char folder[] = "/tmp/moegauge-metadata-XXXXXX";
static char path[64];

static int open_context(void **state) {
  (void)state;
  if (mg_context_create(NULL, &context) != MG_OK || !mkdtemp(folder)) return 1;
  snprintf(path, sizeof path, "%s/a.gguf", folder);
  return 0;
}

static int close_context(void **state) {
  (void)state;
  assert_int_equal(mg_context_bytes(context), 0);
  mg_context_destroy(context);
  unlink(path);
  return rmdir(folder);
}

static mg_checkpoint *open_checkpoint(void) {
  mg_checkpoint *checkpoint;
  assert_ok(context, mg_checkpoint_open(context, path, NULL, &checkpoint));
  return checkpoint;
}

static void write_metadata(void) {
  mg_bytes b = mg_bytes_gguf(3, 0, 9);
  mg_gguf_string(&b, "general.architecture", "olmoe");
  mg_gguf_integer(&b, "olmoe.expert_count", MG_VALUE_U32, 64);
  mg_gguf_integer(&b, "small", MG_VALUE_I8, 0xfe);
  mg_gguf_integer(&b, "large", MG_VALUE_U64, UINT64_MAX);
  mg_gguf_integer(&b, "epsilon", MG_VALUE_F32, 0x3f000000);
  mg_gguf_integer(&b, "flag", MG_VALUE_BOOL, 1);
  mg_gguf_list(&b, "tokens", MG_VALUE_TEXT, 3);
  mg_bytes_text(&b, "a");
  mg_bytes_text(&b, "");
  mg_bytes_number(&b, 8, 3);
  mg_bytes_add(&b, "b\0c", 3);
  mg_gguf_list(&b, "scores", MG_VALUE_U8, 4);
  mg_bytes_zeros(&b, 4);
  mg_gguf_key(&b, "nul", MG_VALUE_TEXT);
  mg_bytes_number(&b, 8, 3);
  mg_bytes_add(&b, "b\0c", 3);
  mg_bytes_write(&b, path);
  mg_bytes_free(&b);
}

static void getters_demand_their_type(void **state) {
  (void)state;
  const char *text;
  int64_t number;
  double real;
  bool flag;
  mg_value list;
  write_metadata();
  mg_checkpoint *checkpoint = open_checkpoint();
  assert_int_equal(mg_checkpoint_kind(checkpoint), MG_CHECKPOINT_GGUF);
  assert_ok(context, mg_checkpoint_text(checkpoint, "general.architecture", &text));
  assert_string_equal(text, "olmoe");
  assert_ok(context, mg_checkpoint_integer(checkpoint, "olmoe.expert_count", 1, 64, &number));
  assert_int_equal(number, 64);
  assert_ok(context, mg_checkpoint_integer(checkpoint, "small", -128, 127, &number));
  assert_int_equal(number, -2);
  assert_ok(context, mg_checkpoint_real(checkpoint, "epsilon", &real));
  assert_near(real, 0.5, 0);
  assert_ok(context, mg_checkpoint_flag(checkpoint, "flag", &flag));
  assert_true(flag);
  assert_refused(context, MG_FILE, "'olmoe.expert_count': 64 is not within [1, 63]",
                 mg_checkpoint_integer(checkpoint, "olmoe.expert_count", 1, 63, &number));
  assert_refused(context, MG_FILE, "'large': a whole number below 2^63 was wanted, but it is u64",
                 mg_checkpoint_integer(checkpoint, "large", 0, INT64_MAX, &number));
  assert_refused(context, MG_FILE, "'none': it is missing", mg_checkpoint_text(checkpoint, "none", &text));
  assert_refused(context, MG_FILE, "a text was wanted, but it is bool", mg_checkpoint_text(checkpoint, "flag", &text));
  assert_refused(context, MG_FILE, "but it is f32", mg_checkpoint_integer(checkpoint, "epsilon", 0, 1, &number));
  assert_refused(context, MG_FILE, "but it is bool", mg_checkpoint_integer(checkpoint, "flag", 0, 1, &number));
  assert_refused(context, MG_FILE, "but it is i8", mg_checkpoint_real(checkpoint, "small", &real));
  assert_refused(context, MG_FILE, "but it is text", mg_checkpoint_flag(checkpoint, "general.architecture", &flag));
  assert_refused(context, MG_FILE, "but it is a list of text", mg_checkpoint_text(checkpoint, "tokens", &text));
  assert_refused(context, MG_FILE, "a NUL", mg_checkpoint_text(checkpoint, "nul", &text));
  /* ggml 26690: scores of another element type were read as floats. */
  assert_refused(context, MG_FILE, "a list of f32 was wanted, but it is a list of u8",
                 mg_checkpoint_list(checkpoint, "scores", MG_VALUE_F32, &list));
  assert_refused(context, MG_FILE, "a list of f32 was wanted, but it is bool",
                 mg_checkpoint_list(checkpoint, "flag", MG_VALUE_F32, &list));
  mg_checkpoint_close(checkpoint);
}

static void lists_are_walked(void **state) {
  (void)state;
  static const struct {
    const char *text;
    size_t bytes;
  } expected[] = {{"a", 1}, {"", 0}, {"b\0c", 3}};
  mg_value list;
  const char *text;
  size_t bytes;
  int64_t number;
  write_metadata();
  mg_checkpoint *checkpoint = open_checkpoint();
  assert_ok(context, mg_checkpoint_list(checkpoint, "tokens", MG_VALUE_TEXT, &list));
  assert_false(mg_value_next_integer(&list, &number));
  for (size_t i = 0; i < MG_COUNT(expected); i++) {
    assert_int_equal(list.count, MG_COUNT(expected) - i);
    assert_true(mg_value_next_text(&list, &text, &bytes));
    assert_int_equal(bytes, expected[i].bytes);
    assert_memory_equal(text, expected[i].text, bytes + 1);
  }
  assert_false(mg_value_next_text(&list, &text, &bytes));
  mg_checkpoint_close(checkpoint);
}

/* The character that a byte-level vocabulary writes for a byte: itself if it prints, else the next from U+0100 on. */
static size_t byte_character(int byte, int *next, char text[3]) {
  const bool prints = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
  const int point = prints ? byte : 256 + (*next)++;
  if (point < 0x80) {
    text[0] = (char)point;
    return 1;
  }
  text[0] = (char)(0xc0 | point >> 6);
  text[1] = (char)(0x80 | (point & 63));
  return 2;
}

/* 256 bytes, "he" and a control token for `model`, and a type for the first `types` of them. */
static void write_vocabulary(const char *model, uint64_t types) {
  mg_bytes b = mg_bytes_gguf(3, 0, 6);
  int next = 0;
  mg_gguf_string(&b, "tokenizer.ggml.model", model);
  mg_gguf_string(&b, "tokenizer.ggml.pre", "gpt-2");
  mg_gguf_list(&b, "tokenizer.ggml.tokens", MG_VALUE_TEXT, 258);
  for (int byte = 0; byte < 256; byte++) {
    char text[3];
    const size_t bytes = byte_character(byte, &next, text);
    mg_bytes_number(&b, 8, bytes);
    mg_bytes_add(&b, text, bytes);
  }
  mg_bytes_text(&b, "he");
  mg_bytes_text(&b, "<end>");
  mg_gguf_list(&b, "tokenizer.ggml.merges", MG_VALUE_TEXT, 1);
  mg_bytes_text(&b, "h e");
  mg_gguf_list(&b, "tokenizer.ggml.token_type", MG_VALUE_I32, types);
  for (uint64_t i = 0; i < types; i++) mg_bytes_number(&b, 4, i == 257 ? 3 : 1);
  mg_gguf_integer(&b, "tokenizer.ggml.eos_token_id", MG_VALUE_U32, 257);
  mg_bytes_write(&b, path);
  mg_bytes_free(&b);
}

static void vocabularies_become_tokenizers(void **state) {
  (void)state;
  static const int32_t expected[] = {'t', 256, 0xe2, 0x82, 0xac, 257};
  mg_tokenizer *tokenizer;
  mg_token_list list = {0};
  write_vocabulary("gpt2", 258);
  mg_checkpoint *checkpoint = open_checkpoint();
  assert_ok(context, mg_checkpoint_tokenizer(checkpoint, &tokenizer));
  mg_checkpoint_close(checkpoint); /* nothing of it is kept */
  assert_ok(context, mg_tokenizer_encode(tokenizer, "the\xe2\x82\xac<end>", 11, 0, &list));
  assert_int_equal(list.count, MG_COUNT(expected));
  assert_memory_equal(list.ids, expected, sizeof expected);
  mg_token_list_free(context, &list);
  mg_tokenizer_destroy(tokenizer);
  write_vocabulary("gpt2", 257);
  checkpoint = open_checkpoint();
  assert_refused(context, MG_FILE, "'tokenizer.ggml.token_type': it has 257 elements, but there are 258 tokens",
                 mg_checkpoint_tokenizer(checkpoint, &tokenizer));
  mg_checkpoint_close(checkpoint);
  write_vocabulary("abacus", 258);
  checkpoint = open_checkpoint();
  assert_refused(context, MG_FILE, "abacus", mg_checkpoint_tokenizer(checkpoint, &tokenizer));
  assert_null(tokenizer);
  mg_checkpoint_close(checkpoint);
  write_metadata();
  checkpoint = open_checkpoint();
  assert_refused(context, MG_FILE, "'tokenizer.ggml.model': it is missing",
                 mg_checkpoint_tokenizer(checkpoint, &tokenizer));
  mg_checkpoint_close(checkpoint);
}

static void metadata_become_json(void **state) {
  (void)state;
  write_metadata();
  mg_checkpoint *checkpoint = open_checkpoint();
  json_t *json = mg_checkpoint_metadata(checkpoint);
  json_t *expected =
      json_pack("{s:s, s:i, s:i, s:f, s:f, s:b, s:[s, s, s%], s:[i, i, i, i], s:s%}", "general.architecture", "olmoe",
                "olmoe.expert_count", 64, "small", -2, "large", 18446744073709551616.0, "epsilon", 0.5, "flag", 1,
                "tokens", "a", "", "b\0c", (size_t)3, "scores", 0, 0, 0, 0, "nul", "b\0c", (size_t)3);
  assert_non_null(expected);
  assert_true(json_equal(json, expected));
  json_decref(expected);
  json_decref(json);
  mg_checkpoint_close(checkpoint);
  write_vocabulary("gpt2", 258);
  checkpoint = open_checkpoint();
  json = mg_checkpoint_metadata(checkpoint); /* a long list is its count */
  assert_int_equal(json_integer_value(json_object_get(json, "tokenizer.ggml.tokens")), 258);
  json_decref(json);
  mg_checkpoint_close(checkpoint);
}

static void limits_are_kept(void **state) {
  (void)state;
  mg_checkpoint *checkpoint;
  const struct {
    size_t field;
    uint64_t value;
    const char *words;
  } cases[] = {{offsetof(mg_checkpoint_limits, keys), 8, "more keys"},
               {offsetof(mg_checkpoint_limits, text_bytes), 4, "'general.architecture': a text that is longer"},
               {offsetof(mg_checkpoint_limits, list_elements), 3, "'scores': a list longer"},
               {offsetof(mg_checkpoint_limits, name_bytes), 17, "a text that is longer"},
               {offsetof(mg_checkpoint_limits, header_bytes), 100, "longer than 100 bytes"}};
  write_metadata();
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    mg_checkpoint_limits limits = mg_checkpoint_default_limits();
    *(uint64_t *)(void *)((char *)&limits + cases[i].field) = cases[i].value;
    assert_refused(context, MG_FILE, cases[i].words, mg_checkpoint_open(context, path, &limits, &checkpoint));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(getters_demand_their_type), cmocka_unit_test(lists_are_walked),
                                     cmocka_unit_test(vocabularies_become_tokenizers),
                                     cmocka_unit_test(metadata_become_json), cmocka_unit_test(limits_are_kept)};
  return cmocka_run_group_tests(tests, open_context, close_context);
}
