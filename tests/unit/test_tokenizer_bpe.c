/* Tokenizers: round trips for any bytes, BPE training by hand and against a naive trainer, files, bad files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "model/tokenizer.h"
#include "moegauge/rng.h"
#include "support/testing.h"

static mg_tokenizer *train(mg_context *context, const char *const *documents, size_t count, const char *pattern,
                           int64_t vocabulary) {
  mg_bpe_trainer *trainer;
  mg_tokenizer *tokenizer;
  assert_ok(context, mg_bpe_trainer_create(context, pattern, &trainer));
  for (size_t i = 0; i < count; i++)
    assert_ok(context, mg_bpe_trainer_add(trainer, documents[i], strlen(documents[i])));
  assert_ok(context, mg_bpe_trainer_finish(trainer, vocabulary, &tokenizer));
  mg_bpe_trainer_destroy(trainer);
  return tokenizer;
}

static void assert_round_trip(mg_context *context, mg_tokenizer *tokenizer, const char *text, size_t bytes) {
  mg_token_list list = {0};
  assert_ok(context, mg_tokenizer_encode(tokenizer, text, bytes, 0, &list));
  mg_text back = {0};
  assert_ok(context, mg_tokenizer_decode(tokenizer, list.ids, (int64_t)list.count, 0, &back));
  assert_int_equal(back.count, bytes);
  if (bytes) assert_memory_equal(back.bytes, text, bytes);
  for (size_t i = 0; i < list.count; i++) assert_in_range(list.ids[i], 0, mg_tokenizer_vocabulary(tokenizer) - 1);
  mg_text_free(context, &back);
  mg_token_list_free(context, &list);
}

static const char sample[] =
    "The router sends each token to an expert. Der Router schickt jedes Token zu einem Experten.\n"
    "Le routeur envoie chaque jeton \xC3\xA0 un expert : d\xC3\xA9j\xC3\xA0 vu.\n"
    "\xE3\x83\xAB\xE3\x83\xBC\xE3\x82\xBF\xE3\x81\xAF\xE5\x90\x84\xE3\x83\x88\xE3\x83\xBC\xE3\x82"
    "\xAF\xE3\x83\xB3\xE3\x82\x92\xE9\x80\x81\xE3\x82\x8B\xE3\x80\x82\n"
    "#define EXPERTS 64\nstatic int expert = 0x1234;\t\t// 3.14159\r\n";

static void round_trip_of_any_bytes(void **state) {
  mg_context *context = *state;
  const char *documents[] = {sample, sample};
  mg_tokenizer *bpe = train(context, documents, 2, NULL, 400), *bytes;
  assert_ok(context, mg_tokenizer_create_bytes(context, &bytes));
  const mg_stream stream = mg_stream_named(7, "test", 0, 0);
  char text[600];
  for (uint64_t round = 0; round < 400; round++) {
    const size_t length = (size_t)mg_random_below(stream, round, sizeof text);
    for (size_t i = 0; i < length; i++) {
      const uint32_t bits = mg_random_bits(stream, 100000 + round * sizeof text + i);
      /* any byte; bytes around UTF-8's edges; pieces of real text */
      text[i] = (char)(round % 3 == 0   ? bits & 255
                       : round % 3 == 1 ? 0x78 + (bits & 127)
                                        : (unsigned char)sample[(bits % 16 + i) % sizeof sample]);
    }
    assert_round_trip(context, bpe, text, length);
    assert_round_trip(context, bytes, text, length);
  }
  assert_round_trip(context, bpe, sample, sizeof sample - 1);
  assert_round_trip(context, bpe, sample, 0);
  mg_tokenizer_destroy(bpe);
  mg_tokenizer_destroy(bytes);
}

/* "low low low lower newest newest": pairs lo 4, ow 4, then by lowest ids; worked by hand. */
static void training_by_hand(void **state) {
  mg_context *context = *state;
  const char *documents[] = {"low low low lower", " newest newest"};
  mg_tokenizer *tokenizer = train(context, documents, 2, NULL, 256 + 4);
  /* Words: "low" 1, " low" 2, " lower" 1, " newest" 2. Counts: l-o 4, o-w 4, ' '-l 3, e-w 2, n-e 2, ... The tie l-o
   * (108, 111) against o-w (111,119) goes to the lowest left id. Then lo-w 4, then ' '-low 3, then the pairs that occur
   * twice: ' '-n has the lowest left id, 32. */
  const char *expected[] = {"lo", "low", " low", " n"};
  for (int32_t i = 0; i < 4; i++) {
    const mg_token_text token = mg_tokenizer_token(tokenizer, 256 + i);
    assert_int_equal(token.count, strlen(expected[i]));
    assert_memory_equal(token.bytes, expected[i], token.count);
  }
  mg_token_list list = {0};
  assert_ok(context, mg_tokenizer_encode(tokenizer, " lowlo", 6, 0, &list));
  assert_int_equal(list.count, 2);
  assert_int_equal(list.ids[0], 258);
  assert_int_equal(list.ids[1], 256);
  mg_token_list_free(context, &list);
  mg_tokenizer_destroy(tokenizer);
}

/* ---- the naive trainer and encoder: count everything anew for each merge ---- */

enum { NAIVE_TEXT = 4000 };
typedef struct naive {
  int32_t symbols[NAIVE_TEXT]; /* -1 ends a word */
  int count;
} naive;

static void naive_merge(naive *self, int32_t left, int32_t right, int32_t merged) {
  int written = 0;
  for (int i = 0; i < self->count; i++) {
    const bool here = i + 1 < self->count && self->symbols[i] == left && self->symbols[i + 1] == right;
    self->symbols[written++] = here ? merged : self->symbols[i];
    i += here;
  }
  self->count = written;
}

static bool naive_best(const naive *self, int32_t *left, int32_t *right) {
  static int counts[320][320];
  memset(counts, 0, sizeof counts);
  int best = 1;
  for (int i = 0; i + 1 < self->count; i++)
    if (self->symbols[i] >= 0 && self->symbols[i + 1] >= 0) counts[self->symbols[i]][self->symbols[i + 1]]++;
  for (int32_t l = 0; l < 320; l++)
    for (int32_t r = 0; r < 320; r++)
      if (counts[l][r] > best) best = counts[l][r], *left = l, *right = r;
  return best > 1;
}

static void training_equals_the_naive_trainer(void **state) {
  mg_context *context = *state;
  static naive reference;
  static char text[NAIVE_TEXT];
  for (uint64_t round = 0; round < 6; round++) {
    const mg_stream stream = mg_stream_named(round, "naive", 0, 0);
    const size_t length = 1500;
    for (size_t i = 0; i < length; i++) text[i] = "aaabbc  "[mg_random_bits(stream, i) & 7];
    text[length] = '\0';
    reference.count = 0;
    for (size_t i = 0; i < length; i++) { /* the pattern " ?[a-c]+| " cuts as this loop does */
      const bool cut = i > 0 && text[i] == ' ';
      if (cut) reference.symbols[reference.count++] = -1;
      reference.symbols[reference.count++] = text[i];
    }
    const char *documents[] = {text};
    mg_tokenizer *tokenizer = train(context, documents, 1, " ?[a-c]+| ", 256 + 60);
    for (int32_t id = 256; id < mg_tokenizer_vocabulary(tokenizer); id++) {
      int32_t left = 0, right = 0;
      assert_true(naive_best(&reference, &left, &right));
      mg_text expected = {0};
      const int32_t halves[] = {left, right};
      assert_ok(context, mg_tokenizer_decode(tokenizer, halves, 2, 0, &expected));
      const mg_token_text token = mg_tokenizer_token(tokenizer, id);
      assert_int_equal(token.count, expected.count);
      assert_memory_equal(token.bytes, expected.bytes, expected.count);
      mg_text_free(context, &expected);
      naive_merge(&reference, left, right, id);
    }
    mg_token_list list = {0}; /* the encoder joins as the naive trainer did */
    assert_ok(context, mg_tokenizer_encode(tokenizer, text, length, 0, &list));
    size_t at = 0;
    for (int i = 0; i < reference.count; i++)
      if (reference.symbols[i] >= 0) assert_int_equal(list.ids[at++], reference.symbols[i]);
    assert_int_equal(at, list.count);
    mg_token_list_free(context, &list);
    mg_tokenizer_destroy(tokenizer);
  }
}

/* The merges that Hugging Face tokenizers learns from the same text, ties included (tests/golden/training). */
static void training_equals_hugging_face(void **state) {
  mg_context *context = *state;
  const char *source = getenv("MOEGAUGE_SOURCE");
  char path[4096];
  snprintf(path, sizeof path, "%s/tests/golden/training/merges.json", source ? source : ".");
  json_t *golden = json_load_file(path, 0, NULL);
  assert_non_null(golden);
  const json_t *merges = json_object_get(golden, "merges");
  const char *documents[] = {json_string_value(json_object_get(golden, "text"))};
  mg_tokenizer *tokenizer = train(context, documents, 1, json_string_value(json_object_get(golden, "pattern")),
                                  256 + (int64_t)json_array_size(merges));
  json_t *own = mg_tokenizer_to_json(tokenizer);
  assert_int_equal(json_array_size(merges), 344);
  for (size_t i = 0; i < json_array_size(merges); i++)
    if (!json_equal(json_array_get(json_object_get(own, "merges"), i), json_array_get(merges, i)))
      fail_msg("merge %zu is another", i);
  json_decref(own);
  json_decref(golden);
  mg_tokenizer_destroy(tokenizer);
}

static void order_of_documents_does_not_matter(void **state) {
  mg_context *context = *state;
  const char *forward[] = {sample, "experts route tokens", "tokens of experts"};
  const char *backward[] = {"tokens of experts", "experts route tokens", sample};
  mg_tokenizer *a = train(context, forward, 3, NULL, 350), *b = train(context, backward, 3, NULL, 350);
  json_t *first = mg_tokenizer_to_json(a), *second = mg_tokenizer_to_json(b);
  assert_true(json_equal(first, second));
  json_decref(first);
  json_decref(second);
  mg_tokenizer_destroy(a);
  mg_tokenizer_destroy(b);
}

static void training_stops_when_nothing_repeats(void **state) {
  mg_context *context = *state;
  const char *documents[] = {"abcdefg"};
  mg_tokenizer *tokenizer = train(context, documents, 1, NULL, 1000);
  assert_int_equal(mg_tokenizer_vocabulary(tokenizer), 256);
  mg_tokenizer_destroy(tokenizer);
}

/* One word of `bytes` letters and one of blanks take time in proportion: doubling must not quadruple it. */
static void one_long_line_takes_linear_time(void **state) {
  mg_context *context = *state;
  const char *documents[] = {sample, sample};
  mg_tokenizer *tokenizer = train(context, documents, 2, NULL, 400);
  const size_t bytes = 10 * 1000 * 1000;
  char *text = malloc(bytes);
  for (size_t i = 0; i < bytes; i++) text[i] = i < bytes / 2 ? "exprtokns"[mg_mix64(i + 1) % 9] : ' ';
  int64_t taken[2];
  for (int round = 0; round < 2; round++) {
    mg_token_list list = {0};
    const int64_t start = mg_clock_ns();
    assert_ok(context, mg_tokenizer_encode(tokenizer, text, round ? bytes : bytes / 4, 0, &list));
    taken[round] = mg_clock_ns() - start;
    assert_true(list.count > 0);
    mg_token_list_free(context, &list);
  }
  assert_true(taken[1] < 16 * taken[0] + 2000000000); /* 4 times the text; 100 times would be quadratic and worse */
  free(text);
  mg_tokenizer_destroy(tokenizer);
}

static void a_saved_tokenizer_is_the_same(void **state) {
  mg_context *context = *state;
  const char *documents[] = {sample, sample};
  mg_tokenizer *saved = train(context, documents, 2, NULL, 380), *loaded;
  char path[64];
  snprintf(path, sizeof path, "/tmp/mg_tokenizer_%ld.json", (long)getpid());
  assert_ok(context, mg_tokenizer_save(saved, path));
  assert_ok(context, mg_tokenizer_load(context, path, &loaded));
  mg_token_list a = {0}, b = {0};
  assert_ok(context, mg_tokenizer_encode(saved, sample, sizeof sample - 1, 0, &a));
  assert_ok(context, mg_tokenizer_encode(loaded, sample, sizeof sample - 1, 0, &b));
  assert_int_equal(a.count, b.count);
  assert_memory_equal(a.ids, b.ids, a.count * sizeof *a.ids);
  unlink(path);
  mg_token_list_free(context, &a);
  mg_token_list_free(context, &b);
  mg_tokenizer_destroy(saved);
  mg_tokenizer_destroy(loaded);
}

static void bad_files_are_refused(void **state) {
  mg_context *context = *state;
  const struct {
    const char *json, *words;
  } bad[] = {
      {"{}", "'format'"},
      {"{\"format\":\"moegauge-tokenizer\",\"version\":2}", "'version'"},
      {"{\"format\":\"moegauge-tokenizer\",\"version\":1,\"kind\":\"unigram\"}", "not 'unigram'"},
      {"{\"format\":\"moegauge-tokenizer\",\"version\":1,\"kind\":\"bpe\"}", "'pattern'"},
      {"{\"format\":\"moegauge-tokenizer\",\"version\":1,\"kind\":\"bpe\",\"pattern\":\".\",\"tokens\":[\"6\"]}",
       "token 0"},
      {"{\"format\":\"moegauge-tokenizer\",\"version\":1,\"kind\":\"bpe\",\"pattern\":\".\",\"tokens\":[\"zz\"]}",
       "not hexadecimal"},
      {"{\"format\":\"moegauge-tokenizer\",\"version\":1,\"kind\":\"bpe\",\"pattern\":\".\",\"tokens\":[\"61\"],"
       "\"merges\":[]}",
       "256"},
      {"{\"format\":\"moegauge-tokenizer\",\"version\":1,\"kind\":\"bpe\",\"pattern\":\".\",\"tokens\":[\"61\"],"
       "\"merges\":[[1,2]]}",
       "merge 0"},
  };
  for (size_t i = 0; i < MG_COUNT(bad); i++) {
    json_t *json = json_loads(bad[i].json, 0, NULL);
    assert_non_null(json);
    mg_tokenizer *tokenizer;
    assert_refused(context, MG_FILE, bad[i].words, mg_tokenizer_from_json(context, json, &tokenizer));
    assert_null(tokenizer);
    json_decref(json);
  }
  mg_bpe_trainer *trainer;
  assert_refused(context, MG_USAGE, "offset", mg_bpe_trainer_create(context, "(unclosed", &trainer));
}

/* ---- as a tokenizer.json ---- */

static void assert_same_ids(mg_context *context, mg_tokenizer *a, mg_tokenizer *b, const char *text, size_t bytes) {
  mg_token_list x = {0}, y = {0};
  assert_ok(context, mg_tokenizer_encode(a, text, bytes, 0, &x));
  assert_ok(context, mg_tokenizer_encode(b, text, bytes, MG_ENCODE_ADD_SPECIAL, &y));
  assert_int_equal(x.count, y.count);
  assert_memory_equal(x.ids, y.ids, x.count * sizeof *x.ids);
  mg_token_list_free(context, &x);
  mg_token_list_free(context, &y);
}

/* Any bytes and texts of the sample's parts have the same ids in the tokenizer.json, and come back. */
static void assert_released_form_is_the_same(mg_context *context, mg_tokenizer *own) {
  json_t *json;
  mg_tokenizer *released;
  char text[300];
  const mg_stream stream = mg_stream_named(11, "test", 0, 0);
  assert_ok(context, mg_tokenizer_released_json(own, &json));
  assert_ok(context, mg_tokenizer_from_json(context, json, &released));
  json_decref(json);
  assert_string_equal(mg_tokenizer_kind_name(released), "released");
  assert_int_equal(mg_tokenizer_vocabulary(released), mg_tokenizer_vocabulary(own));
  assert_same_ids(context, own, released, sample, sizeof sample - 1);
  assert_round_trip(context, released, sample, sizeof sample - 1);
  for (uint64_t round = 0; round < 200; round++) {
    const size_t length = (size_t)mg_random_below(stream, round, sizeof text);
    for (size_t i = 0; i < length; i++) {
      const uint32_t bits = mg_random_bits(stream, 100000 + round * sizeof text + i);
      text[i] = round % 2 ? (char)(bits & 255) : sample[(bits % 8 + i + round) % (sizeof sample - 1)];
    }
    assert_same_ids(context, own, released, text, length);
  }
  mg_tokenizer_destroy(released);
}

static void the_released_form_has_the_same_ids(void **state) {
  mg_context *context = *state;
  const char *documents[] = {sample, sample};
  mg_tokenizer *own = train(context, documents, 2, NULL, 400);
  assert_released_form_is_the_same(context, own);
  mg_tokenizer_destroy(own);
  assert_ok(context, mg_tokenizer_create_bytes(context, &own));
  assert_released_form_is_the_same(context, own);
  mg_tokenizer_destroy(own);
}

/* "ab" + "c" and "a" + "bc" are one text; a tokenizer.json finds ids by text. */
static void two_tokens_of_one_text_have_no_released_form(void **state) {
  mg_context *context = *state;
  char bytes[256];
  mg_token_text tokens[260];
  mg_tokenizer *tokenizer;
  json_t *json;
  for (int i = 0; i < 256; i++) {
    bytes[i] = (char)i;
    tokens[i] = (mg_token_text){&bytes[i], 1};
  }
  tokens[256] = (mg_token_text){"ab", 2};
  tokens[257] = (mg_token_text){"bc", 2};
  tokens[258] = tokens[259] = (mg_token_text){"abc", 3};
  const mg_merge merges[] = {{'a', 'b', 256}, {'b', 'c', 257}, {256, 'c', 258}, {'a', 257, 259}};
  const mg_bpe_tables tables = {tokens, 260, merges, 4, mg_bpe_default_pattern};
  assert_ok(context, mg_tokenizer_create_bpe(context, &tables, &tokenizer));
  assert_refused(context, MG_UNSUPPORTED, "tokens 258 and 259 have one text",
                 mg_tokenizer_released_json(tokenizer, &json));
  assert_null(json);
  mg_tokenizer_destroy(tokenizer);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(the_released_form_has_the_same_ids, mg_testing_open_context,
                                      mg_testing_close_context),
      cmocka_unit_test_setup_teardown(two_tokens_of_one_text_have_no_released_form, mg_testing_open_context,
                                      mg_testing_close_context),
      cmocka_unit_test_setup_teardown(round_trip_of_any_bytes, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(training_by_hand, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(training_equals_the_naive_trainer, mg_testing_open_context,
                                      mg_testing_close_context),
      cmocka_unit_test_setup_teardown(training_equals_hugging_face, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(order_of_documents_does_not_matter, mg_testing_open_context,
                                      mg_testing_close_context),
      cmocka_unit_test_setup_teardown(training_stops_when_nothing_repeats, mg_testing_open_context,
                                      mg_testing_close_context),
      cmocka_unit_test_setup_teardown(one_long_line_takes_linear_time, mg_testing_open_context,
                                      mg_testing_close_context),
      cmocka_unit_test_setup_teardown(a_saved_tokenizer_is_the_same, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(bad_files_are_refused, mg_testing_open_context, mg_testing_close_context),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
