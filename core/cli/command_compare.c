/* moegauge compare: is one run faster or better than another, beyond the noise? */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/commands.h"
#include "cli/session.h"

typedef struct compare_options {
  char fail_on[MG_OPTION_STRING_MAX], metrics[MG_OPTION_STRING_MAX];
  bool force, json;
} compare_options;

static const mg_option options[] = {
    MG_OPTION_STRING(compare_options, fail_on, "", "words that make the exit code 7: slower, worse, or slower,worse"),
    MG_OPTION_STRING(compare_options, metrics, "",
                     "metrics to compare, as loss,dropped_tokens; default: loss, accuracy, speed and memory"),
    MG_OPTION_BOOL(compare_options, force, false, "compare runs of other machines, data or experiments too"),
    MG_OPTION_BOOL(compare_options, json, false, "print JSON and nothing else"), MG_OPTION_END};

static const mg_example examples[] = {
    {"moegauge compare results/before results/after", "what changed, and is it more than noise?"},
    {"moegauge compare results/before results/after --metrics cv,dropped_tokens", "what a study of balance asks"},
    {"moegauge compare results/before results/after --fail-on slower,worse", "for a build that must not regress"},
    MG_EXAMPLE_END};

static mg_status read_run(mg_cli *cli, const char *word, json_t **out) {
  struct stat about;
  char folder[MG_SESSION_PATH_BYTES];
  mg_store *store;
  snprintf(folder, sizeof folder, "%s", word);
  if (stat(word, &about) != 0 || !S_ISDIR(about.st_mode))
    return mg_fail(cli->context, MG_FILE, "%s: is no folder; name one that holds a results.sqlite", word);
  MG_TRY(mg_session_store(cli, folder, true, &store));
  const mg_status status = mg_store_get(store, out);
  mg_store_close(store);
  return status;
}

static mg_status check_words(mg_context *context, const char *words) {
  char copy[MG_OPTION_STRING_MAX], *rest = copy, *word;
  snprintf(copy, sizeof copy, "%s", words);
  while ((word = strsep(&rest, ",")))
    if (*word && strcmp(word, "slower") != 0 && strcmp(word, "worse") != 0)
      return mg_fail(context, MG_USAGE, "--fail-on %s: 'slower' and 'worse' can be given, not '%s'", words, word);
  return MG_OK;
}

static void print_facts(FILE *out, const char *heading, const json_t *facts) {
  size_t index;
  json_t *fact;
  if (json_array_size(facts) > 0) fprintf(out, "%s\n", heading);
  json_array_foreach(facts, index, fact) {
    const char *a = json_string_value(json_object_get(fact, "a")), *b = json_string_value(json_object_get(fact, "b"));
    fprintf(out, "  %s: %s | %s\n", json_string_value(json_object_get(fact, "name")), *a ? a : "none", *b ? b : "none");
  }
}

static mg_status refuse_unlike(mg_cli *cli, const json_t *found, bool force) {
  const json_t *unlike = json_object_get(found, "unlike");
  if (json_array_size(unlike) == 0) return MG_OK;
  print_facts(stderr, "These runs differ in what decides their numbers (A | B):", unlike);
  if (force) return MG_OK;
  return mg_fail(cli->context, MG_USAGE, "the runs cannot be compared fairly; --force compares them nevertheless");
}

static mg_status judge(mg_cli *cli, const json_t *found, const char *words) {
  size_t index, bad = 0;
  json_t *row;
  char first[512] = "";
  json_array_foreach(json_object_get(found, "rows"), index, row) {
    const char *verdict = json_string_value(json_object_get(row, "verdict"));
    if (!*words || !strstr(words, verdict) || (strcmp(verdict, "slower") != 0 && strcmp(verdict, "worse") != 0))
      continue;
    if (bad++ == 0)
      snprintf(first, sizeof first, "%s is %s in %s", json_string_value(json_object_get(row, "label")), verdict,
               json_string_value(json_object_get(row, "metric")));
  }
  if (bad == 0) return MG_OK;
  return mg_fail(cli->context, MG_REGRESSION, "%zu of %zu comparisons regressed; %s", bad,
                 json_array_size(json_object_get(found, "rows")), first);
}

static void print_rest(const json_t *found) {
  const long long only_a = json_integer_value(json_object_get(found, "only_a")),
                  only_b = json_integer_value(json_object_get(found, "only_b"));
  if (only_a + only_b > 0) printf("%lld cases are only in A, %lld only in B.\n", only_a, only_b);
  print_facts(stdout, "Other differences (A | B):", json_object_get(found, "notable"));
}

static mg_status show(mg_cli *cli, const compare_options *set, json_t *found) {
  MG_TRY(refuse_unlike(cli, found, set->force));
  if (json_array_size(json_object_get(found, "rows")) == 0)
    return mg_fail(cli->context, MG_NOTHING, "the runs have no finished case with the same parameters and seed");
  if (set->json) {
    MG_TRY(mg_cli_print_json(cli, json_incref(found)));
  } else {
    fputs(json_string_value(json_object_get(found, "text")), stdout);
    print_rest(found);
  }
  return judge(cli, found, set->fail_on);
}

static mg_status run(mg_cli *cli, const void *option_values, const mg_cli_words *words) {
  const compare_options *set = option_values;
  mg_session session = {.cli = cli};
  json_t *a = NULL, *b = NULL, *found = NULL;
  MG_TRY(check_words(cli->context, set->fail_on));
  mg_status status = read_run(cli, words->word[0], &a);
  if (status == MG_OK) status = read_run(cli, words->word[1], &b);
  if (status == MG_OK) status = mg_session_open(cli, &(mg_session_request){0}, &session);
  if (status == MG_OK) status = mg_engine_compare(session.engine, a, b, set->metrics, &found);
  if (status == MG_OK) status = show(cli, set, found);
  mg_session_close(&session);
  json_decref(a);
  json_decref(b);
  json_decref(found);
  return status;
}

const mg_command mg__command_compare = {
    .name = "compare",
    .words = "A B",
    .summary = "say what is faster, slower, better or worse in run B than in run A, beyond the noise",
    .details = "A and B are folders of results. Cases with the same parameters are paired over seeds. Runs on other "
               "machines, data or experiments are refused, with what differs, unless --force is given.",
    .options = options,
    .options_size = sizeof(compare_options),
    .words_least = 2,
    .words_most = 2,
    .examples = examples,
    .run = run};
