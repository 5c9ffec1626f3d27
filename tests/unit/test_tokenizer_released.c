/* Released tokenizers apart from their ids: bytes that are no UTF-8, long lines, special tokens, translated patterns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "model/tokenizer/pipeline.h"
#include "moegauge/rng.h"
#include "support/golden_file.h"
#include "support/testing.h"

static void one_and_two_bytes(void **state) {
  mg_context *context = *state;
  const struct {
    const char *kind;
    bool exact; /* byte-level, and nothing added or normalised */
  } kinds[] = {{"gpt2", true}, {"falcon", true}, {"mixtral", false}, {"nllb", false}, {"odd_unigram", false}};
  for (size_t k = 0; k < MG_COUNT(kinds); k++) {
    mg_tokenizer *tokenizer = mg_golden_tokenizer(context, kinds[k].kind);
    char text[2];
    for (int first = 0; first < 256; first++) {
      text[0] = (char)first;
      mg_golden_round_trip(context, tokenizer, text, 1, kinds[k].exact);
      for (int second = 0; second < 256; second++) {
        text[1] = (char)second;
        mg_golden_round_trip(context, tokenizer, text, 2, kinds[k].exact);
      }
    }
    mg_tokenizer_destroy(tokenizer);
  }
}

static void byte_level_gives_any_text_back(void **state) {
  mg_context *context = *state;
  static const char *const kinds[] = {"gpt2", "llama3", "deepseek3", "deepseek_llm", "gpt_oss", "falcon"};
  static const char sample[] = " The\tr\xC3\xB6uter's 12345 \xE4\xB8\x93\xE5\xAE\xB6\r\n\xF0\x9F\x98\x80 x!";
  const mg_stream stream = mg_stream_named(11, "released", 0, 0);
  char text[300];
  for (size_t k = 0; k < MG_COUNT(kinds); k++) {
    mg_tokenizer *tokenizer = mg_golden_tokenizer(context, kinds[k]);
    for (uint64_t round = 0; round < 300; round++) {
      const size_t length = (size_t)mg_random_below(stream, round, sizeof text);
      for (size_t i = 0; i < length; i++) {
        const uint32_t bits = mg_random_bits(stream, 1000 + round * sizeof text + i);
        text[i] = (char)(round % 3 == 0   ? bits & 255
                         : round % 3 == 1 ? 0x78 + (bits & 127)
                                          : (unsigned char)sample[(bits % 3 + i) % (sizeof sample - 1)]);
      }
      mg_golden_round_trip(context, tokenizer, text, length, true);
    }
    mg_tokenizer_destroy(tokenizer);
  }
}

/* A line of letters, of blanks, and of a repeated character: 4 times the text may not take much more than 4 times as
 * long. */
static void long_lines_take_linear_time(void **state) {
  mg_context *context = *state;
  static const char *const kinds[] = {"llama3", "deepseek_llm", "falcon", "llama2", "t5", "odd_unigram"};
  const size_t bytes = 2000 * 1000;
  char *text = malloc(bytes);
  for (size_t k = 0; k < MG_COUNT(kinds); k++) {
    mg_tokenizer *tokenizer = mg_golden_tokenizer(context, kinds[k]);
    for (int shape = 0; shape < 3; shape++) {
      for (size_t i = 0; i < bytes; i++)
        text[i] = shape == 0 ? "exprtokns"[(i * i + i / 7) % 9] : shape == 1 ? ' ' : 'a';
      int64_t taken[2];
      for (int round = 0; round < 2; round++) {
        mg_token_list list = {0};
        const int64_t start = mg_clock_ns();
        assert_ok(context, mg_tokenizer_encode(tokenizer, text, round ? bytes : bytes / 4, 0, &list));
        taken[round] = mg_clock_ns() - start;
        assert_true(list.count > 0 || shape == 1);
        mg_token_list_free(context, &list);
      }
      assert_true(taken[1] < 16 * taken[0] + 2000000000); /* 100 times would be quadratic */
    }
    mg_tokenizer_destroy(tokenizer);
  }
  free(text);
}

static void special_tokens_are_known(void **state) {
  mg_context *context = *state;
  mg_tokenizer *tokenizer = mg_golden_tokenizer(context, "mixtral");
  const int32_t end = mg_tokenizer_find(tokenizer, "<|end|>"), plain = mg_tokenizer_find(tokenizer, "<plain>");
  assert_true(end > 0 && plain > 0);
  assert_true(mg_tokenizer_is_special(tokenizer, end));
  assert_false(mg_tokenizer_is_special(tokenizer, plain));
  assert_false(mg_tokenizer_is_special(tokenizer, -1));
  assert_false(mg_tokenizer_is_special(tokenizer, 1 << 30));
  assert_int_equal(mg_tokenizer_find(tokenizer, "no such token"), -1);
  assert_int_equal(mg_tokenizer_bos(tokenizer), mg_tokenizer_find(tokenizer, "<s>"));
  assert_int_equal(mg_tokenizer_eos(tokenizer), mg_tokenizer_find(tokenizer, "</s>"));
  assert_string_equal(mg_tokenizer_kind_name(tokenizer), "released");
  mg_tokenizer_destroy(tokenizer);
}

static void a_saved_one_is_the_same(void **state) {
  mg_context *context = *state;
  mg_tokenizer *tokenizer = mg_golden_tokenizer(context, "t5"), *loaded;
  char path[64];
  snprintf(path, sizeof path, "/tmp/mg_released_%ld.json", (long)getpid());
  assert_ok(context, mg_tokenizer_save(tokenizer, path));
  assert_ok(context, mg_tokenizer_load(context, path, &loaded));
  json_t *first = mg_tokenizer_to_json(tokenizer), *second = mg_tokenizer_to_json(loaded);
  assert_true(json_equal(first, second));
  json_decref(first);
  json_decref(second);
  unlink(path);
  mg_tokenizer_destroy(tokenizer);
  mg_tokenizer_destroy(loaded);
}

static void patterns_are_translated_or_refused(void **state) {
  mg_context *context = *state;
  const struct {
    const char *pattern, *words; /* what the translation or the refusal holds */
    bool good;
  } cases[] = {
      {"\\p{Han}+", "\\p{sc:Han}+", true},
      {"\\p{^Lu}\\P{L}", "\\P{Lu}\\P{L}", true},
      {"[^\\r\\n\\p{L}]", "[^\\r\\n\\p{L}]", true},
      {"(?i:'s|'t)(?m:.)", "(?i:'s|'t)(?s:.)", true},
      {"\\v\\u00e9\\x41\\x{1F600}\\ ", "\\x{b}\\x{e9}\\x{41}\\x{1f600}\\x{20}", true},
      {"a{,3}b{2,}c{x", "a{0,3}b{2,}c\\{x", true},
      {"(?<name>a)(?<!b)(?>c)", "(?<name>a)(?<!b)(?>c)", true},
      {"[\\S]", "[\\S\\x{180e}]", true},
      {"[a&&b]", "intersection", false},
      {"[[:alpha:]]", "POSIX", false},
      {"[a[bc]]", "a class in a class", false},
      {"[]a]", "an empty class", false},
      {"[a", "without its end", false},
      {"[\\W]", "\\W in a class", false},
      {"[\\s-z]", "a range", false},
      {"\\h", "\\h", false},
      {"\\K", "\\K", false},
      {"\\G", "\\G", false},
      {"\\R", "\\R", false},
      {"(a)\\1", "\\1", false},
      {"a{2}?", "optional interval", false},
      {"a{1,2}+", "repeated interval", false},
      {"a(?i)b", "an option in mid-pattern", false},
      {"(?x:a b)", "a group of an unknown kind", false},
      {"(*UTF)a", "(*", false},
      {"(?i:stress)", "without regard to case", false},
      {"\\pL", "without braces", false},
      {"\\x{110000}", "names no character", false},
      {"a\\", "a backslash", false},
      {"", "1 to", false},
  };
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    mg_text out = {0};
    const mg_status status = mg__oniguruma_translate(context, cases[i].pattern, strlen(cases[i].pattern), &out);
    assert_ok(context, mg__text_add(context, &out, "", 1));
    const char *said = cases[i].good ? out.bytes : mg_context_message(context);
    if ((status == MG_OK) != cases[i].good || !strstr(said, cases[i].words)) fail_msg("%s: %s", cases[i].pattern, said);
    mg_text_free(context, &out);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(one_and_two_bytes, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(byte_level_gives_any_text_back, mg_testing_open_context,
                                      mg_testing_close_context),
      cmocka_unit_test_setup_teardown(long_lines_take_linear_time, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(special_tokens_are_known, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(a_saved_one_is_the_same, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(patterns_are_translated_or_refused, mg_testing_open_context,
                                      mg_testing_close_context),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
