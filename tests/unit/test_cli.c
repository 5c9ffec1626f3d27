/* The command line: every row is complete, every example parses, and what is mistyped is named. */
#include <stdlib.h>
#include <string.h>

#include "support/testing.h"

#include "cli/commands.h"
#include "cli/parse.h"

typedef struct world {
  mg_context *context;
} world;

static int set_up(void **state) {
  static world w;
  *state = &w;
  return mg_context_create(NULL, &w.context) != MG_OK;
}

static int tear_down(void **state) {
  world *w = *state;
  const size_t left = mg_context_bytes(w->context);
  mg_context_destroy(w->context);
  return left != 0;
}

/* ---- the rows ---------------------------------------------------------------------------------------------- */

enum { WORDS_MAX = 32, LINE_BYTES = 512 };

/* Splits at blanks; quotes keep blanks together; stops at a redirection. */
static int split(char *line, char *words[WORDS_MAX]) {
  int count = 0;
  char *to = line, *from = line;
  while (*from) {
    while (*from == ' ') from++;
    if (!*from || *from == '>' || *from == '|') break;
    words[count++] = to;
    assert_true(count < WORDS_MAX);
    for (char quote = 0; *from && (quote || *from != ' '); from++) {
      if (quote ? *from == quote : (*from == '\'' || *from == '"'))
        quote = quote ? 0 : *from;
      else
        *to++ = *from;
    }
    if (*from) from++;
    *to++ = '\0';
  }
  return count;
}

static void check_example(world *w, const mg_command *command, const mg_example *example) {
  char line[LINE_BYTES], *words[WORDS_MAX];
  mg_parsed parsed;
  snprintf(line, sizeof line, "%s", example->line);
  const int count = split(line, words);
  if (count < 2 || strcmp(words[0], "moegauge") != 0 || strcmp(words[1], command->name) != 0)
    fail_msg("the example '%s' does not begin with moegauge %s", example->line, command->name);
  const mg_status status = mg__parse(w->context, command, count - 2, words + 2, &parsed);
  if (status != MG_OK) fail_msg("the example '%s' does not parse: %s", example->line, mg_context_message(w->context));
  mg__parsed_free(w->context, command, &parsed);
}

static void test_every_command_is_complete_and_its_examples_parse(void **state) {
  world *w = *state;
  for (const mg_command *const *c = mg__commands; *c; c++) {
    assert_ptr_equal(mg__command_find((*c)->name), *c);
    assert_non_null((*c)->summary);
    assert_non_null((*c)->words);
    assert_non_null((*c)->run);
    int examples = 0;
    for (const mg_example *e = (*c)->examples; e && e->line; e++, examples++) check_example(w, *c, e);
    if (!(*c)->hidden && examples < 2) fail_msg("%s has %d examples, at least 2 are due", (*c)->name, examples);
  }
}

/* ---- parsing ----------------------------------------------------------------------------------------------- */

typedef struct sample {
  bool json, dry_run;
  int64_t jobs;
  double rate;
  char set[MG_OPTION_STRING_MAX];
} sample;

static const mg_option options[] = {MG_OPTION_BOOL(sample, json, false, "JSON"),
                                    MG_OPTION_BOOL(sample, dry_run, false, "plan only"),
                                    MG_OPTION_INT(sample, jobs, 1, 1, 64, "cases at once"),
                                    MG_OPTION_FLOAT(sample, rate, 0.5, 0, 1, "rate"),
                                    MG_OPTION_STRING(sample, set, "", "a setting"),
                                    MG_OPTION_END};

static const mg_command command = {.name = "sample",
                                   .words = "FILE [MORE]",
                                   .options = options,
                                   .options_size = sizeof(sample),
                                   .repeats = "set",
                                   .words_least = 1,
                                   .words_most = 2};

#define PARSE(w, parsed, ...)                                                                                          \
  mg__parse((w)->context, &command, (int)MG_COUNT(((char *[]){__VA_ARGS__})), (char *[]){__VA_ARGS__}, (parsed))

static void test_options_and_words_may_be_mixed(void **state) {
  world *w = *state;
  mg_parsed parsed;
  assert_ok(w->context, PARSE(w, &parsed, "--jobs", "4", "a.lua", "--dry-run", "--rate=0.25", "--", "--json"));
  const sample *set = parsed.options;
  assert_int_equal(set->jobs, 4);
  assert_true(set->dry_run);
  assert_false(set->json);
  assert_true(set->rate == 0.25);
  assert_int_equal(parsed.words.count, 2);
  assert_string_equal(parsed.words.word[0], "a.lua");
  assert_string_equal(parsed.words.word[1], "--json"); /* after -- everything is a word */
  mg__parsed_free(w->context, &command, &parsed);
}

static void test_a_repeated_option_keeps_all_values_in_order(void **state) {
  world *w = *state;
  mg_parsed parsed;
  assert_ok(w->context, PARSE(w, &parsed, "--set", "a=1", "x", "--set=b=2"));
  assert_int_equal(parsed.words.repeated_count, 2);
  assert_string_equal(parsed.words.repeated[0], "a=1");
  assert_string_equal(parsed.words.repeated[1], "b=2");
  mg__parsed_free(w->context, &command, &parsed);
}

static void test_help_wins_over_what_is_missing(void **state) {
  world *w = *state;
  mg_parsed parsed;
  assert_ok(w->context, PARSE(w, &parsed, "-h"));
  assert_true(parsed.help);
  mg__parsed_free(w->context, &command, &parsed);
}

static void test_mistakes_are_named(void **state) {
  world *w = *state;
  mg_parsed parsed;
#define MISTAKE(text, ...)                                                                                             \
  do {                                                                                                                 \
    assert_refused(w->context, MG_USAGE, text, PARSE(w, &parsed, __VA_ARGS__));                                        \
    mg__parsed_free(w->context, &command, &parsed);                                                                    \
  } while (0)
  MISTAKE("unknown option '--dry-rum'; did you mean '--dry-run'?", "x", "--dry-rum");
  MISTAKE("unknown option '--jbs'; did you mean '--jobs'?", "x", "--jbs=3");
  MISTAKE("unknown option '-j'", "x", "-j");
  MISTAKE("--jobs needs an integer from 1 to 64 after it", "x", "--jobs");
  MISTAKE("'jobs' must be an integer from 1 to 64, not 0", "x", "--jobs", "0");
  MISTAKE("'jobs' must be an integer from 1 to 64, not many", "x", "--jobs", "many");
  MISTAKE("'json' must be true or false, not maybe", "x", "--json=maybe");
  MISTAKE("an argument is missing; usage: moegauge sample FILE", "--json");
  MISTAKE("'c' is one argument too many", "a", "b", "c");
#undef MISTAKE
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      TEST(test_every_command_is_complete_and_its_examples_parse),
      TEST(test_options_and_words_may_be_mixed),
      TEST(test_a_repeated_option_keeps_all_values_in_order),
      TEST(test_help_wins_over_what_is_missing),
      TEST(test_mistakes_are_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
