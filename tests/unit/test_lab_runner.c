/* Cases that succeed, fail, crash, hang, babble or are killed each become the row they should, two at a time as well as
 * one; what is stored is not run again; a parent killed by SIGKILL takes its children along and loses no finished case.
 * The children are shell scripts, so that nothing but the runner is tested. */
#include "support/testing.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "lab/runner.h"

enum { CASES_MAX = 12 };

static mg_context *context;
static char folder[] = "/tmp/moegauge-runner-XXXXXX", path[64], script[64], log_path[64];

static int open_world(void **state) {
  (void)state;
  if (mg_context_create(NULL, &context) != MG_OK || !mkdtemp(folder)) return 1;
  snprintf(path, sizeof path, "%s/results.sqlite", folder);
  snprintf(script, sizeof script, "%s/case.sh", folder);
  snprintf(log_path, sizeof log_path, "%s/log", folder);
  return 0;
}

static int close_world(void **state) {
  (void)state;
  mg_context_destroy(context);
  return rmdir(folder);
}

static int clean(void **state) {
  (void)state;
  unlink(path);
  unlink(script);
  unlink(log_path);
  return 0;
}

/* The body sees the case's number as $1. */
static void write_script(const char *body) {
  FILE *file = fopen(script, "w");
  assert_non_null(file);
  fprintf(file, "echo $1 >> %s\nok() { echo '{\"result\": {\"metrics\": {\"x\": '$1'}}}' >&3; }\n%s\n", log_path, body);
  assert_int_equal(fclose(file), 0);
}

static size_t runs_logged(void) {
  FILE *file = fopen(log_path, "r");
  size_t lines = 0;
  for (int c; file && (c = fgetc(file)) != EOF;) lines += c == '\n';
  if (file) fclose(file);
  return lines;
}

typedef struct world {
  mg_store *store;
  json_t *params;
  mg_case cases[CASES_MAX];
  mg_run_request request;
  const char *command[4];
} world;

static void open_run(world *w, int64_t cases, int64_t jobs) {
  memset(w, 0, sizeof *w);
  assert_ok(context, mg_store_open(context, path, false, &w->store));
  w->params = json_object();
  for (int64_t i = 0; i < cases; i++) {
    w->cases[i] = (mg_case){.number = i + 1, .label = "a case", .params = w->params};
    snprintf(w->cases[i].hash, sizeof w->cases[i].hash, "hash%lld", (long long)i + 1);
  }
  w->command[0] = "/bin/sh";
  w->command[1] = script;
  w->request =
      (mg_run_request){.command = w->command, .cases = w->cases, .cases_count = cases, .jobs = jobs, .store = w->store};
}

static void close_run(world *w) {
  mg_store_close(w->store);
  json_decref(w->params);
}

/* The reason of a stored case after checking its status; valid until the next call. */
static const char *reason_of(world *w, int64_t number, const char *status) {
  static char reason[8192];
  json_t *all;
  assert_ok(context, mg_store_get(w->store, &all));
  const json_t *row = json_array_get(json_object_get(all, "cases"), (size_t)number - 1);
  assert_string_equal(json_string_value(json_object_get(row, "status")), status);
  const char *stored = json_string_value(json_object_get(row, "reason"));
  snprintf(reason, sizeof reason, "%s", stored ? stored : "none");
  json_decref(all);
  return reason; /* static, so that a failure can show it */
}

static void assert_reason(world *w, int64_t number, const char *status, const char *words) {
  const char *reason = reason_of(w, number, status);
  if (*words && !strstr(reason, words)) fail_msg("case %lld: '%s' is not in '%s'", (long long)number, words, reason);
}

static void every_kind_of_end_is_a_row(void **state) {
  (void)state;
  world w;
  mg_run_summary summary;
  write_script("case $1 in\n"
               "1) ok $1 ;;\n"
               "2) echo last words >&2; kill -SEGV $$ ;;\n"
               "3) kill -ABRT $$ ;;\n"
               "4) kill -KILL $$ ;;\n"
               "5) exit 3 ;;\n"
               "6) echo this is no JSON >&3 ;;\n"
               "7) echo '{\"error\": {\"status\": \"usage\", \"message\": \"too wide\"}}' >&3; exit 2 ;;\n"
               "8) echo '{\"error\": {\"status\": \"skipped\", \"message\": \"no need\"}}' >&3; exit 4 ;;\n"
               "9) ok $1; exit 1 ;;\n"
               "10) printf '\\377\\376bytes' >&2; exit 9 ;;\n"
               "11) echo '{\"result\": {\"metrics\": {\"x\": \"text\"}}}' >&3 ;;\n"
               "esac");
  for (int64_t jobs = 1; jobs <= 3; jobs += 2) {
    open_run(&w, 11, jobs);
    assert_refused(context, MG_CASES_FAILED, "cases failed", mg_run_cases(context, &w.request, &summary));
    assert_reason(&w, 1, "ok", "");
    assert_reason(&w, 2, "failed", "SIGSEGV");
    assert_reason(&w, 2, "failed", "last words");
    assert_reason(&w, 3, "failed", "SIGABRT");
    assert_reason(&w, 4, "failed", "SIGKILL");
    assert_reason(&w, 5, "failed", "exit code 3");
    assert_reason(&w, 6, "failed", "this is no JSON");
    assert_reason(&w, 7, "failed", "too wide");
    assert_reason(&w, 8, "skipped", "no need");
    assert_reason(&w, 9, "failed", "exit code 1");
    assert_reason(&w, 10, "failed", "bytes");
    assert_reason(&w, 11, "failed", "metric 'x' must be a number");
    assert_int_equal(summary.ok, jobs == 1 ? 1 : 0);
    assert_int_equal(summary.kept, jobs == 1 ? 0 : 1);
    assert_int_equal(summary.failed, 9);
    assert_int_equal(summary.skipped, 1);
    close_run(&w);
  }
  assert_int_equal(runs_logged(), 21); /* the good case ran once, the others twice */
}

static void a_hanging_case_is_stopped_at_its_limit_with_all_it_started(void **state) {
  (void)state;
  world w;
  mg_run_summary summary;
  write_script("trap '' TERM; sleep 60 & sleep 60; sleep 60");
  open_run(&w, 1, 1);
  w.request.case_timeout_seconds = 0.3;
  const int64_t before = mg_clock_ns();
  assert_int_equal(mg_run_cases(context, &w.request, &summary), MG_CASES_FAILED);
  assert_true(mg_clock_ns() - before < 6 * (int64_t)1000000000);
  assert_reason(&w, 1, "failed", "longer than the limit of 0.3 seconds");
  close_run(&w);
}

static void count_progress(void *user, const mg_case *what, const char *status, const char *reason,
                           const json_t *progress) {
  (void)reason;
  int64_t *steps = user;
  if (what && strcmp(status, "progress") == 0) *steps = json_integer_value(json_object_get(progress, "step"));
}

static void progress_reaches_the_caller_and_large_results_the_store(void **state) {
  (void)state;
  world w;
  mg_run_summary summary;
  int64_t step = 0;
  write_script("echo '{\"progress\": {\"step\": 7}}' >&3\n"
               "printf '{\"result\": {\"metrics\": {\"x\": 1}, \"tables\": {\"t\": \"%0500000d\"}}}\\n' 0 >&3");
  open_run(&w, 1, 1);
  w.request.changed = count_progress;
  w.request.user = &step;
  assert_ok(context, mg_run_cases(context, &w.request, &summary));
  assert_int_equal(step, 7);
  json_t *all;
  assert_ok(context, mg_store_get(w.store, &all));
  json_t *row = json_array_get(json_object_get(all, "cases"), 0);
  json_t *table = json_object_get(json_object_get(json_object_get(row, "result"), "tables"), "t");
  assert_int_equal(json_string_length(table), 500000);
  json_decref(all);
  close_run(&w);
}

static void stored_cases_are_kept_unless_fresh(void **state) {
  (void)state;
  world w;
  mg_run_summary summary;
  write_script("ok $1");
  open_run(&w, 3, 2);
  assert_ok(context, mg_run_cases(context, &w.request, &summary));
  assert_ok(context, mg_run_cases(context, &w.request, &summary));
  assert_int_equal(summary.kept, 3);
  assert_int_equal(runs_logged(), 3);
  w.request.fresh = true;
  assert_ok(context, mg_run_cases(context, &w.request, &summary));
  assert_int_equal(runs_logged(), 6);
  close_run(&w);
}

/* Sends `number` to the runner as soon as the second case has started. */
static void interrupt_second(void *user, const mg_case *what, const char *status, const char *reason,
                             const json_t *progress) {
  (void)reason, (void)progress;
  const int *number = user;
  if (what && what->number == 2 && strcmp(status, "started") == 0) kill(getpid(), *number);
}

static void an_interrupt_keeps_finished_cases_and_starts_no_more(void **state) {
  (void)state;
  world w;
  mg_run_summary summary;
  int number = SIGINT;
  write_script(
      "if [ $1 = 2 ]; then exec sleep 30; fi; ok $1"); /* no shell that a signal may find between two programs */
  open_run(&w, 4, 1);
  w.request.changed = interrupt_second;
  w.request.user = &number;
  const int64_t before = mg_clock_ns();
  assert_refused(context, MG_INTERRUPTED, "1 of 4 cases are stored", mg_run_cases(context, &w.request, &summary));
  assert_true(mg_clock_ns() - before < 5 * (int64_t)1000000000);
  assert_true(runs_logged() <= 2); /* the second may have been told before its first line */
  assert_int_equal(summary.ok, 1);
  assert_int_equal(summary.interrupted, 1);
  char status[16];
  assert_ok(context, mg_store_status(w.store, "hash2", status));
  assert_string_equal(status, "");
  close_run(&w);
}

static void a_store_that_cannot_be_written_ends_the_run_with_its_reason(void **state) {
  (void)state;
  world w;
  mg_run_summary summary;
  write_script("ok $1");
  open_run(&w, 2, 1);
  mg_store_close(w.store);
  assert_ok(context, mg_store_open(context, path, true, &w.store)); /* only for reading */
  w.request.store = w.store;
  assert_int_equal(mg_run_cases(context, &w.request, &summary), MG_WRITE);
  assert_non_null(strstr(mg_context_message(context), path));
  assert_int_equal(runs_logged(), 1);
  close_run(&w);
}

/* Whether some process still runs our script; killed ones may need a moment to go. */
static bool script_runs(void) {
  char command[160];
  snprintf(command, sizeof command, "pgrep -f '%s/[c]ase.sh' >/dev/null", folder);
  for (int i = 0; i < 40; i++) {
    const int found = system(command);
    if (found != 0) return false;
    usleep(50000);
  }
  return true;
}

static void a_killed_parent_takes_its_children_and_loses_no_finished_case(void **state) {
  (void)state;
  world w;
  mg_run_summary summary;
  int number = SIGKILL, status;
  write_script("if [ $1 = 2 ]; then sleep 3; fi; ok $1");
  const pid_t child = fork();
  if (child == 0) {
    open_run(&w, 3, 1);
    w.request.changed = interrupt_second;
    w.request.user = &number;
    mg_run_cases(context, &w.request, &summary);
    _exit(1);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  assert_false(script_runs());
  write_script("ok $1");
  open_run(&w, 3, 1);
  assert_ok(context, mg_run_cases(context, &w.request, &summary));
  assert_int_equal(summary.kept, 1);
  assert_int_equal(summary.ok, 2);
  close_run(&w);
}

#define EACH(test) cmocka_unit_test_teardown(test, clean)
int main(void) {
  const struct CMUnitTest tests[] = {EACH(every_kind_of_end_is_a_row),
                                     EACH(a_hanging_case_is_stopped_at_its_limit_with_all_it_started),
                                     EACH(progress_reaches_the_caller_and_large_results_the_store),
                                     EACH(stored_cases_are_kept_unless_fresh),
                                     EACH(an_interrupt_keeps_finished_cases_and_starts_no_more),
                                     EACH(a_store_that_cannot_be_written_ends_the_run_with_its_reason),
                                     EACH(a_killed_parent_takes_its_children_and_loses_no_finished_case)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
