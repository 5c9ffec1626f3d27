/* moegauge run: plans an experiment, runs the cases that are not stored yet, each in a process of its own, and reports.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/sandboxed.h"
#include "lab/runner.h"
#include "measure/provenance.h"

typedef struct run_options {
  char set[MG_OPTION_STRING_MAX], seeds[MG_OPTION_STRING_MAX], out[MG_OPTION_STRING_MAX];
  int64_t jobs;
  double timeout;
  bool dry_run, smoke, fresh, allow_fs, sandbox;
} run_options;

static const mg_option options[] = {
    MG_OPTION_STRING(run_options, set, "",
                     "KEY=VALUE: an option or axis of the experiment, or backend, precision, threads"),
    MG_OPTION_STRING(run_options, seeds, "", "seeds to run, as 1..5 or 1,2,3; default: the experiment's"),
    MG_OPTION_INT(run_options, jobs, 1, 1, 1024,
                  "cases at the same time; they share the processor and disturb timings"),
    MG_OPTION_BOOL(run_options, dry_run, false, "check everything, show the cases, run nothing"),
    MG_OPTION_BOOL(run_options, smoke, false, "two tiny training steps per case; kept apart in results/NAME-smoke"),
    MG_OPTION_BOOL(run_options, fresh, false, "run stored cases again"),
    MG_OPTION_STRING(run_options, out, "", "folder for the results; default: results/NAME"),
    MG_OPTION_FLOAT(run_options, timeout, 0, 0, 1e9, "seconds after which a case is stopped and fails; 0 = none"),
    MG_OPTION_BOOL(run_options, allow_fs, false, "let the script read and write files"),
    MG_OPTION_BOOL(run_options, sandbox, false,
                   "for a script that you have not read: no network, no programs, few files, limits"),
    MG_OPTION_END};

static const mg_example examples[] = {
    {"moegauge run experiments/quickstart.lua", "run what is not stored yet, then show the table"},
    {"moegauge run experiments/quickstart.lua --dry-run", "show the cases and check them"},
    {"moegauge run experiments/quickstart.lua --seeds 1..5 --set tokens=200000", "more seeds, fewer tokens"},
    {"moegauge run experiments/quickstart.lua --smoke --jobs 2", "does every case work at all?"},
    {"moegauge run downloaded.lua --sandbox --timeout 600", "an experiment that nobody here has read"},
    MG_EXAMPLE_END};

typedef struct plan {
  json_t *json;
  mg_case *cases;
  int64_t count;
} plan;

/* ---- the plan ----------------------------------------------------------------------------------------------- */

static void free_plan(mg_context *context, plan *p) {
  mg_free(context, p->cases, (size_t)p->count * sizeof *p->cases);
  json_decref(p->json);
}

static mg_status make_plan(mg_session *session, plan *p) {
  mg_context *context = session->cli->context;
  MG_TRY(mg_session_plan(session, &p->json));
  const json_t *cases = json_object_get(p->json, "cases");
  p->count = (int64_t)json_array_size(cases);
  if (p->count == 0) return mg_fail(context, MG_NOTHING, "%s: the filter leaves no case", session->request.experiment);
  p->cases = mg_alloc(context, (size_t)p->count * sizeof *p->cases);
  if (!p->cases) return MG_MEMORY;
  for (int64_t i = 0; i < p->count; i++) {
    const json_t *one = json_array_get(cases, (size_t)i);
    mg_case *what = &p->cases[i];
    what->number = json_integer_value(json_object_get(one, "number"));
    what->label = json_string_value(json_object_get(one, "label"));
    what->params = json_object_get(one, "params");
    snprintf(what->hash, sizeof what->hash, "%s", json_string_value(json_object_get(one, "hash")));
  }
  return MG_OK;
}

static int by_text(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_axis(const char *name, const json_t *values) {
  size_t index;
  json_t *value;
  if (!values) return;
  printf("  %-14s", name);
  json_array_foreach(values, index, value) printf("%s%s", index ? ", " : "", json_string_value(value));
  putchar('\n');
}

/* In the order of the cases: by name, `seed` last. */
static void print_axes(const json_t *plan_json) {
  const json_t *axes = json_object_get(plan_json, "axes");
  const size_t count = json_object_size(axes);
  const char **names = calloc(count ? count : 1, sizeof *names), *name;
  json_t *values;
  size_t i = 0;
  if (!names) return;
  json_object_foreach((json_t *)(uintptr_t)axes, name, values) names[i++] = name;
  qsort(names, count, sizeof *names, by_text);
  for (i = 0; i < count; i++)
    if (strcmp(names[i], "seed") != 0) print_axis(names[i], json_object_get(axes, names[i]));
  print_axis("seed", json_object_get(axes, "seed"));
  free(names);
}

/* Shows the plan and which of its cases are stored already. */
static mg_status print_plan(mg_session *session, const plan *p, const run_options *set) {
  const char *folder = session->folder;
  char path[MG_SESSION_PATH_BYTES + 32];
  mg_store *store = NULL;
  snprintf(path, sizeof path, "%s/results.sqlite", folder);
  if (access(path, R_OK) == 0) MG_TRY(mg_session_store(session->cli, folder, true, &store));
  printf("%s\n\n%lld cases in %s, %lld at a time\n", json_string_value(json_object_get(p->json, "title")),
         (long long)p->count, folder, (long long)set->jobs);
  print_axes(p->json);
  printf("\n  case  state   parameters\n");
  mg_status status = MG_OK;
  for (int64_t i = 0; i < p->count && status == MG_OK; i++) {
    char stored[16] = "";
    if (store) status = mg_store_status(store, p->cases[i].hash, stored);
    const bool kept = strcmp(stored, "ok") == 0 && !set->fresh;
    printf("  %4lld  %-6s  %s\n", (long long)p->cases[i].number, kept ? "stored" : "to run", p->cases[i].label);
  }
  mg_store_close(store);
  return status;
}

/* ---- running ------------------------------------------------------------------------------------------------ */

/* One run at a time per folder; the lock goes with the process. */
static mg_status lock_folder(mg_context *context, const char *folder, int *lock) {
  MG_TRY(mg_folder_make(context, folder));
  *lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (*lock < 0) return mg_fail(context, MG_WRITE, "%s: cannot be opened: %s", folder, strerror(errno));
  if (flock(*lock, LOCK_EX | LOCK_NB) == 0) return MG_OK;
  return mg_fail(context, MG_WRITE, "%s: another moegauge run is writing here; wait for it, or use another --out",
                 folder);
}

static mg_status note_facts(mg_session *session, const plan *p, mg_store *store) {
  MG_TRY(mg_store_set(store, "title", json_string_value(json_object_get(p->json, "title"))));
  MG_TRY(mg_store_set(store, "name", session->name));
  MG_TRY(mg_store_set(store, "script", session->request.experiment));
  MG_TRY(mg_store_set(store, "sandbox", session->request.sandboxed ? "yes" : "no"));
  char *settings = json_dumps(json_object_get(p->json, "settings"), JSON_COMPACT | JSON_SORT_KEYS);
  const mg_status status = settings ? mg_store_set(store, "settings", settings) : MG_OK;
  free(settings);
  MG_TRY(status);
  return mg_store_set_plan(store, json_object_get(p->json, "cases"));
}

static mg_status run_plan(mg_session *session, const plan *p, const run_options *set, mg_store *store) {
  mg_context *context = session->cli->context;
  const char *arguments[MG_SESSION_ARGUMENTS_MAX];
  mg_progress *progress = NULL;
  mg_run_summary summary;
  json_t *provenance = NULL;
  MG_TRY(session->request.sandboxed ? mg__sandboxed_cases(session, arguments)
                                    : mg_session_command(session, NULL, arguments));
  MG_TRY(note_facts(session, p, store));
  mg_status status = mg_provenance(context, &provenance);
  if (status == MG_OK) status = mg_progress_create(context, p->count, isatty(STDERR_FILENO), &progress);
  if (status == MG_OK) {
    const mg_run_request request = {.command = arguments,
                                    .cases = p->cases,
                                    .cases_count = p->count,
                                    .jobs = set->jobs,
                                    .case_timeout_seconds = session->request.timeout_seconds,
                                    .fresh = set->fresh,
                                    .store = store,
                                    .provenance = provenance,
                                    .changed = mg_progress_changed,
                                    .user = progress};
    /* Cases side by side share the cores: a waiting thread that spins would keep one from another case. */
    if (set->jobs > 1) setenv("OMP_WAIT_POLICY", "passive", 0);
    status = mg_run_cases(context, &request, &summary);
    mg_progress_destroy(progress);
    if (summary.kept > 0)
      fprintf(stderr, "%lld of %lld cases were stored before and not run again (--fresh runs them)\n",
              (long long)summary.kept, (long long)p->count);
  }
  json_decref(provenance);
  return status;
}

/* Reports after the outcome is known: a report that fails does not hide why cases did. */
static mg_status show(mg_session *session, mg_store *store) {
  json_t *stored;
  MG_TRY(mg_store_get(store, &stored));
  mg_status status = mg_session_report(session, stored, "table");
  if (status == MG_OK) status = mg_session_report(session, stored, "html");
  if (status == MG_OK) printf("report: %s/report.html\n", session->folder);
  json_decref(stored);
  return status;
}

/* Without any of its devices a run ends before its cases, each of which would fail for that reason; where some device is
 * there, the others' cases become rows that say what is missing. */
static mg_status check_devices(mg_session *session, const plan *p) {
  mg_registry *registry;
  size_t index;
  const json_t *name;
  mg_status status = MG_OK;
  MG_TRY(mg_cli_registry(session->cli, &registry));
  json_array_foreach(json_object_get(p->json, "backends"), index, name) {
    mg_backend *backend;
    status = mg_backend_open(session->cli->context, registry, json_string_value(name), NULL, &backend);
    if (status == MG_OK) mg_backend_close(backend);
    if (status != MG_DEVICE) return status;
  }
  return status;
}

static mg_status run_and_show(mg_session *session, const plan *p, const run_options *set) {
  mg_context *context = session->cli->context;
  mg_store *store = NULL;
  char message[2048];
  MG_TRY(mg_session_store(session->cli, session->folder, false, &store));
  const mg_status status = run_plan(session, p, set, store);
  snprintf(message, sizeof message, "%s", mg_context_message(context));
  mg_status shown = MG_OK;
  if (status == MG_OK || status == MG_CASES_FAILED) shown = show(session, store);
  mg_store_close(store);
  if (status == MG_OK) return shown;
  if (shown != MG_OK) fprintf(stderr, "warning: no report: %s\n", mg_context_message(context));
  return mg_fail(context, status, "%s", message);
}

static mg_status run_session(mg_session *session, const run_options *set) {
  mg_context *context = session->cli->context;
  plan p = {0};
  int lock = -1;
  mg_status status = make_plan(session, &p);
  if (status == MG_OK && set->dry_run) {
    status = print_plan(session, &p, set);
  } else if (status == MG_OK) {
    status = check_devices(session, &p);
    if (status == MG_OK) status = lock_folder(context, session->folder, &lock);
    if (status == MG_OK) status = run_and_show(session, &p, set);
    if (lock >= 0) close(lock);
  }
  free_plan(context, &p);
  return status;
}

static mg_status run(mg_cli *cli, const void *option_values, const mg_cli_words *words) {
  const run_options *set = option_values;
  const mg_session_request request = {.experiment = words->word[0],
                                      .settings = words->repeated,
                                      .settings_count = words->repeated_count,
                                      .seeds = set->seeds,
                                      .smoke = set->smoke,
                                      .allow_files = set->allow_fs,
                                      .sandboxed = set->sandbox,
                                      .out = set->out,
                                      .timeout_seconds =
                                          set->sandbox && set->timeout == 0 ? MG_SANDBOX_CASE_SECONDS : set->timeout,
                                      .jobs = set->jobs};
  mg_session session;
  mg_status status = mg_session_open(cli, &request, &session);
  if (status == MG_OK) status = run_session(&session, set);
  mg_session_close(&session);
  return status;
}

const mg_command mg__command_run = {
    .name = "run",
    .words = "EXPERIMENT.lua",
    .summary = "run an experiment: every case that is not stored yet, then the table and a report",
    .details =
        "Each case runs in a process of its own, so that one that crashes fails one row. What is finished is kept: "
        "after Ctrl-C, a crash or a power cut the same command goes on where it stopped. Press Ctrl-C once to "
        "stop the running cases in good order, twice to kill them. Where no device of the cases is there, the run "
        "ends before them. With --sandbox the script reads its own Lua files and what --set names, writes below "
        "FOLDER/sandbox, has no network, programs or GPU, and stops after --timeout or an hour; where the kernel "
        "cannot "
        "shut it in, nothing runs.",
    .options = options,
    .options_size = sizeof(run_options),
    .repeats = "set",
    .words_least = 1,
    .words_most = 1,
    .examples = examples,
    .counts_interrupts = true,
    .run = run};
