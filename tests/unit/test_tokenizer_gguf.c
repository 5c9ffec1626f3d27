/* GGUF vocabularies: equal to the tokenizer.json that they were made from, their defaults, and what is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden_file.h"
#include "support/testing.h"

enum { MERGE_BYTES = 256 };

typedef struct gguf_parts {
  json_t *json;
  mg_token_text *tokens, *merges;
  int32_t *types;
  char *merge_text;
  mg_gguf_vocabulary vocabulary;
} gguf_parts;

/* What a GGUF file would hold of a byte-level tokenizer.json. */
static gguf_parts gguf_of(const char *kind, const char *pre, int64_t count) {
  gguf_parts parts = {.json = mg_golden_tokenizer_json(kind)};
  const json_t *model = json_object_get(parts.json, "model"), *merges = json_object_get(model, "merges"), *item;
  const char *token;
  json_t *id;
  size_t i;
  parts.tokens = calloc((size_t)count, sizeof *parts.tokens);
  parts.types = calloc((size_t)count, sizeof *parts.types);
  parts.merges = calloc(json_array_size(merges), sizeof *parts.merges);
  parts.merge_text = malloc(json_array_size(merges) * MERGE_BYTES);
  for (int64_t k = 0; k < count; k++) parts.types[k] = 1;
  json_object_foreach(json_object_get(model, "vocab"), token, id) parts.tokens[json_integer_value(id)] =
      (mg_token_text){token, strlen(token)};
  json_array_foreach(json_object_get(parts.json, "added_tokens"), i, item) {
    const json_t *content = json_object_get(item, "content");
    const json_int_t at = json_integer_value(json_object_get(item, "id"));
    parts.tokens[at] = (mg_token_text){json_string_value(content), json_string_length(content)};
    parts.types[at] = json_is_true(json_object_get(item, "special")) ? 3 : 4;
  }
  json_array_foreach(merges, i, item) {
    char *at = parts.merge_text + (size_t)MERGE_BYTES * i;
    snprintf(at, MERGE_BYTES, "%s %s", json_string_value(json_array_get(item, 0)),
             json_string_value(json_array_get(item, 1)));
    parts.merges[i] = (mg_token_text){at, strlen(at)};
  }
  parts.vocabulary = (mg_gguf_vocabulary){.model = "gpt2",
                                          .pre = pre,
                                          .tokens = parts.tokens,
                                          .types = parts.types,
                                          .count = count,
                                          .merges = parts.merges,
                                          .merges_count = json_array_size(merges),
                                          .bos = -1,
                                          .eos = -1,
                                          .unknown = -1,
                                          .add_bos = 0,
                                          .add_eos = -1,
                                          .add_space_prefix = -1,
                                          .remove_spaces = -1};
  return parts;
}

static void gguf_release(gguf_parts *parts) {
  free(parts->tokens);
  free(parts->types);
  free(parts->merges);
  free(parts->merge_text);
  json_decref(parts->json);
}

/* Text without the added tokens whose flags a GGUF file does not hold. */
static void assert_same_ids(mg_context *context, mg_tokenizer *a, mg_tokenizer *b) {
  static const char *const texts[] = {
      "The router's 12345 experts don't, and WE'LL see: f(x) = 3.14;\n\n  \tif (a) { return; }",
      "\xE4\xB8\x93\xE5\xAE\xB6 \xE3\x83\xAB\xE3\x83\xBC\xE3\x82\xBF \xED\x95\x9C\xEA\xB5\xAD e\xCC\x81t",
      "  trailing   \r\n\r\n <|end|><plain> x\xC2\xA0y  ",
      "parseHTTPJson ISO8601 camelCase UPPERlower 1a2b 99,999.00%"};
  for (size_t i = 0; i < MG_COUNT(texts); i++) {
    mg_token_list first = {0}, second = {0};
    assert_ok(context, mg_tokenizer_encode(a, texts[i], strlen(texts[i]), 0, &first));
    assert_ok(context, mg_tokenizer_encode(b, texts[i], strlen(texts[i]), 0, &second));
    assert_int_equal(first.count, second.count);
    assert_memory_equal(first.ids, second.ids, first.count * sizeof *first.ids);
    mg_token_list_free(context, &first);
    mg_token_list_free(context, &second);
  }
}

static void gguf_cuts_equal_their_tokenizer_json(void **state) {
  mg_context *context = *state;
  static const char *const cases[][2] = {{"gpt2", "gpt-2"},     {"llama3", "llama-bpe"},
                                         {"qwen2", "qwen2"},    {"deepseek3", "deepseek-v3"},
                                         {"gpt_oss", "gpt-4o"}, {"deepseek_llm", "deepseek-llm"}};
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    mg_tokenizer *json = mg_golden_tokenizer(context, cases[i][0]), *gguf;
    gguf_parts parts = gguf_of(cases[i][0], cases[i][1], mg_tokenizer_vocabulary(json));
    assert_ok(context, mg_tokenizer_create_gguf(context, &parts.vocabulary, &gguf));
    assert_same_ids(context, json, gguf);
    gguf_release(&parts);
    mg_tokenizer_destroy(json);
    mg_tokenizer_destroy(gguf);
  }
}

static void every_gguf_cut_compiles(void **state) {
  mg_context *context = *state;
  static const char *const names[] = {"gpt-2",        "olmo",           "starcoder",  "refact", "smollm",
                                      "llama-bpe",    "dbrx",           "glm4",       "qwen2",  "qwen35",
                                      "gpt-4o",       "llama4",         "tekken",     "llama3", "bailingmoe",
                                      "deepseek-llm", "deepseek-coder", "deepseek-v3"};
  for (size_t i = 0; i < MG_COUNT(names); i++) {
    mg_tokenizer *gguf;
    gguf_parts parts = gguf_of("gpt2", names[i], 915);
    assert_ok(context, mg_tokenizer_create_gguf(context, &parts.vocabulary, &gguf));
    mg_golden_round_trip(context, gguf, "It's 1234 caf\xC3\xA9s.", 17, true);
    gguf_release(&parts);
    mg_tokenizer_destroy(gguf);
  }
}

static void gguf_ends_and_t5(void **state) {
  mg_context *context = *state;
  const mg_token_text tokens[] = {{"<pad>", 5},
                                  {"</s>", 4},
                                  {"<unk>", 5},
                                  {"\xE2\x96\x81", 3},
                                  {"a", 1},
                                  {"\xE2\x96\x81"
                                   "a",
                                   4}};
  const float scores[] = {0, 0, 0, -2, -3, -1};
  const int32_t types[] = {3, 3, 2, 1, 1, 1};
  mg_gguf_vocabulary vocabulary = {.model = "t5",
                                   .tokens = tokens,
                                   .scores = scores,
                                   .types = types,
                                   .count = 6,
                                   .bos = -1,
                                   .eos = 1,
                                   .unknown = 2,
                                   .add_bos = -1,
                                   .add_eos = -1,
                                   .add_space_prefix = -1,
                                   .remove_spaces = -1};
  mg_tokenizer *tokenizer;
  mg_token_list list = {0};
  assert_ok(context, mg_tokenizer_create_gguf(context, &vocabulary, &tokenizer));
  assert_ok(context, mg_tokenizer_encode(tokenizer, "a  ab", 5, MG_ENCODE_ADD_SPECIAL, &list));
  const int32_t wanted[] = {5, 5, 2, 1};
  assert_int_equal(list.count, 4);
  assert_memory_equal(list.ids, wanted, sizeof wanted);
  assert_int_equal(mg_tokenizer_eos(tokenizer), 1);
  assert_int_equal(mg_tokenizer_bos(tokenizer), -1);
  mg_token_list_free(context, &list);
  mg_tokenizer_destroy(tokenizer);
}

static void bad_gguf_vocabularies_are_refused(void **state) {
  mg_context *context = *state;
  mg_tokenizer *tokenizer;
  const mg_token_text tokens[] = {{"a", 1}, {"b", 1}, {"a", 1}}, bad[] = {{"\xFF", 1}, {"b", 1}}, nul[] = {{"\0", 1}};
  const float scores[] = {0, NAN, 0};
  const int32_t types[] = {1, 9, 1};
  const mg_token_text merges[] = {{"a", 1}}, unknown_merges[] = {{"a c", 3}};
#define ENDS .tokens = tokens, .count = 2, .bos = -1, .eos = -1, .add_bos = 0, .add_eos = 0
#define BASE ENDS, .unknown = -1
  const struct {
    mg_gguf_vocabulary vocabulary;
    const char *words;
  } cases[] = {
      {{BASE, .model = "rwkv"}, "model: 'rwkv'"},
      {{BASE, .model = NULL}, "model: ''"},
      {{BASE, .model = "gpt2", .pre = "no-such-cut"}, "'no-such-cut' is not known"},
      {{BASE, .model = "gpt2", .pre = NULL}, "(none)"},
      {{BASE, .model = "gpt2", .pre = "gpt-2 olmo"}, "is not known"},
      {{BASE, .model = "llama"}, "scores: missing"},
      {{BASE, .model = "llama", .scores = scores}, "scores: that of token 1"},
      {{BASE, .model = "gpt2", .pre = "gpt-2", .types = types}, "token_type: token 1 has the type 9"},
      {{BASE, .model = "gpt2", .pre = "gpt-2", .merges = merges, .merges_count = 1}, "merges[0]"},
      {{BASE, .model = "gpt2", .pre = "gpt-2", .merges = unknown_merges, .merges_count = 1}, "the second half"},
      {{.tokens = tokens, .count = 3, .bos = -1, .eos = -1, .unknown = -1, .model = "gpt2", .pre = "gpt-2"}, "twice"},
      {{.tokens = bad, .count = 2, .bos = -1, .eos = -1, .unknown = -1, .model = "gpt2", .pre = "gpt-2"}, "not UTF-8"},
      {{.tokens = nul, .count = 1, .bos = -1, .eos = -1, .unknown = -1, .model = "gpt2", .pre = "gpt-2"}, "NUL"},
      {{.tokens = tokens, .count = 0, .bos = -1, .eos = -1, .unknown = -1, .model = "gpt2", .pre = "gpt-2"}, "not 0"},
      {{.tokens = tokens, .count = 2, .bos = 2, .eos = -1, .unknown = -1, .model = "gpt2", .pre = "gpt-2"},
       "bos_token_id"},
      {{.tokens = tokens,
        .count = 2,
        .bos = -1,
        .eos = -1,
        .unknown = -1,
        .add_bos = 1,
        .model = "gpt2",
        .pre = "gpt-2"},
       "there is no bos_token_id"},
      {{ENDS, .model = "t5", .scores = (float[]){0, 0}, .unknown = 5}, "unknown_token_id"},
      {{ENDS, .model = "t5", .scores = (float[]){0, 0}, .unknown = 1, .charsmap = (const unsigned char *)"abc",
        .charsmap_bytes = 3},
       "precompiled_charsmap"},
  };
#undef BASE
#undef ENDS
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    assert_refused(context, MG_FILE, cases[i].words,
                   mg_tokenizer_create_gguf(context, &cases[i].vocabulary, &tokenizer));
    assert_null(tokenizer);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(gguf_cuts_equal_their_tokenizer_json, mg_testing_open_context,
                                      mg_testing_close_context),
      cmocka_unit_test_setup_teardown(every_gguf_cut_compiles, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(gguf_ends_and_t5, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(bad_gguf_vocabularies_are_refused, mg_testing_open_context,
                                      mg_testing_close_context),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
