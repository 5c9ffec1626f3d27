/* moegauge case: runs one case of an experiment and tells its parent how it went, in lines of JSON on descriptor 3 (on
 * standard output when there is none). core/lab/runner.h defines the lines. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/sandboxed.h"
#include "lab/runner.h"

static const int64_t progress_pause_ns = 200 * (int64_t)1000000;

typedef struct case_options {
  char set[MG_OPTION_STRING_MAX], seeds[MG_OPTION_STRING_MAX];
  bool smoke, allow_fs, plan, title;
  char sandbox[MG_OPTION_STRING_MAX], report[MG_OPTION_STRING_MAX];
  int64_t memory, cpu;
} case_options;

static const mg_option options[] = {
    MG_OPTION_STRING(case_options, set, "", "KEY=VALUE, as for run"),
    MG_OPTION_STRING(case_options, seeds, "", "as for run"),
    MG_OPTION_BOOL(case_options, smoke, false, "as for run"),
    MG_OPTION_BOOL(case_options, allow_fs, false, "as for run"),
    MG_OPTION_STRING(case_options, sandbox, "", "folder of the results: shut in, as for run"),
    MG_OPTION_INT(case_options, memory, 0, 0, 1e15, "bytes in the sandbox; 0 = no limit"),
    MG_OPTION_INT(case_options, cpu, 0, 0, 1e15, "processor seconds in it; 0 = no limit"),
    MG_OPTION_BOOL(case_options, plan, false, "give the plan instead"),
    MG_OPTION_BOOL(case_options, title, false, "give the title instead"),
    MG_OPTION_STRING(case_options, report, "", "give the stored results in this form instead"),
    MG_OPTION_END};

static const mg_example examples[] = {{"moegauge case experiments/quickstart.lua 1", "the first case, here"},
                                      {"moegauge case experiments/quickstart.lua 3 --smoke", "two steps of the third"},
                                      MG_EXAMPLE_END};

typedef struct speaker {
  int descriptor;
  int64_t last_ns; /* when progress was told */
} speaker;

/* Writes one line and releases the message. */
static void say(const speaker *to, json_t *message) {
  char *text = message ? json_dumps(message, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
  json_decref(message);
  if (text) dprintf(to->descriptor, "%s\n", text);
  free(text);
}

static void tell_progress(void *user, const json_t *progress) {
  speaker *to = user;
  const int64_t now = mg_clock_ns();
  if (now - to->last_ns < progress_pause_ns) return;
  to->last_ns = now;
  say(to, json_pack("{s:O}", "progress", (json_t *)(uintptr_t)progress));
}

static void tell_outcome(const speaker *to, const mg_context *context, mg_status status, json_t *result,
                         json_t *provenance) {
  json_t *message = json_object();
  if (status != MG_OK) {
    const char *name = status == MG_NOTHING ? "skipped" : mg_status_name(status);
    json_t *error = json_pack("{s:s, s:s}", "status", name, "message", mg_context_message(context));
    if (!error) error = json_pack("{s:s, s:s}", "status", name, "message", "the message is not UTF-8 text");
    json_object_set_new(message, "error", error);
  }
  if (result) json_object_set_new(message, "result", result);
  if (provenance) json_object_set_new(message, "provenance", provenance);
  say(to, message);
}

static mg_status run_case(mg_session *session, const char *word, json_t **result, json_t **provenance) {
  char *end;
  const long long number = strtoll(word, &end, 10);
  if (end == word || *end || number < 1)
    return mg_fail(session->cli->context, MG_USAGE, "case: a number from 1 up was expected, not '%s'", word);
  return mg_engine_run_case(session->engine, number, result, provenance);
}

static mg_status render(mg_session *session, const char *format, json_t **result) {
  mg_store *store;
  json_t *stored;
  MG_TRY(mg_session_store(session->cli, session->folder, true, &store));
  mg_status status = mg_store_get(store, &stored);
  mg_store_close(store);
  MG_TRY(status);
  status = mg_engine_render(session->engine, stored, format, result);
  json_decref(stored);
  return status;
}

static mg_status tell_title(mg_session *session, json_t **result) {
  char text[1024];
  MG_TRY(mg_engine_title(session->engine, text, sizeof text));
  *result = json_string(text);
  return *result ? MG_OK : mg_fail(session->cli->context, MG_USAGE, "the title is not UTF-8 text");
}

/* Does what the parent wants and tells it how that went. */
static mg_status answer(mg_session *session, mg_status status, const case_options *set, const char *word,
                        const speaker *to) {
  json_t *result = NULL, *provenance = NULL;
  if (status == MG_OK && set->plan)
    status = mg_engine_plan(session->engine, &result);
  else if (status == MG_OK && set->title)
    status = tell_title(session, &result);
  else if (status == MG_OK && *set->report)
    status = render(session, set->report, &result);
  else if (status == MG_OK)
    status = run_case(session, word, &result, &provenance);
  status = mg__sandboxed_explain(session, status);
  tell_outcome(to, session->cli->context, status, result, provenance);
  return status;
}

static mg_status run(mg_cli *cli, const void *option_values, const mg_cli_words *words) {
  const case_options *set = option_values;
  speaker to = {.descriptor = fcntl(MG_CASE_DESCRIPTOR, F_GETFD) < 0 ? STDOUT_FILENO : MG_CASE_DESCRIPTOR};
  if (to.descriptor == MG_CASE_DESCRIPTOR) fcntl(to.descriptor, F_SETFD, FD_CLOEXEC); /* not for gnuplot and others */
  const mg_sandboxed_case inside = {.folder = set->sandbox,
                                    .looks = set->plan || set->title || *set->report,
                                    .draws = *set->report != '\0',
                                    .memory_bytes = set->memory,
                                    .cpu_seconds = set->cpu};
  const mg_session_request request = {.experiment = words->word[0],
                                      .settings = words->repeated,
                                      .settings_count = words->repeated_count,
                                      .seeds = set->seeds,
                                      .smoke = set->smoke,
                                      .allow_files = set->allow_fs,
                                      .inside = *set->sandbox ? &inside : NULL,
                                      .out = set->sandbox,
                                      .progress = tell_progress,
                                      .user = &to};
  mg_session session;
  mg_status status = mg_session_open(cli, &request, &session);
  status = answer(&session, status, set, words->word[1], &to);
  mg_session_close(&session);
  return status;
}

const mg_command mg__command_case = {.name = "case",
                                     .words = "EXPERIMENT.lua NUMBER",
                                     .summary = "run one case of an experiment in this process",
                                     .details = "For debugging, and what `moegauge run` starts for every case.",
                                     .options = options,
                                     .options_size = sizeof(case_options),
                                     .repeats = "set",
                                     .words_least = 2,
                                     .words_most = 2,
                                     .examples = examples,
                                     .hidden = true,
                                     .counts_interrupts = true,
                                     .run = run};
