/* Runs the cases of an experiment, each in a process of its own, at most `jobs` at a time, and stores every outcome. */
#ifndef MG_LAB_RUNNER_H
#define MG_LAB_RUNNER_H

#include "lab/store.h"

typedef struct mg_case {
  int64_t number;       /* place in the sweep, from 1 */
  const char *label;    /* "topk k=2 seed=1" */
  const json_t *params; /* the sweep's values */
  char hash[33];        /* of params, plugin checksums, data checksum and version */
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
  /* Called in the parent when something changes; may be NULL. */
  void (*changed)(void *user, const mg_case *what, const char *status, const char *reason, const json_t *progress);
  void *user;
} mg_run_request;

typedef struct mg_run_summary {
  int64_t ok, failed, skipped, kept, interrupted;
} mg_run_summary;

/* A child writes lines of JSON to descriptor 3: {"progress": {...}} any number of times, then {"result": {...}} or
 * {"error": {"status", "message"}}. A child that dies is a failed case whose reason names the signal and its last
 * stderr lines. SIGINT: children are told to stop, finished cases are kept, MG_INTERRUPTED; a second SIGINT kills them.
 */
mg_status mg_run_cases(mg_context *context, const mg_run_request *request, mg_run_summary *summary);

#endif
