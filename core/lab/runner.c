/* The case runner: one event loop over the children's pipes and a signalfd. What a child is and how it is started, read
 * and buried is in child.c. */
#include "lab/runner.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "lab/child.h"

enum { JOBS_MAX = 1024, TICK_MILLISECONDS = 200 };

static const int64_t stop_grace_ns = 10 * (int64_t)1000000000, kill_grace_ns = 2 * (int64_t)1000000000;

typedef struct runner {
  mg_context *context;
  const mg_run_request *request;
  mg_run_summary *summary;
  mg__child *children;   /* [jobs] */
  struct pollfd *polled; /* [1 + 2 * jobs] */
  int64_t jobs, running, next;
  int signals; /* signalfd */
  int interrupts;
  sigset_t old_mask;
  mg_status trouble; /* of the runner itself: no case is started any more */
} runner;

static void tell(const runner *r, const mg_case *what, const char *status, const char *reason, const json_t *progress) {
  if (r->request->changed) r->request->changed(r->request->user, what, status, reason, progress);
}

/* ---- starting --------------------------------------------------------------------------------------------- */

/* Finds the next case that has to run, counting those that are stored already. NULL when there is none. */
static const mg_case *next_case(runner *r) {
  while (r->next < r->request->cases_count) {
    const mg_case *candidate = &r->request->cases[r->next++];
    char status[16] = "";
    if (!r->request->fresh && (r->trouble = mg_store_status(r->request->store, candidate->hash, status)) != MG_OK)
      return NULL;
    if (strcmp(status, "ok") != 0) return candidate;
    r->summary->kept++;
    tell(r, candidate, "kept", "", NULL);
  }
  return NULL;
}

static void start_cases(runner *r) {
  for (int64_t i = 0; i < r->jobs && r->trouble == MG_OK && r->interrupts == 0; i++) {
    if (r->children[i].what) continue;
    const mg_case *what = next_case(r);
    if (!what) return;
    r->trouble = mg__child_start(&r->children[i], r->context, r->request->command, what, &r->old_mask);
    if (r->trouble != MG_OK) return;
    r->running++;
    tell(r, what, "started", "", NULL);
  }
}

/* ---- finishing -------------------------------------------------------------------------------------------- */

/* How many processes wanted to run in the last minute: timings taken beside other work are to be read with care. */
static void add_load_average(json_t *provenance) {
  double load;
  if (getloadavg(&load, 1) == 1) json_object_set_new(provenance, "load_average", json_real(load));
}

static json_t *row_of(const runner *r, const mg__child *child, const mg__outcome *outcome) {
  json_t *provenance = r->request->provenance ? json_deep_copy(r->request->provenance) : json_object();
  if (json_is_object(outcome->provenance)) json_object_update(provenance, (json_t *)outcome->provenance);
  json_object_set_new(provenance, "peak_memory_bytes", json_integer(outcome->peak_bytes));
  add_load_average(provenance);
  json_t *row =
      json_pack("{s:s, s:I, s:s, s:O, s:s, s:s, s:I, s:f, s:o}", "hash", child->what->hash, "number",
                (json_int_t)child->what->number, "label", child->what->label, "params", (json_t *)child->what->params,
                "status", outcome->status, "reason", outcome->reason, "started", (json_int_t)child->started_unix,
                "seconds", (double)(mg_clock_ns() - child->started_ns) / 1e9, "provenance", provenance);
  if (row && outcome->result) json_object_set(row, "result", (json_t *)outcome->result);
  return row;
}

static void count_outcome(runner *r, const char *status) {
  if (strcmp(status, "ok") == 0) r->summary->ok++;
  if (strcmp(status, "failed") == 0) r->summary->failed++;
  if (strcmp(status, "skipped") == 0) r->summary->skipped++;
}

static mg_status store_outcome(runner *r, const mg__child *child, mg__outcome *outcome) {
  json_t *row = row_of(r, child, outcome);
  if (!row) return mg_fail(r->context, MG_MEMORY, "case %s: out of host memory", child->what->label);
  mg_status status = mg_store_put(r->request->store, row);
  if (status == MG_USAGE) { /* the result itself cannot be stored: that is a failure of the case */
    json_object_set_new(row, "status", json_string("failed"));
    json_object_set_new(row, "reason", json_string(mg_context_message(r->context)));
    json_object_del(row, "result");
    status = mg_store_put(r->request->store, row);
    outcome->status = "failed";
    snprintf(outcome->reason, sizeof outcome->reason, "%s", json_string_value(json_object_get(row, "reason")));
  }
  json_decref(row);
  return status;
}

static void finish_child(runner *r, mg__child *child) {
  mg__outcome outcome;
  mg__child_outcome(child, &outcome);
  if (strcmp(outcome.status, "interrupted") == 0 || (r->interrupts > 0 && strcmp(outcome.status, "ok") != 0)) {
    r->summary->interrupted++;
    tell(r, child->what, "interrupted", "", NULL);
  } else {
    const mg_status stored = store_outcome(r, child, &outcome);
    if (stored == MG_OK) {
      count_outcome(r, outcome.status);
      tell(r, child->what, outcome.status, outcome.reason, NULL);
    } else if (r->trouble == MG_OK) {
      r->trouble = mg_fail_where(r->context, stored, "case '%s' could not be stored", child->what->label);
    }
  }
  mg__child_close(child);
  r->running--;
}

/* ---- signals and limits ----------------------------------------------------------------------------------- */

static void signal_all(runner *r, int number) {
  for (int64_t i = 0; i < r->jobs; i++)
    if (r->children[i].what) mg__child_signal(&r->children[i], number);
}

/* Tells the children to stop; those that are still there after the grace are killed. */
static void stop_all(runner *r, int number, int64_t grace_ns) {
  signal_all(r, number);
  for (int64_t i = 0; i < r->jobs; i++)
    if (r->children[i].what) r->children[i].kill_at_ns = mg_clock_ns() + grace_ns;
}

static void take_signals(runner *r) {
  struct signalfd_siginfo about;
  while (read(r->signals, &about, sizeof about) == (ssize_t)sizeof about) {
    if (about.ssi_signo == SIGCHLD) continue;
    r->interrupts++;
    if (r->interrupts == 1)
      stop_all(r, SIGINT, stop_grace_ns);
    else
      signal_all(r, SIGKILL);
  }
}

static void watch_time(runner *r) {
  const int64_t now = mg_clock_ns(), limit_ns = (int64_t)(r->request->case_timeout_seconds * 1e9);
  for (int64_t i = 0; i < r->jobs; i++) {
    mg__child *child = &r->children[i];
    if (!child->what) continue;
    if (limit_ns > 0 && !child->timed_out && now - child->started_ns > limit_ns) {
      child->timed_out = true;
      child->limit_seconds = r->request->case_timeout_seconds;
      mg__child_signal(child, SIGTERM);
      child->kill_at_ns = now + kill_grace_ns;
    }
    if (child->kill_at_ns && now > child->kill_at_ns) mg__child_signal(child, SIGKILL);
  }
}

/* ---- the loop --------------------------------------------------------------------------------------------- */

static void pass_progress(runner *r, mg__child *child) {
  json_t *progress = mg__child_take_progress(child);
  if (progress) tell(r, child->what, "progress", "", progress);
  json_decref(progress);
}

static void wait_and_read(runner *r) {
  nfds_t count = 0;
  r->polled[count++] = (struct pollfd){.fd = r->signals, .events = POLLIN};
  for (int64_t i = 0; i < r->jobs; i++) {
    const mg__child *child = &r->children[i];
    if (!child->what) continue;
    r->polled[count++] = (struct pollfd){.fd = child->lines, .events = POLLIN}; /* poll skips a negative descriptor */
    r->polled[count++] = (struct pollfd){.fd = child->errors, .events = POLLIN};
  }
  (void)poll(r->polled, count, TICK_MILLISECONDS); /* EINTR is a short tick */
  take_signals(r);
  for (int64_t i = 0; i < r->jobs; i++) {
    mg__child *child = &r->children[i];
    if (!child->what) continue;
    mg__child_read(child);
    pass_progress(r, child);
    if (mg__child_ended(child)) finish_child(r, child);
  }
  watch_time(r);
  tell(r, NULL, NULL, "", NULL);
}

static void run_all(runner *r) {
  bool stopped = false;
  start_cases(r);
  while (r->running > 0) {
    wait_and_read(r);
    if (r->trouble != MG_OK && !stopped) { /* what cannot be stored need not be computed */
      stopped = true;
      stop_all(r, SIGTERM, kill_grace_ns);
    }
    start_cases(r);
  }
}

static mg_status open_signals(runner *r) {
  sigset_t taken;
  sigemptyset(&taken);
  sigaddset(&taken, SIGINT);
  sigaddset(&taken, SIGTERM);
  sigaddset(&taken, SIGCHLD);
  sigprocmask(SIG_BLOCK, &taken, &r->old_mask);
  r->signals = signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
  if (r->signals >= 0) return MG_OK;
  sigprocmask(SIG_SETMASK, &r->old_mask, NULL);
  return mg_fail(r->context, MG_BUG, "signals cannot be watched: %s", strerror(errno));
}

static mg_status run_with_signals(runner *r) {
  MG_TRY(open_signals(r));
  run_all(r);
  take_signals(r); /* one that came in at the very end must not kill the caller now */
  close(r->signals);
  sigprocmask(SIG_SETMASK, &r->old_mask, NULL);
  if (r->trouble != MG_OK) return r->trouble;
  if (r->interrupts > 0 || r->summary->interrupted > 0) {
    const int64_t finished = r->summary->ok + r->summary->kept;
    return mg_fail(r->context, MG_INTERRUPTED, "interrupted; %lld of %lld cases are stored; run again to go on",
                   (long long)finished, (long long)r->request->cases_count);
  }
  if (r->summary->failed > 0)
    return mg_fail(r->context, MG_CASES_FAILED, "%lld of %lld cases failed; the results hold each reason",
                   (long long)r->summary->failed, (long long)r->request->cases_count);
  return MG_OK;
}

mg_status mg_run_cases(mg_context *context, const mg_run_request *request, mg_run_summary *summary) {
  *summary = (mg_run_summary){0};
  if (request->jobs < 1 || request->jobs > JOBS_MAX)
    return mg_fail(context, MG_USAGE, "jobs: must be from 1 to %d, not %lld", JOBS_MAX, (long long)request->jobs);
  const size_t jobs = (size_t)request->jobs;
  runner r = {.context = context, .request = request, .summary = summary, .jobs = request->jobs, .signals = -1};
  r.children = mg_alloc(context, jobs * sizeof *r.children);
  r.polled = mg_alloc(context, (1 + 2 * jobs) * sizeof *r.polled);
  const mg_status status = r.children && r.polled ? run_with_signals(&r) : MG_MEMORY;
  mg_free(context, r.polled, (1 + 2 * jobs) * sizeof *r.polled);
  mg_free(context, r.children, jobs * sizeof *r.children);
  return status;
}
