/* Manual pages to text, and the manpages corpus from packages already in the cache, made by hand. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/vector.h"
#include "moegauge/rng.h"
#include "support/corpus.h"
#include "support/testing.h"
#include "train/data_stage.h"

static void roff_becomes_text(void **state) {
  mg_context *context = ((corpus *)*state)->context;
  const struct {
    const char *roff, *expected, *skipped;
  } cases[] = {
      {".TH LS 1\n.SH NAME\nls \\- list\n.PP\nOne\ntwo\n", "NAME\nls - list\n\nOne two\n", NULL},
      {"The\n.BR open ()\ncall.\n", "The open() call.\n", NULL},
      {".RB ( read \"(2), \" write (2))\n", "(read(2), write(2))\n", NULL},
      {".B \"two words\" \"a \"\"quote\"\"\"\n", "two words a \"\"quote\"\"\n", NULL},
      {"\\fBbold\\fP \\f(CWcode\\fR \\(lqx\\(rq \\[u00E9] \\e \\*(Tm\\&.\n",
       "bold code \xE2\x80\x9Cx\xE2\x80\x9D \xC3\xA9 \\ \xE2\x84\xA2.\n", NULL},
      {".nf\nint  x;\n  y;\n.fi\na\nb\n", "int  x;\n  y;\na b\n", NULL},
      {".TP\n.B \\-a\nAll\nof it\n.IP \\(bu 2\nitem\n", "-a\nAll of it\n\xE2\x80\xA2 item\n", NULL},
      {".de XX\nhidden\n..\n.if n \\{\\\nhidden\n.\\}\nseen\n.\\\" comment\n'\\\" comment\n", "seen\n", NULL},
      {".EQ\nx over y\n.EN\nseen \\\" comment\n", "seen \n", NULL},
      {".TS\ntab(|);\nl l.\na\tb\n_\nc\td\n.TE\n", "a\tb\nc\td\n", NULL},
      {"\xE6\x97\xA5\xE6\x9C\xAC\n\xE8\xAA\x9E\n", "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E\n", NULL},
      {".BI \"int f(int \" a \\\n\", int \" b );\n", "int f(int a, int b);\n", NULL},
      {".so man2/open.2\n", NULL, "alias"},
      {".Dd May 1\n.Dt LS 1\n", NULL, "mdoc"},
  };
  for (size_t i = 0; i < MG_COUNT(cases); i++) {
    mg__text text = {0};
    const char *skipped;
    assert_ok(context, mg__roff_to_text(context, cases[i].roff, strlen(cases[i].roff), &text, &skipped));
    if (cases[i].skipped) {
      assert_string_equal(skipped, cases[i].skipped);
    } else {
      assert_null(skipped);
      if (text.bytes != strlen(cases[i].expected) || memcmp(text.data, cases[i].expected, text.bytes) != 0)
        fail_msg("case %zu: \"%.*s\"", i, (int)text.bytes, text.data);
    }
    MG_VECTOR_FREE(context, text.data, text.room);
  }
}

/* Pieces of markup thrown together end, stay inside their bounds (a sanitizer watches), and never grow without bound. */
static void any_markup_ends(void **state) {
  mg_context *context = ((corpus *)*state)->context;
  static const char *const pieces[] = {"\\",        "\\f(",  "\\[",     "]",       "\\s+",         "\\s'",
                                       "\\*",       "\\n+[", "\\h'",    "\\(",     "\n.B ",        "\n.BR \"",
                                       "\n.if \\{", "\\}",   "\n.TS\n", "\n.TE\n", "\n.de x\n",    "\n..\n",
                                       "\n.IP \"",  "\"",    " ",       "a",       "\xE3\x81\x82", "\\c",
                                       "\n",        "\n.",   "\n'",     "\n.EQ\n", "\\u",          "\\[u12345678]",
                                       "\n.nf\n",   "\\\n"};
  for (uint64_t round = 0; round < 3000; round++) {
    const mg_stream stream = mg_stream_named(round, "markup", 0, 0);
    char source[512] = "";
    for (uint64_t i = 0; i < 40; i++) strcat(source, pieces[mg_random_bits(stream, i) % MG_COUNT(pieces)]);
    char *exact = malloc(strlen(source) + 1); /* so that reading past the end is seen */
    memcpy(exact, source, strlen(source));
    mg__text text = {0};
    const char *skipped;
    assert_ok(context, mg__roff_to_text(context, exact, strlen(source), &text, &skipped));
    assert_true(text.bytes < 4 * sizeof source);
    MG_VECTOR_FREE(context, text.data, text.room);
    free(exact);
  }
}

/* Builds the Debian package PACKAGE with one file, as far as the tools are there. */
static bool build_package(const corpus *self, const char *package, const char *path, const char *text) {
  char name[128], tree[256], command[1024];
  snprintf(name, sizeof name, "../tree/%s", path);
  corpus_write(self, name, text);
  snprintf(name, sizeof name, "../tree/DEBIAN/control");
  char control[256];
  snprintf(control, sizeof control,
           "Package: %s\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: test\n",
           package);
  corpus_write(self, name, control);
  snprintf(tree, sizeof tree, "%s/cache/packages", self->folder);
  mg_folder_make(self->context, tree);
  snprintf(command, sizeof command,
           "cd %s && dpkg-deb -Z${DPKG_DEB_COMPRESSOR_TYPE:-xz} -b tree cache/packages/%s_1_all.deb >/dev/null 2>&1 && "
           "rm -r tree",
           self->folder, package);
  return system(command) == 0;
}

/* With the packages in the cache no network is needed; the manual in a Perl module is left out. */
static void packages_in_the_cache_need_no_network(void **state) {
  corpus *self = *state;
  if (system("command -v dpkg-deb >/dev/null 2>&1") != 0) skip();
  char text[4096] = "";
  for (int i = 0; i < 60; i++)
    snprintf(text + strlen(text), 128, "%ssub name%c%c { return 'value'; }\n",
             i == 20 ? "=head1 NAME\n\nthe manual\n\n=cut\n" : "", 'a' + i / 8, 'a' + i % 8);
  corpus_write(self, "../tree/usr/share/perl/5.36/Other.pm", "package Other; # short and quite different\n1;\n");
  corpus_write(self, "../tree/usr/share/perl/5.36/unicore/Table.pm", "never read");
  assert_true(build_package(self, "perl-modules-5.36", "usr/share/perl/5.36/Test.pm", text));
  mg_dataset *dataset;
  assert_ok(self->context,
            corpus_open(self,
                        "{\"corpus\": \"manpages\", \"tokenizer\": \"bytes\", \"collect\": {\"domains\": \"perl\"}, "
                        "\"stages\": [\"normalise\", \"split\", \"tokenize\", \"encode\", \"pack\"]}",
                        &dataset));
  assert_int_equal(corpus_report(dataset, "collect", "out.documents"), 2);
  char *train = corpus_text(dataset, MG_SPLIT_TRAIN), *valid = corpus_text(dataset, MG_SPLIT_VALID);
  assert_true(strstr(train, "sub nameaa") || strstr(valid, "sub nameaa"));
  assert_false(strstr(train, "the manual") || strstr(valid, "the manual"));
  free(train);
  free(valid);
  mg_dataset_close(dataset);
}

static mg_status unpack(mg_context *context, const char *package, size_t bytes, size_t *unpacked) {
  mg__text tar = {0};
  char *exact = malloc(bytes ? bytes : 1); /* so that reading past the end is seen */
  memcpy(exact, package, bytes);
  const mg_status status = mg__deb_unpack(context, "test.deb", exact, bytes, &tar);
  free(exact);
  *unpacked = tar.bytes;
  MG_VECTOR_FREE(context, tar.data, tar.room);
  return status;
}

/* A package cut short or with a changed byte is refused or read, within its bounds; each form of packing is known. */
static void packages_are_read_or_refused(void **state) {
  corpus *self = *state;
  if (system("command -v dpkg-deb >/dev/null 2>&1") != 0) skip();
  static const char *const forms[] = {"xz", "gzip", "none"};
  size_t sizes[MG_COUNT(forms)];
  for (size_t form = 0; form < MG_COUNT(forms); form++) {
    char path[256], *package;
    size_t bytes, size;
    setenv("DPKG_DEB_COMPRESSOR_TYPE", forms[form], 1);
    assert_true(build_package(self, forms[form], "usr/share/words", "the words of a file\n"));
    unsetenv("DPKG_DEB_COMPRESSOR_TYPE");
    snprintf(path, sizeof path, "%s/cache/packages/%s_1_all.deb", self->folder, forms[form]);
    assert_ok(self->context, mg_file_read(self->context, path, 1 << 20, &package, &bytes));
    assert_ok(self->context, unpack(self->context, package, bytes, &sizes[form]));
    assert_true(sizes[form] >= 1024);
    for (size_t i = 0; i < bytes; i++) {
      if (i + 1 < bytes) assert_int_not_equal(unpack(self->context, package, i, &size), MG_BUG);
      const char kept = package[i];
      package[i] = (char)(kept ^ 0x15);
      const mg_status changed = unpack(self->context, package, bytes, &size);
      assert_true(changed == MG_OK || changed == MG_FILE);
      package[i] = kept;
    }
    assert_refused(self->context, MG_FILE, "damaged", unpack(self->context, package, bytes / 2, &size));
    mg_free(self->context, package, bytes + 1);
  }
  assert_true(sizes[0] == sizes[1] && sizes[1] == sizes[2]);
}

static void no_network_and_no_cache_suggests_synthetic(void **state) {
  corpus *self = *state;
  char *path = strdup(getenv("PATH") ? getenv("PATH") : "");
  setenv("PATH", "/nonexistent", 1); /* neither apt-get nor a network */
  mg_dataset *dataset;
  const mg_status status = corpus_open(self, "{\"corpus\": \"manpages\"}", &dataset);
  setenv("PATH", path, 1);
  free(path);
  assert_int_equal(status, MG_FILE);
  assert_non_null(strstr(mg_context_message(self->context), "synthetic"));
  assert_non_null(strstr(mg_context_message(self->context), "apt-get"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, corpus_setup, corpus_teardown)

int main(void) {
  const struct CMUnitTest tests[] = {TEST(roff_becomes_text), TEST(any_markup_ends),
                                     TEST(packages_in_the_cache_need_no_network), TEST(packages_are_read_or_refused),
                                     TEST(no_network_and_no_cache_suggests_synthetic)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
