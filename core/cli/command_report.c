/* moegauge report: renders stored results again. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/session.h"

typedef struct report_options {
  int64_t format;
  char out[MG_OPTION_STRING_MAX];
  bool smoke;
} report_options;

static const char *const formats[] = {"table", "html", "md", "csv", "json", NULL};

static const mg_option options[] = {
    MG_OPTION_CHOICE(
        report_options, format, 0, formats,
        "table, md, csv and json are printed; all but table are written too; csv adds expected.csv and paper.csv"),
    MG_OPTION_STRING(report_options, out, "", "folder of the results, when it is not results/NAME"),
    MG_OPTION_BOOL(report_options, smoke, false, "the results of a --smoke run"), MG_OPTION_END};

static const mg_example examples[] = {
    {"moegauge report experiments/quickstart.lua", "the table of its latest run"},
    {"moegauge report experiments/quickstart.lua --format html", "writes results/quickstart/report.html"},
    {"moegauge report results/quickstart --format csv", "one line per case, for a spreadsheet"},
    MG_EXAMPLE_END};

static bool is_folder(const char *path) {
  struct stat about;
  return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* The experiment file that a run noted in its results; "" if it is gone, and the standard report is made then. */
static void find_script(const json_t *stored, char script[MG_SESSION_PATH_BYTES]) {
  const char *noted = json_string_value(json_object_get(json_object_get(stored, "experiment"), "script"));
  snprintf(script, MG_SESSION_PATH_BYTES, "%s", noted && access(noted, R_OK) == 0 ? noted : "");
}

static mg_status read_store(mg_cli *cli, const char *folder, json_t **out) {
  mg_store *store;
  MG_TRY(mg_session_store(cli, folder, true, &store));
  const mg_status status = mg_store_get(store, out);
  mg_store_close(store);
  return status;
}

static mg_status report(mg_session *session, const json_t *stored, const char *format) {
  MG_TRY(mg_session_report(session, stored, format));
  if (strcmp(format, "html") == 0) printf("%s/report.html\n", session->folder);
  if (json_array_size(json_object_get(stored, "cases")) == 0)
    return mg_fail(session->cli->context, MG_NOTHING, "%s: no case is stored yet; `moegauge run` makes some",
                   session->folder);
  return MG_OK;
}

/* What ran in a sandbox is reported in one. */
static bool was_sandboxed(const json_t *stored) {
  const char *noted = json_string_value(json_object_get(json_object_get(stored, "experiment"), "sandbox"));
  return noted && strcmp(noted, "yes") == 0;
}

static mg_status run(mg_cli *cli, const void *option_values, const mg_cli_words *words) {
  const report_options *set = option_values;
  char script[MG_SESSION_PATH_BYTES];
  json_t *stored = NULL;
  mg_session session = {.cli = cli};
  const bool folder = is_folder(words->word[0]);
  mg_session_request request = {
      .experiment = folder ? NULL : words->word[0], .out = folder ? words->word[0] : set->out, .smoke = set->smoke};
  mg_session_place(&session, &request);
  MG_TRY(read_store(cli, session.folder, &stored));
  if (folder) {
    find_script(stored, script);
    request.experiment = *script ? script : NULL;
  }
  request.sandboxed = request.experiment && was_sandboxed(stored);
  mg_status status = mg_session_open(cli, &request, &session);
  if (status == MG_OK) status = report(&session, stored, formats[set->format]);
  mg_session_close(&session);
  json_decref(stored);
  return status;
}

const mg_command mg__command_report = {
    .name = "report",
    .words = "EXPERIMENT.lua|FOLDER",
    .summary = "show stored results as a table, a page, Markdown, CSV or JSON",
    .details = "Every form is a view of results.sqlite and can be made again at any time, also of a run that was "
               "interrupted or is still going on.",
    .options = options,
    .options_size = sizeof(report_options),
    .words_least = 1,
    .words_most = 1,
    .examples = examples,
    .run = run};
