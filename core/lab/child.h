/* One running case: a process, its line pipe and the tail of what it wrote to standard error. Shared by the files of
 * this layer. */
#ifndef MG_LAB_CHILD_H
#define MG_LAB_CHILD_H

#include <signal.h>
#include <sys/types.h>

#include "lab/runner.h"

enum { MG_CHILD_TAIL_BYTES = 4096, MG_CHILD_REASON_BYTES = 6144 };

typedef struct mg__child {
  const mg_case *what; /* NULL: this place is free */
  mg_context *context;
  pid_t process;
  int lines, errors; /* read ends, -1 once closed */
  int64_t started_ns, started_unix;
  int64_t kill_at_ns; /* 0 = not told to stop */
  bool timed_out;
  double limit_seconds;
  bool ended;
  int wait_status;
  int64_t peak_bytes;
  char *line; /* what came after the last newline */
  size_t line_used, line_size;
  char tail[MG_CHILD_TAIL_BYTES]; /* the last bytes of standard error */
  size_t tail_used;
  json_t *progress;    /* the latest, not yet taken */
  json_t *last;        /* {"result"} or {"error"} */
  char malformed[128]; /* the first line that was not ours, "" = none */
} mg__child;

typedef struct mg__outcome {
  const char *status; /* "ok", "failed", "skipped" or "interrupted" */
  char reason[MG_CHILD_REASON_BYTES];
  const json_t *result, *provenance; /* borrowed from the child */
  int64_t peak_bytes;
} mg__outcome;

/* Forks and executes `command` with the case's number added. The child gets `mask` as its signal mask, a process group
 * of its own, and SIGKILL when this process dies. */
mg_status mg__child_start(mg__child *child, mg_context *context, const char *const *command, const mg_case *what,
                          const sigset_t *mask);
void mg__child_signal(const mg__child *child, int number);
/* Takes in whatever has arrived, without waiting. */
void mg__child_read(mg__child *child);
/* True once the process is gone and all that it wrote was read. */
bool mg__child_ended(mg__child *child);
/* The latest progress since the last call, to be released by the caller; NULL if there is none. */
json_t *mg__child_take_progress(mg__child *child);
void mg__child_outcome(const mg__child *child, mg__outcome *outcome);
/* Frees the place. */
void mg__child_close(mg__child *child);

#endif
