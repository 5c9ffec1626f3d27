/* Runs the cases of an experiment, each in a process of its own, at most `jobs` at a time, and stores every outcome. */
#ifndef MG_LAB_RUNNER_H
#define MG_LAB_RUNNER_H

#include "base/file.h"
#include "lab/store.h"

enum { MG_CASE_DESCRIPTOR = 3 };

typedef struct mg_case {
  int64_t number;                /* place in the sweep, from 1 */
  const char *label;             /* "topk k=2 seed=1" */
  const json_t *params;          /* the sweep's values */
  char hash[MG_HASH_TEXT_BYTES]; /* of all that decides the result; core/lab/README.md lists it */
} mg_case;

typedef struct mg_run_request {
  const char *const *command; /* argv of a child, NULL-terminated; the case number is appended */
  const mg_case *cases;
  int64_t cases_count;
  int64_t jobs;
  double case_timeout_seconds; /* 0 = none */
  bool fresh;                  /* run stored cases again */
  mg_store *store;
  const json_t *provenance;
  /* Called in the parent when something changes; may be NULL. `status` is "started", "progress" (with `progress`),
   * "ok", "failed" or "skipped" (with `reason`), "kept" (stored before) or "interrupted"; NULL with no case is a tick,
   * a few times a second. */
  void (*changed)(void *user, const mg_case *what, const char *status, const char *reason, const json_t *progress);
  void *user;
} mg_run_request;

typedef struct mg_run_summary {
  int64_t ok, failed, skipped, kept, interrupted;
} mg_run_summary;

/* A child writes lines of JSON to descriptor MG_CASE_DESCRIPTOR: {"progress": {...}} any number of times, then
 * {"result": {...}, "provenance": {...}?} or {"error": {"status", "message"}, "result": {...}?}, where status "skipped"
 * makes a skipped case and "interrupted" none. A child that dies is a failed case whose reason names the signal and its
 * last stderr lines; it dies with the parent. Its standard output goes where its standard error goes.
 *
 * SIGINT and SIGTERM while this runs: no case is started any more, children get SIGINT and ten seconds to end, finished
 * cases are kept, MG_INTERRUPTED; a second signal kills the children. The signals are taken through a signalfd, so no
 * handler and no global is left behind. Returns MG_CASES_FAILED when a case failed, MG_WRITE when one could not be
 * stored (the others are stopped), MG_OK otherwise. */
mg_status mg_run_cases(mg_context *context, const mg_run_request *request, mg_run_summary *summary);

/* Runs one child that is no case, under the number 0, and gives what it returned (a new reference) without storing it. A
 * child that tells an error fails with that status and message, one that dies or takes longer than `timeout_seconds` with
 * MG_CASES_FAILED; messages of the latter begin with `what`. `stopped` is asked a few times a second; true stops it. */
mg_status mg_run_child(mg_context *context, const char *const *command, const char *what, double timeout_seconds,
                       bool (*stopped)(void *user), void *user, json_t **result);

#endif
