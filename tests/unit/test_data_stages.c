/* The text stages one by one on hand-made documents, the split, and what bad input says. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/options.h"
#include "moegauge/rng.h"
#include "support/corpus.h"
#include "support/testing.h"
#include "train/data_dataset.h"

#define BYTES_SPEC(stages)                                                                                             \
  "{\"corpus\": \"%s\", \"tokenizer\": \"bytes\", \"stages\": [" stages                                                \
  ", \"split\", \"tokenize\", \"encode\", \"pack\"]"

/* Runs one text stage, with default options, over one document; returns its text or NULL if it was dropped. */
static void assert_stage(mg_context *context, const mg__stage *stage, const char *text, size_t bytes,
                         const char *expected) {
  mg__pipeline pipeline = {.context = context, .domains = json_array(), .dropped = json_object()};
  char options[1024];
  mg_options_defaults(stage->options, options);
  assert_ok(context, mg__document_add(&pipeline, text, bytes, mg__domain_index(&pipeline, "d")));
  assert_ok(context, stage->run(&pipeline, options));
  const mg__document *document = &pipeline.documents[0];
  if (!expected) {
    assert_true(document->dropped);
  } else {
    assert_false(document->dropped);
    assert_int_equal(document->bytes, strlen(expected));
    assert_memory_equal(document->text, expected, document->bytes);
  }
  mg__pipeline_release(&pipeline);
}

static void normalise_gives_one_spelling(void **state) {
  mg_context *context = ((corpus *)*state)->context;
  const struct {
    const char *text, *expected;
  } cases[] = {
      {"a\r\nb\rc\fd", "a\nb\nc\nd\n"},
      {"e\xCC\x81", "\xC3\xA9\n"},                             /* e + acute -> one character */
      {"a  b\t c   \n\n\n\n\n  d", "a b c\n\n  d\n"},          /* blanks, line ends, empty lines; indentation stays */
      {"\xEF\xBB\xBFx\xC2\xA0\xE2\x80\x83y\x01\x7F", "x y\n"}, /* mark of order, two spaces, controls */
      {"\n\n x\n\n", " x\n"},
      {"a\xFF"
       "b\xC3",
       "a\xEF\xBF\xBD"
       "b\xEF\xBF\xBD\n"}, /* invalid bytes */
      {"a\xE2\x80\xA8"
       "b\xC2\x85"
       "c",
       "a\nb\nc\n"},
      {" \n\t\n", NULL},
  };
  for (size_t i = 0; i < MG_COUNT(cases); i++)
    assert_stage(context, &mg__stage_normalise, cases[i].text, strlen(cases[i].text), cases[i].expected);
}

static void filter_drops_by_reason(void **state) {
  corpus *self = *state;
  for (int i = 0; i < 12; i++) {
    char name[64];
    snprintf(name, sizeof name, "words/good%d.txt", i);
    corpus_write_prose(self, name, (uint64_t)i, 1500);
  }
  corpus_write(self, "words/short.txt", "too short");
  char text[4096] = "";
  for (int i = 0; i < 40; i++) strcat(text, "the same line again and again\n");
  corpus_write(self, "words/lines.txt", text);
  text[0] = '\0';
  for (int i = 0; i < 300; i++) snprintf(text + strlen(text), 16, "%d %d; ", i * 7919, i);
  corpus_write(self, "words/numbers.txt", text);
  unsigned char junk[2000];
  for (size_t i = 0; i < sizeof junk; i++)
    junk[i] = (unsigned char)(mg_random_bits(mg_stream_named(1, "junk", 0, 0), i));
  corpus_write_bytes(self, "words/junk.bin", junk, sizeof junk);
  mg_dataset *dataset;
  assert_ok(self->context, corpus_open(self, BYTES_SPEC("\"normalise\", \"filter\"") "}", &dataset));
  assert_int_equal(corpus_report(dataset, "filter", "in.documents"), 16);
  assert_int_equal(corpus_report(dataset, "filter", "out.documents"), 12);
  assert_int_equal(corpus_report(dataset, "filter", "dropped.too_short.documents"), 1);
  assert_int_equal(corpus_report(dataset, "filter", "dropped.repeated_lines.documents"), 1);
  assert_int_equal(corpus_report(dataset, "filter", "dropped.few_letters.documents"), 1);
  assert_int_equal(corpus_report(dataset, "filter", "dropped.not_text.documents"), 1);
  mg_dataset_close(dataset);
}

/* Writes document `number` with every 60th byte changed: similar, not equal. */
static void write_similar(const corpus *self, const char *name, const char *original) {
  char path[256];
  snprintf(path, sizeof path, "%s/text/%s", self->folder, original);
  char *text;
  size_t bytes;
  assert_ok(self->context, mg__text_read(self->context, path, &text, &bytes));
  for (size_t i = 100; i < bytes; i += 1000) text[i] = 'Q';
  corpus_write_bytes(self, name, text, bytes);
  mg_free(self->context, text, bytes + 1);
}

/* Of 20 pairs, each is on one side of the split: bytes 200 to 260 are the same in both and in no other. */
static void assert_pairs_together(const corpus *self, mg_dataset *dataset, bool shouted) {
  char *train = corpus_text(dataset, MG_SPLIT_TRAIN), *valid = corpus_text(dataset, MG_SPLIT_VALID);
  int trained = 0;
  for (int i = 0; i < 20; i++) {
    char path[256];
    snprintf(path, sizeof path, "%s/text/a/%d.txt", self->folder, i);
    char *text, part[61] = "";
    size_t bytes;
    assert_ok(self->context, mg__text_read(self->context, path, &text, &bytes));
    memcpy(part, text + 200, 60);
    for (char *c = part; shouted && *c; c++) *c = (char)toupper((unsigned char)*c);
    const bool in_train = strstr(train, part), in_valid = strstr(valid, part);
    assert_true(in_train != in_valid);
    trained += in_train;
    mg_free(self->context, text, bytes + 1);
  }
  assert_in_range(trained, 2, 18); /* both sides are there */
  free(train);
  free(valid);
}

static void duplicates_are_dropped_or_kept_together(void **state) {
  corpus *self = *state;
  for (int i = 0; i < 40; i++) {
    char name[64], other[64];
    snprintf(name, sizeof name, "a/%d.txt", i);
    corpus_write_prose(self, name, (uint64_t)i, 4000);
    snprintf(other, sizeof other, "b/similar%d.txt", i);
    if (i < 20) write_similar(self, other, name);
    snprintf(other, sizeof other, "b/%d.txt", i);
    corpus_write_prose(self, other, (uint64_t)i + (i < 5 ? 0 : 1000), 4000); /* five exact copies */
  }
  mg_dataset *dataset;
  assert_ok(self->context, corpus_open(self, BYTES_SPEC("\"filter\"") "}", &dataset));
  assert_int_equal(corpus_report(dataset, "filter", "dropped.exact_duplicate.documents"), 5);
  assert_int_equal(corpus_report(dataset, "filter", "dropped.near_duplicate.documents"), 20);
  assert_int_equal(corpus_report(dataset, "filter", "out.documents"), 75);
  mg_dataset_close(dataset);

  const char *spec =
      BYTES_SPEC("{\"stage\": \"filter\", \"near_duplicates\": \"keep\"}") ", \"split\": {\"valid_share\": 0.5}}";
  assert_ok(self->context, corpus_open(self, spec, &dataset));
  assert_int_equal(corpus_report(dataset, "filter", "out.documents"), 95);
  assert_pairs_together(self, dataset, false);
  mg_dataset_close(dataset);
}

/* Adding documents leaves those that were there on their side. */
static void split_is_by_document(void **state) {
  corpus *self = *state;
  const char *spec = BYTES_SPEC("\"normalise\"") ", \"split\": {\"valid_share\": 0.3}}";
  char *before = NULL;
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 30; i++) {
      char name[64];
      snprintf(name, sizeof name, "%s/r%dd%d.txt", i % 2 ? "odd" : "even", round, i);
      corpus_write_prose(self, name, (uint64_t)(1000 * round + i), 600);
    }
    mg_dataset *dataset;
    assert_ok(self->context, corpus_open(self, spec, &dataset));
    char *valid = corpus_text(dataset, MG_SPLIT_VALID), *train = corpus_text(dataset, MG_SPLIT_TRAIN);
    for (int i = 0; i < 30; i++) {
      char path[256], part[81] = "", *text;
      size_t bytes;
      snprintf(path, sizeof path, "%s/text/%s/r0d%d.txt", self->folder, i % 2 ? "odd" : "even", i);
      assert_ok(self->context, mg__text_read(self->context, path, &text, &bytes));
      memcpy(part, text + 20, 80);
      const bool in_valid = strstr(valid, part);
      assert_true(in_valid != (strstr(train, part) != NULL));
      if (before) assert_int_equal(in_valid, strstr(before, part) != NULL);
      mg_free(self->context, text, bytes + 1);
    }
    free(before);
    before = valid;
    free(train);
    mg_dataset_close(dataset);
  }
  free(before);
}

/* Two domains of two documents, of which one resembles one of the other's: moving it for one of them must not take it from
 * the other. Every seed puts other documents aside. */
static void a_shared_document_leaves_every_domain_both_sides(void **state) {
  corpus *self = *state;
  corpus_write_prose(self, "a/1.txt", 1, 4000);
  corpus_write_prose(self, "a/2.txt", 2, 4000);
  write_similar(self, "b/1.txt", "a/1.txt");
  corpus_write_prose(self, "b/3.txt", 3, 4000);
  for (int seed = 1; seed <= 24; seed++) {
    char spec[256];
    mg_dataset *dataset;
    snprintf(spec, sizeof spec, "%s, \"seed\": %d, \"split\": {\"valid_share\": 0.4}}", BYTES_SPEC("\"normalise\""),
             seed);
    assert_ok(self->context, corpus_open(self, spec, &dataset));
    for (size_t i = 0; i < 4; i++) assert_true(dataset->streams[i].count > 0);
    mg_dataset_close(dataset);
  }
}

static void write_gzip(const corpus *self, const char *name, const char *text, size_t cut) {
  char path[256];
  corpus_write(self, name, "");
  snprintf(path, sizeof path, "%s/text/%s", self->folder, name);
  gzFile file = gzopen(path, "wb");
  gzwrite(file, text, (unsigned)strlen(text));
  gzclose(file);
  struct stat about;
  if (cut && stat(path, &about) == 0) assert_int_equal(truncate(path, about.st_size - (off_t)cut), 0);
}

static void collect_reads_folders_and_gzip(void **state) {
  corpus *self = *state;
  write_gzip(self, "packed/a.gz", "packed text one", 0);
  corpus_write(self, "packed/deep/er/b.txt", "text below");
  corpus_write(self, "loose.txt", "a file in the folder itself");
  corpus_write(self, "loose2.txt", "another file in the folder itself");
  corpus_write(self, "packed/.hidden", "never read");
  char link[256];
  snprintf(link, sizeof link, "%s/text/packed/link", self->folder);
  assert_int_equal(symlink("/etc/passwd", link), 0);
  mg_dataset *dataset;
  assert_ok(self->context, corpus_open(self, BYTES_SPEC("\"normalise\"") "}", &dataset));
  assert_int_equal(mg_dataset_domains(dataset), 2);
  assert_string_equal(mg_dataset_domain_name(dataset, 0), "text");
  assert_string_equal(mg_dataset_domain_name(dataset, 1), "packed");
  assert_int_equal(corpus_report(dataset, "collect", "out.documents"), 4);
  assert_int_equal(corpus_report(dataset, "collect", "dropped.symbolic_link.documents"), 1);
  assert_int_equal(corpus_report(dataset, "collect", "dropped.hidden.documents"), 1);
  mg_dataset_close(dataset);
}

static void long_files_are_cut_when_asked(void **state) {
  corpus *self = *state;
  corpus_write_prose(self, "one/book.txt", 1, 20000);
  mg_dataset *dataset;
  assert_refused(self->context, MG_FILE, "document_bytes",
                 corpus_open(self, BYTES_SPEC("\"normalise\"") "}", &dataset));
  assert_ok(self->context,
            corpus_open(self, BYTES_SPEC("\"normalise\"") ", \"collect\": {\"document_bytes\": 1000}}", &dataset));
  assert_in_range(corpus_report(dataset, "collect", "out.documents"), 20, 30);
  mg_dataset_close(dataset);
}

static mg_status shout(void *user, const char *text, size_t bytes, const char *domain, mg_document_verdict *verdict) {
  static char upper[8192];
  ++*(int *)user;
  verdict->keep = strcmp(domain, "a") != 0 || !memmem(text, bytes, "drop me", 7);
  verdict->reason = "told_so";
  for (size_t i = 0; i < bytes; i++) upper[i] = (char)(text[i] >= 'a' && text[i] <= 'z' ? text[i] - 32 : text[i]);
  verdict->text = upper;
  verdict->bytes = bytes;
  return MG_OK;
}

/* The clusters that the filter saw are those of other texts. */
static void similar_documents_stay_together_when_a_script_rewrites_them(void **state) {
  corpus *self = *state;
  for (int i = 0; i < 20; i++) {
    char name[64], other[64];
    snprintf(name, sizeof name, "a/%d.txt", i);
    corpus_write_prose(self, name, (uint64_t)i, 4000);
    snprintf(other, sizeof other, "b/%d.txt", i);
    write_similar(self, other, name);
  }
  int calls = 0;
  const mg_document_filter filter = {shout, &calls, "version 1"};
  const char *spec = BYTES_SPEC(
      "{\"stage\": \"filter\", \"near_duplicates\": \"keep\"}, \"script\"") ", \"split\": {\"valid_share\": 0.5}}";
  mg_dataset *dataset;
  assert_ok(self->context, corpus_open_filtered(self, spec, &filter, &dataset));
  assert_int_equal(calls, 40);
  assert_pairs_together(self, dataset, true);
  mg_dataset_close(dataset);
}

static void a_script_filters_and_rewrites(void **state) {
  corpus *self = *state;
  corpus_write(self, "a/1.txt", "keep this one please\n");
  corpus_write(self, "a/2.txt", "and keep that one too\n");
  corpus_write(self, "a/3.txt", "but drop me now\n");
  int calls = 0;
  mg_document_filter filter = {shout, &calls, "version 1"};
  const char *spec = BYTES_SPEC("\"script\"") "}";
  mg_dataset *dataset;
  for (int round = 0; round < 2; round++) {
    assert_ok(self->context, corpus_open_filtered(self, spec, &filter, &dataset));
    assert_int_equal(calls, 3); /* the second time from the cache */
    assert_int_equal(corpus_report(dataset, "script", "dropped.told_so.documents"), 1);
    char *train = corpus_text(dataset, MG_SPLIT_TRAIN), *valid = corpus_text(dataset, MG_SPLIT_VALID);
    assert_true(strstr(train, "KEEP THIS ONE") || strstr(valid, "KEEP THIS ONE"));
    free(train);
    free(valid);
    mg_dataset_close(dataset);
  }
  filter.identity = "version 2";
  assert_ok(self->context, corpus_open_filtered(self, spec, &filter, &dataset));
  assert_int_equal(calls, 6);
  mg_dataset_close(dataset);
  assert_refused(self->context, MG_USAGE, "no filter", corpus_open(self, spec, &dataset));
  assert_refused(self->context, MG_USAGE, "name 'script'",
                 corpus_open_filtered(self, BYTES_SPEC("\"normalise\"") "}", &filter, &dataset));
  filter.identity = NULL;
  assert_refused(self->context, MG_USAGE, "identity", corpus_open_filtered(self, spec, &filter, &dataset));
}

static void limit_balances_domains(void **state) {
  corpus *self = *state;
  for (int i = 0; i < 40; i++) {
    char name[64];
    snprintf(name, sizeof name, "%s/%d.txt", i < 30 ? "large" : "small", i);
    corpus_write_prose(self, name, (uint64_t)i, 1000);
  }
  mg_dataset *dataset;
  assert_ok(self->context,
            corpus_open(self, "{\"corpus\": \"%s\", \"tokenizer\": \"bytes\", \"domain_bytes\": 12000}", &dataset));
  assert_int_equal(corpus_report(dataset, "limit", "domains.small.documents"), 10);
  assert_in_range(corpus_report(dataset, "limit", "domains.large.documents"), 10, 11);
  mg_dataset_close(dataset);
}

static void bad_input_says_what_and_how(void **state) {
  corpus *self = *state;
  mg_dataset *dataset;
  const struct {
    mg_status status;
    const char *spec, *words;
  } bad[] = {
      {MG_USAGE, "[]", "table"},
      {MG_USAGE, "{}", "'corpus' must be"},
      {MG_USAGE, "{\"corpus\": 3}", "'corpus' must be"},
      {MG_FILE, "{\"corpus\": \"%s/missing\"}", "no such folder"},
      {MG_FILE, "{\"corpus\": \"synthetik\"}", "did you mean 'synthetic'"},
      {MG_USAGE, "{\"corpus\": \"%s\", \"vocabulery\": 300}", "did you mean 'vocabulary'"},
      {MG_USAGE, "{\"corpus\": \"%s\", \"vocabulary\": 3}", "from 256"},
      {MG_USAGE, "{\"corpus\": \"%s\", \"tokenizer\": \"words\"}", "bpe, bytes"},
      {MG_USAGE, "{\"corpus\": \"%s\", \"seed\": -1}", "'seed'"},
      {MG_USAGE, "{\"corpus\": \"%s\", \"stages\": \"filter\"}", "list"},
      {MG_USAGE, "{\"corpus\": \"%s\", \"stages\": [3]}", "stage 1"},
      {MG_USAGE, "{\"corpus\": \"%s\", \"stages\": [\"normalize\"]}", "did you mean 'normalise'"},
      {MG_USAGE, "{\"corpus\": \"%s\", \"stages\": [\"split\", \"filter\"]}", "cannot follow"},
      {MG_USAGE, "{\"corpus\": \"%s\", \"stages\": [\"filter\"]}", "lacks 'split'"},
      {MG_USAGE, "{\"corpus\": \"%s\", \"filter\": {\"minimum_byte\": 1}}", "did you mean 'minimum_bytes'"},
      {MG_USAGE, "{\"corpus\": \"%s\", \"filter\": 7}", "table"},
      {MG_USAGE, BYTES_SPEC("\"normalise\"") ", \"filter\": {}}", "not among the stages"},
      {MG_USAGE, "{\"corpus\": \"manpages\", \"collect\": {\"domains\": \"klingon\"}}", "no domain 'klingon'"},
      {MG_USAGE, "{\"corpus\": \"synthetic\", \"tokenizer\": \"bpe\"}", "leave it out"},
      {MG_USAGE, "{\"corpus\": \"synthetic\", \"stages\": [\"filter\", \"split\", \"pack\"]}", "leave out"},
      {MG_FILE, "{\"corpus\": \"%s\"}", "'english' is empty"},
  };
  corpus_write(self, "german/a.txt", "ein Satz");
  corpus_write(self, "english/.keep", "");
  for (size_t i = 0; i < MG_COUNT(bad); i++)
    assert_refused(self->context, bad[i].status, bad[i].words, corpus_open(self, bad[i].spec, &dataset));
  corpus_write(self, "english/a.txt", "one sentence");
  assert_refused(self->context, MG_FILE, "too_short", corpus_open(self, "{\"corpus\": \"%s\"}", &dataset));
  write_gzip(self, "english/b.gz", "a text that is packed and then cut off before its end", 9);
  assert_refused(self->context, MG_FILE, "english/b.gz", corpus_open(self, "{\"corpus\": \"%s\"}", &dataset));
  if (geteuid() == 0) return; /* root reads everything */
  char path[256];
  snprintf(path, sizeof path, "%s/text/english/a.txt", self->folder);
  chmod(path, 0);
  assert_refused(self->context, MG_FILE, "english/a.txt", corpus_open(self, "{\"corpus\": \"%s\"}", &dataset));
}

static void stages_describe_themselves(void **state) {
  (void)state;
  json_t *stages = mg_dataset_stages();
  assert_int_equal(json_array_size(stages), 11);
  size_t i;
  const json_t *stage;
  json_array_foreach(stages, i, stage) {
    assert_true(json_string_length(json_object_get(stage, "summary")) > 10);
    assert_true(json_is_array(json_object_get(stage, "options")));
  }
  json_decref(stages);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, corpus_setup, corpus_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(normalise_gives_one_spelling),
      TEST(filter_drops_by_reason),
      TEST(duplicates_are_dropped_or_kept_together),
      TEST(split_is_by_document),
      TEST(a_shared_document_leaves_every_domain_both_sides),
      TEST(collect_reads_folders_and_gzip),
      TEST(long_files_are_cut_when_asked),
      TEST(similar_documents_stay_together_when_a_script_rewrites_them),
      TEST(a_script_filters_and_rewrites),
      TEST(limit_balances_domains),
      TEST(bad_input_says_what_and_how),
      TEST(stages_describe_themselves),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
