/* tokenizer.json files that must be refused: one message that names the file, the part and the rule. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/golden_file.h"
#include "support/testing.h"

enum { ADDED, NORMALIZER, PRE_TOKENIZER, POST_PROCESSOR, DECODER, MODEL, TOP, PARTS };

#define TOKEN(id, content, more)                                                                                       \
  "{\"id\":" id ",\"content\":\"" content "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"                \
  "\"normalized\":false,\"special\":true" more "}"

static const char *const good_parts[PARTS] = {
    [TOP] = "\"version\":\"1.0\"",
    [ADDED] = "[" TOKEN("2", "<s>", "") "]",
    [NORMALIZER] = "null",
    [PRE_TOKENIZER] = "null",
    [POST_PROCESSOR] = "null",
    [DECODER] = "null",
    [MODEL] = "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]}",
};

static size_t write_file(char *text, size_t room, int part, const char *replacement) {
  const char *parts[PARTS];
  memcpy(parts, good_parts, sizeof parts);
  if (part < PARTS) parts[part] = replacement;
  const int length = snprintf(text, room,
                              "{%s,\"added_tokens\":%s,\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":%s,"
                              "\"decoder\":%s,\"model\":%s}",
                              parts[TOP], parts[ADDED], parts[NORMALIZER], parts[PRE_TOKENIZER], parts[POST_PROCESSOR],
                              parts[DECODER], parts[MODEL]);
  assert_in_range(length, 1, room - 1);
  return (size_t)length;
}

#define SPLIT(pattern, more) "{\"type\":\"Split\",\"pattern\":" pattern "," more "}"
#define ISOLATED "\"behavior\":\"Isolated\",\"invert\":false"

static const struct {
  int part;
  const char *text, *words;
} bad_files[] = {
    {TOP, "\"version\":\"2.0\"", "'version'"},
    {TOP, "\"surprise\":1", "'surprise' is not known"},
    {TOP, "\"truncation\":{\"max_length\":5}", "'truncation' must be null"},
    {TOP, "\"padding\":{}", "'padding' must be null"},
    {TOP, "\"model\":1", "model"}, /* a key twice */
    {ADDED, "{}", "must be a list"},
    {ADDED, "[1]", "added_tokens: [0]"},
    {ADDED, "[" TOKEN("2", "", "") "]", "'content'"},
    {ADDED, "[" TOKEN("-1", "x", "") "]", "'id'"},
    {ADDED, "[" TOKEN("2.5", "x", "") "]", "'id'"},
    {ADDED, "[" TOKEN("4000000000", "x", "") "]", "'id'"},
    {ADDED, "[" TOKEN("2000000000", "x", "") "]", "far beyond"},
    {ADDED, "[" TOKEN("1", "x", "") "]", "which is 'b'"},
    {ADDED, "[" TOKEN("5", "a", "") "]", "in the model's vocabulary it has 0"},
    {ADDED, "[" TOKEN("5", "x", "") "]", "the next free one is 2"},
    {ADDED, "[" TOKEN("2", "x", "") "," TOKEN("2", "y", "") "]", "which is 'x'"},
    {ADDED, "[" TOKEN("2", "x", "") "," TOKEN("3", "x", "") "]", "twice"},
    {ADDED, "[" TOKEN("2", "x", ",\"colour\":1") "]", "'colour'"},
    {ADDED, "[{\"id\":2,\"content\":\"x\"}]", "'single_word' is missing"},
    {NORMALIZER, "{\"type\":\"Nmt\"}", "normalizer: the type 'Nmt'"},
    {NORMALIZER, "{\"type\":\"NFC\",\"speed\":1}", "normalizer: NFC: the option 'speed'"},
    {NORMALIZER, "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"BertNormalizer\"}]}", "normalizers[0]: the type"},
    {NORMALIZER, "{\"type\":\"Sequence\"}", "'normalizers' must be a list"},
    {NORMALIZER, "{\"type\":\"Prepend\"}", "'prepend' must be a string"},
    {NORMALIZER, "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}", "'pattern' is empty"},
    {NORMALIZER, "{\"type\":\"Replace\",\"pattern\":{\"Glob\":\"*\"},\"content\":\"\"}", "'pattern' must be"},
    {NORMALIZER, "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"\"}", "at offset"},
    {NORMALIZER, "{\"type\":\"Strip\",\"strip_left\":1}", "'strip_left' must be true or false"},
    {NORMALIZER, "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"!!!!\"}", "no base 64"},
    {NORMALIZER, "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}", "at least 8"},
    {NORMALIZER, "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////////////w==\"}", "says that its trie"},
    {NORMALIZER, "{\"type\":\"Precompiled\",\"precompiled_charsmap\":null}", "must be a string"},
    {PRE_TOKENIZER, "{\"type\":\"BertPreTokenizer\"}", "pre_tokenizer: the type 'BertPreTokenizer'"},
    {PRE_TOKENIZER, "{\"type\":\"UnicodeScripts\"}", "the type 'UnicodeScripts'"},
    {PRE_TOKENIZER, "7", "the type ''"},
    {PRE_TOKENIZER, SPLIT("{\"Regex\":\"a\"}", "\"behavior\":\"Sideways\""), "the behavior 'Sideways'"},
    {PRE_TOKENIZER, SPLIT("{\"Regex\":\"[[:alpha:]]\"}", ISOLATED), "POSIX"},
    {PRE_TOKENIZER, SPLIT("{\"Regex\":\"\\\\p{Klingon}\"}", ISOLATED), "unknown property"},
    {PRE_TOKENIZER, SPLIT("{\"Regex\":\"a\\u0000b\"}", ISOLATED), "no NUL"},
    {PRE_TOKENIZER, "{\"type\":\"ByteLevel\",\"add_prefix_space\":\"yes\"}", "'add_prefix_space'"},
    {PRE_TOKENIZER, "{\"type\":\"Metaspace\",\"replacement\":\"ab\"}", "one character"},
    {PRE_TOKENIZER, "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}", "'prepend_scheme'"},
    {PRE_TOKENIZER,
     "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\",\"add_prefix_space\":false}",
     "'add_prefix_space' is false"},
    {POST_PROCESSOR, "{\"type\":\"Magic\"}", "post_processor: the type 'Magic'"},
    {POST_PROCESSOR, "{\"type\":\"TemplateProcessing\",\"single\":[],\"pair\":[],\"special_tokens\":{}}", "once"},
    {POST_PROCESSOR,
     "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"q\",\"type_id\":0}}],\"pair\":[],"
     "\"special_tokens\":{}}",
     "'q' is not among"},
    {POST_PROCESSOR, "{\"type\":\"BertProcessing\",\"sep\":[\"x\",9],\"cls\":[\"y\",0]}", "no token has the id 9"},
    {POST_PROCESSOR, "{\"type\":\"BertProcessing\",\"sep\":[\"x\"],\"cls\":[\"y\",0]}", "an id must be"},
    {DECODER, "{\"type\":\"CTC\"}", "decoder: the type 'CTC'"},
    {DECODER, "{\"type\":\"WordPiece\"}", "decoder: the type 'WordPiece'"},
    {DECODER, "{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}", "'start'"},
    {DECODER, "{\"type\":\"Fuse\",\"hot\":true}", "'hot'"},
    {MODEL, "{\"type\":\"WordPiece\",\"vocab\":{}}", "model: the type 'WordPiece'"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}", "'vocab' is empty"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}", "'vocab' must be an object"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}", "both have the id 0"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}", "has the id -1"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{\"a\":100000000},\"merges\":[]}", "has the id 100000000"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{\"a\":\"0\"},\"merges\":[]}", "'a' has no id"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}", "the result is not"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a c\"]}", "the second half is not"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[[\"c\",\"a\"]]}", "the first half is not"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"ab\"]}", "merges[0] is neither"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[[\"a\",\"b\",\"c\"]]}", "merges[0] is neither"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1},\"merges\":[\"a a\",\"a a\"]}", "repeats the pair"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[],\"unk_token\":\"?\"}", "'unk_token' '?'"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[],\"dropout\":0.1}", "'dropout'"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[],\"end_of_word_suffix\":\"</w>\"}",
     "'end_of_word"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1}}", "'merges' must be a list"},
    {MODEL, "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[],\"cache\":1}", "'cache'"},
    {MODEL, "{\"type\":\"Unigram\",\"vocab\":[[\"a\",0],[\"b\"]],\"unk_id\":0}", "vocab[1]"},
    {MODEL, "{\"type\":\"Unigram\",\"vocab\":[[\"a\",0],[\"b\",\"x\"]],\"unk_id\":0}", "vocab[1] has no score"},
    {MODEL, "{\"type\":\"Unigram\",\"vocab\":[[\"a\",0],[\"a\",1]],\"unk_id\":0}", "are both 'a'"},
    {MODEL, "{\"type\":\"Unigram\",\"vocab\":[[\"a\",0],[\"b\",1]],\"unk_id\":2}", "'unk_id'"},
    {MODEL, "{\"type\":\"Unigram\",\"vocab\":[],\"unk_id\":0}", "'vocab' is empty"},
    {MODEL, "{\"type\":\"SentencePieceBPE\",\"vocab\":[[\"a\",0],[\"b\",1e99]],\"unk_id\":0}", "no finite number"},
};

static mg_status load_text(mg_context *context, const char *text, size_t bytes, mg_tokenizer **out) {
  char path[64];
  snprintf(path, sizeof path, "/tmp/mg_bad_%ld.json", (long)getpid());
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(text, 1, bytes, file), bytes);
  fclose(file);
  const mg_status status = mg_tokenizer_load(context, path, out);
  if (status != MG_OK && !strstr(mg_context_message(context), path)) fail_msg("the message does not name the file");
  unlink(path);
  return status;
}

static void bad_files_are_refused(void **state) {
  mg_context *context = *state;
  char text[4096];
  mg_tokenizer *tokenizer;
  const size_t good = write_file(text, sizeof text, PARTS, "");
  assert_ok(context, load_text(context, text, good, &tokenizer));
  mg_tokenizer_destroy(tokenizer);
  for (size_t i = 0; i < MG_COUNT(bad_files); i++) {
    const size_t bytes = write_file(text, sizeof text, bad_files[i].part, bad_files[i].text);
    assert_refused(context, MG_FILE, bad_files[i].words, load_text(context, text, bytes, &tokenizer));
    assert_null(tokenizer);
  }
}

/* Every prefix and every changed byte of a small file: refused or read, never a crash or a leak. */
static void damaged_files_do_no_harm(void **state) {
  mg_context *context = *state;
  char text[4096];
  mg_tokenizer *tokenizer;
  const size_t bytes =
      write_file(text, sizeof text, PRE_TOKENIZER, SPLIT("{\"Regex\":\" ?\\\\p{L}+|\\\\s\"}", ISOLATED));
  for (size_t i = 0; i < bytes; i++) {
    json_t *json = json_loadb(text, i, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    assert_null(json);
  }
  for (size_t i = 0; i < bytes; i++)
    for (int bit = 0; bit < 8; bit++) {
      text[i] ^= (char)(1 << bit);
      json_t *json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
      if (json && mg_tokenizer_from_json(context, json, &tokenizer) == MG_OK) {
        mg_golden_round_trip(context, tokenizer, "ab <s> a\xFF", 9, false);
        mg_tokenizer_destroy(tokenizer);
      }
      json_decref(json);
      text[i] ^= (char)(1 << bit);
    }
}

static void junk_files_are_refused_quickly(void **state) {
  mg_context *context = *state;
  mg_tokenizer *tokenizer;
  const size_t bytes = 1000 * 1000;
  char *text = malloc(bytes);
  memset(text, '[', bytes);
  assert_refused(context, MG_FILE, "not JSON", load_text(context, text, bytes, &tokenizer));
  memset(text, 0xff, bytes);
  assert_refused(context, MG_FILE, "not JSON", load_text(context, text, bytes, &tokenizer));
  assert_refused(context, MG_FILE, "not JSON", load_text(context, "", 0, &tokenizer));
  assert_refused(context, MG_FILE, "'format'", load_text(context, "[]", 2, &tokenizer));
  assert_refused(context, MG_FILE, "'format'", load_text(context, "{\"model\":7}", 11, &tokenizer));
  free(text);
  char path[64];
  snprintf(path, sizeof path, "/tmp/mg_large_%ld.json", (long)getpid());
  FILE *file = fopen(path, "wb");
  assert_int_equal(ftruncate(fileno(file), 100 * 1000 * 1000), 0); /* zeros, which take no room on the disk */
  assert_refused(context, MG_FILE, "not JSON", mg_tokenizer_load(context, path, &tokenizer));
  assert_int_equal(ftruncate(fileno(file), (off_t)1 << 40), 0);
  assert_refused(context, MG_FILE, "at most", mg_tokenizer_load(context, path, &tokenizer));
  fclose(file);
  unlink(path);
  assert_refused(context, MG_FILE, "tokenizer.json: cannot be opened", mg_tokenizer_load(context, "/tmp", &tokenizer));
}

static void deep_sequences_are_refused(void **state) {
  mg_context *context = *state;
  char text[4096] = "", replacement[2048] = "{\"type\":\"NFC\"}", wrapped[2048];
  mg_tokenizer *tokenizer;
  for (int depth = 0; depth < 12; depth++) {
    snprintf(wrapped, sizeof wrapped, "{\"type\":\"Sequence\",\"normalizers\":[%s]}", replacement);
    memcpy(replacement, wrapped, sizeof wrapped);
  }
  const size_t bytes = write_file(text, sizeof text, NORMALIZER, replacement);
  assert_refused(context, MG_FILE, "nest deeper", load_text(context, text, bytes, &tokenizer));
}

static void slow_patterns_end_in_an_error(void **state) {
  mg_context *context = *state;
  char text[4096], subject[64];
  mg_tokenizer *tokenizer;
  mg_token_list list = {0};
  const size_t bytes = write_file(text, sizeof text, PRE_TOKENIZER, SPLIT("{\"Regex\":\"(a+)+[b-z]\"}", ISOLATED));
  assert_ok(context, load_text(context, text, bytes, &tokenizer));
  memset(subject, 'a', sizeof subject);
  assert_refused(context, MG_FILE, "backtracks too much",
                 mg_tokenizer_encode(tokenizer, subject, sizeof subject, 0, &list));
  mg_token_list_free(context, &list);
  mg_tokenizer_destroy(tokenizer);
}

/* Eight stages that each write a hundred letters for one would make 10^16 bytes of one letter. */
static void stages_that_multiply_end_in_an_error(void **state) {
  mg_context *context = *state;
  enum { STAGES = 8, TIMES = 100 };
  char text[8192], normalizers[4096] = "{\"type\":\"Sequence\",\"normalizers\":[", content[TIMES + 1] = "";
  mg_tokenizer *tokenizer;
  mg_token_list list = {0};
  memset(content, 'a', TIMES);
  for (int i = 0; i < STAGES; i++) {
    const size_t used = strlen(normalizers);
    snprintf(&normalizers[used], sizeof normalizers - used,
             "%s{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"%s\"}", i ? "," : "", content);
  }
  strcat(normalizers, "]}");
  const size_t bytes = write_file(text, sizeof text, NORMALIZER, normalizers);
  assert_ok(context, load_text(context, text, bytes, &tokenizer));
  const size_t before = mg_context_bytes(context);
  assert_refused(context, MG_FILE, "longer than the 1048640 bytes", mg_tokenizer_encode(tokenizer, "a", 1, 0, &list));
  assert_in_range(mg_context_peak_bytes(context), before, before + 64 * 1024 * 1024);
  mg_token_list_free(context, &list);
  mg_tokenizer_destroy(tokenizer);
}

static void text_outside_the_vocabulary_is_said(void **state) {
  mg_context *context = *state;
  char text[4096];
  mg_tokenizer *tokenizer;
  mg_token_list list = {0};
  const size_t bytes =
      write_file(text, sizeof text, MODEL, "{\"type\":\"Unigram\",\"vocab\":[[\"a\",0],[\"b\",-1]],\"unk_id\":null}");
  assert_ok(context, load_text(context, text, bytes, &tokenizer));
  assert_ok(context, mg_tokenizer_encode(tokenizer, "ab", 2, 0, &list));
  assert_refused(context, MG_FILE, "no token for 'c'", mg_tokenizer_encode(tokenizer, "abc", 3, 0, &list));
  mg_token_list_free(context, &list);
  mg_tokenizer_destroy(tokenizer);
}

/* Without an unknown token BPE drops what it has no token for, as the library that defines the format does. */
static void bpe_without_unknown_drops(void **state) {
  mg_context *context = *state;
  char text[4096];
  mg_tokenizer *tokenizer;
  mg_token_list list = {0};
  const size_t bytes = write_file(text, sizeof text, PARTS, "");
  assert_ok(context, load_text(context, text, bytes, &tokenizer));
  assert_ok(context, mg_tokenizer_encode(tokenizer, "zz", 2, 0, &list));
  assert_int_equal(list.count, 0);
  assert_ok(context, mg_tokenizer_encode(tokenizer, "zaz\xFF", 4, 0, &list));
  assert_int_equal(list.count, 1);
  mg_token_list_free(context, &list);
  mg_tokenizer_destroy(tokenizer);
}

static void a_vocabulary_without_pairs_loads(void **state) {
  mg_context *context = *state;
  char text[4096];
  mg_tokenizer *tokenizer;
  mg_token_list list = {0};
  const size_t bytes = write_file(
      text, sizeof text, MODEL, "{\"type\":\"SentencePieceBPE\",\"vocab\":[[\"<unk>\",null],[\"a\",0]],\"unk_id\":0}");
  assert_ok(context, load_text(context, text, bytes, &tokenizer));
  assert_ok(context, mg_tokenizer_encode(tokenizer, "azza", 4, 0, &list));
  const int32_t wanted[] = {1, 0, 1}; /* unknown characters in a row are one token */
  assert_int_equal(list.count, 3);
  assert_memory_equal(list.ids, wanted, sizeof wanted);
  mg_token_list_free(context, &list);
  mg_tokenizer_destroy(tokenizer);
  const size_t shorter = write_file(
      text, sizeof text, MODEL, "{\"type\":\"SentencePieceBPE\",\"vocab\":[[\"\",null],[\"a\",null]],\"unk_id\":0}");
  assert_ok(context, load_text(context, text, shorter, &tokenizer)); /* a token without text stands for nothing */
  assert_int_equal(mg_tokenizer_find(tokenizer, ""), -1);
  mg_tokenizer_destroy(tokenizer);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(bad_files_are_refused, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(damaged_files_do_no_harm, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(junk_files_are_refused_quickly, mg_testing_open_context,
                                      mg_testing_close_context),
      cmocka_unit_test_setup_teardown(deep_sequences_are_refused, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(slow_patterns_end_in_an_error, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(stages_that_multiply_end_in_an_error, mg_testing_open_context,
                                      mg_testing_close_context),
      cmocka_unit_test_setup_teardown(text_outside_the_vocabulary_is_said, mg_testing_open_context,
                                      mg_testing_close_context),
      cmocka_unit_test_setup_teardown(bpe_without_unknown_drops, mg_testing_open_context, mg_testing_close_context),
      cmocka_unit_test_setup_teardown(a_vocabulary_without_pairs_loads, mg_testing_open_context,
                                      mg_testing_close_context),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
